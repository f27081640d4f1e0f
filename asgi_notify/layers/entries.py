"""The kinds of entries that wait in a mailbox, and how a lost message is reported and counted.

A mailbox is a queue of entries. Most of them carry a message or a client's event. A `Gap` stands
where messages were lost, so that their reader learns of the loss in the right place of the
order. A `Rejoined` is a mark for the mailbox itself, and no reader gets it.
"""

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

PRESENCE = JOIN, LEAVE = "presence.join", "presence.leave"  # the types of presence events

GAP = "group.gap"  # the type of the message that reports a loss

MAX_COUNTED = 1000  # pairs of reason and group that are counted apart; people read this table

OTHERS = "*"  # stands for all groups beyond these; no group has this name


class Entry(NamedTuple):
    """What waits in a mailbox. All members of a group share the one entry of a message."""

    expires_at: float
    """On the mailbox's clock, in seconds; infinity for what the client itself sent."""
    message: Message | Event

    @property
    def is_from_client(self) -> bool:
        """Whether the connection's own client sent it, rather than the layer."""
        return self.expires_at == inf

    @property
    def group(self) -> str | None:
        """The group that the message was sent to; None if it was sent to a channel."""
        return getattr(self.message, "group", None)

    @property
    def after(self) -> Position | None:
        """The position right before the message's own; None if the history does not hold it."""
        position: Position | None = getattr(self.message, "position", None)
        return position and position._replace(offset=position.offset - 1)


class FromClient(Entry):
    """An event of the connection's own client.

    Only a few of them wait at once. When one was read, the next may be taken from the server, so
    a client that sends too much is slowed down, and does not fill the mailbox.
    """

    __slots__ = ()


class Replayed(Entry):
    """A message from a group's history. It does not count against the mailbox's capacity."""

    __slots__ = ()


class CloseRequest(Entry):
    """Asks a consumer to end its connection.

    It does not count against the mailbox's capacity, is never dropped, and does not expire: a
    connection must end when it is asked to, even if its mailbox is full.
    """

    __slots__ = ()

    @classmethod
    def of(cls, message: Message) -> "CloseRequest":
        """The entry for a message of type `CLOSE`."""
        return cls(sys.float_info.max, message)


class Gap(Entry):
    """A report of lost messages, in the place where they would have been."""

    __slots__ = ()

    @classmethod
    def of(cls, group: str, reason: str, lost: int | None, after: Position | None = None) -> "Gap":
        """The report of messages of a group that were lost in a row, for one reason.

        Args:
            group: which group they were sent to.
            reason: why they were lost.
            lost: how many, or None where nobody can say.
            after: the position right before the first of them, where it had one.
        """
        content = {"type": GAP, "group": group, "reason": reason, "lost": lost}
        # It does not expire, since a report must not be lost itself. It is small.
        return cls(sys.float_info.max, stamped(content, group, after))

    @property
    def after(self) -> Position | None:
        """The position right before the first message that was lost here."""
        position: Position | None = getattr(self.message, "position", None)
        return position


class Rejoined(Entry):
    """Marks, in the queue, where a channel has joined again a group that it had left.

    Messages of its first membership may still wait. Between the two memberships the group may
    have been sent messages that this channel did not get. Without the mark, the oldest message
    that waits would be taken for the first one after which nothing is missing; see `resuming`.
    """

    __slots__ = ()

    @classmethod
    def of(cls, group: str) -> "Rejoined":
        """The mark for this group; it belongs behind what waits of the group."""
        return cls(sys.float_info.max, stamped({"type": GAP}, group))


def followers_of(group: str) -> str:
    """The group of those who follow a group's presence.

    The "!" keeps its name apart from all that an application can give to a group.
    """
    return f"{group}!presence"


def note(queue: deque[Entry], place: int, gap: Gap) -> bool:
    """Report a loss right before a place of a queue; return whether that took an entry more.

    Of the gaps that stand side by side there, one of the same group and reason is enlarged
    instead. So however many messages are lost in a row, their reports take little room: there
    is one for each group and reason.
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
    """Whether an entry belongs to what a mailbox holds of a group's history.

    That is a message with a position in it, a gap in it, or the mark of a new membership.
    """
    return entry.group == group and (entry.after is not None or isinstance(entry, Rejoined))


class Losses(Counter[str]):
    """How many messages were lost, by reason.

    Attributes:
        by_group: the same by reason and group, for messages to groups. Once it has
            `MAX_COUNTED` pairs, losses of any other are counted under the group `OTHERS`.
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
