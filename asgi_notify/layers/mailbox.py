"""One channel's bounded queue: how it fills, how it loses messages, how its reader waits."""

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from math import inf
from typing import Literal, NamedTuple, Protocol, get_args

import anyio

from ..exceptions import ChannelFull, ConfigurationError, NotifyError
from ..types import Event, Message

__all__ = ["Entry", "Mailbox", "Overflow", "Reader", "require_overflow"]

logger = logging.getLogger("asgi_notify.layers")

Overflow = Literal["disconnect", "drop_oldest", "drop_newest"]
"""What a full mailbox does: close its connection, forget the oldest, refuse the newest."""

READ_AHEAD = 8  # events; enough to see a leaving client behind what it sent last


def require_overflow(policy: str) -> Overflow:
    """Return the policy, or raise `ConfigurationError` if there is none by that name."""
    for known in get_args(Overflow):
        if policy == known:
            return policy  # type: ignore[return-value]  # it equals one of the literals
    raise ConfigurationError(f"overflow is one of {', '.join(get_args(Overflow))}, not {policy!r}")


class Entry(NamedTuple):
    """What waits in a mailbox: one object for all the mailboxes of a group."""

    expires_at: float
    """On the mailbox's clock, in seconds; infinity for what the client itself sent."""
    message: Message | Event

    @property
    def is_from_client(self) -> bool:
        """Whether the connection's own client sent it, rather than the layer."""
        return self.expires_at == inf


class Reader(Protocol):
    """Whoever waits for a mailbox to be filled, such as an event."""

    def set(self) -> object:
        """There is something to read."""


class Mailbox:
    """The queue of one channel, read by its consumer or by ``receive``.

    Messages come out in the order they went in. At most ``capacity`` messages
    wait; one more is met by the policy, never silently: it is counted in
    ``drops`` under its reason and the first is logged. Events of the client
    wait beside them, at most `READ_AHEAD`, and whoever puts more of them waits.

    Args:
        channel: its address.
        capacity: how many messages may wait.
        overflow: what happens to one more.
        drops: where losses are counted, by reason.
        clock: tells the time in seconds.
    """

    __slots__ = (
        "_clock", "_drops", "_events", "_is_woken", "_items", "_logged", "_next", "_reader",
        "_readers", "_reading_ahead", "capacity", "channel", "error", "groups", "on_close",
        "overflow",
    )  # fmt: skip

    def __init__(
        self,
        channel: str,
        capacity: int,
        overflow: Overflow,
        drops: Counter[str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.capacity = capacity
        self.channel = channel
        self.error: NotifyError | None = None  # why it was closed
        self.groups: set[str] = set()
        self.on_close: Callable[[], None] | None = None
        self.overflow = overflow
        self._clock = clock
        self._drops = drops
        self._events = 0  # how many of those that wait are the client's
        self._is_woken = False  # the reader, which has not had its turn yet
        # Most often nothing waits or one entry does, and then no queue is needed,
        # which saves an idle connection 700 bytes and each send the way to them.
        self._next: Entry | None = None  # the only one that waits
        self._items: deque[Entry] | None = None  # all that wait, where they are more
        self._logged = False
        self._reader: Reader | None = None
        self._readers = 0  # in wait()
        self._reading_ahead: anyio.Semaphore | None = None

    @property
    def unread(self) -> int:
        """How many messages wait, apart from what the client itself sent."""
        return len(self._waiting()) - self._events

    @property
    def is_read(self) -> bool:
        """Whether somebody waits for the next message."""
        return self._readers > 0 or self._reader is not None or self._is_woken

    # Putting in: called by the layer in the loop of its consumers, never waits.

    def offer(self, entry: Entry) -> bool | None:
        """Put a message in, and return whether it was taken.

        None asks to offer it again after a turn of the event loop: the mailbox
        is full, but its reader was woken and has not had its turn yet, so it
        is not slow. A burst that is sent in one turn loses nothing.
        """
        if self._next is not None or self._items is not None or self.error is not None:
            return self._offer_behind(entry)
        self._next = entry
        reader = self._reader
        if reader is not None:
            self._reader = None
            self._is_woken = True
            reader.set()
        return True

    def _offer_behind(self, entry: Entry) -> bool | None:
        if self.error is not None:
            self._lose("closed", 1)
            return False
        if self.unread < self.capacity:
            self._append(entry)
            return True
        if self._is_woken:
            return None
        items = list(self._waiting())
        # At most the few events that the client may send ahead stand before it.
        oldest = next(i for i, item in enumerate(items) if not item.is_from_client)
        if items[oldest].expires_at <= self._clock():
            self.expire()
            return self.offer(entry)
        self._lose("full", 1)
        if self.overflow == "drop_oldest":
            self._keep([*items[:oldest], *items[oldest + 1 :], entry])
            return True
        if self.overflow == "disconnect":
            self.close(ChannelFull(f"the mailbox of {self.channel} is full"))
        return False

    def _append(self, entry: Entry) -> None:
        if self._items is not None:
            self._items.append(entry)
        elif self._next is not None:
            self._items = deque((self._next, entry))
            self._next = None
        else:
            self._next = entry
        self._wake()

    def _waiting(self) -> Sequence[Entry]:
        if self._items is not None:
            return self._items
        return () if self._next is None else (self._next,)

    async def put_event(self, event: Event) -> None:
        """Put in what the client sent; waits while `READ_AHEAD` of its events wait."""
        if self._reading_ahead is None:
            self._reading_ahead = anyio.Semaphore(READ_AHEAD, fast_acquire=True)
        await self._reading_ahead.acquire()
        self._events += 1
        self._append(Entry(inf, event))

    def close(self, error: NotifyError) -> None:
        """Take no more, lose what waits (it is counted), and raise this at the reader."""
        if self.error is not None:
            return
        self.error = error
        self._lose("closed", self.unread)
        self._keep(())
        self._events = 0
        self._wake()
        if self.on_close is not None:
            self.on_close()

    # Taking out.

    def pop(self) -> Entry | None:
        """The next entry that has not expired, or None where none waits.

        Raises:
            NotifyError: the one that the mailbox was closed with.
        """
        self._is_woken = False
        while True:
            if self._next is not None:
                entry, self._next = self._next, None
            elif self._items is not None:
                entry = self._items.popleft()
                if not self._items:
                    self._items = None
            elif self.error is not None:
                raise self.error
            else:
                return None
            if entry.expires_at == inf and self._reading_ahead is not None:
                self._events -= 1
                self._reading_ahead.release()
                return entry
            if entry.expires_at > self._clock():
                return entry
            self._lose("expired", 1)

    async def wait(self) -> None:
        """Wait until there may be something to take out, or the mailbox is closed."""
        if self._waiting() or self.error is not None:
            return
        woken = self._reader
        if not isinstance(woken, anyio.Event):
            woken = self._reader = anyio.Event()
        self._readers += 1
        try:
            await woken.wait()
        finally:
            self._readers -= 1
            if not self._readers:
                self.watch(None)  # the next reader may come from another event loop

    def watch(self, reader: Reader | None) -> None:
        """Have the one reader's ``set`` called, once, when there is something; None: no more.

        A reader that was told, and has not popped since, counts as one that keeps up.
        """
        self._reader = reader
        self._is_woken = False

    def _wake(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            self._is_woken = True
            reader.set()

    def expire(self) -> None:
        """Lose (and count) the messages whose time is over."""
        now = self._clock()
        before = len(self._waiting())
        self._keep([entry for entry in self._waiting() if entry.expires_at > now])
        self._lose("expired", before - len(self._waiting()))

    def forget(self) -> None:
        """Let go of all messages; what the client itself sent stays."""
        self._keep([entry for entry in self._waiting() if entry.is_from_client])

    def _keep(self, entries: Sequence[Entry]) -> None:
        self._next = entries[0] if len(entries) == 1 else None
        self._items = deque(entries) if len(entries) > 1 else None

    def _lose(self, reason: str, count: int) -> None:
        if not count:
            return
        self._drops[reason] += count
        if not self._logged:
            self._logged = True
            logger.warning(
                "channel %s lost a message (%s; capacity %d); further losses of this channel "
                "are only counted", self.channel, reason, self.capacity,
            )  # fmt: skip
