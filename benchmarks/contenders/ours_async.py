"""asgi_notify: an asynchronous consumer of our own, in the group that its path names."""

from asgi_notify import (
    AsyncWebsocketConsumer,
    Message,
    ProtocolTypeRouter,
    URLRouter,
    get_channel_layer,
    path,
)


class Client(AsyncWebsocketConsumer):
    """Brings its client the texts of one group."""

    async def connect(self) -> None:
        """Join the group."""
        group = self.scope["url_route"]["kwargs"]["group"]
        await self.channel_layer.group_add(group, self.channel_name)
        await self.accept()

    async def text_message(self, event: Message) -> None:
        """Handle a message of the group."""
        await self.send(event["text"])


app = ProtocolTypeRouter({"websocket": URLRouter([path("<str:group>", Client)])})


async def publish(group: str, text: str) -> None:
    """Send a message to the group."""
    await get_channel_layer().group_send(group, {"type": "text.message", "text": text})


async def add_others(count: int) -> None:
    """Make channels without clients, each in a group of its own."""
    layer = get_channel_layer()
    for number in range(count):
        await layer.group_add(f"other-{number}", await layer.new_channel())
