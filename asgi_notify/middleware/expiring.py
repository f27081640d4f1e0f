"""Ends the connection of an application that does not itself watch when its user's login expires.

There is no task for this: while the application waits for the client, a deadline stands over
that, and another, somewhat later, over the application as a whole::

    expires_at                          + GRACE
    |                                   |
    its receive() is told that the      it is cancelled, if it neither receives
    client has gone; nothing that it    nor ends by itself
    sends goes anywhere any more

An HTTP response that is no event stream runs to its end: half an answer would be a wrong one.
"""

import time
from collections.abc import Callable
from math import inf

import anyio

from ..asgi import DIRECT, close
from ..auth.session import EXPIRED, AuthSession
from ..exceptions import Unauthorized
from ..sse import CONTENT_TYPE
from ..types import ASGIApp, Event, Receive, Scope, Send
from ..web import refuse

__all__ = ["Expiring"]

GRACE = 1.0  # seconds in which an application that was told may put itself in order

# After these an application may go on with work of its own, which nothing cuts off.
_LAST_WORDS = frozenset({"websocket.close", "websocket.http.response.start", "http.response.body"})

_NO_FRAME = "no credential was shown, and this path waits for none in a first frame"


class Expiring:
    """One connection, which ends when its session's identity expires.

    It steps aside where the application has said that it watches for that itself.

    Args:
        scope: of the connection, with the session in it.
        receive: the server's.
        send: the server's.
        session: of the connection.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        session: AuthSession,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._receive = receive
        self._send = send
        self._session = session
        self._clock = clock
        self._whole = anyio.CancelScope()
        self._waiting: anyio.CancelScope | None = None  # for the client
        self._is_websocket = scope["type"] == "websocket"
        self._is_ending = self._is_websocket  # so an event stream is, once it has begun
        self._is_armed = False  # the deadlines were set
        self._has_accepted = False
        self._has_answered = False  # the application has said its last word
        self._is_over = False  # the time of the application, and the client was told so
        self._scope = self._with_own_send(scope)
        session.follow(self._set_deadlines)

    async def run(self, app: ASGIApp) -> None:
        """Run the application until it returns, or has to end."""
        with self._whole:
            await app(self._scope, self.receive, self.send)
        if self._whole.cancelled_caught:
            await self._end()

    async def receive(self) -> Event:
        """What the client says next, or that it has gone."""
        if self._session.is_watched:
            return await self._receive()
        if self._session.must_authenticate and self._session.identity is None:
            await self._refuse()
        if not self._is_armed:
            self._set_deadlines()
        while not self._is_over:
            with anyio.CancelScope(deadline=self._deadline()) as self._waiting:
                return await self._receive()
            if self._has_expired():
                await self._end()
            else:  # the clock was set back meanwhile, or it was renewed
                self._set_deadlines()
        if self._is_websocket:
            return {"type": "websocket.disconnect", "code": Unauthorized.close_code, "reason": ""}
        return {"type": "http.disconnect"}

    async def send(self, event: Event) -> None:
        """Send an event of the application, unless its time is over."""
        if self._session.is_watched:
            await self._send(event)
            return
        if self._is_over:
            return
        if self._session.must_authenticate and self._session.identity is None:
            await self._refuse()  # it has not even received: it waits for no first frame
            return
        if self._has_expired():
            await self._end()
            return
        self._note(event)
        await self._send(event)

    def _note(self, event: Event) -> None:
        kind = event["type"]
        # Only these change a deadline; to set one takes longer than what is done for a message.
        if kind == "websocket.accept":
            self._has_accepted = True
        elif kind == "http.response.start":
            self._is_ending = _is_stream(event)
            self._set_deadlines()
        elif kind in _LAST_WORDS and not event.get("more_body", False):
            self._has_answered = True
            self._set_deadlines()

    def _deadline(self) -> float:
        """When it expires, on the event loop's clock."""
        expires_at = self._session.expires_at
        if expires_at is None or self._has_answered or not self._is_ending:
            return inf
        return anyio.current_time() + max(0.0, expires_at - self._clock())

    def _set_deadlines(self) -> None:
        if self._session.is_watched or self._is_over:
            return
        self._is_armed = True
        deadline = self._deadline()
        self._whole.deadline = deadline + GRACE
        if self._waiting is not None:
            self._waiting.deadline = deadline

    def _has_expired(self) -> bool:
        expires_at = self._session.expires_at
        if expires_at is None or self._has_answered or not self._is_ending:
            return False
        return expires_at <= self._clock()

    async def _end(self) -> None:
        """Tell the client, once, that its time is over."""
        if self._is_over:
            return
        self._is_over = True
        if not self._is_websocket:
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})
        elif self._has_accepted:
            await self._send(close(Unauthorized.close_code, EXPIRED))
        else:
            await refuse(self._scope, self._send, Unauthorized(EXPIRED))

    async def _refuse(self) -> None:
        if not self._is_over:
            self._is_over = True
            await refuse(self._scope, self._send, Unauthorized(_NO_FRAME))

    def _with_own_send(self, scope: Scope) -> Scope:
        """The scope, with the server's direct lane open: it is there for the server's own send."""
        extensions = scope.get("extensions") or {}
        offer = extensions.get(DIRECT)
        if not offer or offer.get("send") != self._send:
            return scope
        return {**scope, "extensions": {**extensions, DIRECT: {**offer, "send": self.send}}}


def _is_stream(start: Event) -> bool:
    return any(
        bytes(name).lower() == b"content-type"
        and bytes(value).decode("latin-1").partition(";")[0].strip().lower() == CONTENT_TYPE
        for name, value in start.get("headers") or ()
    )
