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
from functools import partial
from itertools import islice

import anyio
from anyio.lowlevel import cancel_shielded_checkpoint, checkpoint

from ..codec import FrozenMessage, stamped
from ..exceptions import LayerUnavailable
from ..positions import Position
from .engine import Engine
from .following import Followed, LinkOptions, Part, State, too_late
from .history import History
from .hub import Hub, Lagging
from .joining import LOST, UNREADABLE_MESSAGE, Joining, is_unreadable
from .pace import catch_up
from .packing import TO_MEMBERS, TO_PROCESS, Packing
from .results import Joined
from .stream import GroupStream
from .tasks import Tasks

__all__ = ["UNREADABLE", "Link"]

logger = logging.getLogger("asgi_notify.layers")

BATCH = 4096  # topics in one call of the engine
MAX_INBOX = 10_000  # messages that wait for lagging readers; more are read from the histories

_CLOSED = "the channel layer was closed meanwhile; it opens itself again when it is used"

# Reasons of losses, as they are counted and reported.
UNREADABLE = "unreadable"  # it came, and cannot be decoded


class Link:
    """The engine's side of the groups of one process, in one event loop.

    Args:
        hub: the groups, and the mailboxes of their members.
        engine: what carries messages between processes; closed with the link.
        keeps: says how much is kept of a group; None for a group without a history.
        packing: decodes payloads into messages.
        direct: is called with the topic and the message when one comes that is for the
            process itself, and not for the members of a group.
        after_outage: is called with the part of the engine that can be reached again; never waits.
        options: how long it waits.

    Attributes:
        own_topic: what is published there comes to this process alone.
        state: whether the engine can be reached; it is up only if all of its parts are.
        joining: what reads the histories of the groups.
    """

    def __init__(
        self,
        hub: Hub,
        engine: Engine,
        keeps: Callable[[str], History | None],
        packing: Packing,
        direct: Callable[[str, FrozenMessage], object],
        after_outage: Callable[[str], object],
        options: LinkOptions,
    ) -> None:
        self.engine = engine
        self.own_topic = f"process!{hub.process}"
        self.state = State(True, anyio.current_time())
        self.joining = Joining(hub, engine, keeps, packing, self._stream_of, self._hand_out)
        self._hub = hub
        self._keeps = keeps
        self._packing = packing
        self._direct = direct
        self._after_outage = after_outage
        self._options = options
        self._tasks = Tasks("the link of a channel layer")
        self._followed: dict[str, Followed] = {}
        self._parts: dict[str, Part] = {}  # by name
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
        await self._tasks.open()
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

    def start(self, func: Callable[[], Awaitable[object]]) -> None:
        """Run an async function in a task of the link; see `Tasks.start`."""
        self._tasks.start(func)

    async def close(self) -> None:
        """Cancel the tasks, close the engine, and follow nothing any more."""
        self._is_closed = True
        with anyio.CancelScope(shield=True):
            await self._tasks.aclose()
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

        The group is subscribed to first; for the rest see `Joining.join`.

        Raises:
            LayerUnavailable: the engine is away.
        """
        followed = self._follow(group)
        try:
            if not followed.is_subscribed:
                await followed.until_subscribed(group, self._options.timeout)
            return await self.joining.join(group, channel, followed.stream, since)
        finally:
            followed.joining -= 1
            if not followed.joining and not self._hub.has_members(group):
                self.group_ends(group)

    def _stream_of(self, group: str) -> GroupStream | None:
        followed = self._followed.get(group)
        return None if followed is None else followed.stream

    def _follow(self, group: str) -> Followed:
        """Follow a group, at least until the caller has counted `Followed.joining` down again.

        The caller has to wait until it is subscribed to; see `Followed.until_subscribed`.
        """
        if self._is_closed:
            raise LayerUnavailable(_CLOSED)
        followed = self._followed.get(group)
        if followed is None:
            part, is_kept = self._part_of(group), self._keeps(group) is not None
            followed = self._followed[group] = Followed(part, is_kept, part.ready)
            part.wanted.append(group)
            part.work.set()
        followed.joining += 1
        return followed

    def _part_of(self, group: str) -> Part:
        name = self.engine.part_of(group)
        part = self._parts.get(name)
        if part is None:
            part = self._parts[name] = Part(name)
            self.start(partial(self._serve, part))
        return part

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
        message = stamped(
            UNREADABLE_MESSAGE if unpacked is None else unpacked.content, topic, position
        )
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
            if is_unreadable(message):
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
        self._after_outage(part)

    # The tasks.

    async def _serve(self, part: Part) -> None:
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
                    reason = str(error) or too_late(group, self._options.timeout)
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

    def _read_later(self, group: str, followed: Followed) -> None:
        followed.part.behind.add(group)
        followed.part.work.set()

    async def _read_what_is_missing(self, part: Part) -> None:
        for _ in range(len(part.behind) // BATCH + 1):
            groups = list(islice(part.behind, BATCH))
            if not groups or part.name in self._down:
                return  # came_up() wakes this task again
            part.behind.difference_update(groups)
            try:
                await self.joining.catch_up(groups)
            except LayerUnavailable:
                part.behind.update(groups)
                await anyio.sleep(self._options.timeout / 5)
                part.work.set()
                return

    async def _deliver_lagging(self) -> None:
        """A task: deliver the inbox, and let lagging readers catch up between its messages."""
        while True:
            await self._arrived.wait()
            self._arrived = anyio.Event()
            while self._lagging or self._inbox:
                await cancel_shielded_checkpoint()
                self._in_turn = 0
                lagging, self._lagging = self._lagging, ()
                await catch_up(lagging)
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

    async def _release(self, part: Part) -> None:
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
