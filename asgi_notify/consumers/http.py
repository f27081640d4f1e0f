"""Consumers of HTTP requests: one response, which may go on for as long as it likes."""

import logging
from collections.abc import Awaitable, Iterable, Mapping
from functools import lru_cache
from typing import Any, ClassVar, Generic, TypeVar

from ..exceptions import MisuseError, NoRouteFound, StopConsumer
from ..types import Event, Message
from ..web import Body
from .base import AsyncConsumer, Consumer
from .threads import SyncConsumer

__all__ = ["AsyncHttpConsumer", "HttpConsumer"]

logger = logging.getLogger("asgi_notify.consumers")

Done = TypeVar("Done")

HeaderPairs = Iterable[tuple[bytes | str, bytes | str]]

PUSH = "http.response.push"  # ASGI, "Extensions", section "HTTP/2 Server Push"


class _Http(Consumer[Done], Generic[Done]):
    """The one body of the HTTP consumers; ``Done`` is what their helpers return.

    Attributes:
        max_body_size: bytes of a request's body, over which it is answered 413.
    """

    max_body_size: int = 1024 * 1024
    helpers: ClassVar[frozenset[str]] = frozenset(
        {"disconnect", "handle", "push", "send_body", "send_headers", "send_response"}
    )
    _reads_body: ClassVar[bool] = True  # else handle() is given none, and nothing is kept of it

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._body = Body()

    @property
    def body(self) -> list[bytes]:
        """The parts of the body that have come, until `handle` is called with all of them."""
        return self._body.parts

    def handle(self, body: bytes) -> Done:
        """Called with the whole body of the request; sends the response.

        Raises:
            NotImplementedError: a subclass has to say how it answers.
        """
        raise NotImplementedError(f"{type(self).__qualname__} has no handle() method; add one")

    def disconnect(self) -> Done:
        """Called once at the end; nothing can be sent any more."""
        return self._emit()

    def send_headers(
        self, *, status: int = 200, headers: HeaderPairs | Mapping[Any, Any] | None = None
    ) -> Done:
        """Begin the response; the server sends this with the first part of the body.

        Args:
            status: the HTTP status.
            headers: pairs of name and value, or a mapping; bytes, or text in Latin-1.
        """
        start = {"type": "http.response.start", "status": status, "headers": _encoded(headers)}
        return self._emit(start)

    def send_body(self, body: bytes, *, more_body: bool = False) -> Done:
        """Send a part of the body, the last one unless ``more_body``.

        Raises:
            TypeError: it is not bytes.
        """
        _require_bytes(body)
        return self._emit({"type": "http.response.body", "body": body, "more_body": more_body})

    def push(self, path: str, headers: HeaderPairs | Mapping[Any, Any] = ()) -> Done:
        """Have the server push what it answers at another path, before the client asks for it.

        Where the server offers no HTTP/2 server push, it does nothing, and the
        log says so once for each class. Browsers have given push up.

        Args:
            path: with its first slash.
            headers: of the request that the server makes to itself.

        Source: ASGI, "Extensions", section "HTTP/2 Server Push".
        """
        if PUSH not in (self.scope.get("extensions") or {}):
            _log_no_push(type(self))
            return self._emit()
        return self._emit({"type": PUSH, "path": path, "headers": _encoded(headers)})

    def http_request(self, message: Event) -> Done:
        """Gather the body, and call ``handle`` when it is there."""
        self._body.add(message.get("body", b""), self.max_body_size, keep=self._reads_body)
        if message.get("more_body", False):
            return self._emit()
        # A response may go on for days: from here on, handle() alone holds the body.
        return self.handle(self._body.take())

    def http_disconnect(self, message: Event) -> Done:
        """Handle the end of the request."""
        return self.disconnect()

    def websocket_connect(self, message: Event) -> Done:
        """Refuse a WebSocket, which waits for an answer: a router may lead it here, too."""
        raise NoRouteFound("this path is no WebSocket; ask it with http:// or https://")

    async def dispatch(self, message: Message) -> None:
        """Pass an event or a message to its handler, and see that a request gets an answer."""
        is_request = message["type"] == "http.request"
        try:
            # The sync or async class that stands beside this one has the body.
            await super().dispatch(message)  # type: ignore[safe-super]
        except StopConsumer:
            if self._connection.is_answered or not is_request:
                raise
        if is_request and not message.get("more_body", False):
            self._require_response()

    def _require_response(self) -> None:
        if not self._connection.is_answered:
            raise MisuseError(
                f"{type(self).__qualname__}.handle() sent no response: call send_response()"
            )


class AsyncHttpConsumer(_Http[Awaitable[None]], AsyncConsumer):
    """Handles one HTTP request in ``handle``.

    The consumer ends when its response is complete. A response that ``handle``
    leaves open (``more_body=True``) goes on until it is completed from the
    handler of a message, or the client leaves. Messages are handled one at a
    time, once ``handle`` has returned.

    Attributes:
        max_body_size: bytes of a request's body, over which it is answered 413.
    """

    def send_body(self, body: bytes, *, more_body: bool = False) -> Awaitable[None]:
        if not more_body:
            return super().send_body(body)
        # The way of each event of a stream, at the least cost.
        _require_bytes(body)
        return self._connection.send(
            {"type": "http.response.body", "body": body, "more_body": True}
        )

    async def send_response(self, status: int, body: bytes, **kwargs: Any) -> None:
        """Send a whole response; ``headers`` as in `send_headers`.

        Raises:
            TypeError: the body is not bytes; then nothing was sent.
        """
        _require_bytes(body)
        await self.send_headers(status=status, **kwargs)
        await self.send_body(body)


class HttpConsumer(_Http[None], SyncConsumer):
    """`AsyncHttpConsumer` with plain functions, run in worker threads."""

    def send_response(self, status: int, body: bytes, **kwargs: Any) -> None:
        """Send a whole response; ``headers`` as in `send_headers`.

        Raises:
            TypeError: the body is not bytes; then nothing was sent.
        """
        _require_bytes(body)
        self.send_headers(status=status, **kwargs)
        self.send_body(body)


def _encoded(headers: HeaderPairs | Mapping[Any, Any] | None) -> list[tuple[bytes, bytes]]:
    pairs = headers.items() if isinstance(headers, Mapping) else headers or ()
    return [(_to_bytes(name).lower(), _to_bytes(value)) for name, value in pairs]


def _to_bytes(value: bytes | str) -> bytes:
    return value if isinstance(value, bytes) else value.encode("latin-1")


def _require_bytes(body: bytes) -> None:
    if not isinstance(body, bytes):
        raise TypeError(f"a body is bytes, not {type(body).__name__}: use text.encode()")


@lru_cache(maxsize=256)  # once for each class
def _log_no_push(cls: type) -> None:
    logger.info(
        "%s.push() does nothing here: the server offers no HTTP/2 server push; "
        "a Link header with rel=preload reaches every browser",
        cls.__qualname__,
    )
