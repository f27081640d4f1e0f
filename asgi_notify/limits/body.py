"""The body of one request: how many of them may be under way at once, and for how long."""

from math import inf

import anyio

from ..exceptions import ClientTimeout, NotifyError
from ..types import Event, Receive, Scope, Send
from .counting import Tally

__all__ = ["LimitedBody", "has_body"]

_GONE: Event = {"type": "http.disconnect"}


def has_body(scope: Scope) -> bool:
    """Whether a request may have a body, whatever its method.

    Source: RFC 9112, section 6; in HTTP/2 and later no header has to tell of one.
    """
    if not str(scope.get("http_version", "1.1")).startswith("1"):
        return True
    for name, value in scope.get("headers", ()):
        if name == b"transfer-encoding" or (name == b"content-length" and value != b"0"):
            return True
    return False


class LimitedBody:
    """Stands between a server and an application until the body of a request is there.

    An application that asks for a body that may not be read, or that did not come in time, is
    told that the client has left. Unless it has begun to answer, `error` is to be answered then.

    Args:
        receive: the server's.
        send: the server's.
        places: each a tally and its key, taken while the body is under way.
        timeout: seconds until the body has to be there, or None.

    Attributes:
        error: why it was cut off, or None.
        is_answered: whether the application has begun to answer.
    """

    def __init__(
        self,
        receive: Receive,
        send: Send,
        places: list[tuple[Tally, str]],
        timeout: float | None,
    ) -> None:
        self.error: NotifyError | None = None
        self.is_answered = False
        self._receive = receive
        self._send = send
        self._places = places
        self._taken: list[tuple[Tally, str]] = []
        self._is_whole = False
        self._timeout = timeout
        self._has_begun = False
        self._until = inf  # on the event loop's clock, in seconds

    async def receive(self) -> Event:
        """The server's next event."""
        if self._is_whole:
            return await self._receive()
        if not self._has_begun:
            self._begin()
        if self.error is not None:
            return _GONE
        event: Event | None = None
        with anyio.CancelScope(deadline=self._until):
            event = await self._receive()
        if event is None:
            self.error = ClientTimeout(f"the body was not there after {self._timeout:g} s")
            self.end()
            return _GONE
        if not event.get("more_body", False):
            self._is_whole = True
            self.end()
        return event

    async def send(self, event: Event) -> None:
        """Send an event of the application's."""
        self.is_answered = True
        await self._send(event)

    def end(self) -> None:
        """Give back the places."""
        while self._taken:
            tally, key = self._taken.pop()
            tally.take_away(key)

    def _begin(self) -> None:
        self._has_begun = True
        if self._timeout is not None:
            self._until = anyio.current_time() + self._timeout
        try:
            for tally, key in self._places:
                tally.add(key)
                self._taken.append((tally, key))
        except NotifyError as error:
            self.error = error
            self.end()
