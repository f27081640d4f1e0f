"""Three servers side by side that know nothing of each other."""

from collections.abc import Iterator
from contextlib import ExitStack

import anyio
import pytest

from asgi_notify.exceptions import LayerUnavailable
from asgi_notify.layers.history import History
from asgi_notify.layers.sharded import ShardedEngine
from asgi_notify.layers.valkey import engine_from_url
from tests.servers import HOST
from tests.valkey_servers import ValkeyServer

from .ear import Ear

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

KEEP = History(size=100, ttl=60)
TOPICS = [f"room{number}" for number in range(60)]


@pytest.fixture
def servers(any_program: str) -> Iterator[list[ValkeyServer]]:
    with ExitStack() as stack:
        yield [stack.enter_context(ValkeyServer(any_program)) for _ in range(4)]


def sharded(servers: list[ValkeyServer]) -> ShardedEngine:
    hosts = ",".join(f"{HOST}:{server.port}" for server in servers)
    engine = engine_from_url(f"valkey://{hosts}/0?timeout=1.5&probe_interval=0.3")
    assert isinstance(engine, ShardedEngine)
    return engine


async def test_one_that_is_killed_fails_only_what_lives_there(
    servers: list[ValkeyServer], ear: Ear
) -> None:
    engine = sharded(servers[:3])
    await engine.open(ear)
    await engine.subscribe(TOPICS)
    part = f"valkey://{HOST}:{servers[1].port}/0"
    lost = {topic for topic in TOPICS if engine.part_of(topic) == part}
    assert 5 < len(lost) < 40
    servers[1].kill()
    await ear.until(lambda: ear.states == [f"down {part}"])
    for topic in set(TOPICS) - lost:
        assert (await engine.publish(topic, b"1", keep=KEEP)).receivers == 1
    with pytest.raises(LayerUnavailable, match=part):
        await engine.publish(min(lost), b"1")
    assert (await engine.tops(dict.fromkeys(TOPICS, KEEP))).keys() == set(TOPICS) - lost
    servers[1].start()
    await ear.until(lambda: ear.states == [f"down {part}", f"up {part}"])
    ear.heard.clear()
    async with anyio.create_task_group() as tasks:
        for topic in TOPICS:
            tasks.start_soon(engine.publish, topic, b"2")
    await ear.until(lambda: set(ear.payloads()) == {b"2"} and len(ear.heard) == len(TOPICS))
    await engine.close()


async def test_one_that_is_away_at_first_joins_when_it_comes(
    servers: list[ValkeyServer], ear: Ear
) -> None:
    servers[2].kill()
    engine = sharded(servers[:3])
    await engine.open(ear)
    part = f"valkey://{HOST}:{servers[2].port}/0"
    assert ear.states == [f"down {part}"]
    servers[2].start()
    await ear.until(lambda: ear.states == [f"down {part}", f"up {part}"])
    await engine.subscribe(TOPICS)
    for topic in TOPICS:
        assert (await engine.publish(topic, b"")).receivers == 1
    await engine.close()


async def test_one_that_is_added_moves_few_topics_and_those_are_told(
    servers: list[ValkeyServer], ear: Ear
) -> None:
    before, after = sharded(servers[:3]), sharded(servers)
    await before.open(Ear())
    await after.open(ear)
    positions = {topic: (await before.publish(topic, b"1", keep=KEEP)).position for topic in TOPICS}
    moved = {topic for topic in TOPICS if before.part_of(topic) != after.part_of(topic)}
    assert 3 < len(moved) < 30
    for topic in TOPICS:
        kept = await after.read(topic, KEEP, positions[topic])
        assert kept.is_whole == (topic not in moved)
    await before.close()
    await after.close()
