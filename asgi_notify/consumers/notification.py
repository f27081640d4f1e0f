"""Whose notifications a client gets, how they read, and how a WebSocket brings them."""

import json
import logging
from abc import abstractmethod
from typing import ClassVar

from ..exceptions import InvalidMessage, InvalidName, NoRouteFound
from ..names import require_group_name
from ..types import Message
from .base import AsyncConsumer
from .websocket import AsyncWebsocketConsumer

__all__ = ["NotificationConsumer", "Notifications", "as_text", "room_group"]

logger = logging.getLogger("asgi_notify.notifications")


def room_group(room_name: object) -> str:
    """The group of a room: ``user_42`` for 42.

    Raises:
        NoRouteFound: no group can be called that.
    """
    try:
        return require_group_name(f"user_{room_name}")
    except InvalidName as error:
        raise NoRouteFound(f"there is no room {str(room_name)[:20]}...: {error}") from error


def as_text(data: object) -> str:
    """The text frame that carries a notification's data: text as it is, anything else as JSON.

    Raises:
        InvalidMessage: no frame can carry it.
    """
    try:
        if not isinstance(data, str):
            return json.dumps(data, allow_nan=False)
        if not data.isascii():
            data.encode()  # half of a surrogate pair, which JSON may spell, is no text
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidMessage(f"its data cannot be sent as text or JSON: {error}") from error
    return data


class Notifications(AsyncConsumer):
    """What every transport of notifications shares, to be overridden once for all of them.

    ::

        class OwnRoom(Notifications):
            async def join(self):
                if self.scope["user"].id != self.room_name:
                    raise Forbidden("this is another user's room")
                await super().join()

        class OwnSocket(OwnRoom, NotificationConsumer): ...
        class OwnStream(OwnRoom, NotificationHttpConsumer): ...

    A message ``{"type": "send.notification", "data": ...}`` to the group reaches
    the client.

    Attributes:
        room_name: what the path captured under that name.
        room_group_name: ``user_<room_name>``, the group that `join` joins.
    """

    helpers: ClassVar[frozenset[str]] = frozenset({"join", "render"})

    room_name: object
    room_group_name: str

    async def join(self) -> None:
        """Let the client watch: join the group of the room.

        An override raises `Forbidden`, `Unauthorized` or `DenyConnection` for
        who may not watch.
        """
        await self.channel_layer.group_add(self.room_group_name, self.channel_name)

    def render(self, data: object) -> str:
        """The text that the client gets for a notification's data.

        Raises:
            InvalidMessage: no text can carry it; it is logged and passed over.
        """
        return as_text(data)

    async def send_notification(self, event: Message) -> None:
        """Handle a message to the group: pass its ``data`` on to the client."""
        if "data" not in event:
            logger.error(
                "a notification to %s has no 'data'; it was passed over", self.scope["path"]
            )
            return
        try:
            text = self.render(event["data"])
        except InvalidMessage as error:
            # The sender's mistake, which must not cost its readers their connections.
            logger.error("a notification to %s was passed over: %s", self.scope["path"], error)
            return
        await self._deliver(text)

    async def _enter(self) -> None:
        """Find the room that the path names, and join its group."""
        self.room_name = self.scope["url_route"]["kwargs"]["room_name"]
        self.room_group_name = room_group(self.room_name)
        await self.join()

    @abstractmethod
    async def _deliver(self, text: str) -> None:
        """Bring the text to the client."""


# Its send() takes a frame rather than an event, as AsyncWebsocketConsumer's does.
class NotificationConsumer(Notifications, AsyncWebsocketConsumer):  # type: ignore[misc]
    """Sends its client what the group ``user_<room_name>`` is sent.

    Routed at a path with a ``room_name``, such as
    ``notifications/<int:room_name>/``. A message
    ``{"type": "send.notification", "data": ...}`` to the group reaches the client
    as a text frame: text as it is, anything else as JSON. Who may watch, and how
    a notification reads, is decided in `Notifications`.

    A client that sends ``ping`` gets ``pong``. Anything else goes to
    `client_message`, which publishes nothing, since a client does not speak
    for the server.
    """

    max_message_size = 16 * 1024  # bytes; a client has little to say here
    helpers: ClassVar[frozenset[str]] = frozenset({"client_message", "send_error"})

    async def connect(self) -> None:
        await self._enter()
        await self.accept()

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        if text_data == "ping":
            await self.send(text_data="pong")
        elif text_data is None:
            await self.send_error("binary frames are not read here; send text")
        else:
            await self.client_message(text_data)

    async def client_message(self, text: str) -> None:
        """Called with what the client sends, apart from ``ping``; answers that it is not read.

        Override it to let clients do more.
        """
        await self.send_error("this socket brings notifications; all it understands is 'ping'")

    async def send_error(self, sentence: str) -> None:
        """Tell the client, in a frame ``{"error": ...}``, what was wrong."""
        await self.send(text_data=json.dumps({"error": sentence}))

    async def _deliver(self, text: str) -> None:
        await self.send(text_data=text)
