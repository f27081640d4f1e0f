"""What a layer answers to those who publish, join a group, or ask what they have missed."""

from typing import NamedTuple

from ..codec import FrozenMessage
from ..positions import Position

__all__ = ["Joined", "Replay", "Sent"]


class Sent(NamedTuple):
    """What became of a message to a group, as far as this process can tell."""

    reached: int
    """How many mailboxes took it."""
    dropped: int
    """How many lost it, or lost it together with their connection."""
    position: Position | None = None
    """Where it stands in the group's history, or None where it is not kept."""


class Joined(NamedTuple):
    """From where on a channel gets what is sent to a group."""

    position: Position | None
    """Everything after it follows, or is reported as lost in its place; None where the group has
    no history. A member that asks again, and is still owed what comes before the position
    that it asked for, is given the position before that."""
    recovered: bool | None
    """Whether nothing is missing since the position that was asked for; None without one.

    Where it is False, anything up to ``position`` may be missing.
    """
    replayed: int
    """How many messages out of the history come first."""


class Replay(NamedTuple):
    """What a group's history answers to a position."""

    messages: list[FrozenMessage]
    """What came after the position, oldest first; nothing unless all of it is there."""
    recovered: bool
    """Whether nothing is missing between the position and what is sent from now on."""
    position: Position | None
    """Where the group stands now, or None where no history is kept for it."""
