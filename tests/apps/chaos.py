"""The application that tests/chaos runs: the default one in a hurry, and with flaws if it is told.

The variable CHAOS holds the scenario in JSON: how much history there is, what a
full mailbox does, and which promise the server is to break.
"""

import json
import os
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
from asgi_notify.routing.base import as_app
from asgi_notify.types import Message, Receive, Scope, Send

SCENARIO = json.loads(os.environ["CHAOS"])
FLAW = SCENARIO["flaw"]
EVERY = 40  # messages to a client, of which a forgetful server forgets one


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


_numbers = count(1)


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


channel_layers.set(
    "default",
    Flawed(
        capacity=SCENARIO["capacity"],
        overflow=SCENARIO["overflow"],
        expiry=SCENARIO["expiry"],
        history={"user_*": History(size=SCENARIO["history_size"])},
    ),
)
app = ProtocolTypeRouter(
    {
        "websocket": URLRouter(
            [path("notifications/", Socket), path("notifications/<int:room_name>/", Socket)]
        ),
        "http": URLRouter([path("notifications/<int:room_name>/", watch_or_publish)]),
    }
)
