"""A consumer of HTTP requests: one response, which may go on for as long as it likes."""

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from ..exceptions import MisuseError, TooLarge
from ..types import Event
from .base import AsyncConsumer

__all__ = ["AsyncHttpConsumer"]

HeaderPairs = Iterable[tuple[bytes | str, bytes | str]]


class AsyncHttpConsumer(AsyncConsumer):
    """Handles one HTTP request in ``handle``.

    The consumer ends when its response is complete. A response that ``handle``
    leaves open (``more_body=True``) goes on until it is completed from the
    handler of a message, or the client leaves.

    Attributes:
        max_body_size: bytes of a request's body, over which it is answered 413.
    """

    max_body_size: int = 1024 * 1024
    helpers: ClassVar[frozenset[str]] = frozenset(
        {"disconnect", "handle", "send_body", "send_headers", "send_response"}
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.body: list[bytes] = []

    async def handle(self, body: bytes) -> None:
        """Called with the whole body of the request; sends the response.

        Raises:
            NotImplementedError: a subclass has to say how it answers.
        """
        raise NotImplementedError(f"{type(self).__qualname__} has no handle() method; add one")

    async def disconnect(self) -> None:
        """Called once at the end; nothing can be sent any more."""

    async def send_headers(
        self, *, status: int = 200, headers: HeaderPairs | Mapping[Any, Any] | None = None
    ) -> None:
        """Begin the response; the server sends this with the first part of the body.

        Args:
            status: the HTTP status.
            headers: pairs of name and value, or a mapping; bytes, or text in Latin-1.
        """
        pairs = headers.items() if isinstance(headers, Mapping) else headers or ()
        encoded = [(_to_bytes(name).lower(), _to_bytes(value)) for name, value in pairs]
        await self.send({"type": "http.response.start", "status": status, "headers": encoded})

    async def send_body(self, body: bytes, *, more_body: bool = False) -> None:
        """Send a part of the body, the last one unless ``more_body``.

        Raises:
            TypeError: it is not bytes.
        """
        if not isinstance(body, bytes):
            raise TypeError(f"a body is bytes, not {type(body).__name__}: use text.encode()")
        await self.send({"type": "http.response.body", "body": body, "more_body": more_body})

    async def send_response(self, status: int, body: bytes, **kwargs: Any) -> None:
        """Send a whole response; ``headers`` as in `send_headers`."""
        await self.send_headers(status=status, **kwargs)
        await self.send_body(body)

    async def http_request(self, message: Event) -> None:
        """Gather the body, and call ``handle`` when it is there."""
        self.body.append(message.get("body", b""))
        size = sum(map(len, self.body))
        if size > self.max_body_size:
            raise TooLarge(f"the body is over the limit of {self.max_body_size} bytes")
        if message.get("more_body", False):
            return
        await self.handle(b"".join(self.body))
        if not self._connection.is_answered:
            raise MisuseError(
                f"{type(self).__qualname__}.handle() sent no response: call send_response()"
            )

    async def http_disconnect(self, message: Event) -> None:
        """Handle the end of the request."""
        await self.disconnect()


def _to_bytes(value: bytes | str) -> bytes:
    return value if isinstance(value, bytes) else value.encode("latin-1")
