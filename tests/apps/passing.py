"""Passes messages on and handles others, and publishes what a test asks for, in one go.

``POST /`` takes a list of ``[group, type, text]`` and answers how many texts the server has
taken directly so far.
"""

import json
from collections.abc import Mapping
from typing import ClassVar

import anyio

from asgi_notify import (
    AsyncHttpConsumer,
    AsyncSseConsumer,
    AsyncWebsocketConsumer,
    InMemoryChannelLayer,
    Message,
    NotificationConsumer,
    NotificationHttpConsumer,
    ProtocolTypeRouter,
    URLRouter,
    WebsocketConsumer,
    path,
)
from asgi_notify.asgi import DIRECT
from asgi_notify.consumers.passing import Render, RenderEvent
from asgi_notify.types import Receive, Scope, Send

layer = InMemoryChannelLayer(capacity=100_000)
taken = 0


def as_text(message: Message) -> str:
    return str(message["text"])


class Fan(AsyncWebsocketConsumer):
    groups = ("all",)
    passes_on: ClassVar[Mapping[str, Render]] = {"pass.on": as_text}

    async def handle_it(self, message: Message) -> None:
        await self.send(text_data=f"handled {message['text']}")

    async def handle_slowly(self, message: Message) -> None:
        await anyio.sleep(0.002)
        await self.send(text_data=f"handled {message['text']}")


class Threaded(WebsocketConsumer):
    groups = ("all",)
    passes_on: ClassVar[Mapping[str, Render]] = {"pass.on": as_text}

    def handle_it(self, message: Message) -> None:
        self.send(text_data=f"handled {message['text']}")

    handle_slowly = handle_it


class Notified(NotificationConsumer):
    """Is sent the same, in its own words."""

    groups = ("all",)

    async def pass_on(self, message: Message) -> None:
        await self.send(text_data=message["text"])

    handle_it = Fan.handle_it
    handle_slowly = Fan.handle_slowly


class Stream(AsyncSseConsumer):
    groups = ("all",)
    passes_on: ClassVar[Mapping[str, RenderEvent]] = {"pass.on": as_text}

    async def handle_it(self, message: Message) -> None:
        await self.send_event(f"handled {message['text']}")

    async def handle_slowly(self, message: Message) -> None:
        await anyio.sleep(0.002)
        await self.send_event(f"handled {message['text']}")


class NotifiedStream(NotificationHttpConsumer):
    """Is sent the same, in its own words."""

    groups = ("all",)

    async def pass_on(self, message: Message) -> None:
        await self.send_event(message["text"])

    handle_it = Stream.handle_it
    handle_slowly = Stream.handle_slowly


class Publishes(AsyncHttpConsumer):
    async def handle(self, body: bytes) -> None:
        for group, kind, text in json.loads(body or b"[]"):  # of a probe, nothing
            await layer.group_send(group, {"type": kind, "text": text, "data": text})
        await self.send_response(200, str(taken).encode())


class Members(AsyncHttpConsumer):
    """Says how many connections are in the group of a user."""

    async def handle(self, body: bytes) -> None:
        user = self.scope["url_route"]["kwargs"]["user"]
        count = len(list(layer.hub.members(f"user_{user}")))
        await self.send_response(200, str(count).encode())


consumers = URLRouter(
    [
        path("fan/", Fan.as_asgi(channel_layer=layer)),
        path("threaded/", Threaded.as_asgi(channel_layer=layer)),
        path("notified/<int:room_name>/", Notified.as_asgi(channel_layer=layer)),
        path("stream/", Stream.as_asgi(channel_layer=layer)),
        path("events/<int:room_name>/", NotifiedStream.as_asgi(channel_layer=layer)),
        path("members/<int:user>/", Members.as_asgi()),
        path("", Publishes.as_asgi()),
    ]
)


async def counted(scope: Scope, receive: Receive, send: Send) -> None:
    """Count what is taken directly, in front of the consumers."""
    offer = (scope.get("extensions") or {}).get(DIRECT)
    if offer is not None:
        name = "send_text" if scope["type"] == "websocket" else "send_body"
        take = offer[name]

        def count(content: str | bytes) -> bool:
            global taken
            is_taken: bool = take(content)
            taken += is_taken
            return is_taken

        scope = {**scope, "extensions": {DIRECT: {**offer, name: count}}}
    await consumers(scope, receive, send)


app = ProtocolTypeRouter({"websocket": counted, "http": counted})
