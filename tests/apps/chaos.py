"""The application that tests/chaos runs: the default one in a hurry, and with flaws if it is told.

The variable CHAOS holds the scenario in JSON: how much history there is, what a
full mailbox does, what carries the messages, and which promise the server is to break.
"""

import json
import os
from collections.abc import Mapping
from itertools import count
from typing import Any

from asgi_notify import (
    History,
    InMemoryChannelLayer,
    NotificationConsumer,
    NotificationHttpConsumer,
    Notifications,
    ProtocolTypeRouter,
    PublishConsumer,
    Sent,
    URLRouter,
    channel_layers,
    path,
)
from asgi_notify.layers import Joined, Replay
from asgi_notify.layers.base import BaseChannelLayer
from asgi_notify.layers.engine import Published, Read, Receiver
from asgi_notify.layers.shared import EngineChannelLayer
from asgi_notify.layers.valkey import ValkeyEngine
from asgi_notify.layers.valkey_address import read_url
from asgi_notify.positions import Position
from asgi_notify.routing.base import as_app
from asgi_notify.types import Message, Receive, Scope, Send

SCENARIO = json.loads(os.environ["CHAOS"])
FLAW = SCENARIO["flaw"]
EVERY = 40  # messages to a client, of which a forgetful server forgets one
SOON = 8  # messages of the engine, after which it lies


class Flawed(InMemoryChannelLayer):
    """A layer that breaks a promise."""

    async def group_add(self, group: str, channel: str, **options: Any) -> Joined:
        """Say that nothing is missing, whatever is."""
        joined = await super().group_add(group, channel, **options)
        is_asked = options.get("since") is not None
        return joined._replace(recovered=True) if FLAW == "recovered" and is_asked else joined

    async def history(self, group: str, **options: Any) -> Replay:
        """Say the same to who asks without joining."""
        replay = await super().history(group, **options)
        return replay._replace(recovered=True) if FLAW == "recovered" else replay

    async def group_send(
        self, group: str, message: Message, *, idempotency_key: str | None = None
    ) -> Sent:
        """Publish once more what was published already."""
        key = None if FLAW == "idempotency" else idempotency_key
        return await super().group_send(group, message, idempotency_key=key)


class Liar(ValkeyEngine):
    """An engine that breaks a promise."""

    async def open(self, receiver: Receiver) -> None:
        """Stand between the engine and its receiver."""
        await super().open(_Twisted(receiver))

    async def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        keep: History | None = None,
        key: str | None = None,
        window: float = 0.0,
    ) -> Published:
        """Publish once more what was published already."""
        key = None if FLAW == "idempotency" else key
        return await super().publish(topic, payload, keep=keep, key=key, window=window)

    async def read(
        self, topic: str, keep: History, after: Position | None = None, limit: int | None = None
    ) -> Read:
        """Say that nothing is missing, whatever is, or leave something out."""
        found = await super().read(topic, keep, after, limit)
        if FLAW == "recovered":
            return found._replace(is_whole=True)
        if FLAW == "porous" and len(found.entries) > 2:
            return found._replace(entries=[*found.entries[:1], *found.entries[2:]])
        return found

    async def tops(self, topics: Mapping[str, History]) -> dict[str, Position]:
        """Say of no group that it has gone on."""
        tops = await super().tops(topics)
        if FLAW == "deaf":
            return {topic: _firsts.setdefault(topic, top) for topic, top in tops.items()}
        return tops


class _Twisted:
    """Brings a layer something else than what was published."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self.went_down, self.came_up = receiver.went_down, receiver.came_up
        self._lost = 0
        self._held: dict[str, bytes] = {}

    def receive(self, topic: str, payload: bytes, position: Position | None) -> None:
        """Take what comes, and break a promise with it."""
        number = 0 if position is None else next(_numbers)
        if FLAW == "deaf" and number > SOON:
            return
        if FLAW == "swapped" and number % SOON == 0:
            payload = self._held.get(topic, payload)
        if FLAW == "renumbered" and position is not None and topic == "user_1":
            if number > SOON and not self._lost:
                self._lost = 1  # this one is lost, and nobody can see it
                return
            position = position._replace(offset=position.offset - self._lost)
        self._held[topic] = payload
        self._receiver.receive(topic, payload, position)


_numbers = count(1)
_firsts: dict[str, Position] = {}


class Forgetful(Notifications):
    """Forgets a message now and then, and tells nobody."""

    async def send_notification(self, event: Message) -> None:
        """Bring it to the client, most often."""
        if FLAW != "forgetful" or next(_numbers) % EVERY:
            await super().send_notification(event)


# Its send() takes a frame rather than an event.
class Socket(Forgetful, NotificationConsumer):
    """Soon sees that a client is gone."""

    ping_interval = 0.4
    pong_timeout = SCENARIO["pong_timeout"]
    retry_spread = 0.3


class Request(Forgetful, NotificationHttpConsumer):
    """Says often that it is there."""

    keep_alive = 0.4
    retry = 100
    retry_spread = 0.3


watch, publish = as_app(Request, "watch"), as_app(PublishConsumer, "publish")


async def watch_or_publish(scope: Scope, receive: Receive, send: Send) -> None:
    """Send each method where the default application does."""
    await (watch if scope["method"] == "GET" else publish)(scope, receive, send)


def make_layer() -> BaseChannelLayer:
    """In memory, or on an engine whose troubles are soon noticed."""
    options = {name: SCENARIO[name] for name in ("capacity", "overflow", "expiry")}
    options["history"] = {"user_*": History(size=SCENARIO["history_size"])}
    if not SCENARIO["engine_url"]:
        return Flawed(**options)
    return EngineChannelLayer(
        make_engine, **options, timeout=1.5, check_interval=1.0, release_delay=0.5
    )


def make_engine() -> ValkeyEngine:
    """One that tells the truth, or one that does not."""
    kind = Liar if FLAW else ValkeyEngine
    address = read_url(SCENARIO["engine_url"]).addresses[0]
    return kind(address, timeout=1.5, probe_interval=0.25)


channel_layers.set("default", make_layer())
app = ProtocolTypeRouter(
    {
        "websocket": URLRouter(
            [path("notifications/", Socket), path("notifications/<int:room_name>/", Socket)]
        ),
        "http": URLRouter([path("notifications/<int:room_name>/", watch_or_publish)]),
    }
)
