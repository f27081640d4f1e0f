"""What a process knows of the groups that it follows, and of the parts of the engine they live on.

A `Followed` is made by the first join, and lives until nobody was in the group for a while. All
of it belongs to one `Link`, in one event loop; only the link and its `Joining` change it.
"""

from dataclasses import dataclass, field
from math import inf
from typing import NamedTuple

import anyio

from ..exceptions import LayerUnavailable
from .stream import GroupStream

__all__ = ["Followed", "LinkOptions", "Part", "State", "too_late"]


@dataclass(frozen=True)
class LinkOptions:
    """How long a link waits, and how much it delivers at once.

    Args:
        check_interval: seconds between two comparisons of all groups with their histories.
        release_delay: seconds for which a group is still followed after its last member left,
            so that a client that reloads its page costs the engine nothing.
        timeout: seconds that a join may wait for the engine.
        turn: messages that are delivered in a row. Then the consumers get a turn of the event
            loop to read, so that a burst does not fill their mailboxes before they could.
    """

    check_interval: float = 25.0
    release_delay: float = 2.0
    timeout: float = 5.0
    turn: int = 25


class State(NamedTuple):
    """Whether the engine can be reached."""

    is_up: bool
    since: float
    """On the event loop's clock, in seconds."""
    reason: str = ""
    """Why it cannot be reached; empty while it can."""


@dataclass
class Followed:
    """One topic that this process follows, or is about to."""

    part: "Part"
    """What it lives on."""
    is_kept: bool
    """Whether it has a history, as far as this process knows."""
    ready: anyio.Event
    """Set when the attempt to subscribe has ended. All topics that are subscribed to in one
    call share it; `is_subscribed` and `error` say how it ended."""
    stream: GroupStream = field(default_factory=GroupStream)
    is_subscribed: bool = False
    joining: int = 0  # calls of `join` under way; it is not released before they end
    error: LayerUnavailable | None = None
    release_at: float = inf  # on the event loop's clock; counts only while it has no members

    async def until_subscribed(self, group: str, timeout: float) -> None:
        """Wait until the attempt to subscribe to it has ended, for so many seconds at most.

        Raises:
            LayerUnavailable: it has failed, or has not ended in time.
        """
        if self.part.is_serving:
            # The link is at work for others, for as long as that takes, so the wait of this one
            # needs a timer of its own.
            with anyio.move_on_after(timeout):
                await self.ready.wait()
        else:  # it begins at once, with one timer for all who join in this turn of the loop
            await self.ready.wait()
        if self.error is not None:
            raise LayerUnavailable(str(self.error)) from self.error
        if not self.is_subscribed:
            raise LayerUnavailable(too_late(group, timeout))


class Part:
    """What is to be done on one part of the engine, by a task of its own.

    So a server that does not answer keeps nobody waiting but those whose groups live there.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.wanted: list[str] = []  # topics that `Link._serve` is to subscribe to
        self.ready = anyio.Event()  # set when the attempt to subscribe to these has ended
        self.behind: set[str] = set()  # groups whose histories it is to look at
        self.idle: set[str] = set()  # groups without members, which it is to release
        self.is_serving = False  # whether it is at work
        self.work = anyio.Event()  # wakes it


def too_late(group: str, timeout: float) -> str:
    """What a join is told that has waited in vain."""
    return (
        f"{group} could not be joined within {timeout:g} s, "
        "since what carries messages between processes does not answer"
    )
