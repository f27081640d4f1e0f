"""Consumers of WebSockets: connect, receive and disconnect instead of bare events.

Also how large a frame of the client may be, and how one that is no JSON is refused.
"""

import json
from collections.abc import Awaitable, Coroutine, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, Generic, TypeVar

from .. import asgi
from ..exceptions import ClientError, MisuseError, NoRouteFound, TooLarge, UnsupportedData
from ..types import Event, Message, Send
from .base import AsyncConsumer, Consumer
from .direct import Direct, direct_of
from .handlers import awaitable
from .passing import Render, Rendering, add_handlers, renderings_of
from .threads import SyncConsumer

__all__ = [
    "AsyncJsonWebsocketConsumer",
    "AsyncWebsocketConsumer",
    "JsonWebsocketConsumer",
    "WebsocketConsumer",
]

Done = TypeVar("Done")

_AT_THE_END = ("disconnect", "websocket_disconnect", "dispatch")


class _Websocket(Consumer[Done], Generic[Done]):
    """The one body of the WebSocket consumers; ``Done`` is what their helpers return.

    Attributes:
        max_message_size: bytes of one frame from the client, over which it is
            closed with 1009; None leaves the limit to the server.
        passes_on: types of messages that are only passed on, each with the function
            that makes the text of a frame of such a message. It stands for a handler
            that sends this text, and takes less: see docs/consumers.md.
    """

    max_message_size: int | None = None
    passes_on: ClassVar[Mapping[str, Render]] = {}

    helpers: ClassVar[frozenset[str]] = frozenset(
        {"accept", "close", "connect", "disconnect", "receive"}
    )

    _ends_with_login = True
    _renderings: ClassVar[Mapping[str, Rendering]] = {}
    """How the types of messages read that nothing of the class's own has to do with."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        add_handlers(cls, Rendering)
        cls._renderings = renderings_of(cls, Rendering, "dispatch", "send")

    def _direct(self, send: Send) -> Direct | None:
        if not self._renderings:
            return None
        return direct_of(self.scope, send, self._text_at_once)

    def _text_at_once(self, message: Message) -> str | None:
        """The text that this client gets for a message; None where its handler has to decide."""
        rendering = self._renderings.get(message["type"])
        if rendering is None:
            return None
        known, text = rendering.last.known
        return text if known is message else rendering.last.find(message)

    def websocket_connect(self, message: Event, /) -> Done:
        """Handle the client's wish to connect."""
        return self.connect()

    def websocket_receive(self, message: Event, /) -> Done:
        """Handle a frame from the client."""
        text, data = message.get("text"), message.get("bytes")
        if self.max_message_size is not None:
            _require_size(text, data, self.max_message_size)
        if text is not None:
            return self.receive(text_data=text)
        return self.receive(bytes_data=data)

    def websocket_disconnect(self, message: Event, /) -> Done:
        """Handle the end of the connection."""
        # RFC 6455 7.4.1: 1005 stands for a close frame without a code.
        return self.disconnect(message.get("code") or 1005)

    def _handle_last(self, event: Message, /) -> Awaitable[None] | None:
        # Most consumers do nothing at the end, and are spared two cancel scopes or a thread. It is
        # asked here, rather than once for the class, for a method that a test has replaced.
        cls = type(self)
        is_idle = (
            cls.disconnect is _Websocket.disconnect
            and cls.websocket_disconnect is _Websocket.websocket_disconnect
            and (cls.dispatch is AsyncConsumer.dispatch or cls.dispatch is SyncConsumer.dispatch)
            and vars(self).keys().isdisjoint(_AT_THE_END)
        )
        return None if is_idle else super()._handle_last(event)

    def http_request(self, message: Event, /) -> Done:
        """Refuse a plain request, which waits for an answer: a router may lead it here, too."""
        raise NoRouteFound("this path is a WebSocket; open it with ws:// or wss://")

    def connection_close(self, message: Message, /) -> Done:
        """Handle somebody's wish, sent through the layer, that this connection ends."""
        return self.close(message.get("code"), message.get("reason"))

    def connect(self) -> Done:
        """Called when a client wants to connect; accepts it, unless overridden.

        An override calls ``accept`` or ``close``, or raises `AcceptConnection`
        or `DenyConnection`.
        """
        return self.accept()

    def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> Done:
        """Called with each frame from the client; does nothing, unless overridden."""
        return self._emit()

    def disconnect(self, code: int, /) -> Done:
        """Called once at the end of the connection, with its close code.

        Source: RFC 6455, section 7.4, for the codes.
        """
        return self._emit()

    def accept(
        self,
        subprotocol: str | None = None,
        headers: Iterable[tuple[bytes, bytes]] | None = None,
    ) -> Done:
        """Accept the connection.

        Args:
            subprotocol: one of ``scope["subprotocols"]``, or None.
            headers: further headers of the response.
        """
        return self._emit(asgi.accept(subprotocol, headers or ()))

    def send(  # type: ignore[override]  # Channels' signature: a frame rather than an event
        self,
        text_data: str | None = None,
        bytes_data: bytes | None = None,
        close: bool | int = False,
    ) -> Done:
        """Send one frame; after the end of the connection, do nothing.

        Args:
            text_data: what a text frame carries.
            bytes_data: what a binary frame carries, where there is no text.
            close: close the connection afterwards, with this code (True: 1000).

        Raises:
            MisuseError: neither text nor bytes were given, or the connection
                was not accepted yet.
        """
        if text_data is not None:
            frame = asgi.send_text(text_data)
        elif bytes_data is not None:
            frame = asgi.send_bytes(bytes_data)
        else:
            raise MisuseError("send() takes text_data or bytes_data")
        if not close:
            return self._emit(frame)
        # True == 1, so only its identity distinguishes a bare True from the code 1.
        return self._emit(frame, asgi.close(1000 if close is True else close))

    def close(self, code: int | bool | None = None, reason: str | None = None) -> Done:
        """Close the connection, or refuse it (HTTP 403) where it was not accepted.

        Args:
            code: the close code; 1000 where None.
            reason: text for the client, of which a close frame holds 123 bytes.
        """
        return self._emit(asgi.close(1000 if code is None or code is True else code, reason))


class AsyncWebsocketConsumer(_Websocket[Awaitable[None]], AsyncConsumer):
    """A WebSocket consumer whose methods are ``async def``."""

    def send(  # type: ignore[override]  # as in _Websocket
        self,
        text_data: str | None = None,
        bytes_data: bytes | None = None,
        close: bool | int = False,
    ) -> Awaitable[None]:
        if text_data is None or close:
            return super().send(text_data, bytes_data, close)
        # The way of nearly every notification, at the least cost.
        return self._connection.send({"type": "websocket.send", "text": text_data})


class WebsocketConsumer(_Websocket[None], SyncConsumer):  # type: ignore[misc]  # in send()
    """A WebSocket consumer whose methods are plain functions, run in worker threads."""

    def _pass_on(self, message: Message) -> Coroutine[Any, Any, None] | None:
        rendering = self._renderings.get(message["type"])
        if rendering is None:
            return None
        return self._connection.send(asgi.send_text(rendering(message)))


class AsyncJsonWebsocketConsumer(AsyncWebsocketConsumer):
    """A WebSocket consumer that speaks JSON in text frames.

    A frame that is no JSON closes the connection with 4400 and a reason, a
    binary one with 1003.
    """

    helpers: ClassVar[frozenset[str]] = frozenset(
        {"decode_json", "encode_json", "receive_json", "send_json"}
    )

    async def receive(
        self, text_data: str | None = None, bytes_data: bytes | None = None, **kwargs: Any
    ) -> None:
        text = _require_text(text_data)
        with _reading():
            content = await awaitable(self, "decode_json", self.decode_json(text))
        await awaitable(self, "receive_json", self.receive_json(content, **kwargs))

    async def receive_json(self, content: Any, /) -> None:
        """Called with what each frame of the client holds; does nothing, unless overridden."""

    async def send_json(self, content: Any, close: bool | int = False) -> None:
        """Send one frame of JSON, and close the connection afterwards if asked to."""
        text = await awaitable(self, "encode_json", self.encode_json(content))
        await self.send(text_data=text, close=close)

    @classmethod
    async def decode_json(cls, text_data: str) -> Any:
        """What the text of a frame holds.

        Raises:
            ValueError: it is no JSON; the client is closed with 4400.
        """
        return json.loads(text_data)

    @classmethod
    async def encode_json(cls, content: Any) -> str:
        """The text of a frame that holds the content."""
        return json.dumps(content)


class JsonWebsocketConsumer(WebsocketConsumer):
    """`AsyncJsonWebsocketConsumer` with plain functions, run in worker threads."""

    helpers = AsyncJsonWebsocketConsumer.helpers

    def receive(
        self, text_data: str | None = None, bytes_data: bytes | None = None, **kwargs: Any
    ) -> None:
        text = _require_text(text_data)
        with _reading():
            content = self.decode_json(text)
        return self.receive_json(content, **kwargs)  # so that an async one is found out

    def receive_json(self, content: Any, /) -> None:
        """Called with what each frame of the client holds; does nothing, unless overridden."""

    def send_json(self, content: Any, close: bool | int = False) -> None:
        """Send one frame of JSON, and close the connection afterwards if asked to."""
        self.send(text_data=self.encode_json(content), close=close)

    @classmethod
    def decode_json(cls, text_data: str) -> Any:
        """What the text of a frame holds.

        Raises:
            ValueError: it is no JSON; the client is closed with 4400.
        """
        return json.loads(text_data)

    @classmethod
    def encode_json(cls, content: Any) -> str:
        """The text of a frame that holds the content."""
        return json.dumps(content)


def _require_size(text: str | None, data: bytes | None, most: int) -> None:
    size = len(text.encode(errors="replace")) if text is not None else len(data or b"")
    if size > most:
        raise TooLarge(f"a message of {size} bytes; at most {most} are taken")


def _require_text(text: str | None) -> str:
    if text is None:
        raise UnsupportedData("a binary frame, where JSON in a text frame is spoken")
    return text


@contextmanager
def _reading() -> Iterator[None]:
    """What cannot be decoded, by whatever code, is the client's fault."""
    try:
        yield
    except (ValueError, RecursionError) as error:
        raise ClientError(f"the frame is no JSON: {error}") from error
