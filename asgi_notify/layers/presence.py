"""Who is in a group, and who came and went, without the flicker of page reloads."""

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from math import inf
from typing import Any, NamedTuple

from ..exceptions import ConfigurationError, InvalidMessage, InvalidName

__all__ = [
    "GRACE", "Arrival", "Departure", "Info", "Presence", "require_grace", "require_info",
    "require_member",
]  # fmt: skip

GRACE = 5.0  # seconds; a page reload over a slow connection takes less

Info = Mapping[str, Any] | None
"""What a channel says of itself when it joins, such as the name of its user."""


def require_member(member: object) -> str | None:
    """Return the name of a member or None, or raise `InvalidName`."""
    if member is None or (isinstance(member, str) and member):
        return member
    raise InvalidName(f"{member!r} cannot name a member: use text, such as str(user.id)")


def require_info(info: object) -> Info:
    """Return what a channel says of itself, or raise `InvalidMessage`."""
    if info is None or isinstance(info, Mapping):
        return info
    raise InvalidMessage(f"info is a mapping, such as {{'name': 'Ada'}}, not {type(info).__name__}")


def require_grace(grace: float) -> float:
    """Return how long a member may be away, or raise `ConfigurationError`."""
    if isinstance(grace, int | float) and grace >= 0:
        return grace
    raise ConfigurationError(
        f"presence_grace is a number of seconds, 0 to tell leaves at once, not {grace!r}"
    )


class Arrival(NamedTuple):
    """A member came."""

    group: str
    member: str
    info: Info
    """What its channel says of itself."""


class Departure(NamedTuple):
    """A member is gone for good: its last channel left and none came back in time."""

    group: str
    member: str
    info: Info
    """What its last channel said of itself."""


class Presence:
    """The channels in each group with their info, and the members that they belong to.

    A member is whoever stands behind one or more channels, such as a user with
    several tabs. What is announced of members:

    - A join for its first channel, at once; a leave ``grace`` seconds after its
      last one left, as soon as `due` is called. A channel of the same member
      that joins before the leave was announced undoes it: neither is announced.
    - The joins of a member minus its leaves are 1 while it is counted, else 0.
      So who knows a group's `count`, and follows its joins and leaves, always
      knows its count.

    All calls but `members` cost the same however large the groups are.
    Nothing is kept of a group in which nobody is counted.

    Args:
        grace: how long a member may be away without having left, in seconds.
        clock: returns the time in seconds.

    Raises:
        ConfigurationError: the grace makes no sense.
    """

    def __init__(self, grace: float = GRACE, clock: Callable[[], float] = time.monotonic) -> None:
        self._grace = require_grace(grace)
        self._clock = clock
        self._groups: dict[str, _Group] = {}
        # All wait equally long, so the first in the row is the first that is due.
        self._leaving: OrderedDict[tuple[str, str], tuple[float, Info]] = OrderedDict()

    def join(
        self, group: str, channel: str, member: str | None = None, info: Info = None
    ) -> Arrival | None:
        """Put a channel into a group, and return what there is to announce of it.

        A channel that is in the group already has its info replaced. If it
        belonged to another member, that one loses it.

        Args:
            group: where it joins.
            channel: what joins.
            member: who stands behind it, such as a user's id; None for the
                channel alone, which no other can replace then.
            info: what `members` says of it; copied one level deep.
        """
        who = channel if member is None else member
        entered = self._groups.setdefault(group, _Group())
        before = entered.channels.get(channel)
        if before is not None and before.member != who:
            self.leave(group, channel)
            before = None
        info = None if info is None else dict(info)
        entered.channels[channel] = _Channel(who, info)
        if before is not None:
            return None
        is_new = who not in entered.members
        entered.members[who] = entered.members.get(who, 0) + 1
        self._leaving.pop((group, who), None)
        return Arrival(group, who, info) if is_new else None

    def leave(self, group: str, channel: str) -> None:
        """Take a channel out of a group; where it is not in it, nothing happens."""
        left = self._groups.get(group)
        gone = left.channels.pop(channel, None) if left is not None else None
        if left is None or gone is None:
            return
        left.members[gone.member] -= 1
        if not left.members[gone.member]:
            due = self._clock() + self._grace
            self._leaving[group, gone.member] = due, gone.info

    def due(self, limit: float = inf) -> list[Departure]:
        """The leaves that are to be announced now, in the order in which they came about.

        Args:
            limit: at most so many, the first of them.
        """
        now = self._clock()
        due: list[Departure] = []
        while len(due) < limit and (at := self.next_due) is not None and at <= now:
            (group, member), (_, info) = self._leaving.popitem(last=False)
            due.append(Departure(group, member, info))
            members = self._groups[group].members
            del members[member]
            if not members:
                del self._groups[group]
        return due

    @property
    def next_due(self) -> float | None:
        """When `due` will have something to announce, on the clock; None while nobody leaves."""
        return next((at for at, _ in self._leaving.values()), None)

    def members(self, group: str) -> dict[str, Info]:
        """The channels that are in a group now, in the order of joining, with their info."""
        there = self._groups.get(group)
        return (
            {} if there is None else {channel: one.info for channel, one in there.channels.items()}
        )

    def count(self, group: str) -> int:
        """How many members a group has, those included whose leave is not announced yet."""
        there = self._groups.get(group)
        return 0 if there is None else len(there.members)

    def clear(self) -> None:
        """Forget all groups, and announce nothing of it."""
        self._groups.clear()
        self._leaving.clear()


class _Channel(NamedTuple):
    member: str
    info: Info


class _Group:
    """Never empty: a group without channels has members that are about to leave."""

    __slots__ = ("channels", "members")

    def __init__(self) -> None:
        self.channels: dict[str, _Channel] = {}
        self.members: dict[str, int] = {}  # how many channels each has; 0 while it leaves
