"""What a consumer of event routing is given: the message, and its way back to the connection."""

import json
from abc import abstractmethod
from collections.abc import Awaitable, Iterable, Iterator, Mapping
from typing import Any, Generic, TypeVar

from .. import asgi
from ..consumers.base import Consumer
from ..exceptions import InvalidMessage
from ..layers.base import BaseChannelLayer, Sent
from ..sync import async_to_sync
from ..types import Event, Message, Scope

__all__ = ["AsyncMessage", "SyncMessage"]

Done = TypeVar("Done")
"""What a method returns: an awaitable, or None for a plain function."""


class _Message(Mapping[str, Any], Generic[Done]):
    """One message, read-only, with the keys of the connection's scope.

    Where the scope and the event have the same key, the event's value counts:
    ``message["type"]`` is ``"websocket.receive"``. After the end of the
    connection, what is sent to the client goes nowhere.

    Attributes:
        channel: the name that it was routed by.
        state: a dict of this connection, for whatever it has to remember.
    """

    def __init__(
        self, content: Message, channel: str, consumer: Consumer[Done], state: dict[str, Any]
    ) -> None:
        self.channel = channel
        self.state = state
        self._content = content
        self._consumer = consumer

    def __getitem__(self, key: str) -> Any:
        return self._content[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._content)

    def __len__(self) -> int:
        return len(self._content)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.channel!r} at {self.get('path', self.channel_name)}>"

    @property
    def scope(self) -> Scope:
        """What is known of the connection."""
        return self._consumer.scope

    @property
    def channel_layer(self) -> BaseChannelLayer:
        """The layer that carries messages to channels and groups."""
        return self._consumer.channel_layer

    @property
    def channel_name(self) -> str:
        """The address of this connection: what is sent there is routed as the client's events."""
        return self._consumer.channel_name

    def reply(self, event: Event) -> Done:
        """Send an ASGI event to the client.

        Raises:
            InvalidMessage: it is no event.
            MisuseError: it is not the turn of this event.
        """
        if not isinstance(event, Mapping) or not isinstance(event.get("type"), str):
            raise InvalidMessage(
                "reply() takes an ASGI event, such as {'type': 'websocket.send', 'text': 'hello'}, "
                f"not {event!r}; for text there is reply_text('hello')"
            )
        return self._consumer._emit(event)

    def reply_text(self, text: str) -> Done:
        """Send a text frame. Raises `MisuseError` where the WebSocket was not accepted yet."""
        return self._consumer._emit(asgi.send_text(text))

    def reply_bytes(self, data: bytes) -> Done:
        """Send a binary frame. Raises `MisuseError` where the WebSocket was not accepted yet."""
        return self._consumer._emit(asgi.send_bytes(data))

    def reply_json(self, content: Any) -> Done:
        """Send a text frame that holds JSON; raises as `reply_text` does."""
        return self.reply_text(json.dumps(content))

    def accept(
        self, subprotocol: str | None = None, headers: Iterable[tuple[bytes, bytes]] = ()
    ) -> Done:
        """Accept the WebSocket; without this, it is accepted once ``websocket.connect`` is handled.

        Raises:
            MisuseError: it was accepted already.
        """
        return self._consumer._emit(asgi.accept(subprotocol, headers))

    def close(self, code: int = 1000, reason: str | None = None) -> Done:
        """Close the WebSocket, or refuse it (HTTP 403) where it was not accepted."""
        return self._consumer._emit(asgi.close(code, reason))

    def respond(
        self,
        status: int,
        body: str | bytes = b"",
        content_type: str = "text/plain; charset=utf-8",
        headers: Iterable[tuple[bytes, bytes]] = (),
    ) -> Done:
        """Answer an HTTP request with a whole response.

        Raises:
            MisuseError: it was answered already.
        """
        content = body.encode() if isinstance(body, str) else body
        return self._consumer._emit(*asgi.response(status, content, content_type, *headers))

    @abstractmethod
    def group_add(self, group: str) -> Done:
        """Put this connection into a group; it leaves all of them by itself at its end.

        Raises:
            InvalidName: no group can be called that.
        """

    @abstractmethod
    def group_discard(self, group: str) -> Done:
        """Take this connection out of a group.

        Raises:
            InvalidName: no group can be called that.
        """


class AsyncMessage(_Message[Awaitable[None]]):
    """The message of an ``async def`` consumer: what sends has to be awaited."""

    async def group_add(self, group: str) -> None:
        await self.channel_layer.group_add(group, self.channel_name)

    async def group_discard(self, group: str) -> None:
        await self.channel_layer.group_discard(group, self.channel_name)

    async def group_send(self, group: str, message: Message) -> Sent:
        """Send a message to every connection of a group, to be routed there by its type.

        Raises:
            InvalidName: no group can be called that.
            InvalidMessage: the message has no usable type or cannot be encoded.
        """
        return await self.channel_layer.group_send(group, message)


class SyncMessage(_Message[None]):
    """The message of a ``def`` consumer, whose methods return when they are done."""

    def group_add(self, group: str) -> None:
        async_to_sync(self.channel_layer.group_add)(group, self.channel_name)

    def group_discard(self, group: str) -> None:
        async_to_sync(self.channel_layer.group_discard)(group, self.channel_name)

    def group_send(self, group: str, message: Message) -> Sent:
        """As `AsyncMessage.group_send`."""
        return async_to_sync(self.channel_layer.group_send)(group, message)
