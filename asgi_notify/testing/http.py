"""How a test makes one HTTP request of an application."""

from collections.abc import Iterable
from typing import Any

from ..types import ASGIApp, Event
from .application import ApplicationCommunicator
from .scope import connection_scope

__all__ = ["HttpCommunicator"]


class HttpCommunicator(ApplicationCommunicator):
    """Sends one request, whole, and collects the response.

    A body that comes in pieces is `ApplicationCommunicator`'s work: send
    ``http.request`` events with ``more_body``.

    Args:
        application: an ASGI callable, or a consumer class.
        method: such as ``POST``, in any case.
        path: with the query, percent-encoded where a browser would do so.
        body: in bytes.
        headers: pairs of bytes; none are added, no Host either.

    Raises:
        TypeError: an argument has another type than these.
    """

    def __init__(
        self,
        application: ASGIApp | type[Any],
        method: str,
        path: str,
        body: bytes = b"",
        headers: Iterable[tuple[bytes, bytes]] | None = None,
    ) -> None:
        """Make the scope; nothing is sent yet."""
        if not isinstance(method, str):
            raise TypeError(f"the method must be a str, such as 'GET', not {method!r}")
        if not isinstance(body, bytes):
            raise TypeError(
                f"the body must be bytes, not {type(body).__name__}: encode it, as in body.encode()"
            )
        scope = connection_scope("http", path, headers, scheme="http")
        super().__init__(application, {**scope, "method": method.upper()})
        self.body = body
        self.sent_request = False
        self._response: dict[str, Any] | None = None
        self._is_complete = False

    async def get_response(self, timeout: float | None = 1) -> dict[str, Any]:
        """The response: ``status``, ``headers`` and ``body``.

        Asked again after a time-out, it goes on where it was.

        Args:
            timeout: in seconds, for each event of the response.

        Raises:
            TimeoutError: the next event did not come in time, or never will.
            AssertionError: the application sent what is no response.
            BaseException: the one that the application has ended with.
        """
        if not self.sent_request:
            self.sent_request = True
            await self.send_input({"type": "http.request", "body": self.body, "more_body": False})
        while not self._is_complete or self._response is None:
            self._add(await self.receive_output(timeout))
        return self._response

    def _add(self, event: Event) -> None:
        kind = event["type"]
        if self._response is None and kind == "http.response.start":
            start = {key: value for key, value in event.items() if key != "type"}
            self._response = {"headers": [], **start, "body": b""}
        elif self._response is not None and kind == "http.response.body":
            body = event.get("body", b"")
            if not isinstance(body, bytes):
                raise AssertionError(f"a response's body must be bytes, not {body!r}")
            self._response["body"] += body
            self._is_complete = not event.get("more_body", False)
        else:
            part = "start" if self._response is None else "body"
            raise AssertionError(f"expected http.response.{part}, but the application sent {kind}")

    @staticmethod
    def _answer(event: Event) -> Event | None:
        # ASGI, HTTP & WebSocket, "Disconnect - receive event".
        if event["type"] == "http.response.body" and not event.get("more_body", False):
            return {"type": "http.disconnect"}
        return None
