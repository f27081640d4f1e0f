"""Notification servers that fail in one way each, under a path of their own.

::

    /good/      does not fail
    /dropping/  keeps every second notification to itself
    /cutting/   closes with 1013 at the third
    /dying/     ends, with the whole process, at the third that is published
    /denying/   lets nobody watch
    /silent/    never answers who would watch
"""

import os

import anyio

from asgi_notify import (
    DenyConnection,
    Message,
    NotificationConsumer,
    ProtocolTypeRouter,
    URLRouter,
    path,
)
from asgi_notify.publishing import PublishConsumer

ROOM = "notifications/<int:room_name>/"


class Counting(NotificationConsumer):
    """Knows how many of a run's notifications have come."""

    count = 0

    async def send_notification(self, event: Message) -> None:
        self.count += 1
        await self.counted(event)

    async def counted(self, event: Message) -> None:
        await super().send_notification(event)


class Dropping(Counting):
    async def counted(self, event: Message) -> None:
        if self.count % 2:
            await super().counted(event)


class Cutting(Counting):
    async def counted(self, event: Message) -> None:
        if self.count == 3:
            await self.close(1013)
        else:
            await super().counted(event)


class Denying(NotificationConsumer):
    async def join(self) -> None:
        raise DenyConnection


class Silent(NotificationConsumer):
    async def join(self) -> None:
        await anyio.sleep_forever()


class DyingPublisher(PublishConsumer):
    async def handle(self, body: bytes) -> None:
        # Those of a run end in their padding, and have their number in the third place.
        if body.endswith(b'x"}') and body.split()[3] == b"2":
            os._exit(1)
        await super().handle(body)


SOCKETS = {
    "good": NotificationConsumer,
    "dropping": Dropping,
    "cutting": Cutting,
    "dying": NotificationConsumer,
    "denying": Denying,
    "silent": Silent,
}

app = ProtocolTypeRouter(
    {
        "websocket": URLRouter(
            [path(f"{name}/{ROOM}", consumer) for name, consumer in SOCKETS.items()]
        ),
        "http": URLRouter(
            [
                path(f"{name}/{ROOM}", DyingPublisher if name == "dying" else PublishConsumer)
                for name in SOCKETS
            ]
        ),
    }
)
