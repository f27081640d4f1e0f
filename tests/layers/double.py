"""An engine in memory, for tests: it carries messages between layers of one event loop.

It is the double that the half of a layer above the engine is tested against, and the
shortest complete example of an engine. What a network does can be asked for: `delay`
lets every publication come late, `lose` loses some on the way, and `cut` makes the
engine unreachable for one layer or for all.
"""

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Mapping
from functools import partial
from itertools import count
from typing import Any

import anyio
from anyio.lowlevel import checkpoint

from asgi_notify.codec import FrozenMessage
from asgi_notify.exceptions import LayerUnavailable
from asgi_notify.layers import History, Joined, Sent
from asgi_notify.layers.base import Present
from asgi_notify.layers.engine import Engine, Gone, Held, Lease, Published, Read, Receiver
from asgi_notify.layers.hub import Hub, Lagging
from asgi_notify.layers.packing import TO_MEMBERS, Packing
from asgi_notify.layers.shared import EngineChannelLayer
from asgi_notify.layers.tasks import Background
from asgi_notify.positions import Position, epoch_of, new_epoch


class Kept:
    """One topic's history: its epoch, its top, and what is still there with its time."""

    def __init__(self, epoch: str) -> None:
        self.epoch = epoch
        self.top = 0
        self.entries: deque[tuple[float, int, bytes]] = deque()


class Place:
    """What all processes share: what a server of messages would keep."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.engines: list[DoubleEngine] = []
        self.delay: Callable[[], float] = lambda: 0.0
        self.lose: Callable[[str], bool] = lambda topic: False
        self.clear()

    def clear(self) -> None:
        self.base = new_epoch()
        self.histories: dict[str, Kept] = {}
        self.keys: dict[tuple[str, str], tuple[float, Published]] = {}
        self.presence: dict[str, OrderedDict[str, tuple[float, Lease]]] = {}
        self.leaving: OrderedDict[tuple[str, str], tuple[float, bytes | None]] = OrderedDict()
        self.members: dict[str, dict[str, set[str]]] = {}
        self.queues: dict[str, deque[tuple[float, bytes, int]]] = {}
        self.held: dict[object, tuple[float, str, float, bytes, int]] = {}
        self.tokens = count(1)
        self.marks: dict[str, tuple[float, float]] = {}

    def kept(self, topic: str) -> Kept:
        return self.histories.get(topic) or Kept(epoch_of(self.base, topic))

    def depart(self, group: str, channel: str, at: float) -> None:
        _, lease = self.presence[group].pop(channel)
        channels = self.members[group][lease.member]
        channels.discard(channel)
        if not channels:
            self.leaving[group, lease.member] = at, lease.info


class DoubleEngine(Engine):
    """One process' connection to a `Place`."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.topics: set[str] = set()
        self.is_cut = False
        self.reconnects = 0
        self.receiver: Receiver | None = None
        self._arriving: deque[tuple[float, str, bytes, Position | None]] = deque()
        self._arrived = anyio.Event()

    async def open(self, receiver: Receiver) -> None:
        await self._reach()
        self.receiver = receiver
        self.place.engines.append(self)
        self._background = Background(self._bring, "a double")

    async def close(self) -> None:
        if self in self.place.engines:
            self.place.engines.remove(self)
            await self._background.aclose()

    def cut(self) -> None:
        """Let nothing through any more."""
        self.is_cut = True
        self._arriving.clear()
        assert self.receiver is not None
        self.receiver.went_down("somebody has cut the cable")

    def mend(self) -> None:
        """Let everything through again."""
        self.is_cut = False
        self.reconnects += 1
        assert self.receiver is not None
        self.receiver.came_up()

    async def _reach(self) -> None:
        await checkpoint()
        if self.is_cut:
            raise LayerUnavailable("somebody has cut the cable; try again in a moment")

    async def _bring(self) -> None:
        while True:
            while self._arriving:
                at, topic, payload, position = self._arriving[0]
                if at > anyio.current_time():
                    await anyio.sleep_until(at)
                    continue
                self._arriving.popleft()
                if topic in self.topics and self.receiver is not None:
                    self.receiver.receive(topic, payload, position)
            self._arrived = anyio.Event()
            await self._arrived.wait()

    def take(self, topic: str, payload: bytes, position: Position | None) -> None:
        """Called by the place with what was published."""
        if self.is_cut or self.place.lose(topic):
            return
        last = self._arriving[-1][0] if self._arriving else 0.0
        at = max(last, anyio.current_time() + self.place.delay())  # a connection keeps the order
        self._arriving.append((at, topic, payload, position))
        self._arrived.set()

    # Topics.

    async def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        keep: History | None = None,
        key: str | None = None,
        window: float = 0.0,
    ) -> Published:
        await self._reach()
        place, now = self.place, self.place.clock()
        if key is not None and (topic, key) in place.keys:
            over, first = place.keys[topic, key]
            if over > now:
                return first
        position = None
        if keep is not None:
            kept = place.histories.setdefault(topic, place.kept(topic))
            kept.top += 1
            kept.entries.append((now + keep.ttl, kept.top, payload))
            while len(kept.entries) > keep.size:
                kept.entries.popleft()
            position = Position(kept.epoch, kept.top)
        listening = [engine for engine in place.engines if topic in engine.topics]
        for engine in listening:
            engine.take(topic, payload, position)
        published = Published(len(listening), position)
        if key is not None:
            place.keys[topic, key] = now + window, published
        return published

    async def subscribe(self, topics: Collection[str]) -> None:
        await self._reach()
        self.topics.update(topics)

    async def unsubscribe(self, topics: Collection[str]) -> None:
        await self._reach()
        self.topics.difference_update(topics)

    # Histories.

    async def read(
        self, topic: str, keep: History, after: Position | None = None, limit: int | None = None
    ) -> Read:
        await self._reach()
        kept, now = self.place.kept(topic), self.place.clock()
        while kept.entries and kept.entries[0][0] <= now:
            kept.entries.popleft()
        first = kept.entries[0][1] if kept.entries else kept.top + 1
        is_whole = after is None or (
            after.epoch == kept.epoch and first - 1 <= after.offset <= kept.top
        )
        begin = after.offset if after is not None and after.epoch == kept.epoch else 0
        entries = [(offset, payload) for _, offset, payload in kept.entries if offset > begin]
        return Read(entries[:limit], is_whole, Position(kept.epoch, kept.top))

    async def tops(self, topics: Mapping[str, History]) -> dict[str, Position]:
        await self._reach()
        found = {topic: self.place.kept(topic) for topic in topics}
        return {topic: Position(kept.epoch, kept.top) for topic, kept in found.items()}

    # Presence.

    async def enter(self, lease: Lease, seconds: float) -> bool:
        await self._reach()
        place, over = self.place, self.place.clock() + seconds
        there = place.presence.setdefault(lease.group, OrderedDict())
        members = place.members.setdefault(lease.group, {})
        before = there.get(lease.channel)
        if before is not None and before[1].member != lease.member:
            place.depart(lease.group, lease.channel, place.clock())
        is_new = lease.member not in members
        there[lease.channel] = over, lease
        members.setdefault(lease.member, set()).add(lease.channel)
        place.leaving.pop((lease.group, lease.member), None)
        return is_new

    async def renew(self, leases: Collection[Lease], seconds: float) -> list[Lease]:
        return [lease for lease in leases if await self.enter(lease, seconds)]

    async def leave(self, group: str, channel: str, grace: float) -> None:
        await self._reach()
        if channel in self.place.presence.get(group, ()):
            self.place.depart(group, channel, self.place.clock() + grace)

    async def gone(self, groups: Collection[str], grace: float) -> list[Gone]:
        await self._reach()
        place, now = self.place, self.place.clock()
        for group in groups:
            for channel, (over, _) in list(place.presence.get(group, {}).items()):
                if over <= now:
                    place.depart(group, channel, over + grace)
        told: list[Gone] = []
        for (group, member), (at, info) in list(place.leaving.items()):
            if at <= now and group in groups:
                del place.leaving[group, member]
                del place.members[group][member]
                told.append(Gone(group, member, info))
        return told

    async def present(self, group: str) -> list[Lease]:
        await self._reach()
        now = self.place.clock()
        there = self.place.presence.get(group) or OrderedDict()
        return [lease for over, lease in there.values() if over > now]

    async def count(self, group: str) -> int:
        await self._reach()
        return len(self.place.members.get(group, {}))

    # Channels with a fixed name.

    async def push(self, channel: str, payload: bytes, capacity: int, expiry: float) -> bool:
        await self._reach()
        queue = self._fresh(channel)
        if len(queue) >= capacity:
            return False
        queue.append((self.place.clock() + expiry, payload, 1))
        return True

    def _fresh(self, channel: str) -> deque[tuple[float, bytes, int]]:
        now, queue = self.place.clock(), self.place.queues.setdefault(channel, deque())
        for token, (back_at, whose, over, payload, tries) in list(self.place.held.items()):
            if whose == channel and back_at <= now:
                del self.place.held[token]
                queue.appendleft((over, payload, tries + 1))
        while queue and queue[0][0] <= now:
            queue.popleft()
        return queue

    async def pull(self, channel: str, hold: float) -> Held:
        while True:
            await self._reach()
            if queue := self._fresh(channel):
                over, payload, tries = queue.popleft()
                token = next(self.place.tokens)
                self.place.held[token] = self.place.clock() + hold, channel, over, payload, tries
                return Held(token, payload, tries)
            await anyio.sleep(0.005)

    async def extend(self, channel: str, token: object, hold: float) -> None:
        await self._reach()
        if token in self.place.held:
            self.place.held[token] = self.place.clock() + hold, *self.place.held[token][1:]

    async def settle(self, channel: str, token: object) -> None:
        await self._reach()
        self.place.held.pop(token, None)

    async def release(self, channel: str, token: object) -> None:
        await self._reach()
        held = self.place.held.pop(token, None)
        if held is not None:
            self._fresh(channel).appendleft(held[2:])

    # Marks.

    async def mark(self, name: str, seconds: float, at: float) -> bool:
        await self._reach()
        marks, now = self.place.marks, self.place.clock()
        is_new = marks.get(name, (now, at))[0] <= now
        if is_new:
            marks[name] = now, at
        ends, latest = marks[name]
        marks[name] = max(ends, now + seconds), max(latest, at)
        return is_new

    async def is_marked(self, names: Collection[str], since: float) -> bool:
        await self._reach()
        known = [self.place.marks[name] for name in names if name in self.place.marks]
        return any(ends > self.place.clock() and at >= since for ends, at in known)

    # All of it.

    async def forget(self) -> None:
        await self._reach()
        self.place.clear()

    def statistics(self) -> Mapping[str, float]:
        return {"reconnects": self.reconnects}


class Settled(EngineChannelLayer):
    """Returns from a send when what was sent has come to this process, and says whom it reached.

    So that one suite of tests can look into mailboxes right after a send, as it does with
    the memory layer. What a layer on an engine really answers is tested by itself.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        options.setdefault("presence_lease", 1e6)  # renewed on the loop's clock, not the test's
        options.pop("history_groups", None)  # of the memory layer alone
        super().__init__(*args, **options)
        self.hub.deliver = self._deliver  # type: ignore[method-assign]  # to see what became of it
        self._delivered: dict[bytes, Sent] = {}  # by what was sent
        self._answers: dict[tuple[str, str], Sent] = {}
        self._probes: dict[int, anyio.Event] = {}

    def _deliver(self, group: str, message: FrozenMessage) -> tuple[Sent, Lagging]:
        sent, lagging = Hub.deliver(self.hub, group, message)
        self._delivered[_key(group, message)] = sent
        return sent, lagging

    async def _group_send(self, group: str, message: FrozenMessage, key: str | None) -> Sent:
        which = _key(group, message)
        self._delivered.pop(which, None)
        answer = await super()._group_send(group, message, key)
        await self.settle()
        seen = self._delivered.pop(which, None)
        sent = (seen or Sent(0, 0))._replace(position=answer.position)
        if key is None:
            return sent
        if seen is not None or answer.reached == 0:
            self._answers[group, key] = sent
        with anyio.fail_after(10):  # until the first that had the key knows whom it reached
            # No event: the first may be in another loop. No checkpoint: it would take the
            # processor from the server that all of them wait for.
            while (group, key) not in self._answers:  # noqa: ASYNC110
                await anyio.sleep(0.001)
        return self._answers[group, key]

    async def flush(self) -> None:
        await super().flush()
        self._answers.clear()

    async def _group_add(
        self, group: str, channel: str, since: Position | None, present: Present
    ) -> Joined:
        joined = await super()._group_add(group, channel, since, present)
        if present != (None, None):
            await self.settle()
        return joined

    async def _presence_count(self, group: str) -> int:
        members = await super()._presence_count(group)
        await self.settle()
        return members

    async def settle(self) -> None:
        """Wait until all that was published so far has come."""
        await self._there(self._probe)

    async def _probe(self) -> None:
        link = await self._linked()
        number, came = len(self._probes), anyio.Event()
        self._probes[number] = came
        await self._ask(link.own_topic, {"type": "test.probe", "number": number}, link)
        with anyio.fail_after(20):
            await came.wait()
            while link.is_behind:
                await checkpoint()

    def _take_direct(self, topic: str, message: FrozenMessage) -> None:
        if message["type"] == "test.probe":
            self._probes[message["number"]].set()
        else:
            super()._take_direct(topic, message)


class DoubleLayer(Settled):
    """A layer on the double: each has a place of its own, unless it is given one."""

    def __init__(self, place: Place | None = None, **options: Any) -> None:
        self.place = place or Place(options.get("clock", time.monotonic))
        super().__init__(partial(DoubleEngine, self.place), **options)


def _key(group: str, message: FrozenMessage) -> bytes:
    """What tells messages apart, whoever has made them."""
    return Packing(2**30).pack(TO_MEMBERS, {"group": group, **message}, group)
