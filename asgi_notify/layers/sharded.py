"""Several engines that know nothing of each other, as one: each topic lives on one of them.

Where a name lives is said by its *rendezvous*: each server's name and the topic's give a
number together, and the highest wins. All processes come to the same answer without asking
anybody. A server that is added wins a fair share of the names, and no name moves between
the others; those of one that is taken away spread over the rest.

What moved has no history where it is now, and whoever resumes there is told.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping
from functools import lru_cache, partial
from hashlib import blake2b
from typing import Any, TypeVar

import anyio

from ..exceptions import InvalidChannelLayerError, LayerUnavailable
from ..positions import Position
from .engine import Engine, Gone, Held, Lease, Published, Read, Receiver
from .history import History
from .tasks import Background

__all__ = ["ShardedEngine", "rendezvous"]

NAMES = 100_000  # whose place is remembered; working it out takes a microsecond a server
AGAIN = 1.0  # seconds between two attempts to open an engine that was away from the start

T = TypeVar("T")
R = TypeVar("R")


def rendezvous(engines: Collection[str], name: str) -> str:
    """Which of these engines a name lives on: the same for the same names, in any order.

    Source: Thaler and Ravishankar, "A Name-Based Mapping Scheme for Rendezvous", 1996.
    """
    key = blake2b(name.encode(), digest_size=16).digest()
    return max(
        engines, key=lambda one: (blake2b(one.encode(), key=key, digest_size=8).digest(), one)
    )


class ShardedEngine(Engine):
    """Spreads topics, groups and channels over engines.

    Where one of them is away, only what lives there fails: `Receiver.went_down` and
    `Receiver.came_up` name it as their part, and `part_of` says what lives there. A call
    about several names does what can be done before it raises.

    Args:
        engines: what there is, by name. The names decide where everything lives, so they are
            the same in all processes, in any order.

    Raises:
        InvalidChannelLayerError: there are none.
    """

    def __init__(self, engines: Mapping[str, Engine]) -> None:
        if not engines:
            raise InvalidChannelLayerError("a sharded engine needs at least one engine")
        self._engines = dict(engines)
        self._place = lru_cache(NAMES)(partial(rendezvous, tuple(engines)))
        self._latecomers: Background | None = None

    def part_of(self, name: str) -> str:
        return self._place(name)

    async def open(self, receiver: Receiver) -> None:
        """Open all engines; those that are away now are opened when they come.

        Raises:
            LayerUnavailable: all are away.
        """
        parts = {name: _Part(name, receiver) for name in self._engines}
        away: dict[str, LayerUnavailable] = {}

        async def open_one(name: str, engine: Engine) -> None:
            try:
                await engine.open(parts[name])
            except LayerUnavailable as error:
                away[name] = error

        await _together(open_one, self._engines.items())
        if len(away) == len(self._engines):
            raise next(iter(away.values()))
        for name, error in away.items():
            parts[name].went_down(str(error))
        if away:
            lagging = {name: parts[name] for name in away}
            self._latecomers = Background(partial(self._wait_for, lagging), "asgi_notify's shards")

    async def close(self) -> None:
        if self._latecomers is not None:
            await self._latecomers.aclose()
            self._latecomers = None
        for engine in self._engines.values():
            await engine.close()

    async def _wait_for(self, parts: dict[str, "_Part"]) -> None:
        while parts:
            await anyio.sleep(AGAIN)
            for name in tuple(parts):
                try:
                    await self._engines[name].open(parts[name])
                except LayerUnavailable:
                    continue
                parts.pop(name).came_up()

    def _at(self, name: str) -> Engine:
        return self._engines[self._place(name)]

    def _dealt(self, items: Iterable[T], name_of: Callable[[T], str]) -> dict[Engine, list[T]]:
        """Each engine with what lives there."""
        dealt: defaultdict[Engine, list[T]] = defaultdict(list)
        for item in items:
            dealt[self._at(name_of(item))].append(item)
        return dealt

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
        engine = self._at(topic)
        return await engine.publish(topic, payload, keep=keep, key=key, window=window)

    async def subscribe(self, topics: Collection[str]) -> None:
        done: list[tuple[Engine, list[str]]] = []

        async def subscribe(engine: Engine, some: list[str]) -> None:
            await engine.subscribe(some)
            done.append((engine, some))

        try:
            await _all(subscribe, self._dealt(topics, str))
        except BaseException:
            with anyio.CancelScope(shield=True):
                for engine, some in done:
                    await engine.unsubscribe(some)
            raise

    async def unsubscribe(self, topics: Collection[str]) -> None:
        await _all(lambda engine, some: engine.unsubscribe(some), self._dealt(topics, str))

    # Histories.

    async def read(
        self, topic: str, keep: History, after: Position | None = None, limit: int | None = None
    ) -> Read:
        return await self._at(topic).read(topic, keep, after, limit)

    async def tops(self, topics: Mapping[str, History]) -> dict[str, Position]:
        found: dict[str, Position] = {}

        async def ask(engine: Engine, some: list[str]) -> None:
            found.update(await engine.tops({topic: topics[topic] for topic in some}))

        await _most(ask, self._dealt(topics, str), found)
        return found

    # Presence.

    async def enter(self, lease: Lease, seconds: float) -> bool:
        return await self._at(lease.group).enter(lease, seconds)

    async def renew(self, leases: Collection[Lease], seconds: float) -> list[Lease]:
        back: list[Lease] = []

        async def renew(engine: Engine, some: list[Lease]) -> None:
            back.extend(await engine.renew(some, seconds))

        # Not _all: those that are back at one engine are to be announced, though another is away.
        await _most(renew, self._dealt(leases, lambda lease: lease.group), back)
        return back

    async def leave(self, group: str, channel: str, grace: float) -> None:
        await self._at(group).leave(group, channel, grace)

    async def gone(self, groups: Collection[str], grace: float) -> list[Gone]:
        found: list[Gone] = []

        async def ask(engine: Engine, some: list[str]) -> None:
            found.extend(await engine.gone(some, grace))

        await _most(ask, self._dealt(groups, str), found)
        return found

    async def present(self, group: str) -> list[Lease]:
        return await self._at(group).present(group)

    async def count(self, group: str) -> int:
        return await self._at(group).count(group)

    # Channels with a fixed name.

    async def push(self, channel: str, payload: bytes, capacity: int, expiry: float) -> bool:
        return await self._at(channel).push(channel, payload, capacity, expiry)

    async def pull(self, channel: str, hold: float) -> Held:
        return await self._at(channel).pull(channel, hold)

    async def extend(self, channel: str, token: object, hold: float) -> None:
        await self._at(channel).extend(channel, token, hold)

    async def settle(self, channel: str, token: object) -> None:
        await self._at(channel).settle(channel, token)

    async def release(self, channel: str, token: object) -> None:
        await self._at(channel).release(channel, token)

    # Marks.

    async def mark(self, name: str, seconds: float, at: float) -> bool:
        return await self._at(name).mark(name, seconds, at)

    async def is_marked(self, names: Collection[str], since: float) -> bool:
        found: list[bool] = []

        async def ask(engine: Engine, some: list[str]) -> None:
            if await engine.is_marked(some, since):
                found.append(True)

        await _most(ask, self._dealt(names, str), found)
        return bool(found)

    # All of it.

    async def forget(self) -> None:
        await _all(lambda engine, _: engine.forget(), dict.fromkeys(self._engines.values()))

    def statistics(self) -> Mapping[str, float]:
        """The sums of all engines' counts."""
        total: defaultdict[str, float] = defaultdict(float)
        for engine in self._engines.values():
            for name, value in engine.statistics().items():
                total[name] += value
        return dict(total)


class _Part:
    """The receiver as one of the engines sees it."""

    def __init__(self, part: str, receiver: Receiver) -> None:
        self._part = part
        self._receiver = receiver
        self.receive = receiver.receive

    def went_down(self, reason: str, part: str = "") -> None:
        self._receiver.went_down(reason, self._part)

    def came_up(self, part: str = "") -> None:
        self._receiver.came_up(self._part)


async def _each(
    call: Callable[[Engine, T], Coroutine[Any, Any, None]], dealt: Mapping[Engine, T]
) -> list[LayerUnavailable]:
    """Call a function for all engines at the same time, and return what failed."""
    errors: list[LayerUnavailable] = []

    async def one(engine: Engine, some: T) -> None:
        try:
            await call(engine, some)
        except LayerUnavailable as error:
            errors.append(error)

    await _together(one, dealt.items())
    return errors


async def _all(
    call: Callable[[Engine, T], Coroutine[Any, Any, None]], dealt: Mapping[Engine, T]
) -> None:
    """All must succeed; those that can are done whatever becomes of the others."""
    for error in await _each(call, dealt):
        raise error


async def _most(
    call: Callable[[Engine, T], Coroutine[Any, Any, None]],
    dealt: Mapping[Engine, T],
    found: Collection[object],
) -> None:
    """Something must be found, or nothing must have failed."""
    errors = await _each(call, dealt)
    if errors and not found:
        raise errors[0]


async def _together(
    call: Callable[[T, R], Coroutine[Any, Any, None]], items: Collection[tuple[T, R]]
) -> None:
    if len(items) == 1:  # most calls: no task for it
        for one, other in items:
            await call(one, other)
        return
    async with anyio.create_task_group() as tasks:
        for one, other in items:
            tasks.start_soon(call, one, other)
