"""How a group's live messages and its history become one sequence, without holes and repeats.

An engine brings the messages of a group in the order of their positions. Some may be lost on
the way: its connection broke, or the server disconnected a slow subscriber. So a message whose
offset is not the next one waits here until what is missing before it was read from the
history::

              start(top)                 take(): offset is the next one
    UNPLACED -----------> LIVE <------------------------------------------.
                           |  take(): offset is not the next one, or the  |
                           |  epoch is another one; doubt()               |
                           v                                              |
                        READING --- fill(kept): what was missing, then ---'
                                    what waited; a loss is reported

UNPLACED is ``position is None``, before the subscription is confirmed; `is_reading` is true
there as well. `fill` stays in READING where what it was given ends before what waits.

Nothing here waits or knows an engine. Whoever sees that `is_reading` is true reads the history
after `position`, and calls `fill` with what it found; see `Link` in `link`.
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
    """Oldest first, each with its position: all that are left, even if some are missing."""
    is_whole: bool
    """Whether nothing is missing between the position asked for and the first of them."""
    top: Position
    """The position of the newest message that the group was ever sent."""


class Filled(NamedTuple):
    """What the members of a group get after its history was read."""

    messages: Sequence[FrozenMessage]
    """What they missed and what came meanwhile, in order."""
    is_lost: bool
    """Whether messages before these are lost for good, which is reported to the members."""
    lost: int | None
    """How many, or None where nobody can say."""
    after: Position | None = None
    """The position right before the first that is lost."""


class GroupStream:
    """The live messages of one group in one process, for as long as the process follows it.

    Methods return the messages that are to be delivered now; the caller delivers them.

    Attributes:
        position: everything up to here was returned for delivery, or reported as lost.
            None until `start`.
        is_reading: whether messages wait until the history was read.
    """

    __slots__ = ("_later", "_waiting", "is_reading", "position")

    def __init__(self) -> None:
        self.position: Position | None = None
        self.is_reading = True
        self._waiting: list[FrozenMessage] = []
        self._later: list[list[FrozenMessage]] = []  # what is collected for each who joins now

    def start(self, top: Position) -> Sequence[FrozenMessage]:
        """Go live right after a position; return what came since then.

        Call it once, when the engine has confirmed the subscription, with the top that the
        group had then. Where messages are missing between that top and those that wait,
        `is_reading` is still true afterwards, and they are to be read.
        """
        self.position = top
        return self._release()

    def take(self, message: FrozenMessage) -> Sequence[FrozenMessage]:
        """Take a live message, and return what is to be delivered now.

        That is the message itself. It is nothing if the message came already, or has to wait
        for what is missing before it.
        """
        position = message.position
        if position is None:  # it is not kept, so nobody can know whether one before it is missing
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
        """Compare with the group's real top; return whether messages are missing here.

        A message that is lost is noticed when the next one comes. If none comes, because the
        group is quiet now, only this notices it.
        """
        if self.position is None or self.is_reading:
            return self.is_reading
        is_behind = top.epoch != self.position.epoch or top.offset > self.position.offset
        self.is_reading = is_behind
        return is_behind

    def fill(self, kept: Kept) -> Filled:
        """Take what the history holds after `position`, and go on from there.

        What the history does not hold any more is lost, and the stream goes on with what is
        left. `is_reading` stays true where the messages that wait are ahead of what was
        read. That happens when the history is read from a copy that lags behind.

        Raises:
            ValueError: the stream was not started.
        """
        before = self.position
        if before is None:
            raise ValueError("a stream is filled after it was started")
        if before.epoch == kept.top.epoch and kept.top.offset < before.offset:
            # The copy that was read lags so far behind that it ends before what was delivered.
            # To take its top would deliver messages a second time.
            return Filled((), False, None)
        messages = [message for message in kept.messages if _is_after(message, before)]
        lost: int | None = None
        if not kept.is_whole and before.epoch == kept.top.epoch:
            first = messages[0].position if messages else None
            lost = (first.offset if first is not None else kept.top.offset + 1) - before.offset - 1
        is_lost = not kept.is_whole and lost != 0
        self.position = kept.top
        # Those of another epoch would never be the next ones, and would be waited for without
        # end. If their epoch is the newer one, they are in its history, and the next message
        # or doubt() shows that they are missing.
        self._waiting = [one for one in self._waiting if _epoch(one) == kept.top.epoch]
        read = self._collect(messages)
        ready = [*read, *self._release()]
        return Filled(ready, True, lost, before) if is_lost else Filled(ready, False, None)

    def give_up(self) -> None:
        """Go on without the messages that wait, since no history holds what stands before them.

        If one does later, the next message or `doubt` shows it.
        """
        self._waiting.clear()
        self.is_reading = False

    @contextmanager
    def collecting(self) -> Iterator[list[FrozenMessage]]:
        """Collect what is delivered within the block, for a member that joins meanwhile.

        A member that joins reads the history while live messages are delivered to the others.
        What it has read may end before the stream's new `position`; what was collected is
        what lies between the two.
        """
        later: list[FrozenMessage] = []
        self._later.append(later)
        try:
            yield later
        finally:
            # Not remove(): it takes the first equal list, which may be another member's.
            self._later = [one for one in self._later if one is not later]

    def _wait(self, message: FrozenMessage) -> None:
        if len(self._waiting) >= MAX_WAITING:
            # They are read from the history as well; what it does not hold is reported as lost.
            self._waiting.clear()
        self._waiting.append(message)

    def _release(self) -> Sequence[FrozenMessage]:
        """Go live with the messages that wait, up to the first one that does not follow."""
        waiting, self._waiting = self._waiting, []
        self.is_reading = False
        ready: list[FrozenMessage] = []
        for message in waiting:
            # Once one of them has to wait again, take() lets those behind it wait, too.
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
    """Whether a message comes after a position, or is of another history."""
    own = message.position
    return own is not None and (own.epoch != position.epoch or own.offset > position.offset)
