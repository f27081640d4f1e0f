"""Django Channels' synchronous consumer, with its layer in memory."""

from typing import Any

from asgiref.sync import async_to_sync
from channels.generic.websocket import WebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.urls import re_path

from .channels import publish as publish_to  # importing it configures Django and the layer


class Client(WebsocketConsumer):
    """Brings its client the texts of one group."""

    def connect(self) -> None:
        """Join the group."""
        self.group = self.scope["url_route"]["kwargs"]["group"]
        async_to_sync(self.channel_layer.group_add)(self.group, self.channel_name)
        self.accept()

    def disconnect(self, close_code: int) -> None:
        """Leave the group."""
        async_to_sync(self.channel_layer.group_discard)(self.group, self.channel_name)

    def text_message(self, event: dict[str, Any]) -> None:
        """Handle a message of the group."""
        self.send(text_data=event["text"])


urls = [re_path(r"^(?P<group>\w+)$", Client.as_asgi())]
app = ProtocolTypeRouter({"websocket": URLRouter(urls)})


async def publish(group: str, text: str) -> None:
    """Send a message to the group."""
    await publish_to(group, text)
