"""asgi_notify: a consumer of server-sent events, in the group that its path names."""

from asgi_notify import (
    AsyncSseConsumer,
    Message,
    ProtocolTypeRouter,
    URLRouter,
    get_channel_layer,
    path,
)


class Stream(AsyncSseConsumer):
    """Brings its client the texts of one group."""

    async def connect(self) -> None:
        """Join the group."""
        group = self.scope["url_route"]["kwargs"]["group"]
        await self.channel_layer.group_add(group, self.channel_name)

    async def text_message(self, event: Message) -> None:
        """Handle a message of the group."""
        await self.send_event(event["text"])


app = ProtocolTypeRouter({"http": URLRouter([path("<str:group>", Stream)])})


async def publish(group: str, text: str) -> None:
    """Send a message to the group."""
    await get_channel_layer().group_send(group, {"type": "text.message", "text": text})
