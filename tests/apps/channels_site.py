"""A Django project in one file, whose consumers are Django Channels' own, unchanged.

::

    python -m daphne tests.apps.channels_site:application
    python -m tests.apps.channels_site publish ROOM TEXT
"""

import json
import os
import sys
from typing import Any

import django
from django.conf import settings

if not settings.configured:
    settings.configure(
        ALLOWED_HOSTS=["*"],
        CHANNEL_LAYERS=json.loads(os.environ["CHANNEL_LAYERS"]),
        ROOT_URLCONF=__name__,
        SECRET_KEY="only for tests",
    )
    django.setup()

from asgiref.sync import async_to_sync
from channels.generic.websocket import AsyncJsonWebsocketConsumer, JsonWebsocketConsumer
from channels.layers import get_channel_layer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.core.asgi import get_asgi_application
from django.core.management import BaseCommand
from django.http import HttpRequest, HttpResponse
from django.urls import path


class Chat(AsyncJsonWebsocketConsumer):
    async def connect(self) -> None:
        self.room = self.scope["url_route"]["kwargs"]["room"]
        await self.channel_layer.group_add(self.room, self.channel_name)
        await self.accept()
        await self.send_json({"channel": self.channel_name})

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        message = {"type": "chat.message", "text": content, "by": self.channel_name}
        await self.channel_layer.group_send(self.room, message)

    async def chat_message(self, event: dict[str, Any]) -> None:
        assert event.pop("type") == "chat.message"  # as consumers do that were given a copy
        await self.send_json(event)

    async def disconnect(self, code: int) -> None:
        await self.channel_layer.group_discard(self.room, self.channel_name)


class SyncChat(JsonWebsocketConsumer):
    def connect(self) -> None:
        self.room = self.scope["url_route"]["kwargs"]["room"]
        async_to_sync(self.channel_layer.group_add)(self.room, self.channel_name)
        self.accept()
        self.send_json({"channel": self.channel_name})

    def receive_json(self, content: Any, **kwargs: Any) -> None:
        message = {"type": "chat.message", "text": content, "by": self.channel_name}
        async_to_sync(self.channel_layer.group_send)(self.room, message)

    def chat_message(self, event: dict[str, Any]) -> None:
        self.send_json({"text": event["text"], "by": event["by"]})


def publish(room: str, text: str) -> None:
    message = {"type": "chat.message", "text": text, "by": None}
    async_to_sync(get_channel_layer().group_send)(room, message)


def view(request: HttpRequest, room: str) -> HttpResponse:
    publish(room, request.GET["text"])
    return HttpResponse("published")


class Publish(BaseCommand):
    def add_arguments(self, parser: Any) -> None:
        parser.add_argument("room")
        parser.add_argument("text", nargs="+")

    def handle(self, *, room: str, text: list[str], **options: Any) -> None:
        for one in text:
            publish(room, one)


urlpatterns = [path("publish/<str:room>/", view), path("", lambda request: HttpResponse("up"))]

application = ProtocolTypeRouter(
    {
        "http": get_asgi_application(),
        "websocket": URLRouter(
            [
                path("async/<str:room>/", Chat.as_asgi()),
                path("sync/<str:room>/", SyncChat.as_asgi()),
            ]
        ),
    }
)

if __name__ == "__main__":
    Publish().run_from_argv(sys.argv)
