"""What waits in one channel's queue, and how a loss is reported and counted."""

import sys
from collections import Counter, deque
from math import inf
from typing import NamedTuple

from ..codec import stamped
from ..positions import Position
from ..types import Event, Message

__all__ = [
    "CLOSE",
    "GAP",
    "JOIN",
    "LEAVE",
    "MAX_COUNTED",
    "OTHERS",
    "PRESENCE",
    "CloseRequest",
    "Entry",
    "FromClient",
    "Gap",
    "Losses",
    "Rejoined",
    "Replayed",
    "followers_of",
    "is_of_history",
    "note",
]

CLOSE = "connection.close"  # the type of the message that ends a connection

PRESENCE = JOIN, LEAVE = "presence.join", "presence.leave"  # of those that tell who is there

GAP = "group.gap"  # the type of the message that tells of a loss

MAX_COUNTED = 1000  # groups and reasons; a table for people to read

OTHERS = "*"  # stands for the groups that came too late to be counted; no group has this name


class Entry(NamedTuple):
    """What waits in a mailbox: one object for all the mailboxes of a group."""

    expires_at: float
    """On the mailbox's clock, in seconds; infinity for what the client itself sent."""
    message: Message | Event

    @property
    def is_from_client(self) -> bool:
        """Whether the connection's own client sent it, rather than the layer."""
        return self.expires_at == inf

    @property
    def group(self) -> str | None:
        """The group that it was sent to, or None."""
        return getattr(self.message, "group", None)

    @property
    def after(self) -> Position | None:
        """The position right before this one in its group's history; None where it has none."""
        position: Position | None = getattr(self.message, "position", None)
        return position and position._replace(offset=position.offset - 1)


class FromClient(Entry):
    """An event of the connection's own client, which may send another once it is read."""

    __slots__ = ()


class Replayed(Entry):
    """A message out of a group's history, which takes no room of what is sent now."""

    __slots__ = ()


class CloseRequest(Entry):
    """Ends a connection. Takes no room, and is neither dropped nor too old, however much waits."""

    __slots__ = ()

    @classmethod
    def of(cls, message: Message) -> "CloseRequest":
        """The entry for a message of type `CLOSE`."""
        return cls(sys.float_info.max, message)


class Gap(Entry):
    """Tells, in their place, of messages that were lost."""

    __slots__ = ()

    @classmethod
    def of(cls, group: str, reason: str, lost: int | None, after: Position | None = None) -> "Gap":
        """So many messages of a group, lost one after the other for one reason.

        Args:
            group: that they were sent to.
            reason: why they were lost.
            lost: how many, or None where nobody can say.
            after: the position right before the first of them, where it had one.
        """
        content = {"type": GAP, "group": group, "reason": reason, "lost": lost}
        # It is small, and must not be lost itself.
        return cls(sys.float_info.max, stamped(content, group, after))

    @property
    def after(self) -> Position | None:
        """The position right before the first message that was lost here."""
        position: Position | None = getattr(self.message, "position", None)
        return position


class Rejoined(Entry):
    """Stands between what waits of two memberships of one group. Nobody ever reads it.

    Without it, what is left of the first would be taken for all that the group was sent.
    """

    __slots__ = ()

    @classmethod
    def of(cls, group: str) -> "Rejoined":
        """Behind what waits of this group."""
        return cls(sys.float_info.max, stamped({"type": GAP}, group))


def followers_of(group: str) -> str:
    """The group of those who follow a group's presence; none of an application's is called so."""
    return f"{group}!presence"


def note(queue: deque[Entry], place: int, gap: Gap) -> bool:
    """Tell of a loss right before a place of a queue; return whether that took an entry more.

    Gaps that stand side by side are one for each group and reason. So there are
    never more than two for each group between two other entries.
    """
    at = place
    while at and isinstance(queue[at - 1], Gap):
        at -= 1
        other = queue[at]
        group, reason = other.message["group"], other.message["reason"]
        if (group, reason) == (gap.group, gap.message["reason"]):
            before, now = other.message["lost"], gap.message["lost"]
            lost = None if before is None or now is None else before + now
            queue[at] = Gap.of(group, reason, lost, other.after or gap.after)
            return False
    queue.insert(place, gap)
    return True


def is_of_history(entry: Entry, group: str) -> bool:
    """Whether an entry is, tells of or bounds what a group's history holds or held."""
    return entry.group == group and (entry.after is not None or isinstance(entry, Rejoined))


class Losses(Counter[str]):
    """How many messages were lost, by reason.

    Attributes:
        by_group: the same by reason and group, for messages to groups. Once
            `MAX_COUNTED` are distinguished, the others are counted under `OTHERS`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.by_group: Counter[tuple[str, str]] = Counter()

    def count(self, reason: str, group: str | None, lost: int = 1) -> None:
        """Count a loss."""
        self[reason] += lost
        if group is None:
            return
        key = reason, group
        if key not in self.by_group and len(self.by_group) >= MAX_COUNTED:
            key = reason, OTHERS
        self.by_group[key] += lost
