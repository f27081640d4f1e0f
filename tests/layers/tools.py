"""What the tests of layers share: a clock they move, a reader, a way to count losses."""

from collections import Counter
from collections.abc import Iterable
from typing import cast

from asgi_notify.layers import BaseChannelLayer, InMemoryChannelLayer, Mailbox
from asgi_notify.positions import Position
from asgi_notify.types import Message

DAY = 24 * 60 * 60.0  # seconds


class Clock:
    """Stands still until the test moves it, and counts how often it was read."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.asked = 0

    def __call__(self) -> float:
        self.asked += 1
        return self.now

    def move(self, seconds: float) -> None:
        self.now += seconds


def number(n: int) -> Message:
    """A message that is told from others by its number."""
    return {"type": "number", "n": n}


def numbers(messages: Iterable[Message]) -> list[int]:
    """Which ones these are."""
    return [message["n"] for message in messages]


def told(messages: Iterable[Message]) -> list[object]:
    """The numbers of messages, and in their places (group, reason, lost) of the gaps."""
    return [
        (one["group"], one["reason"], one["lost"]) if one["type"] == "group.gap" else one["n"]
        for one in messages
    ]


async def publish(layer: BaseChannelLayer, group: str, *sent: int) -> list[Position]:
    """Send numbers to a group that has a history, and return where they stand."""
    positions = []
    for n in sent:
        position = (await layer.group_send(group, number(n))).position
        assert position is not None
        positions.append(position)
    return positions


async def read(mailbox: Mailbox) -> Message:
    """The next message, as a consumer takes it out."""
    while (entry := mailbox.pop()) is None:
        await mailbox.wait()
    return entry.message


def waiting(mailbox: Mailbox) -> list[Message]:
    """All the messages that wait, taken out."""
    found = []
    while (entry := mailbox.pop()) is not None:
        found.append(entry.message)
    return found


def drops(layer: BaseChannelLayer) -> Counter[str]:
    """The messages that were lost in this process, by reason."""
    return cast(InMemoryChannelLayer, layer).hub.drops


def losses(layer: BaseChannelLayer) -> Counter[tuple[str, str]]:
    """The messages to groups that were lost in this process, by reason and group."""
    return cast(InMemoryChannelLayer, layer).hub.drops.by_group
