"""Several engines as one: each name lives on one of them, and only that one matters to it."""

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any

import anyio
import pytest

from asgi_notify.exceptions import InvalidChannelLayerError, LayerUnavailable
from asgi_notify.layers.engine import Engine, Gone, Held, Lease, Published, Read, Receiver
from asgi_notify.layers.history import History
from asgi_notify.layers.sharded import ShardedEngine, rendezvous
from asgi_notify.positions import Position

from .valkey.ear import Ear, Heard

pytestmark = pytest.mark.anyio

KEEP = History(size=5, ttl=60)
TOPICS = [f"room{number}" for number in range(30)]


class Shard(Engine):
    """Remembers what it was asked, and may be away."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_away = False
        self.is_open = False
        self.topics: set[str] = set()
        self.asked: list[tuple[str, str]] = []
        self.receiver: Receiver | None = None

    def _ask(self, method: str, *names: str) -> None:
        self.asked += [(method, name) for name in names]
        if self.is_away:
            raise LayerUnavailable(f"{self.name} is away")

    async def open(self, receiver: Receiver) -> None:
        self._ask("open")
        self.is_open, self.receiver = True, receiver

    async def close(self) -> None:
        self.is_open = False

    async def publish(self, topic: str, payload: bytes, **options: Any) -> Published:
        self._ask("publish", topic)
        assert self.receiver is not None
        if topic in self.topics:
            self.receiver.receive(topic, payload, None)
        return Published(len(self.name), None)

    async def subscribe(self, topics: Collection[str]) -> None:
        self._ask("subscribe", *topics)
        self.topics.update(topics)

    async def unsubscribe(self, topics: Collection[str]) -> None:
        self._ask("unsubscribe", *topics)
        self.topics.difference_update(topics)

    async def read(self, topic: str, *options: Any, **more: Any) -> Read:
        self._ask("read", topic)
        return Read([], True, Position(self.name, 0))

    async def tops(self, topics: Mapping[str, History]) -> dict[str, Position]:
        self._ask("tops", *topics)
        return dict.fromkeys(topics, Position(self.name, 0))

    async def enter(self, lease: Lease, seconds: float) -> bool:
        self._ask("enter", lease.group)
        return True

    async def renew(self, leases: Collection[Lease], seconds: float) -> list[Lease]:
        self._ask("renew", *(lease.group for lease in leases))
        return []

    async def leave(self, group: str, channel: str, grace: float) -> None:
        self._ask("leave", group)

    async def gone(self, groups: Collection[str], grace: float) -> list[Gone]:
        self._ask("gone", *groups)
        return [Gone(group, self.name, None) for group in groups]

    async def present(self, group: str) -> list[Lease]:
        self._ask("present", group)
        return []

    async def count(self, group: str) -> int:
        self._ask("count", group)
        return 1

    async def push(self, channel: str, payload: bytes, capacity: int, expiry: float) -> bool:
        self._ask("push", channel)
        return True

    async def pull(self, channel: str, hold: float) -> Held:
        self._ask("pull", channel)
        return Held(self.name, b"")

    async def extend(self, channel: str, token: object, hold: float) -> None:
        self._ask("extend", channel)

    async def settle(self, channel: str, token: object) -> None:
        self._ask("settle", channel)

    async def release(self, channel: str, token: object) -> None:
        self._ask("release", channel)

    async def mark(self, name: str, seconds: float, at: float) -> bool:
        self._ask("mark", name)
        return True

    async def is_marked(self, names: Collection[str], since: float) -> bool:
        self._ask("is_marked", *names)
        return "marked" in names

    async def forget(self) -> None:
        self._ask("forget", "")

    def statistics(self) -> Mapping[str, float]:
        return {"reconnects": len(self.name)}


@pytest.fixture
def shards() -> dict[str, Shard]:
    return {name: Shard(name) for name in ("a", "bb", "ccc")}


@pytest.fixture
async def engine(shards: dict[str, Shard], ear: Ear) -> ShardedEngine:
    sharded = ShardedEngine(shards)
    await sharded.open(ear)
    return sharded


@pytest.fixture
def ear() -> Ear:
    return Ear()


NAMES = [f"user_{number}" for number in range(5000)]


def test_names_are_spread_evenly() -> None:
    counted = Counter(rendezvous(["a", "b", "c", "d"], name) for name in NAMES)
    assert all(1100 < count < 1400 for count in counted.values())


def test_the_order_of_the_servers_does_not_matter() -> None:
    assert [rendezvous("abcd", name) for name in NAMES] == [
        rendezvous("dbca", name) for name in NAMES
    ]


def test_a_server_that_is_added_takes_its_share_and_moves_nothing_else() -> None:
    before = {name: rendezvous("abcd", name) for name in NAMES}
    after = {name: rendezvous("abcde", name) for name in NAMES}
    moved = [name for name in NAMES if before[name] != after[name]]
    assert 0.15 < len(moved) / len(NAMES) < 0.25
    assert {after[name] for name in moved} == {"e"}


def test_where_names_live_never_changes_with_a_release() -> None:
    # Processes of two releases run side by side during an update.
    lives = [rendezvous(["a", "bb", "ccc"], name) for name in TOPICS[:8]]
    assert lives == ["bb", "ccc", "bb", "ccc", "ccc", "bb", "bb", "a"]


def test_none_is_too_few() -> None:
    with pytest.raises(InvalidChannelLayerError):
        ShardedEngine({})


async def test_every_call_goes_to_where_its_name_lives(
    engine: ShardedEngine, shards: dict[str, Shard]
) -> None:
    for name in TOPICS:
        lease = Lease(name, "c", "m", None)
        await engine.subscribe([name])
        await engine.publish(name, b"", keep=KEEP, key="k", window=1)
        await engine.read(name, KEEP)
        await engine.enter(lease, 1)
        await engine.leave(name, "c", 1)
        await engine.present(name)
        await engine.count(name)
        await engine.push(name, b"", 1, 1)
        held = await engine.pull(name, 1)
        await engine.extend(name, held.token, 1)
        await engine.settle(name, held.token)
        assert await engine.mark(name, 1, 0)
    assert not await engine.is_marked(TOPICS, 0)
    assert (await engine.tops(dict.fromkeys(TOPICS, KEEP))).keys() == set(TOPICS)
    await engine.renew([Lease(name, "c", "m", None) for name in TOPICS], 1)
    assert {gone.group for gone in await engine.gone(TOPICS, 1)} == set(TOPICS)
    await engine.unsubscribe(TOPICS)
    await engine.forget()
    for name, shard in shards.items():
        asked = Counter(shard.asked)
        lived = [topic for topic in TOPICS if engine.part_of(topic) == name]
        methods = {method for method, _ in asked} - {"open", "forget"}
        assert len(methods) == 17
        assert asked == {(method, topic): 1 for method in methods for topic in lived} | {
            ("forget", ""): 1
        }


async def test_what_comes_reaches_the_receiver(engine: ShardedEngine, ear: Ear) -> None:
    await engine.subscribe(TOPICS)
    for topic in TOPICS:
        await engine.publish(topic, topic.encode())
    assert ear.heard == [Heard(topic, topic.encode(), None) for topic in TOPICS]


async def test_a_shard_that_is_away_fails_only_what_lives_there(
    engine: ShardedEngine, shards: dict[str, Shard], ear: Ear
) -> None:
    away = shards["bb"]
    away.is_away = True
    assert away.receiver is not None
    away.receiver.went_down("gone")
    assert (ear.states, ear.reasons) == (["down bb"], ["gone"])
    lost = {topic for topic in TOPICS if engine.part_of(topic) == "bb"}
    assert lost
    for topic in TOPICS:
        if topic in lost:
            with pytest.raises(LayerUnavailable):
                await engine.publish(topic, b"")
        else:
            await engine.publish(topic, b"")
    assert (await engine.tops(dict.fromkeys(TOPICS, KEEP))).keys() == set(TOPICS) - lost
    assert {gone.group for gone in await engine.gone(TOPICS, 1)} == set(TOPICS) - lost
    with pytest.raises(LayerUnavailable):
        await engine.tops(dict.fromkeys(lost, KEEP))
    with pytest.raises(LayerUnavailable):
        await engine.renew([Lease(name, "c", "m", None) for name in TOPICS], 1)
    assert len([one for one in shards["a"].asked if one[0] == "renew"])  # was done all the same
    with pytest.raises(LayerUnavailable):
        await engine.subscribe(TOPICS)
    assert not shards["a"].topics  # all of them or none
    away.is_away = False
    away.receiver.came_up()
    assert ear.states == ["down bb", "up bb"]
    await engine.subscribe(TOPICS)


async def test_a_shard_that_is_away_at_first_is_opened_when_it_comes(
    shards: dict[str, Shard], ear: Ear, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asgi_notify.layers.sharded.AGAIN", 0.01)
    shards["a"].is_away = True
    engine = ShardedEngine(shards)
    await engine.open(ear)
    assert ear.states == ["down a"]
    shards["a"].is_away = False
    await ear.until(lambda: ear.states == ["down a", "up a"])
    assert all(shard.is_open for shard in shards.values())
    await engine.close()
    assert not any(shard.is_open for shard in shards.values())


async def test_nobody_is_told_that_nothing_is_marked_while_a_shard_is_away(
    engine: ShardedEngine, shards: dict[str, Shard]
) -> None:
    there = engine.part_of("marked")
    away = next(name for name in shards if name != there)
    shards[away].is_away = True
    lives = [topic for topic in TOPICS if engine.part_of(topic) == there]
    assert not await engine.is_marked(lives, 0)
    with pytest.raises(LayerUnavailable):
        await engine.is_marked(TOPICS, 0)
    assert await engine.is_marked([*TOPICS, "marked"], 0)


async def test_all_away_is_an_error(shards: dict[str, Shard], ear: Ear) -> None:
    for shard in shards.values():
        shard.is_away = True
    engine = ShardedEngine(shards)
    with pytest.raises(LayerUnavailable):
        await engine.open(ear)
    await engine.close()
    assert ear.states == []


async def test_closing_while_one_is_still_away_ends_the_waiting(
    shards: dict[str, Shard], ear: Ear
) -> None:
    shards["a"].is_away = True
    engine = ShardedEngine(shards)
    await engine.open(ear)
    with anyio.fail_after(20):
        await engine.close()


async def test_statistics_are_sums(engine: ShardedEngine) -> None:
    assert engine.statistics() == {"reconnects": 6}
