"""The queue of one channel: what waits there, what takes its room, and how it is lost."""

import logging
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Protocol

from .entries import PRESENCE, Entry, Gap, Losses, note

__all__ = ["Queue", "Reader"]

logger = logging.getLogger("asgi_notify.layers")


class Reader(Protocol):
    """Whoever waits for a mailbox to be filled, such as an event."""

    def set(self) -> object:
        """There is something to read."""


class Queue:
    """What waits in one channel, in the order it went in.

    Args:
        channel: its address.
        capacity: how many messages may wait.
        losses: where those that are lost are counted.
        clock: tells the time in seconds.
        tell_gaps: whether a message in their place tells of those that a group lost.
    """

    __slots__ = (
        "_clock",
        "_items",
        "_logged",
        "_losses",
        "_next",
        "_tells_gaps",
        "_uncounted",
        "capacity",
        "channel",
    )  # fmt: skip

    def __init__(
        self,
        channel: str,
        capacity: int,
        losses: Losses,
        clock: Callable[[], float] = time.monotonic,
        tell_gaps: bool = False,
    ) -> None:
        self.capacity = capacity
        self.channel = channel
        self._uncounted = 0  # how many of those that wait take no room: all but live messages
        self._clock = clock
        # Most often nothing waits or one entry does, and then no queue is needed,
        # which saves an idle connection 700 bytes and each send the way to them.
        self._next: Entry | None = None  # the only one that waits
        self._items: deque[Entry] | None = None  # all that wait, where they are more
        self._logged = False
        self._losses = losses
        self._tells_gaps = tell_gaps

    @property
    def unread(self) -> int:
        """How many messages wait, apart from what the client itself sent."""
        return len(self._unread()) if self._uncounted else len(self._waiting())

    def _waiting(self) -> Sequence[Entry]:
        if self._items is not None:
            return self._items
        return () if self._next is None else (self._next,)

    def _queue(self) -> deque[Entry]:
        """All that wait, to be changed in place; it must not be left empty."""
        if self._items is None:
            self._items, self._next = deque(self._waiting()), None
        return self._items

    def _taken(self) -> int:
        """How much of the capacity is used."""
        return len(self._waiting()) - self._uncounted

    def _unread(self) -> list[Entry]:
        return [e for e in self._waiting() if not (e.is_from_client or isinstance(e, Gap))]

    def expire(self) -> None:
        """Lose (and count) the messages whose time is over."""
        now = self._clock()
        kept: deque[Entry] = deque()
        for entry in self._waiting():
            if entry.expires_at > now and not isinstance(entry, Gap):
                kept.append(entry)
            else:
                self._let_go(entry, kept)
        self._keep(kept)

    def _expire_from(self, entry: Entry) -> None:
        """Lose one that was taken out, and those behind it, and tell of them before the rest."""
        now = self._clock()
        queue, told = self._queue(), deque[Entry]()
        self._let_go(entry, told)
        while queue and (isinstance(queue[0], Gap) or queue[0].expires_at <= now):
            self._uncounted -= type(queue[0]) is not Entry
            self._let_go(queue.popleft(), told)
        queue.extendleft(reversed(told))
        self._items = queue or None

    def _let_go(self, entry: Entry, told: deque[Entry]) -> None:
        if isinstance(entry, Gap):  # which may now stand beside another
            self._uncounted += note(told, len(told), entry)
        else:
            self._lose_here("expired", entry, told, len(told))

    def forget(self) -> None:
        """Let go of all messages; what the client itself sent stays."""
        self._keep([entry for entry in self._waiting() if entry.is_from_client])

    def leave(self) -> None:
        """Count what waits as lost, since its consumer has left."""
        for entry in self._unread():
            self._losses.count("left", entry.group)

    def _keep(self, entries: Collection[Entry]) -> None:
        self._next, self._items = None, deque(entries) or None
        self._uncounted = sum(type(entry) is not Entry for entry in entries)

    def _lose_here(self, reason: str, entry: Entry, queue: deque[Entry], place: int) -> None:
        """Lose a message, and tell of it right before a place of the queue."""
        self._lose(reason, (entry,))
        if self._tells_gaps and entry.group is not None and entry.message["type"] not in PRESENCE:
            self._uncounted += note(queue, place, Gap.of(entry.group, reason, 1, entry.after))

    def _lose(self, reason: str, entries: Iterable[Entry]) -> None:
        for entry in entries:
            self._losses.count(reason, entry.group)
            if not self._logged:
                self._logged = True
                logger.warning(
                    "channel %s lost a message (%s; capacity %d); further losses of this "
                    "channel are only counted", self.channel, reason, self.capacity,
                )  # fmt: skip
