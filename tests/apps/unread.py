"""Rooms that give up soon a client that reads nothing, and a look at who is there."""

from asgi_notify import (
    AsyncHttpConsumer,
    NotificationConsumer,
    NotificationHttpConsumer,
    ProtocolTypeRouter,
    URLRouter,
    get_channel_layer,
    path,
)
from asgi_notify.layers.memory import InMemoryChannelLayer

LARGE = "x" * 500_000


class Socket(NotificationConsumer):
    send_timeout = 1.0


class Stream(NotificationHttpConsumer):
    send_timeout = 1.0


class Crowd(AsyncHttpConsumer):
    """Answers a GET with how many are in a room, and sends it a large message at a POST."""

    async def handle(self, body: bytes) -> None:
        layer = get_channel_layer()
        assert isinstance(layer, InMemoryChannelLayer)
        if self.scope["method"] == "POST":
            await layer.group_send("user_42", {"type": "send.notification", "data": LARGE})
        there = len(list(layer.hub.members("user_42")))
        await self.send_response(200, str(there).encode())


room = "notifications/<int:room_name>/"
app = ProtocolTypeRouter(
    {
        "websocket": URLRouter([path(room, Socket)]),
        "http": URLRouter([path(room, Stream), path("crowd", Crowd)]),
    }
)
