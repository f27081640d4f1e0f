"""How a channel that joins a group gets what it has missed, and how a group itself does.

::

    history, as the engine keeps it    |------- read -------|
    stream of the group, live                      |------- collected -------|
    what the channel gets first             since  |------------------------> | then live ones

`Joining.join` reads the history and watches the stream of the group at once, joins both by
their offsets, and puts the channel into the group in the same step. `Joining.catch_up` reads what
all members of a group have missed, since a message did not come, and delivers it.

The state of a group can have changed after every ``await``, since its messages go on coming,
and code that goes on there looks at it again.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import anyio

from ..codec import FrozenMessage, stamped
from ..exceptions import LayerUnavailable
from ..positions import Position
from ..types import Message
from .engine import Engine, Read
from .history import History
from .hub import Hub
from .packing import TO_MEMBERS, Packing
from .results import Joined, Replay
from .resuming import joined, replay_from
from .stream import GroupStream, Kept

__all__ = ["UNREADABLE_MESSAGE", "Joining", "is_unreadable"]

logger = logging.getLogger("asgi_notify.layers")

T = TypeVar("T")

ATTEMPTS = 5  # readings of a history for one join: one more each time the group has moved on
LAGS = 10  # readings, 10 ms apart, of a history that is behind its publications

LOST = "unrecovered"  # reason of a loss: it did not come, and no history holds it any more

# Takes the place of a message that cannot be decoded, and has its position. So the stream of the
# group goes on behind it. Without it there would be a hole at that position, for which the
# history would be read again and again. Members get the report of a loss in its place.
# No application can send this type, since a type may not begin with a dot.
UNREADABLE_MESSAGE: Message = {"type": ".unreadable"}


class Joining:
    """What one link reads from the histories of its groups.

    Args:
        hub: the groups, and the mailboxes of their members.
        engine: what keeps the histories.
        keeps: says how much is kept of a group; None for a group without a history.
        packing: decodes payloads into messages.
        stream_of: the stream of a group that is followed; None where it is not any more.
        hand_out: delivers messages of a group that have their place in its stream.

    Attributes:
        gaps: how often messages were lost that no history holds any more.
    """

    def __init__(
        self,
        hub: Hub,
        engine: Engine,
        keeps: Callable[[str], History | None],
        packing: Packing,
        stream_of: Callable[[str], GroupStream | None],
        hand_out: Callable[[str, Sequence[FrozenMessage]], None],
    ) -> None:
        self.gaps = 0
        self._hub = hub
        self._engine = engine
        self._keeps = keeps
        self._packing = packing
        self._stream_of = stream_of
        self._hand_out = hand_out

    async def join(
        self, group: str, channel: str, stream: GroupStream, since: Position | None
    ) -> Joined:
        """Put a channel into a group that is subscribed to, behind what it has missed.

        It is put there in one step with the messages that it has missed, so that no live
        message comes between the two.

        Raises:
            LayerUnavailable: the history could not be read.
        """
        keep = self._keeps(group)
        if since is None or keep is None:
            owed = self._hub.owed(group, channel)
            self._hub.group_add(group, channel)
            answer = None if since is None else False
            return Joined(owed or stream.position, answer, 0)
        missed, owed = await self._replay(group, channel, stream, keep, since)
        # There is no await from here on, so the stream is still where `missed` ends.
        is_there = self._hub.group_add(group, channel, missed)
        position = stream.position
        if not is_there:
            return Joined(position, False, 0)
        return joined(since, owed, Replay(missed or [], missed is not None, position))

    async def _replay(
        self, group: str, channel: str, stream: GroupStream, keep: History, since: Position
    ) -> tuple[list[FrozenMessage] | None, Position | None]:
        """What a channel that joins gets first, and the position from which on it is owed more.

        The messages are None where the history does not reach back far enough. For what a
        member is owed, see `resuming`.
        """
        owed = self._hub.owed(group, channel)
        while True:
            read_from = replay_from(since, owed)
            missed = await self._missed(group, stream, keep, read_from)
            # While the history was read, the member may have read what it was owed, or may
            # have got new messages that it is owed now. Then the replay begins elsewhere.
            owed = self._hub.owed(group, channel)
            if missed is None:
                return None, owed
            start = replay_from(since, owed)
            if read_from.is_within(start):
                return [one for one in missed if _offset(one) > start.offset], owed

    async def _missed(
        self, group: str, stream: GroupStream, keep: History, since: Position
    ) -> list[FrozenMessage] | None:
        """What a group was sent after a position and up to where its stream is now.

        The history and the stream do not stop at the same message: while the history is read,
        live messages come. So both are read at once, and joined by their offsets::

            since                 read.top                 here
              |------ history ------|                       |
                            |---------- later --------------|

        None where messages are missing, or where the two did not meet in `ATTEMPTS` readings.
        """
        for _ in range(ATTEMPTS):
            before = stream.position
            with stream.collecting() as later:
                read = await self._engine.read(group, keep, since)
            here = stream.position
            if here is not None and read.top.epoch == here.epoch:
                if not read.is_whole:
                    return None
                lags = before is not None and before > read.top
                if since.offset <= here.offset and not lags:
                    kept = self._decoded(group, read)
                    kept += [message for message in later if _offset(message) > read.top.offset]
                    missed = [message for message in kept if _offset(message) <= here.offset]
                    return None if any(map(is_unreadable, missed)) else missed
            # The two do not meet. Either the stream has not seen yet what the history holds, so
            # it catches up first; or the history was read from a copy that lags behind.
            stream.doubt(read.top)
            await self._fill(group)
        return None

    async def history(
        self, group: str, keep: History, since: Position | None, limit: int | None
    ) -> Replay:
        """What a group was sent after a position, or all that is kept of it where that is None.

        After a position the answer is whole or empty: where a message is missing or cannot be
        decoded, nothing is recovered.
        """
        read = await self._engine.read(group, keep, since, limit)
        messages = self._decoded(group, read)
        readable = [message for message in messages if not is_unreadable(message)]
        if since is not None and not (read.is_whole and len(readable) == len(messages)):
            return Replay([], False, read.top)
        return Replay(readable, True, read.top)

    async def catch_up(self, groups: Sequence[str]) -> None:
        """Read what the members of these groups have missed, if anything, and deliver it.

        Nothing but an engine that is away keeps one group from what the others were sent. What
        fails otherwise is logged, and tried again when all groups are compared next.

        Raises:
            LayerUnavailable: the engine is away.
        """
        await self._attempt(self._doubt, groups)
        for group in groups:
            await self._attempt(self._fill, group)

    async def _attempt(self, func: Callable[[T], Awaitable[object]], what: T) -> None:
        try:
            await func(what)
        except LayerUnavailable:
            raise
        except Exception:
            logger.exception("a channel layer could not read what its groups have missed")

    async def _doubt(self, groups: Sequence[str]) -> None:
        """Ask the engine where these groups are, so that each stream knows if it is behind."""
        kept = {group: keep for group in groups if (keep := self._keeps(group)) is not None}
        for group, top in (await self._engine.tops(kept) if kept else {}).items():
            if (stream := self._stream_of(group)) is not None:
                stream.doubt(top)

    async def _fill(self, group: str) -> None:
        """Read what a group's members have missed, deliver it, and report what is lost for good."""
        stream, keep = self._stream_of(group), self._keeps(group)
        lags = 0
        while stream is not None and keep is not None and stream.is_reading:
            if stream.position is None:
                return  # it is being subscribed to, and `Link._subscribe_to` looks what is missing
            read = await self._engine.read(group, keep, stream.position)
            filled = stream.fill(Kept(self._decoded(group, read), read.is_whole, read.top))
            if filled.is_lost:
                self.gaps += 1
                self._hub.lose(group, LOST, filled.lost, filled.after)
            self._hand_out(group, filled.messages)
            if not stream.is_reading:
                return
            # A live message is ahead of what was read: the history was read from a copy that
            # lags behind. Or no history will ever hold it, since another program made it up:
            # for that the other groups must not wait.
            lags += 1
            if lags == LAGS:
                stream.give_up()
                return
            await anyio.sleep(0.01)

    def _decoded(self, group: str, read: Read) -> list[FrozenMessage]:
        found = []
        for offset, payload in read.entries:
            unpacked = self._packing.unpack(payload, group, TO_MEMBERS)
            message = UNREADABLE_MESSAGE if unpacked is None else unpacked.content
            found.append(stamped(message, group, Position(read.top.epoch, offset)))
        return found


def is_unreadable(message: FrozenMessage) -> bool:
    """Whether it stands for a message that could not be decoded."""
    return bool(message["type"] == UNREADABLE_MESSAGE["type"])


def _offset(message: FrozenMessage) -> int:
    return message.position.offset if message.position is not None else 0
