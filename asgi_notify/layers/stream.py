"""How a group's live messages and its history make one order, without a hole and without a repeat.

An engine brings the messages of a group in the order in which they were kept, each with
its position. It may miss some: its connection broke, or the server let go of a slow
subscriber. So a message whose offset is not the next one waits here until what is
missing was read from the history::

              start(top)                 take(): offset is the next one
    UNPLACED -----------> LIVE <------------------------------------------.
                           |  take(): offset is not the next one, or the  |
                           |  epoch is another one; doubt()               |
                           v                                              |
                        READING --- fill(kept): what was missing, then ---'
                                    what waited; a loss is said

Nothing here waits or knows an engine. Whoever sees `is_reading` reads the history after
`position` and calls `fill` with what it found.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from ..codec import FrozenMessage
from ..positions import Position

__all__ = ["MAX_WAITING", "Filled", "GroupStream", "Kept"]

MAX_WAITING = 10_000  # messages; more than this and they are read from the history instead


class Kept(NamedTuple):
    """What the history of a group holds after a position, as an engine has read it."""

    messages: Sequence[FrozenMessage]
    """Oldest first, each with its position; all that is there, even where some are missing."""
    is_whole: bool
    """Whether nothing is missing between the position asked for and the first of them."""
    top: Position
    """Where the group stands: the position of the newest message that it ever was sent."""


class Filled(NamedTuple):
    """What the members of a group get after its history was read."""

    messages: Sequence[FrozenMessage]
    """What they missed and what came meanwhile, in order."""
    is_lost: bool
    """Whether messages before these are gone for good, of which the members are to be told."""
    lost: int | None
    """How many, or None where nobody can say."""
    after: Position | None = None
    """The position right before the first that is lost."""


class GroupStream:
    """The live messages of one group in one process, for as long as the process follows it.

    Attributes:
        position: where its members stand: everything up to here was handed to them.
            None while that is not known yet.
        is_reading: whether messages wait until the history was read.
    """

    __slots__ = ("_later", "_waiting", "is_reading", "position")

    def __init__(self) -> None:
        self.position: Position | None = None
        self.is_reading = True
        self._waiting: list[FrozenMessage] = []
        self._later: list[list[FrozenMessage]] = []  # of those who are just joining

    def start(self, top: Position) -> Sequence[FrozenMessage]:
        """Go live right after a position; return what came since then.

        Call it once, with the group's top, when the engine has confirmed the subscription.
        What is missing between the top and the messages that wait is still to be read:
        `is_reading` then stays true.
        """
        self.position = top
        return self._release()

    def take(self, message: FrozenMessage) -> Sequence[FrozenMessage]:
        """Take a live message, and return those that are to be delivered now, in order.

        That is the message itself, nothing where it came before, and nothing where it has
        to wait for what is missing before it.
        """
        position = message.position
        if position is None:  # nothing is kept of it, so nothing is known to be missing
            return (message,)
        if self.is_reading or self.position is None:
            self._wait(message)
            return ()
        epoch, offset = self.position
        if position.epoch == epoch:
            if position.offset <= offset:
                return ()
            if position.offset == offset + 1:
                return self._deliver((message,))
        self.is_reading = True
        self._wait(message)
        return ()

    def doubt(self, top: Position) -> bool:
        """Compare with where the group really stands; return whether something was missed.

        For a group that has gone quiet, whose last message may have been lost.
        """
        if self.position is None or self.is_reading:
            return self.is_reading
        is_behind = top.epoch != self.position.epoch or top.offset > self.position.offset
        self.is_reading = is_behind
        return is_behind

    def fill(self, kept: Kept) -> Filled:
        """Take what the history holds after `position`, and go on from there.

        Where it does not say all, the rest is lost, and the stream goes on with what is
        left. `is_reading` stays true where the messages that wait are ahead of what was
        read, as with a history that is read from a copy that lags behind.
        """
        before = self.position
        if before is None:
            raise ValueError("a stream is filled after it was started")
        if before.epoch == kept.top.epoch and kept.top.offset < before.offset:
            # What was read is older than what was delivered: of a server that lags behind.
            return Filled((), False, None)
        messages = [message for message in kept.messages if _is_after(message, before)]
        lost: int | None = None
        if not kept.is_whole and before.epoch == kept.top.epoch:
            first = messages[0].position if messages else None
            lost = (first.offset if first is not None else kept.top.offset + 1) - before.offset - 1
        is_lost = not kept.is_whole and lost != 0
        self.position = kept.top
        # Of a history that is over. One of a history that has just begun comes again, by the
        # next message or doubt() that shows it.
        self._waiting = [one for one in self._waiting if _epoch(one) == kept.top.epoch]
        read = self._collect(messages)
        ready = [*read, *self._release()]
        return Filled(ready, True, lost, before) if is_lost else Filled(ready, False, None)

    @contextmanager
    def collecting(self) -> Iterator[list[FrozenMessage]]:
        """Collect what is delivered from now on, for one who joins and reads the history meanwhile.

        A member that joins reads the history while live messages go on. What it read ends
        somewhere before or after where the stream stands by then; what was collected
        closes the distance.
        """
        later: list[FrozenMessage] = []
        self._later.append(later)
        try:
            yield later
        finally:
            # remove() takes the first that is equal, which may be that of another who joins.
            self._later = [one for one in self._later if one is not later]

    def _wait(self, message: FrozenMessage) -> None:
        if len(self._waiting) >= MAX_WAITING:
            # The history holds them too, or it does not reach back and the members are told.
            self._waiting.clear()
        self._waiting.append(message)

    def _release(self) -> Sequence[FrozenMessage]:
        """Go live with those that wait, as far as they follow one after the other."""
        waiting, self._waiting = self._waiting, []
        self.is_reading = False
        ready: list[FrozenMessage] = []
        for message in waiting:
            # Once one has to wait, take() puts the others behind it.
            ready.extend(self.take(message))
        return ready

    def _deliver(self, messages: Sequence[FrozenMessage]) -> Sequence[FrozenMessage]:
        self.position = messages[-1].position
        return self._collect(messages)

    def _collect(self, messages: Sequence[FrozenMessage]) -> Sequence[FrozenMessage]:
        for later in self._later:
            later.extend(messages)
        return messages


def _epoch(message: FrozenMessage) -> str | None:
    return None if message.position is None else message.position.epoch


def _is_after(message: FrozenMessage, position: Position) -> bool:
    """Whether it stands behind a position, or in another history."""
    own = message.position
    return own is not None and (own.epoch != position.epoch or own.offset > position.offset)
