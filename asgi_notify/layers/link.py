"""How a group of this process is subscribed to at the engine, joined, and caught up after a loss.

::

    group_send --> engine.publish                      hub.deliver --> mailboxes
                        |                                    ^
                        v                                    |
                  other processes                      GroupStream.take
                        |                                    ^
                        '---------> engine ---> receive -----'

A process follows the groups that have a member in it, and, for a moment, those that had one.
A `Link` belongs to one event loop, as its engine does. These tasks work for it:

- `_serve`, one for each part of the engine, subscribes to the groups that somebody joins, reads
  the histories of the groups that have missed something, and unsubscribes from groups without
  members. It does one after the other, so that no end of a subscription overtakes a new one.
- `_deliver_lagging` delivers what `receive` could not deliver at once, because consumers had
  not read yet what came before.
- `_look_after` wakes these tasks to release groups, and to compare quiet groups with their
  histories, since nothing else shows that the last message of a group was lost.

Everything else is called by others. `join` and `history` run in the tasks of their callers,
and wait. `receive`, `went_down` and `came_up` are called by the engine, and never wait: each is
one step of the event loop. So the state of a group can have changed after every ``await``, and
code that goes on there looks at it again.
"""

import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from math import inf
from typing import NamedTuple, TypeVar

import anyio
from anyio.lowlevel import cancel_shielded_checkpoint, checkpoint

from ..codec import FrozenMessage, stamped
from ..exceptions import LayerUnavailable
from ..positions import Position
from ..types import Message
from .engine import Engine, Read
from .history import History
from .hub import Hub, Lagging
from .packing import TO_MEMBERS, TO_PROCESS, Packing
from .results import Joined, Replay
from .resuming import joined, replay_from
from .stream import GroupStream, Kept
from .tasks import Background

__all__ = ["UNREADABLE", "Link", "LinkOptions", "State"]

logger = logging.getLogger("asgi_notify.layers")

T = TypeVar("T")

BATCH = 4096  # topics in one call of the engine
MAX_INBOX = 10_000  # messages that wait for lagging readers; more are read from the histories
ATTEMPTS = 5  # readings of a history for one join: one more each time the group has moved on
LAGS = 10  # readings, 10 ms apart, of a history that is behind its publications

_CLOSED = "the channel layer was closed meanwhile; it opens itself again when it is used"

# Reasons of losses, as they are counted and reported.
LOST = "unrecovered"  # it did not come, and the history does not hold it any more
UNREADABLE = "unreadable"  # it came, and cannot be decoded

# Takes the place of a message that cannot be decoded, and has its position. So the stream of the
# group goes on behind it. Without it there would be a hole at that position, for which the
# history would be read again and again. Members get the report of a loss in its place.
# No application can send this type, since a type may not begin with a dot.
_UNREADABLE: Message = {"type": ".unreadable"}


@dataclass(frozen=True)
class LinkOptions:
    """How long a link waits, and how much it delivers at once.

    Args:
        check_interval: seconds between two comparisons of all groups with their histories.
        release_delay: seconds for which a group is still followed after its last member left,
            so that a client that reloads its page costs the engine nothing.
        timeout: seconds that a join may wait for the engine.
        turn: messages that are delivered in a row. Then the consumers get a turn of the event
            loop to read, so that a burst does not fill their mailboxes before they could.
    """

    check_interval: float = 25.0
    release_delay: float = 2.0
    timeout: float = 5.0
    turn: int = 25


class State(NamedTuple):
    """Whether the engine can be reached."""

    is_up: bool
    since: float
    """On the event loop's clock, in seconds."""
    reason: str = ""
    """Why it cannot be reached; empty while it can."""


@dataclass
class _Followed:
    """One topic that this process follows, or is about to."""

    part: "_Part"
    """What it lives on."""
    is_kept: bool
    """Whether it has a history, as far as this process knows."""
    ready: anyio.Event
    """Set when the attempt to subscribe has ended. All topics that are subscribed to in one
    call share it; `is_subscribed` and `error` say how it ended."""
    stream: GroupStream = field(default_factory=GroupStream)
    is_subscribed: bool = False
    joining: int = 0  # calls of `join` under way; it is not released before they end
    error: LayerUnavailable | None = None
    release_at: float = inf  # on the event loop's clock; counts only while it has no members


class _Part:
    """What is to be done on one part of the engine, by a task of its own.

    So a server that does not answer keeps nobody waiting but those whose groups live there.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.wanted: list[str] = []  # topics that `Link._serve` is to subscribe to
        self.ready = anyio.Event()  # set when the attempt to subscribe to these has ended
        self.behind: set[str] = set()  # groups whose histories it is to look at
        self.idle: set[str] = set()  # groups without members, which it is to release
        self.is_serving = False  # whether it is at work
        self.work = anyio.Event()  # wakes it


class Link:
    """The engine's side of the groups of one process, in one event loop.

    Args:
        hub: the groups, and the mailboxes of their members.
        engine: what carries messages between processes; closed with the link.
        keeps: says how much is kept of a group; None for a group without a history.
        packing: decodes payloads into messages.
        direct: is called with the topic and the message when one comes that is for the
            process itself, and not for the members of a group.
        options: how long it waits.

    Attributes:
        own_topic: what is published there comes to this process alone.
        state: whether the engine can be reached; it is up only if all of its parts are.
        gaps: how often messages were lost that no history holds any more.
    """

    def __init__(
        self,
        hub: Hub,
        engine: Engine,
        keeps: Callable[[str], History | None],
        packing: Packing,
        direct: Callable[[str, FrozenMessage], object],
        options: LinkOptions,
    ) -> None:
        self.engine = engine
        self.own_topic = f"process!{hub.process}"
        self.state = State(True, anyio.current_time())
        self.gaps = 0
        self._hub = hub
        self._keeps = keeps
        self._packing = packing
        self._direct = direct
        self._options = options
        self._life: Background | None = None
        self._starting: deque[Callable[[], Awaitable[object]]] = deque()
        self._started = anyio.Event()
        self._followed: dict[str, _Followed] = {}
        self._parts: dict[str, _Part] = {}  # by name
        self._is_closed = False
        self._is_addressed = False  # whether `own_topic` is subscribed to
        self._inbox: deque[tuple[str, FrozenMessage]] = deque()  # not delivered yet
        self._down: dict[str, str] = {}  # the parts that cannot be reached, with the reasons
        self._is_back = anyio.Event()  # set, and replaced, whenever a part is reached again
        self._lagging: Lagging = ()  # mailboxes whose readers are to catch up first
        self._in_turn = 0  # messages delivered since consumers had a turn
        self._arrived = anyio.Event()  # wakes `_deliver_lagging`

    async def open(self) -> None:
        """Connect to the engine, and start the tasks.

        Raises:
            LayerUnavailable: the engine could not be reached.
        """
        alive = anyio.Event()
        self._life = Background(partial(self._live, alive), "the link of a channel layer")
        await alive.wait()
        try:
            await self.engine.open(self)
            if self.engine.part_of(self.own_topic) not in self._down:
                await self._subscribe_to_own()
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self.close()
            raise
        for task in (self._deliver_lagging, self._look_after):
            self.start(task)

    async def _subscribe_to_own(self) -> None:
        """Take what is for this process; `came_up` calls it if that part was away at first."""
        await self.engine.subscribe([self.own_topic])
        self._is_addressed = True

    async def _live(self, alive: anyio.Event) -> None:
        """Own the task group in which the tasks of the link run.

        It runs in the background: a task group has to be left in the task that entered it, and
        whoever closes the link is often another task than the one that opened it.
        """
        async with anyio.create_task_group() as tasks:
            alive.set()
            while True:
                await self._started.wait()
                self._started = anyio.Event()
                while self._starting:
                    tasks.start_soon(self._run, self._starting.popleft())

    def start(self, func: Callable[[], Awaitable[object]]) -> None:
        """Run an async function in a task of the link; what it raises is logged.

        It is cancelled when the link closes. This only queues the function, and `_live` starts
        the task: an engine may call `receive` from a callback of the event loop, in no task,
        where no task can be started.
        """
        self._starting.append(func)
        self._started.set()

    async def _run(self, func: Callable[[], Awaitable[object]]) -> None:
        try:
            await func()
        except Exception:
            logger.exception("a task of the channel layer failed")

    async def close(self) -> None:
        """Cancel the tasks, close the engine, and follow nothing any more."""
        self._is_closed = True
        with anyio.CancelScope(shield=True):
            if self._life is not None:
                await self._life.aclose()
            await self.engine.close()
        for followed in self._followed.values():
            # The task is gone that would wake those who join just now.
            followed.error = followed.error or LayerUnavailable(_CLOSED)
            followed.ready.set()
        self._followed.clear()

    @property
    def followed(self) -> int:
        """How many topics this process follows."""
        return len(self._followed)

    @property
    def is_behind(self) -> bool:
        """Whether messages have come that wait for lagging readers."""
        return bool(self._inbox or self._lagging)

    async def history(
        self, group: str, keep: History, since: Position | None, limit: int | None
    ) -> Replay:
        """What a group was sent after a position, or all that is kept of it where that is None.

        After a position the answer is whole or empty: where a message is missing or cannot be
        decoded, nothing is recovered.
        """
        read = await self.engine.read(group, keep, since, limit)
        messages = self._decoded(group, read)
        readable = [message for message in messages if not _is_unreadable(message)]
        if since is not None and not (read.is_whole and len(readable) == len(messages)):
            return Replay([], False, read.top)
        return Replay(readable, True, read.top)

    async def reach(self, name: str, deadline: float) -> None:
        """Wait until the part of the engine on which a name lives can be reached.

        Args:
            name: a group, a channel or a topic.
            deadline: until when, by `time.monotonic`.

        Raises:
            LayerUnavailable: it could not be reached by then. Nothing was sent.
        """
        while self._down and (reason := self._down.get(self.engine.part_of(name))) is not None:
            with anyio.move_on_after(deadline - time.monotonic()) as scope:
                await self._is_back.wait()
            if scope.cancelled_caught:
                raise LayerUnavailable(
                    f"nothing was sent to {name}, since the engine is away: {reason}; try again "
                    "in a moment, or wait longer with the layer's publish_timeout"
                )

    # Joining and leaving.

    async def join(self, group: str, channel: str, since: Position | None) -> Joined:
        """Put a channel into a group, behind what it has missed since a position.

        The group is subscribed to first. Then the channel is put into it in one step with the
        messages that it has missed, so that no live message comes between the two.

        Raises:
            LayerUnavailable: the engine is away.
        """
        followed = self._follow(group)
        try:
            if not followed.is_subscribed:
                await self._until_subscribed(group, followed)
            keep = self._keeps(group)
            if since is None or keep is None:
                owed = self._hub.owed(group, channel)
                self._hub.group_add(group, channel)
                answer = None if since is None else False
                return Joined(owed or followed.stream.position, answer, 0)
            missed, owed = await self._replay(group, channel, followed.stream, keep, since)
            # There is no await from here on, so the stream is still where `missed` ends.
            is_there = self._hub.group_add(group, channel, missed)
            position = followed.stream.position
            if not is_there:
                return Joined(position, False, 0)
            return joined(since, owed, Replay(missed or [], missed is not None, position))
        finally:
            followed.joining -= 1
            if not followed.joining and not self._hub.has_members(group):
                self.group_ends(group)

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
                read = await self.engine.read(group, keep, since)
            here = stream.position
            if here is not None and read.top.epoch == here.epoch:
                if not read.is_whole:
                    return None
                lags = before is not None and before > read.top
                if since.offset <= here.offset and not lags:
                    kept = self._decoded(group, read)
                    kept += [message for message in later if _offset(message) > read.top.offset]
                    missed = [message for message in kept if _offset(message) <= here.offset]
                    return None if any(map(_is_unreadable, missed)) else missed
            # The two do not meet. Either the stream has not seen yet what the history holds, so
            # it catches up first; or the history was read from a copy that lags behind.
            stream.doubt(read.top)
            await self._fill(group)
        return None

    def _follow(self, group: str) -> _Followed:
        """Follow a group, at least until the caller has counted `_Followed.joining` down again.

        The caller has to wait until it is subscribed to; see `_until_subscribed`.
        """
        if self._is_closed:
            raise LayerUnavailable(_CLOSED)
        followed = self._followed.get(group)
        if followed is None:
            part, is_kept = self._part_of(group), self._keeps(group) is not None
            followed = self._followed[group] = _Followed(part, is_kept, part.ready)
            part.wanted.append(group)
            part.work.set()
        followed.joining += 1
        return followed

    def _part_of(self, group: str) -> _Part:
        name = self.engine.part_of(group)
        part = self._parts.get(name)
        if part is None:
            part = self._parts[name] = _Part(name)
            self.start(partial(self._serve, part))
        return part

    async def _until_subscribed(self, group: str, followed: _Followed) -> None:
        if followed.part.is_serving:
            # `_serve` is at work for others, for as long as that takes, so the wait of this one
            # needs a timer of its own.
            with anyio.move_on_after(self._options.timeout):
                await followed.ready.wait()
        else:  # `_subscribe` begins at once, with one timer for all who join in this turn
            await followed.ready.wait()
        if followed.error is not None:
            raise LayerUnavailable(str(followed.error)) from followed.error
        if not followed.is_subscribed:
            raise LayerUnavailable(self._too_late(group))

    def _too_late(self, group: str) -> str:
        return (
            f"{group} could not be joined within {self._options.timeout:g} s, "
            "since what carries messages between processes does not answer"
        )

    def group_ends(self, group: str) -> None:
        """Note that nobody here is in a group: `_release` ends the subscription after a delay."""
        followed = self._followed.get(group)
        if followed is not None:
            followed.release_at = anyio.current_time() + self._options.release_delay
            followed.part.idle.add(group)

    # What comes: the engine's Receiver.

    def receive(self, topic: str, payload: bytes, position: Position | None) -> None:
        """Take a message that was published, and deliver it now or let it wait in the inbox.

        It waits where something waits already, or it would overtake that; and where many
        messages came in a row, so that consumers get a turn to read. Where the inbox is full,
        the message is read from the history later, or is lost where there is none.
        """
        unpacked = self._packing.unpack(payload, topic, TO_MEMBERS + TO_PROCESS)
        if unpacked is not None and unpacked.what == TO_PROCESS:
            self._take_direct(topic, FrozenMessage(unpacked.content))
            return
        message = stamped(_UNREADABLE if unpacked is None else unpacked.content, topic, position)
        if self._in_turn < self._options.turn and not (self._inbox or self._lagging):
            self._take(topic, message)
        elif len(self._inbox) < MAX_INBOX:
            self._inbox.append((topic, message))
            self._arrived.set()
        elif (followed := self._followed.get(topic)) is not None:
            # The inbox is full. The history holds the message, unless it has no position.
            if position is None:
                self._hub.lose(topic, LOST, 1)
            else:
                followed.stream.is_reading = True
                self._read_later(topic, followed)

    def _take_direct(self, topic: str, message: FrozenMessage) -> None:
        try:
            self._direct(topic, message)
        except Exception:  # another program may have published anything there
            logger.exception(
                "a message from another process could not be taken", extra={"topic": topic}
            )

    def _take(self, topic: str, message: FrozenMessage) -> None:
        followed = self._followed.get(topic)
        if followed is None:
            return  # the message was on its way when the subscription ended
        if not followed.is_kept:
            # It has a position all the same where another process was told of a history before
            # this one, as while all are restarted. There is nothing here to place it in.
            self._hand_out(topic, (message,))
            return
        ready = followed.stream.take(message)
        # Of a group without a history nothing can be missing that could be read.
        if message.position is not None and followed.stream.is_reading and followed.is_subscribed:
            self._read_later(topic, followed)
        self._hand_out(topic, ready)

    def _hand_out(self, group: str, messages: Sequence[FrozenMessage]) -> None:
        self._in_turn += len(messages)
        for message in messages:
            if _is_unreadable(message):
                self._tell_unreadable(group, message.position)
                continue
            lagging = self._hub.deliver(group, message)[1]
            if lagging:
                self._lagging = [*self._lagging, *lagging]
                self._arrived.set()

    def _tell_unreadable(self, group: str, position: Position | None) -> None:
        after = None if position is None else position._replace(offset=position.offset - 1)
        self._hub.lose(group, UNREADABLE, 1, after)

    def went_down(self, reason: str, part: str = "") -> None:
        """Note that a part of the engine cannot be reached.

        Consumers stay connected. What they miss until then, they get after `came_up`.
        """
        self._down[part] = reason
        self.state = State(False, anyio.current_time(), reason)
        logger.error(
            "the channel layer is cut off from other processes: %s",
            reason, extra={"part": part, "reason": reason},
        )  # fmt: skip

    def came_up(self, part: str = "") -> None:
        """Note that a part of the engine can be reached again, and look what was missed there."""
        self._down.pop(part, None)
        self._is_back.set()
        self._is_back = anyio.Event()
        seconds = anyio.current_time() - self.state.since
        reason = next(iter(self._down.values()), "")
        self.state = State(not self._down, anyio.current_time(), reason)
        logger.warning(
            "the channel layer reaches other processes again, after %.1f s%s",
            seconds, f": {part} is back" if part else "", extra={"part": part},
        )  # fmt: skip
        if not self._is_addressed and self.engine.part_of(self.own_topic) == part:
            self.start(self._subscribe_to_own)
        for group, followed in self._followed.items():
            if followed.part.name == part:
                self._read_later(group, followed)

    # The tasks.

    async def _serve(self, part: _Part) -> None:
        """A task: subscribe to what is wanted and read what is missing, whenever it is woken."""
        while True:
            part.is_serving = False
            await part.work.wait()
            part.is_serving = True
            part.work = anyio.Event()
            await checkpoint()  # all who join in this turn of the loop share one call
            while part.wanted:
                wanted, part.wanted = part.wanted, []
                ready, part.ready = part.ready, anyio.Event()
                try:
                    await self._subscribe(wanted)
                finally:
                    ready.set()
            await self._release(part)
            await self._read_what_is_missing(part)

    async def _subscribe(self, groups: Sequence[str]) -> None:
        for start in range(0, len(groups), BATCH):
            some = groups[start : start + BATCH]
            try:
                with anyio.fail_after(self._options.timeout):
                    await self._subscribe_to(some)
            except Exception as error:
                if not isinstance(error, LayerUnavailable | TimeoutError):
                    logger.exception("a channel layer could not subscribe to its groups")
                # The other batches fail too: otherwise the last of them would wait for a
                # timeout of each batch before it.
                for group in groups[start:]:
                    reason = str(error) or self._too_late(group)
                    self._followed.pop(group).error = LayerUnavailable(reason)
                return

    async def _subscribe_to(self, groups: Sequence[str]) -> None:
        kept = {group: keep for group in groups if (keep := self._keeps(group)) is not None}
        await self.engine.subscribe(groups)
        tops = await self.engine.tops(kept) if kept else {}
        for group in groups:
            followed = self._followed[group]
            if group in tops:
                self._hand_out(group, followed.stream.start(tops[group]))
                if followed.stream.is_reading:
                    followed.part.behind.add(group)
            followed.is_subscribed = True

    def _read_later(self, group: str, followed: _Followed) -> None:
        followed.part.behind.add(group)
        followed.part.work.set()

    async def _read_what_is_missing(self, part: _Part) -> None:
        for _ in range(len(part.behind) // BATCH + 1):
            groups = list(islice(part.behind, BATCH))
            if not groups or part.name in self._down:
                return  # came_up() wakes this task again
            part.behind.difference_update(groups)
            try:
                await self._attempt(self._doubt, groups)
                for group in groups:
                    await self._attempt(self._fill, group)
            except LayerUnavailable:
                part.behind.update(groups)
                await anyio.sleep(self._options.timeout / 5)
                part.work.set()
                return

    async def _attempt(self, func: Callable[[T], Awaitable[object]], what: T) -> None:
        """Let nothing but an engine that is away keep a task from its other groups.

        What fails otherwise is logged, and tried again when all groups are compared next.
        """
        try:
            await func(what)
        except LayerUnavailable:
            raise
        except Exception:
            logger.exception("a channel layer could not read what its groups have missed")

    async def _doubt(self, groups: Sequence[str]) -> None:
        """Ask the engine where these groups are, so that each stream knows if it is behind."""
        kept = {group: keep for group in groups if (keep := self._keeps(group)) is not None}
        for group, top in (await self.engine.tops(kept) if kept else {}).items():
            if (followed := self._followed.get(group)) is not None:
                followed.stream.doubt(top)

    async def _fill(self, group: str) -> None:
        """Read what a group's members have missed, deliver it, and report what is lost for good."""
        followed, keep = self._followed.get(group), self._keeps(group)
        lags = 0
        while followed is not None and keep is not None and followed.stream.is_reading:
            stream = followed.stream
            if stream.position is None:
                return  # it is being subscribed to, and `_subscribe_to` looks what is missing
            read = await self.engine.read(group, keep, stream.position)
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
            message = _UNREADABLE if unpacked is None else unpacked.content
            found.append(stamped(message, group, Position(read.top.epoch, offset)))
        return found

    async def _deliver_lagging(self) -> None:
        """A task: deliver the inbox, and let lagging readers catch up between its messages."""
        while True:
            await self._arrived.wait()
            self._arrived = anyio.Event()
            while self._lagging or self._inbox:
                await cancel_shielded_checkpoint()
                self._in_turn = 0
                lagging, self._lagging = self._lagging, ()
                for mailbox in lagging:
                    await mailbox.catch_up()
                while self._inbox and not self._lagging and self._in_turn < self._options.turn:
                    self._take(*self._inbox.popleft())

    async def _look_after(self) -> None:
        """A task: release groups without members, and look for losses in quiet groups."""
        step = min(self._options.check_interval, self._options.release_delay) / 2
        look_at = anyio.current_time() + self._options.check_interval
        while True:
            await anyio.sleep(step)
            for part in self._parts.values():
                if part.idle:
                    part.work.set()
            if anyio.current_time() >= look_at:
                look_at = anyio.current_time() + self._options.check_interval
                for group, followed in self._followed.items():
                    self._read_later(group, followed)

    async def _release(self, part: _Part) -> None:
        now = anyio.current_time()
        due = []
        for group in tuple(part.idle):
            followed = self._followed.get(group)
            if followed is None or followed.joining or self._hub.has_members(group):
                part.idle.discard(group)
            elif followed.release_at <= now and followed.is_subscribed:
                part.idle.discard(group)
                del self._followed[group]
                due.append(group)
        if due:
            with suppress(LayerUnavailable):  # a message that comes all the same is for nobody
                await self.engine.unsubscribe(due)


def _is_unreadable(message: FrozenMessage) -> bool:
    return bool(message["type"] == _UNREADABLE["type"])


def _offset(message: FrozenMessage) -> int:
    return message.position.offset if message.position is not None else 0
