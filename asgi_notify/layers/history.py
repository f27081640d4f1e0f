"""What was sent to the groups of this process: how it is numbered, kept, found and let go."""

import re
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from math import inf

from ..codec import FrozenMessage, set_position
from ..positions import Position, epoch_of, new_epoch
from .entries import CLOSE, PRESENCE
from .options import PatternMap, positive, whole
from .results import Replay

__all__ = ["MAX_GROUPS", "Histories", "History", "is_transient"]

MAX_GROUPS = 10_000  # with 100 messages of 1 kB each, about 1 GB at worst

_TRANSIENT = frozenset({CLOSE, *PRESENCE})

# The class of a named tuple makes its objects in a function written in Python; this does not.
_position = partial(tuple.__new__, Position)

LOOKS = 2  # groups per append; more than the one that an append may add to those waiting


@lru_cache(maxsize=1024)
def is_transient(kind: str) -> bool:
    """Whether no history keeps messages of a type, since they are for whoever is there now."""
    return kind in _TRANSIENT or kind.endswith(".disconnect")


@dataclass(frozen=True)
class History:
    """How much of a group's past is kept: the newest messages, until they are too old.

    Args:
        size: how many messages.
        ttl: how long each, in seconds.

    Raises:
        ConfigurationError: one of these makes no sense.
    """

    size: int = 100
    ttl: float = 300.0

    def __post_init__(self) -> None:
        whole("size", self.size)
        positive("ttl", self.ttl)


class Histories:
    """The histories of all groups of one process.

    What they promise:

    - Offsets of a group count 1, 2, 3, ... for as long as its epoch stays the same.
    - Messages that expire or make room for newer ones leave the epoch as it is.
      A group that is forgotten whole, because there are too many, begins again
      in a new epoch, so that no position is ever taken for one of a lost history.
    - A message is never handed out after its time.
    - Asking costs no memory: only a group that was sent to is remembered.
      All others stand at offset 0 of an epoch made of their own name and of one that all
      share, which is replaced as soon as a group that began in it is forgotten.
    - A position is of one group alone: no other group ever has the same epoch.
    - Memory is bounded: by ``size`` and ``ttl`` for a group, by ``max_groups`` for all.

    Nothing here needs a timer. A group lets go of its expired messages when it
    is used. A group that is not used is looked at again ``ttl`` after its last
    look, by whichever group is sent to next, a few with each message. So as
    long as anything is sent, nothing is held for much longer than twice its
    ``ttl``. An append costs the same at any size, counted over many of them,
    and a replay costs what it returns.

    Args:
        limits: what is kept for which groups, by glob or compiled pattern; the
            first that matches counts, and groups that match none have no history.
        max_groups: how many groups are remembered; one more makes the one go
            that was not used for the longest time.
        clock: returns the time in seconds.

    Attributes:
        evicted: how many groups had to go because there were too many.
        keeps: something true for the name of a group that has a history, else None.
        remembers: something true for the name of a group whose history was begun, else None.

    Raises:
        ConfigurationError: one of these makes no sense.
    """

    def __init__(
        self,
        limits: Mapping[str | re.Pattern[str], History],
        max_groups: int = MAX_GROUPS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.evicted = 0
        self._max_groups = whole("history_groups", max_groups)
        self._clock = clock
        self._retentions = {name: _Retention(history) for name, history in limits.items()}
        # Most groups without history are sent to many times; a pattern costs more to ask.
        find = PatternMap(self._retentions).get
        ask: Callable[[str], _Retention | None] = lru_cache(max_groups)(find)
        self.keeps = ask if limits else _no_retention
        self._records: OrderedDict[str, _Record] = OrderedDict()  # the least recently used first
        self.remembers = self._records.get
        self._epoch = new_epoch()  # of the groups that begin now
        self._look_at = inf

    def __len__(self) -> int:
        """How many groups are remembered."""
        return len(self._records)

    @property
    def held(self) -> int:
        """How many messages are in memory, those included that expired and were not let go yet."""
        return sum(record.held for record in self._records.values())

    def append(self, group: str, message: FrozenMessage) -> Position | None:
        """Keep a message, and give it its position.

        Args:
            group: which one.
            message: it was stamped with the group, and nobody else has it yet. Where the
                group has no history, it is left as it is.
        """
        record = self._records.get(group) or self._begin(group)
        if record is None:
            return None
        self._records.move_to_end(group)  # as the one that was used last
        now = self._clock()
        if not record.is_waiting:
            due = record.retention.put(record, now)
            self._look_at = min(self._look_at, due)
        position = record.append(message, now)
        if now >= self._look_at:
            self._look(now)
        return position

    def top(self, group: str) -> Position | None:
        """Where the group stands now, or None where it has no history."""
        record = self._records.get(group)
        if record is not None:
            self._records.move_to_end(group)
            return Position(record.epoch, record.top)
        return None if self.keeps(group) is None else Position(epoch_of(self._epoch, group), 0)

    def since(self, group: str, position: Position | None, limit: int | None = None) -> Replay:
        """What was sent to the group after a position, or all that is kept for None.

        Recovered means that the position is of this history and that every
        message after it is still there; otherwise there are no messages at
        all. A position that the group has not reached yet is of no history.

        Args:
            group: which one.
            position: where the asker stands.
            limit: at most so many messages, the oldest of them; ask again from
                the last one's position for more.
        """
        top = self.top(group)
        if top is None or (position is not None and position.epoch != top.epoch):
            return Replay([], False, top)
        record = self._records.get(group)
        if record is None:
            return Replay([], position is None or position.offset == 0, top)
        record.expire(self._clock())
        after = record.first - 1 if position is None else position.offset
        if not record.first - 1 <= after <= record.top:
            return Replay([], False, top)
        return Replay(record.after(after, limit), True, top)

    def clear(self) -> None:
        """Forget all groups; whatever is sent next begins a new history."""
        self._records.clear()
        for retention in self._retentions.values():
            retention.waiting.clear()  # their records are not used again
        self._look_at = inf
        self._epoch = new_epoch()

    def _begin(self, group: str) -> "_Record | None":
        retention = self.keeps(group)
        if retention is None:
            return None
        if len(self._records) >= self._max_groups:
            self._evict()
        record = self._records[group] = _Record(group, epoch_of(self._epoch, group), retention)
        return record

    def _evict(self) -> None:
        _, record = self._records.popitem(last=False)
        record.retention.waiting.pop(record, None)
        self.evicted += 1
        if record.epoch == epoch_of(self._epoch, record.group):
            self._epoch = new_epoch()  # or the group would begin again where it began

    def _look(self, now: float) -> None:
        """Let a few groups let go of what has expired, those that wait the longest."""
        retentions = self._retentions.values()
        for retention in retentions:
            retention.look(now)
        self._look_at = min(retention.due for retention in retentions)


class _Retention:
    """The groups that share one `History`.

    Those with messages wait to be looked at, each until its own due time; all
    wait equally long, so the first in the row is always the first that is due.
    One that is emptied meanwhile waits on, and is let go when it is looked at.
    """

    def __init__(self, history: History) -> None:
        self.size = history.size
        self.ttl = history.ttl
        self.waiting: OrderedDict[_Record, float] = OrderedDict()

    @property
    def due(self) -> float:
        """When the next look is worth it."""
        return next(iter(self.waiting.values()), inf)

    def put(self, record: "_Record", now: float) -> float:
        """Let a group wait for its look, and return when that is due."""
        due = self.waiting[record] = now + self.ttl
        record.is_waiting = True
        return due

    def look(self, now: float) -> None:
        """Let a few groups let go of what has expired; who keeps something waits again."""
        for _ in range(LOOKS):
            if self.due > now:
                return
            record, _ = self.waiting.popitem(last=False)
            record.is_waiting = False
            record.expire(now)
            if record.held:
                self.put(record, now)


_no_retention: Callable[[str], _Retention | None] = dict[str, _Retention]().get


class _Record:
    """One group's messages, in a ring of at most ``size`` places.

    A message's offset says its place, so that it is found without a search, and the
    newest one takes the place of the one that is ``size`` older. Where five were sent and
    four are kept::

        place      0     1     2     3
        offset     5  |  2  |  3  |  4        first 2, top 5, base 1

    The place is ``(offset - base) % size``. A list of ``size`` empty places would do with
    a base of 0, but most groups hold few messages: so the list grows with them, and the
    base is the offset of the message that was put into the empty list. When all have
    expired, the list is emptied and the base begins anew.
    """

    __slots__ = (
        "_base", "_expires_at", "_ring", "epoch", "first", "group", "is_waiting", "retention",
        "top",
    )  # fmt: skip

    def __init__(self, group: str, epoch: str, retention: _Retention) -> None:
        self.group = group
        self.epoch = epoch
        self.retention = retention
        self.top = 0  # the offset of the newest message there ever was
        self.first = 1  # of the oldest that is held; behind the top where none is
        self.is_waiting = False  # for its look, in its retention
        self._base = 1  # of the one that came to the first place when the ring was empty
        self._ring: list[tuple[float, FrozenMessage]] = []
        self._expires_at = -inf  # before that time no message expires

    @property
    def held(self) -> int:
        """How many messages are in it."""
        return self.top - self.first + 1

    def append(self, message: FrozenMessage, now: float) -> Position:
        """Hold one more message, in the place of the oldest when there are enough."""
        if now >= self._expires_at:
            self.expire(now)
        retention = self.retention
        self.top = top = self.top + 1
        position = _position((self.epoch, top))
        set_position(message, position)
        place = (top - self._base) % retention.size
        if place == len(self._ring):
            self._ring.append((now + retention.ttl, message))
        else:
            self._ring[place] = (now + retention.ttl, message)
        if top - self.first == retention.size:
            self.first += 1  # the oldest has made room
        return position

    def after(self, offset: int, limit: int | None) -> list[FrozenMessage]:
        """The messages behind one that is held, or was right before the first that is."""
        last = self.top if limit is None else min(self.top, offset + limit)
        return [self._ring[self._place(number)][1] for number in range(offset + 1, last + 1)]

    def expire(self, now: float) -> None:
        """Let go of the messages whose time is over."""
        while self.first <= self.top:
            place = self._place(self.first)
            expires_at, _ = self._ring[place]
            if expires_at > now:
                self._expires_at = expires_at
                return
            self._ring[place] = _GONE
            self.first += 1
        self._ring.clear()
        self._base = self.top + 1
        self._expires_at = -inf

    def _place(self, offset: int) -> int:
        return (offset - self._base) % self.retention.size


_GONE = (inf, FrozenMessage())  # in the place of a message that has expired
