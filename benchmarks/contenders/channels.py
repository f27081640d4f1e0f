"""Django Channels, with its layer in memory.

The layer drops what exceeds the capacity of a channel without a word. Its
default of 100 is raised here, so that it has no reason to.
"""

from typing import Any

from channels.generic.websocket import AsyncWebsocketConsumer
from channels.layers import get_channel_layer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.conf import settings
from django.urls import re_path

CAPACITY = 100_000  # messages

settings.configure(
    CHANNEL_LAYERS={
        "default": {
            "BACKEND": "channels.layers.InMemoryChannelLayer",
            "CONFIG": {"capacity": CAPACITY},
        }
    }
)


class Client(AsyncWebsocketConsumer):
    """Brings its client the texts of one group."""

    async def connect(self) -> None:
        """Join the group."""
        self.group = self.scope["url_route"]["kwargs"]["group"]
        await self.channel_layer.group_add(self.group, self.channel_name)
        await self.accept()

    async def disconnect(self, close_code: int) -> None:
        """Leave the group."""
        await self.channel_layer.group_discard(self.group, self.channel_name)

    async def text_message(self, event: dict[str, Any]) -> None:
        """Handle a message of the group."""
        await self.send(text_data=event["text"])


urls = [re_path(r"^(?P<group>\w+)$", Client.as_asgi())]
app = ProtocolTypeRouter({"websocket": URLRouter(urls)})


async def publish(group: str, text: str) -> None:
    """Send a message to the group."""
    await get_channel_layer().group_send(group, {"type": "text.message", "text": text})


async def add_others(count: int) -> None:
    """Make channels without clients, each in a group of its own."""
    layer = get_channel_layer()
    for number in range(count):
        await layer.group_add(f"other-{number}", await layer.new_channel())
