"""One channel's mailbox: how it fills, how it loses messages, how its one reader waits.

**What waits** stands in one of two forms, because most often nothing waits or one
entry does. An empty deque takes some 700 bytes, which every idle connection would pay for:

    ====================  =========  =====================
    entries that wait     `_next`    `_items`
    ====================  =========  =====================
    none                  None       None
    one                   the entry  None
    more                  None       a deque, never empty
    ====================  =========  =====================

(A deque may hold one entry, such as the last that is left of several.)

**What takes room**: only an `Entry` itself, which is a live message, counts against the
capacity. Its subclasses (an event of the client, a message out of a history, a gap, a
request to close, a bound between two memberships) wait in the same order and are counted
in `_uncounted`, so that the room that is taken is one subtraction.

**The reader** is in one of three states, by `_reader` and `_is_woken`:

                    an entry comes: reader.set()
        asleep  ----------------------------------->  woken
        (_reader)                                     (_is_woken)
           ^                                            |
           |  nothing waits: wait(), watch(reader)      |  its turn has come: pop()
           |                                            v
           +------------------------------------------  reading
                                                        (neither)

A woken reader is not slow: it has only not had its turn of the event loop. So a mailbox
whose reader is woken takes messages beyond its capacity, and the sender waits in
`catch_up` until the reader pops. A reader that is reading while its mailbox is full is
too slow, and the overflow policy decides.

A reader that has work to do before it reads on may say so, with `pause`. Then it counts as
woken until it pops, or until the mailbox has lost its patience with it; see `pace`.

**The way past it**: while its reader is asleep nothing waits, so nothing is overtaken by a
message that goes straight to where the reader would bring it. A mailbox that was given such
a way, as `direct`, asks there first. What is refused there wakes the reader as ever, and
what comes later waits behind it.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from math import inf
from typing import Protocol

import anyio

from ..exceptions import ChannelFull, NotifyError
from ..positions import Position
from ..types import Event, Message
from .entries import (
    PRESENCE,
    CloseRequest,
    Entry,
    FromClient,
    Gap,
    Losses,
    Rejoined,
    Replayed,
    is_of_history,
    note,
)
from .overflow import Overflow

__all__ = ["Direct", "Mailbox", "Reader", "Work"]

READ_AHEAD = 8  # events; enough to see a leaving client behind what it sent last

PATIENCE = 200  # with a reader that is busy; see `pace`

_NO_MESSAGE = Gap, Rejoined  # these wait, and nobody sent them

logger = logging.getLogger("asgi_notify.layers")


class Reader(Protocol):
    """Whoever waits for a mailbox to be filled, such as an event."""

    def set(self) -> object:
        """There is something to read."""


class Work(Protocol):
    """What a reader does before it reads on, such as one handler; a `Pace` looks at it."""

    looked_at: int
    """The number of the last look that found it; 0 before the first."""

    seen_at: int
    """How much work had begun when it was found first, or found overtaken."""

    @property
    def has_begun(self) -> bool:
        """Whether it waits for a thread no more."""

    @property
    def has_ended(self) -> bool:
        """Whether the reader will read on in its next turn of the event loop."""


class Direct(Protocol):
    """A way past a mailbox, to where its reader would bring a message."""

    def take(self, message: Message) -> bool:
        """Bring a message there now; or do nothing, and return False.

        It neither waits nor raises, and puts nothing into a mailbox.
        """


class Mailbox:
    """The queue of one channel, read by its consumer or by ``receive``.

    Messages come out in the order they went in. At most ``capacity`` messages
    wait. What happens to one more is the policy's matter, and never silent: each
    loss is counted in ``losses``, the first is logged, and a reader that asked
    for it gets a gap in the place of what was lost. Three things wait beside the
    messages and take no room of theirs: what was replayed, gaps, and events of
    the client. Of these events at most `READ_AHEAD` wait, and whoever puts in
    more of them waits until one was read.

    Args:
        channel: its address.
        capacity: how many messages may wait.
        overflow: what happens to one more.
        losses: where they are counted.
        clock: returns the time in seconds.
        tell_gaps: whether the reader gets a gap where a group lost something here, a message
            ``{"type": "group.gap", "group": ..., "reason": ..., "lost": ...}``.

    Attributes:
        work: what the reader does before it reads on, while senders are to wait for that.
    """

    __slots__ = (
        "_ahead", "_clock", "_is_woken", "_items", "_logged", "_losses", "_next", "_patience",
        "_reader", "_readers", "_room", "_tells_gaps", "_turn", "_uncounted", "capacity",
        "channel", "direct", "error", "groups", "on_close", "overflow", "work",
    )  # fmt: skip

    def __init__(
        self,
        channel: str,
        capacity: int,
        overflow: Overflow,
        losses: Losses,
        clock: Callable[[], float] = time.monotonic,
        tell_gaps: bool = False,
    ) -> None:
        self.channel = channel
        self.capacity = capacity
        self.overflow = overflow
        self.error: NotifyError | None = None  # why it was closed
        self.groups: set[str] = set()
        self.on_close: Callable[[], None] | None = None
        self.direct: Direct | None = None
        self._clock = clock
        # What waits.
        self._next: Entry | None = None  # the only one that waits
        self._items: deque[Entry] | None = None  # all that wait, where they are more
        self._uncounted = 0  # how many of those that wait take no room: all but live messages
        self._ahead = 0  # how many events of the client wait
        self._room: anyio.Event | None = None  # for one more of them
        # What was lost.
        self._losses = losses
        self._tells_gaps = tell_gaps
        self._logged = False
        # Who reads.
        self._reader: Reader | None = None
        self._readers = 0  # in wait()
        self._is_woken = False  # the reader has something to do, and will do it in its turn
        self._turn: anyio.Event | None = None  # for senders that wait for that
        self.work: Work | None = None
        self._patience = PATIENCE

    # What waits.

    @property
    def unread(self) -> int:
        """How many messages wait, apart from what the client itself sent."""
        return len(self._unread()) if self._uncounted else len(self._waiting())

    def _unread(self) -> list[Entry]:
        return [e for e in self._waiting() if not (e.is_from_client or isinstance(e, _NO_MESSAGE))]

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits in it."""
        return self._next is None and self._items is None

    def _waiting(self) -> Sequence[Entry]:
        if self._items is not None:
            return self._items
        return () if self._next is None else (self._next,)

    def _queue(self) -> deque[Entry]:
        """All that wait, to be changed in place; it must not be left empty."""
        if self._items is None:
            self._items, self._next = deque(self._waiting()), None
        return self._items

    def _keep(self, entries: Collection[Entry]) -> None:
        """Let these be all that wait."""
        self._next, self._items = None, deque(entries) or None
        self._uncounted = sum(type(entry) is not Entry for entry in entries)

    def _append(self, entry: Entry) -> None:
        if self._items is not None:
            self._items.append(entry)
        elif self._next is not None:
            self._items = deque((self._next, entry))
            self._next = None
        else:
            self._next = entry
        self.wake()

    def _taken(self) -> int:
        """How much of the capacity is used."""
        return len(self._waiting()) - self._uncounted

    # Putting in: called by the layer in the loop of its consumers, never waits.

    def offer(self, entry: Entry) -> bool | None:
        """Put a message in, and return whether it was taken.

        None says that it was, and asks to `catch_up` before more is sent: the
        mailbox was full, but its reader was woken, or has paused, and has not
        had its turn yet, so it is not slow. A burst that is sent in one turn of
        the event loop loses nothing.
        """
        # The two ways that nearly every message takes are written out here, without
        # a call of `_append`: behind others, and alone. A group pays for each member.
        items = self._items
        if items is not None and len(items) - self._uncounted < self.capacity:
            items.append(entry)  # the first of them has woken the reader
            return True
        if items is not None or self._next is not None or self.error is not None:
            return self._offer_behind(entry)
        reader = self._reader
        if reader is not None and self.direct is not None and self.direct.take(entry.message):
            return True
        self._next = entry
        if reader is not None:
            self._reader = None
            self._is_woken = True
            reader.set()
        return True

    def _offer_behind(self, entry: Entry) -> bool | None:
        if self.error is not None:
            self._lose("closed", (entry,))
            return False
        if self._taken() < self.capacity:
            self._append(entry)
            return True
        if self._is_woken:
            self._append(entry)
            return None
        return self._offer_when_full(entry)

    def _offer_when_full(self, entry: Entry) -> bool | None:
        """Meet one more than fits: lose what is too old, or else do what the policy says."""
        queue = self._queue()
        oldest = next(place for place, item in enumerate(queue) if type(item) is Entry)
        if queue[oldest].expires_at <= self._clock():
            self.expire()
            return self.offer(entry)
        if self.overflow == "drop_oldest":
            lost = queue[oldest]
            del queue[oldest]
            self._lose_here("full", lost, queue, oldest)
            self._append(entry)
            return True
        if self.overflow == "drop_newest":
            self._lose_here("full", entry, queue, len(queue))
        else:
            self._lose("full", (entry,))
            self.close(ChannelFull(f"the mailbox of {self.channel} is full"))
        return False

    def order(self, entry: CloseRequest) -> bool:
        """Put in the wish that the connection ends; one that waits already is enough."""
        if self.error is not None:
            return False
        if not any(type(waiting) is CloseRequest for waiting in self._waiting()):
            self._uncounted += 1
            self._append(entry)
        return True

    def replay(self, group: str, messages: Sequence[Replayed]) -> None:
        """Put in what a group's history holds, beyond the capacity, before anything sent later.

        It takes the place of what waits of that history already, and of what
        tells of its gaps, so that nothing comes twice and one group's replay
        waits at most once, however often it is asked for. Whoever calls this
        begins no later than `owed` says, or else what is owed would be lost.
        """
        if self.error is not None:
            return
        kept = [entry for entry in self._waiting() if not is_of_history(entry, group)]
        self._keep([*kept, *messages])
        if self._waiting():
            self.wake()

    def owed(self, group: str) -> Position | None:
        """The position after which all that a group's history gave still waits, or is told lost.

        It is right before the first such entry; None where none waits. What waits of an
        earlier membership does not count: nobody knows what is missing behind it.
        """
        owed: Position | None = None
        for entry in self._waiting():
            if is_of_history(entry, group):
                owed = None if isinstance(entry, Rejoined) else owed or entry.after
        return owed

    def rejoin(self, group: str) -> None:
        """Note that a group is joined anew, and all that waits of it is of an earlier membership.

        What is lost from now on is told in a gap of its own, since a gap is owed or is not.
        """
        if self.is_empty or not any(is_of_history(entry, group) for entry in self._waiting()):
            return  # as with nearly everybody who joins
        kept: deque[Entry] = deque()
        for entry in self._waiting():
            if isinstance(entry, Gap):
                note(kept, len(kept), entry)  # which may now stand beside another
            elif not (isinstance(entry, Rejoined) and entry.group == group):
                kept.append(entry)
        kept.append(Rejoined.of(group))
        self._keep(kept)

    async def put_event(self, event: Event) -> None:
        """Put in what the client sent; waits while `READ_AHEAD` of its events wait."""
        while self._ahead >= READ_AHEAD:
            self._room = self._room or anyio.Event()  # not a semaphore, for its 800 bytes
            await self._room.wait()
        self.put_event_nowait(event)

    def put_event_nowait(self, event: Event) -> None:
        """Put in what the client sent, whatever waits."""
        self._ahead += 1
        self._uncounted += 1
        self._append(FromClient(inf, event))

    # Taking out.

    def pop(self, reader: Reader | None = None) -> Entry | None:
        """The next entry that has not expired, or None where none waits.

        Args:
            reader: is watched for where none waits, as by `watch`.

        Raises:
            NotifyError: the one that the mailbox was closed with.
        """
        if self._is_woken:
            self._is_woken = False
            self.work = None
            if self._turn is not None:
                self._let_senders_go()
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
                if reader is not None:
                    self._reader = reader
                self._patience = PATIENCE
                return None
            if type(entry) is not Entry:
                self._uncounted -= 1
                if type(entry) is FromClient:
                    self._ahead -= 1
                    if self._room is not None:
                        self._room.set()
                        self._room = None
                    return entry
                if type(entry) is Rejoined:
                    continue
            if entry.expires_at > self._clock():
                return entry
            self._expire_from(entry)

    def forget(self) -> None:
        """Let go of all messages; what the client itself sent stays."""
        self._keep([entry for entry in self._waiting() if entry.is_from_client])

    # Losing: each loss is counted, the first of a channel is logged, and a gap may stand
    # in the place of what was lost.

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
        """Lose one that was taken out, and those behind it, and put gaps before the rest."""
        now = self._clock()
        queue, gaps = self._queue(), deque[Entry]()
        self._let_go(entry, gaps)
        while queue and (isinstance(queue[0], Gap) or queue[0].expires_at <= now):
            self._uncounted -= type(queue[0]) is not Entry
            self._let_go(queue.popleft(), gaps)
        queue.extendleft(reversed(gaps))
        self._items = queue or None

    def _let_go(self, entry: Entry, kept: deque[Entry]) -> None:
        """Put the gap that stands for an entry behind what is kept; a gap stands for itself."""
        if isinstance(entry, Gap):  # which may now stand beside another
            self._uncounted += note(kept, len(kept), entry)
        else:
            self._lose_here("expired", entry, kept, len(kept))

    def lose(
        self, group: str, reason: str, lost: int | None, after: Position | None = None
    ) -> None:
        """Count messages of a group that were lost on their way here, and tell the reader of them.

        Args:
            group: whose they were.
            reason: why they were lost.
            lost: how many, or None where nobody can say; counted as one then.
            after: the position right before the first of them, where it had one.
        """
        if self.error is not None:
            return
        self._losses.count(reason, group, lost or 1)
        if self._tells_gaps:
            queue = self._queue()
            self._uncounted += note(queue, len(queue), Gap.of(group, reason, lost, after))
            self.wake()

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
                    extra={"channel": self.channel, "group": entry.group, "reason": reason},
                )  # fmt: skip

    # Its reader, and the senders that wait for the reader's turn.

    @property
    def is_read(self) -> bool:
        """Whether somebody waits for the next message."""
        return self._readers > 0 or self._reader is not None or self._is_woken

    @property
    def is_lagging(self) -> bool:
        """Whether it is over its capacity for a reader that has not had its turn yet."""
        return self._is_woken and self._taken() > self.capacity

    async def catch_up(self) -> None:
        """Wait while it `is_lagging`: until its reader takes out, or stops to read."""
        while self.is_lagging:
            self._turn = self._turn or anyio.Event()
            await self._turn.wait()

    def _let_senders_go(self) -> None:
        turn, self._turn = self._turn, None
        if turn is not None:
            turn.set()

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
        except GeneratorExit:  # its loop was closed, and `abandon` counts it no more
            raise
        except BaseException:
            self._stop_waiting()
            raise
        self._stop_waiting()

    def _stop_waiting(self) -> None:
        self._readers -= 1
        if not self._readers:
            self.watch(None)  # the next reader may come from another event loop

    def watch(self, reader: Reader | None) -> None:
        """Have the one reader's ``set`` called, once, when there is something; None: no more.

        A reader that was woken, and has not popped since, counts as one that keeps up.
        """
        self._reader = reader
        self._is_woken = False
        self.work = None
        if self._turn is not None:
            self._let_senders_go()

    def pause(self, work: Work | None = None) -> None:
        """Note that the reader lets others have their turn, and will then go on by itself.

        Until it does, it counts as one that keeps up, as if it had been woken.

        Args:
            work: what it does before it goes on. As long as the mailbox has no patience left,
                the reader does not count as one that keeps up meanwhile.
        """
        if work is not None and self._patience < PATIENCE:
            if self._patience <= 0:
                return
            self._patience += 1  # the last piece of work has ended
        self.work = work
        self._is_woken = True

    def lose_patience(self, cost: int) -> None:
        """Note that a look has found that the reader's work does not get on."""
        self._patience -= cost
        if self._patience <= 0:
            self.let_go()

    def let_go(self) -> None:
        """Have no sender wait for the reader's work, until the mailbox was empty once."""
        self._patience = 0
        self.work = None
        self._is_woken = False
        self._let_senders_go()

    def wake(self) -> None:
        """Have the reader look, though there may be nothing to take out."""
        reader, self._reader = self._reader, None
        if reader is not None:
            self._is_woken = True
            reader.set()

    # The end.

    def close(self, error: NotifyError) -> None:
        """Take no more, lose what waits (it is counted), and raise this at the reader."""
        if self.error is not None:
            return
        self.error = error
        self._lose("closed", self._unread())
        self._keep(())
        self._let_senders_go()  # there is nothing any more that they could wait for
        self.wake()
        if self.on_close is not None:
            self.on_close()

    def leave(self) -> None:
        """Count what waits as lost, since its consumer has left; nobody waits for it any more."""
        for entry in self._unread():
            self._losses.count("left", entry.group)
        self.watch(None)

    def abandon(self) -> None:
        """Forget who waits here, since the event loop that they waited in has ended."""
        self._turn = None  # not set: a loop that was closed takes no more calls
        self._readers = 0
        self.watch(None)
