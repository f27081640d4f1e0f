"""The notifications of a room, from a server whose layer is flushed by a POST to /flush."""

from asgi_notify import (
    AsyncHttpConsumer,
    History,
    InMemoryChannelLayer,
    NotificationConsumer,
    ProtocolTypeRouter,
    PublishConsumer,
    URLRouter,
    channel_layers,
    path,
)

channel_layers.set("default", InMemoryChannelLayer(history={"user_*": History()}))


class Flush(AsyncHttpConsumer):
    """Flushes the layer before it answers, which its own consumer survives no more than others."""

    async def handle(self, body: bytes) -> None:
        await self.send_response(204, b"")
        await self.channel_layer.flush()


class Soon(NotificationConsumer):
    """Asks its clients to come back at once."""

    retry_spread = 0.01


app = ProtocolTypeRouter(
    {
        "websocket": URLRouter([path("notifications/", Soon)]),
        "http": URLRouter(
            [
                path("flush", Flush),
                path("notifications/<int:room_name>/", PublishConsumer.as_asgi()),
            ]
        ),
    }
)
