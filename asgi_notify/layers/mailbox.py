"""One channel's bounded queue: how it fills, how it loses messages, how its reader waits."""

import logging
import time
from collections import Counter, deque
from collections.abc import Callable
from math import inf
from typing import Literal, NamedTuple, get_args

import anyio

from ..exceptions import ChannelFull, ConfigurationError, NotifyError
from ..types import Event, Message

__all__ = ["Entry", "Mailbox", "Overflow", "require_overflow"]

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
        "_clock", "_drops", "_error", "_events", "_items", "_logged", "_readers",
        "_reading_ahead", "_waiting",
        "capacity", "channel", "groups", "on_close", "overflow",
    )  # fmt: skip

    def __init__(
        self,
        channel: str,
        capacity: int,
        overflow: Overflow,
        drops: Counter[str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.channel = channel
        self.capacity = capacity
        self.overflow = overflow
        self.groups: set[str] = set()
        self.on_close: Callable[[], None] | None = None
        self._clock = clock
        self._drops = drops
        self._error: NotifyError | None = None
        self._events = 0  # how many of the items are the client's
        self._items: deque[Entry] = deque()
        self._logged = False
        self._readers = 0
        self._reading_ahead: anyio.Semaphore | None = None
        self._waiting: anyio.Event | None = None

    @property
    def error(self) -> NotifyError | None:
        """Why the mailbox was closed, or None while it is open."""
        return self._error

    @property
    def unread(self) -> int:
        """How many messages wait, apart from what the client itself sent."""
        return len(self._items) - self._events

    @property
    def is_read(self) -> bool:
        """Whether somebody waits for the next message."""
        return self._readers > 0

    # Putting in: called by the layer in the loop of its consumers, never waits.

    def offer(self, entry: Entry) -> bool | None:
        """Put a message in, and return whether it was taken.

        None asks to offer it again after a turn of the event loop: the mailbox
        is full, but its reader was woken and has not had its turn yet, so it
        is not slow. A burst that is sent in one turn loses nothing.
        """
        if len(self._items) - self._events >= self.capacity or self._error is not None:
            return self._overflow(entry)
        self._items.append(entry)
        if self._waiting is not None:
            self._wake()
        return True

    def _overflow(self, entry: Entry) -> bool | None:
        if self._error is not None:
            self._lose("closed", 1)
            return False
        if self._readers and self._waiting is None:
            return None
        # At most the few events that the client may send ahead stand before it.
        oldest = next(i for i, item in enumerate(self._items) if not item.is_from_client)
        if self._items[oldest].expires_at <= self._clock():
            self.expire()
            return self.offer(entry)
        self._lose("full", 1)
        if self.overflow == "drop_oldest":
            del self._items[oldest]
            self._items.append(entry)
            return True
        if self.overflow == "disconnect":
            self.close(ChannelFull(f"the mailbox of {self.channel} is full"))
        return False

    async def put_event(self, event: Event) -> None:
        """Put in what the client sent; waits while `READ_AHEAD` of its events wait."""
        if self._reading_ahead is None:
            self._reading_ahead = anyio.Semaphore(READ_AHEAD, fast_acquire=True)
        await self._reading_ahead.acquire()
        self._items.append(Entry(inf, event))
        self._events += 1
        self._wake()

    def close(self, error: NotifyError) -> None:
        """Take no more, lose what waits (it is counted), and raise this at the reader."""
        if self._error is not None:
            return
        self._error = error
        self._lose("closed", self.unread)
        self._items.clear()
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
        if self._error is not None:
            raise self._error
        while self._items:
            entry = self._items.popleft()
            if entry.expires_at == inf and self._reading_ahead is not None:
                self._events -= 1
                self._reading_ahead.release()
                return entry
            if entry.expires_at > self._clock():
                return entry
            self._lose("expired", 1)
        return None

    async def wait(self) -> None:
        """Wait until there may be something to take out, or the mailbox is closed."""
        if self._items or self._error is not None:
            return
        if self._waiting is None:
            self._waiting = anyio.Event()
        self._readers += 1
        try:
            await self._waiting.wait()
        finally:
            self._readers -= 1
            if not self._readers:
                self._waiting = None  # the next reader may come from another event loop

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.set()

    def expire(self) -> None:
        """Lose (and count) the messages whose time is over."""
        self._lose("expired", self._keep(self._clock()))

    def forget(self) -> None:
        """Let go of all messages; what the client itself sent stays."""
        self._keep(inf)

    def _keep(self, after: float) -> int:
        """Keep what expires after that, or never; return how many went."""
        before = len(self._items)
        self._items = deque(
            entry for entry in self._items if entry.expires_at > after or entry.is_from_client
        )
        return before - len(self._items)

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
