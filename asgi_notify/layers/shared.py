"""The channel layer that all engines share: it joins this process's hub to an engine.

Each part of the work has a room of its own, and this one puts them together: `Link` follows
groups and reads their histories, `Leases` keeps presence, `Deliveries` reads fixed-name channels,
`Packing` encodes messages, and `insist` waits for an engine that is away.

All of them live in one event loop, that of the consumers, and a layer may be called from any
thread. So a method of the contract comes here in pairs: ``_history`` is called anywhere and goes
by `_there` to the consumers' loop, where ``_read`` does the work.
"""

import logging
import re
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from functools import lru_cache, partial
from itertools import count
from typing import Any, ClassVar, ParamSpec, TypeVar

import anyio
import anyio.to_thread

from ..codec import FrozenMessage
from ..exceptions import ChannelFull, LayerUnavailable
from ..positions import Position
from ..sync import LoopRef
from ..types import Message
from .base import CAPACITY, EXPIRY, Present
from .deliveries import Deliveries
from .delivery import Delivery
from .engine import Engine
from .entries import followers_of
from .following import LinkOptions, State
from .history import History, is_transient
from .idempotency import WINDOW
from .leases import LEASE, Leases
from .link import Link
from .local import LocalChannelLayer
from .mailbox import Mailbox
from .options import PatternMap, positive, whole
from .overflow import Overflow
from .packing import INFO, KEY, TO_MEMBERS, TO_PROCESS, Packing, place_of_channel
from .patience import insist, require_patience
from .presence import GRACE, Info, require_grace
from .results import Joined, Replay, Sent

__all__ = ["EngineChannelLayer"]

logger = logging.getLogger("asgi_notify.layers")

MAX_MESSAGE_SIZE = 1024 * 1024  # bytes, encoded; Redis ends subscribers that 32 MB wait for
VISIBILITY = 60.0  # seconds; a worker that died is noticed after it
DELIVERY_LIMIT = 5  # readers; a message that five processes did not survive is the cause
ANSWER_TIMEOUT = 1.0  # seconds that other processes get to list their channels of a group

P = ParamSpec("P")
T = TypeVar("T")


class EngineChannelLayer(LocalChannelLayer):
    """A channel layer on an engine, which carries groups between processes, never members.

    Args:
        make_engine: makes an engine that is not open; called again when the consumers'
            event loop is another one.
        history: how much is kept of which groups, by glob or compiled pattern; it must be
            the same in all processes.
        idempotency_window: seconds for which the key of a message is remembered.
        presence_grace: seconds that a member may be away before it counts as gone.
        presence_lease: seconds for which the members of a process that died stay present.
        max_message_size: bytes that an encoded message may take.
        encryption_keys: what all that goes between processes is encrypted with, apart from
            names; the first one encrypts, all of them decrypt.
        visibility_timeout: seconds after which a message of a fixed-name channel is given to
            another reader if the process that held it has died.
        delivery_limit: readers that may die of one message before it is dropped.
        check_interval: seconds between two comparisons of quiet groups with their histories,
            by which a lost message is noticed.
        release_delay: seconds for which a group is still followed after its last member left.
        timeout: seconds that a call waits for the engine.
        publish_timeout: seconds that a message to a group or a channel waits for an engine
            that is away. With 0 it fails as soon as that is known; None stands for ``timeout``.
        clock: returns the time in seconds, for tests.
    """

    is_shared: ClassVar[bool] = True

    def __init__(
        self,
        make_engine: Callable[[], Engine],
        *,
        capacity: int = CAPACITY,
        channel_capacity: Mapping[str | re.Pattern[str], int] | None = None,
        expiry: float = EXPIRY,
        overflow: Overflow = "disconnect",
        debug: bool = False,
        history: Mapping[str | re.Pattern[str], History] | None = None,
        idempotency_window: float = WINDOW,
        presence_grace: float = GRACE,
        presence_lease: float = LEASE,
        max_message_size: int = MAX_MESSAGE_SIZE,
        encryption_keys: Sequence[str | bytes] = (),
        visibility_timeout: float = VISIBILITY,
        delivery_limit: int = DELIVERY_LIMIT,
        check_interval: float = LinkOptions.check_interval,
        release_delay: float = LinkOptions.release_delay,
        timeout: float = LinkOptions.timeout,
        publish_timeout: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(
            capacity=capacity,
            channel_capacity=channel_capacity,
            expiry=expiry,
            overflow=overflow,
            debug=debug,
            clock=clock,
        )
        self._make_engine = make_engine
        self._keeps = lru_cache(10_000)(PatternMap(history or {}).get)
        self._window = positive("idempotency_window", idempotency_window)
        self._grace = require_grace(presence_grace)
        self._clock = clock
        self._lease = positive("presence_lease", presence_lease)
        self._packing = Packing(whole("max_message_size", max_message_size), encryption_keys)
        self._link_options = LinkOptions(
            positive("check_interval", check_interval),
            positive("release_delay", release_delay),
            positive("timeout", timeout),
            max(1, self.least_capacity // 4),
        )
        self._visibility = positive("visibility_timeout", visibility_timeout)
        self._delivery_limit = whole("delivery_limit", delivery_limit)
        self._patience = require_patience(timeout if publish_timeout is None else publish_timeout)
        self._link: Link | None = None
        self._leases: Leases | None = None
        self._deliveries: Deliveries | None = None
        self._opening: anyio.Lock | None = None
        self._failures = 0  # attempts to open that came to nothing
        self._failure = ""  # why the last of them did
        self._questions: dict[int, _Question] = {}
        self._numbers = count(1)
        self.hub.watcher = self

    @property
    def state(self) -> State | None:
        """Whether the engine can be reached; None while the layer is not open."""
        return None if self._link is None else self._link.state

    async def open(self) -> None:
        """Connect to the engine.

        Raises:
            LayerUnavailable: it could not be reached.
        """
        await self._there(self._linked)

    async def _close_engine(self) -> None:
        link, self._link = self._link, None
        if link is None:
            return
        try:
            if self._leases is not None:
                await self._leases.settle()
        except LayerUnavailable:
            pass  # the engine lets the leases run out by itself
        finally:
            await link.close()

    async def _let_go(self) -> None:
        self.hub.clear()
        if self._loop_ref is not None and not self._loop_ref.is_over:
            await self._there(self._close_engine)

    # Whose loop.

    async def _there(self, func: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run an async function in the consumers' loop, from any thread.

        Where there is no such loop yet, or it has ended, the caller's becomes the consumers'.
        """
        while True:
            ref = self._loop_ref
            if ref is None or ref.is_over:
                self._settle()
            elif ref.is_here:
                return await func(*args, **kwargs)
            else:
                try:
                    waiting = partial(ref.wait_for, func, *args, **kwargs)
                    return await anyio.to_thread.run_sync(waiting)
                except anyio.RunFinishedError:
                    continue

    async def _there_once(
        self, func: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """The same for what must not be sent again when its loop ends while it is on its way."""
        has_begun = False

        async def run() -> T:
            nonlocal has_begun
            if has_begun:
                raise LayerUnavailable(
                    "the event loop ended in which this was being sent, and nobody knows whether "
                    "it was: send it again with an idempotency_key from the start"
                )
            has_begun = True
            return await func(*args, **kwargs)

        return await self._there(run)

    def _loop_begins(self) -> None:
        self._opening = anyio.Lock()

    def _loop_is_over(self) -> None:
        link, self._link = self._link, None
        ref: LoopRef | None = self._loop_ref
        if link is not None and ref is not None and not ref.is_over:
            ref.start(link.close)

    async def _linked(self) -> Link:
        """The link of the consumers' loop, which is opened now if it is not open."""
        assert self._opening is not None
        if self._link is not None:
            return self._link
        failures = self._failures
        async with self._opening:
            if self._link is None:
                if self._failures > failures:  # nobody waits for one timeout after another
                    raise LayerUnavailable(self._failure)
                try:
                    self._link = await self._opened()
                except LayerUnavailable as error:
                    self._failures += 1
                    self._failure = str(error)
                    raise
        return self._link

    async def _opened(self) -> Link:
        engine = self._make_engine()
        link = Link(
            self.hub,
            engine,
            self._keeps,
            self._packing,
            self._take_direct,
            self._outage_ends,
            self._link_options,
        )
        await link.open()
        self._leases = Leases(
            self.hub,
            engine,
            self._announce,
            partial(self._packing.pack, INFO),
            self._info,
            self._clock,
            self._grace,
            self._lease,
        )
        self._deliveries = Deliveries(
            self.hub, engine, self._packing, self._visibility, self._delivery_limit
        )
        for task in (self._deliveries.hold_on, self._leases.renew, self._leases.sweep):
            link.start(task)
        return link

    def _outage_ends(self, part: str) -> None:
        link = self._link
        if link is None:
            return  # it is just being opened, and nobody could miss anything before

        def is_concerned(group: str) -> bool:
            return link.engine.part_of(group) == part

        for after in self._after_outages:
            link.start(partial(after, is_concerned))

    # The hub's watcher.

    def group_begins(self, group: str) -> None:
        """Do nothing: `Link.join` follows a group before its first member is in it."""

    def group_ends(self, group: str) -> None:
        """Have the link stop following a group, after a moment."""
        if self._link is not None:
            self._link.group_ends(group)

    def member_left(self, group: str, channel: str) -> None:
        """Have the leases note that a channel is not present any more."""
        if self._leases is not None:
            self._leases.left(group, channel)

    # Groups.

    async def _group_add(
        self, group: str, channel: str, since: Position | None, present: Present
    ) -> Joined:
        return await self._there(self._join, group, channel, since, present)

    async def _join(
        self, group: str, channel: str, since: Position | None, present: Present
    ) -> Joined:
        link = await self._linked()
        was_there = self.hub.has_member(group, channel)
        joined = await link.join(group, channel, since)
        if present != (None, None) and self._leases is not None:
            try:
                await self._leases.enter(group, channel, *present)
            except BaseException:
                # Whoever called is told that it has not joined.
                if not was_there:
                    self.hub.group_discard(group, channel)
                raise
        return joined

    async def _group_discard(self, group: str, channel: str) -> None:
        await self._run(self.hub.group_discard, group, channel)

    async def _group_send(self, group: str, message: FrozenMessage, key: str | None) -> Sent:
        keep = None if is_transient(message["type"]) else self._keeps(group)
        payload = self._packing.pack(TO_MEMBERS, message, group)
        there = self._there if key is not None else self._there_once
        return await there(self._publish, group, payload, keep, key)

    async def _publish(
        self, group: str, payload: bytes, keep: History | None, key: str | None
    ) -> Sent:
        async def publish(link: Link) -> Sent:
            receivers, position = await link.engine.publish(
                group, payload, keep=keep, key=key, window=self._window
            )
            return Sent(receivers, 0, position)

        return await self._insist(group, publish, key is not None)

    async def _insist(
        self, name: str, send: Callable[[Link], Awaitable[T]], may_repeat: bool = False
    ) -> T:
        """Send something, for as long as the engine is waited for; see `patience.insist`."""
        return await insist(
            self._linked, name, send, self._patience, self._link_options.timeout, may_repeat
        )

    async def _history(self, group: str, since: Position | None, limit: int | None) -> Replay:
        return await self._there(self._read, group, since, limit)

    async def _read(self, group: str, since: Position | None, limit: int | None) -> Replay:
        link = await self._linked()
        keep = self._keeps(group)
        if keep is None:
            return Replay([], False, None)
        return await link.joining.history(group, keep, since, limit)

    # Channels.

    async def _send(self, channel: str, message: FrozenMessage) -> None:
        prefix, is_own, _ = channel.partition("!")
        if not is_own:
            payload = self._packing.pack(TO_MEMBERS, message, place_of_channel(channel))
            await self._there_once(self._push, channel, payload)
        elif prefix.endswith(f".{self.hub.process}"):
            await super()._send(channel, message)
        else:
            envelope = {"type": "layer.send", "channel": channel, "message": dict(message)}
            topic = f"process!{prefix.rpartition('.')[2]}"
            await self._there_once(self._insist, topic, partial(self._ask, topic, envelope))

    async def _push(self, channel: str, payload: bytes) -> None:
        capacity = self.get_capacity(channel)

        async def push(link: Link) -> bool:
            return await link.engine.push(channel, payload, capacity, self.expiry)

        if not await self._insist(channel, push):
            self.hub.drops.count("full", None)
            raise ChannelFull(
                f"{channel} takes no more than {capacity} unread messages, its capacity; "
                "read it faster, send less, or raise the layer's channel_capacity"
            )

    async def _attach(self, prefix: str, overflow: Overflow, tell_gaps: bool) -> Mailbox:
        mailbox = await super()._attach(prefix, overflow, tell_gaps)
        if self._link is None:  # else no other process could send to it
            try:
                await self._linked()
            except BaseException:
                self.detach(mailbox)
                raise
        return mailbox

    async def _receive(self, channel: str) -> Message:
        if "!" in channel:
            self._settle()
            await self._linked()
            return await super()._receive(channel)
        return await (await self._reading()).receive(channel)

    async def _take(self, channel: str) -> Delivery:
        if "!" in channel:
            return await super()._take(channel)
        return await (await self._reading()).take(channel)

    async def _reading(self) -> Deliveries:
        self._settle()
        await self._linked()
        assert self._deliveries is not None
        return self._deliveries

    # Between processes.

    async def _ask(self, topic: str, message: Mapping[str, Any], link: Link) -> int:
        """Publish a message to the processes themselves; return how many received it."""
        return (
            await link.engine.publish(topic, self._packing.pack(TO_PROCESS, message, topic))
        ).receivers

    def _take_direct(self, topic: str, message: FrozenMessage) -> None:
        """Take a message that is for this process itself; never waits.

        There are three types of them: ``layer.send`` brings a message for a channel of this
        process, ``layer.list`` asks for its channels of a group, and ``layer.channels`` is an
        answer to that question.
        """
        kind = message["type"]
        if kind == "layer.send":
            self._send_here(message)
        elif kind == "layer.list":
            self._start(self._answer, topic, message)
        elif kind == "layer.channels" and (asked := self._questions.get(message["number"])):
            asked.take(message["channels"])

    def _send_here(self, message: FrozenMessage) -> None:
        try:
            self.hub.send(message["channel"], FrozenMessage(message["message"]))
        except ChannelFull:
            pass  # the mailbox has counted it, and its sender in another process has gone on
        except Exception:
            channel = message.get("channel")
            logger.exception("a message to %s was lost", channel, extra={"channel": channel})

    async def _answer(self, group: str, message: FrozenMessage) -> None:
        channels = [mailbox.channel for mailbox in self.hub.members(group)]
        answer = {"type": "layer.channels", "number": message["number"], "channels": channels}
        await self._ask(message["to"], answer, await self._linked())

    def _start(self, func: Callable[..., Awaitable[object]], *args: object) -> None:
        if self._link is not None:
            self._link.start(partial(func, *args))

    async def _group_channels(self, group: str) -> dict[str, Info]:
        return await self._there(self._list, group)

    async def _list(self, group: str) -> dict[str, Info]:
        """List the channels of a group: ask all processes that follow it, and join the answers.

        A process that does not answer within `ANSWER_TIMEOUT` is left out.
        """
        link = await self._linked()
        number = next(self._numbers)
        question = self._questions[number] = _Question()
        try:
            envelope = {"type": "layer.list", "to": link.own_topic, "number": number}
            question.awaited = await self._ask(group, envelope, link)
            with anyio.move_on_after(ANSWER_TIMEOUT):
                await question.wait()
        finally:
            del self._questions[number]
        said = await self._present(group)
        return {channel: said.get(channel) for channel in question.channels}

    # Presence.

    def _info(self, packed: bytes, group: str) -> Info:
        unpacked = self._packing.unpack(packed, group, INFO)
        return None if unpacked is None else unpacked.content

    async def _announce(self, group: str, message: Mapping[str, Any]) -> None:
        link = await self._linked()
        topic = followers_of(group)
        await link.engine.publish(topic, self._packing.pack(TO_MEMBERS, message, topic))

    async def _present(self, group: str) -> dict[str, Info]:
        await self._linked()
        await self._report_gone(group)  # or one that left here a moment ago would still be listed
        assert self._leases is not None
        return dict(await self._leases.present(group))

    async def _presence(self, group: str) -> dict[str, Info]:
        return await self._there(self._present, group)

    async def _presence_count(self, group: str) -> int:
        return await self._there(self._count, group)

    async def _count(self, group: str) -> int:
        link = await self._linked()
        await self._report_gone(group)
        return await link.engine.count(group)

    async def _report_gone(self, group: str) -> None:
        assert self._leases is not None
        await self._leases.settle(group)

    async def _presence_follow(self, group: str, channel: str) -> None:
        await self._there(self._follow, group, channel)

    async def _follow(self, group: str, channel: str) -> None:
        link = await self._linked()
        await self._report_gone(group)
        await link.join(followers_of(group), channel, None)
        if self._leases is not None:
            self._leases.follow(group)

    async def _presence_unfollow(self, group: str, channel: str) -> None:
        await self._run(self.hub.group_discard, followers_of(group), channel)

    # Marks.

    async def _mark(self, name: str, seconds: float, at: float, leave_room: bool) -> bool:
        # There is always room: a server has as much as it has memory.
        # Once: sent again, it would find its own mark, and say that the name is not new.
        return await self._there_once(self._mark_there, name, seconds, at)

    async def _mark_there(self, name: str, seconds: float, at: float) -> bool:
        return await (await self._linked()).engine.mark(name, seconds, at)

    async def _is_marked(self, names: Collection[str], since: float) -> bool:
        return await self._there(self._look_for_marks, names, since)

    async def _look_for_marks(self, names: Collection[str], since: float) -> bool:
        return await (await self._linked()).engine.is_marked(names, since)

    # All of it.

    async def flush(self) -> None:
        await self._there(self._forget)

    async def _forget(self) -> None:
        link = await self._linked()
        self.hub.clear()
        if self._leases is not None:
            self._leases.clear()
        await link.engine.forget()

    def statistics(self) -> dict[str, Any]:
        link = self._link
        if link is None:
            return super().statistics()
        return {
            **super().statistics(),
            "engine_is_up": link.state.is_up,
            "followed": link.followed,
            "gaps": link.joining.gaps,
            "undecodable": self._packing.refused.total(),
            "undecryptable": self._packing.refused[KEY],
            **link.engine.statistics(),
        }


class _Question:
    """A question to the processes that follow a group, and the answers so far.

    Attributes:
        channels: all channels that were answered.
        awaited: how many answers will come; None until the engine has said how many processes
            the question reached. Answers may come before that.
    """

    def __init__(self) -> None:
        self.channels: list[str] = []
        self.awaited: int | None = None
        self._answered = 0
        self._changed = anyio.Event()

    def take(self, channels: list[str]) -> None:
        self.channels.extend(channels)
        self._answered += 1
        self._changed.set()

    async def wait(self) -> None:
        while self.awaited is None or self._answered < self.awaited:
            await self._changed.wait()
            self._changed = anyio.Event()
