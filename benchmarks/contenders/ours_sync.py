"""asgi_notify: a synchronous consumer, whose handlers run in worker threads."""

from asgi_notify import (
    Message,
    ProtocolTypeRouter,
    URLRouter,
    WebsocketConsumer,
    async_to_sync,
    get_channel_layer,
    path,
)


class Client(WebsocketConsumer):
    """Brings its client the texts of one group."""

    def connect(self) -> None:
        """Join the group."""
        group = self.scope["url_route"]["kwargs"]["group"]
        async_to_sync(self.channel_layer.group_add)(group, self.channel_name)
        self.accept()

    def text_message(self, event: Message) -> None:
        """Handle a message of the group."""
        self.send(event["text"])


app = ProtocolTypeRouter({"websocket": URLRouter([path("<str:group>", Client)])})


async def publish(group: str, text: str) -> None:
    """Send a message to the group."""
    await get_channel_layer().group_send(group, {"type": "text.message", "text": text})
