"""What the tests of layers share: a clock they move, a reader, a way to count losses."""

from collections import Counter
from typing import cast

from asgi_notify.layers import BaseChannelLayer, InMemoryChannelLayer, Mailbox
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
