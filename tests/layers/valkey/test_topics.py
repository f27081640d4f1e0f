"""What is published to a topic reaches all who subscribe to it, in order, and nobody else."""

import anyio
import pytest

from asgi_notify.layers.history import History
from asgi_notify.layers.valkey import ValkeyEngine
from tests.valkey_servers import ValkeyServer

from .conftest import MakeEngine
from .ear import Ear, Heard

pytestmark = pytest.mark.anyio

KEEP = History(size=5, ttl=60)


async def test_everyone_who_subscribes_hears(
    make_engine: MakeEngine, server: ValkeyServer, ear: Ear
) -> None:
    other = Ear()
    one, two = await make_engine(server.url, ear), await make_engine(server.url, other)
    await one.subscribe(["room"])
    await two.subscribe(["room", "hall"])
    assert (await one.publish("room", b"hello")).receivers == 2
    assert (await one.publish("hall", b"hi")).receivers == 1
    assert (await one.publish("nowhere", b"?")).receivers == 0
    await ear.until(lambda: bool(ear.heard))
    await other.until(lambda: len(other.heard) == 2)
    assert ear.heard == [Heard("room", b"hello", None)]
    assert other.heard == [Heard("room", b"hello", None), Heard("hall", b"hi", None)]


async def test_nothing_of_another_prefix_is_heard(
    make_engine: MakeEngine, server: ValkeyServer, ear: Ear
) -> None:
    mine = await make_engine(server.url, ear)
    other = await make_engine(server.url, prefix="other")
    await mine.subscribe(["room"])
    assert (await other.publish("room", b"theirs", keep=KEEP)).receivers == 0
    assert (await mine.read("room", KEEP)).entries == []
    await other.forget()


async def test_who_unsubscribed_hears_no_more(engine: ValkeyEngine, ear: Ear) -> None:
    await engine.subscribe(["room", "hall"])
    await engine.unsubscribe(["room"])
    await engine.subscribe(["end"])  # goes to the server behind the one before
    assert (await engine.publish("room", b"1")).receivers == 0
    await engine.publish("hall", b"2")
    await ear.until(lambda: bool(ear.heard))
    assert ear.payloads() == [b"2"]


async def test_hundreds_of_subscriptions_at_once_all_stand(engine: ValkeyEngine, ear: Ear) -> None:
    topics = [f"room_{number}" for number in range(600)]
    async with anyio.create_task_group() as tasks:
        for topic in topics:
            tasks.start_soon(engine.subscribe, [topic])
    async with anyio.create_task_group() as tasks:
        for topic in topics:
            tasks.start_soon(engine.publish, topic, topic.encode())
    await ear.until(lambda: len(ear.heard) == len(topics))
    assert sorted(ear.payloads()) == sorted(topic.encode() for topic in topics)


async def test_leaving_and_coming_back_never_leaves_one_deaf(
    engine: ValkeyEngine, ear: Ear
) -> None:
    for number in range(50):
        await engine.subscribe(["room"])
        assert (await engine.publish("room", b"%d" % number)).receivers == 1
        await engine.unsubscribe(["room"])
        await engine.subscribe(["room"])
        assert (await engine.publish("room", b"%d" % number)).receivers == 1
    await engine.unsubscribe([])  # of nothing, not of everything
    assert (await engine.publish("room", b"")).receivers == 1


async def test_a_cancelled_subscription_is_none(
    engine: ValkeyEngine, server: ValkeyServer, prefix: str
) -> None:
    with anyio.CancelScope() as scope:
        scope.cancel()
        await engine.subscribe(["room"])
    await engine.subscribe(["other"])
    assert (await engine.publish("room", b"")).receivers == 0


async def test_one_cancelled_of_two_leaves_the_other_subscribed(
    engine: ValkeyEngine, ear: Ear
) -> None:
    async with anyio.create_task_group() as tasks:
        scope = anyio.CancelScope()

        async def cancelled() -> None:
            with scope:
                await engine.subscribe(["room"])

        tasks.start_soon(cancelled)
        tasks.start_soon(engine.subscribe, ["room"])
        await anyio.lowlevel.checkpoint()
        scope.cancel()
    assert (await engine.publish("room", b"")).receivers == 1


async def test_concurrent_publications_are_heard_in_the_order_of_their_positions(
    make_engine: MakeEngine, server: ValkeyServer, ear: Ear
) -> None:
    one, two = await make_engine(server.url, ear), await make_engine(server.url)
    await one.subscribe(["room"])
    keep = History(size=200, ttl=60)

    async def publish(engine: ValkeyEngine, number: int) -> None:
        await engine.publish("room", b"%d" % number, keep=keep)

    async with anyio.create_task_group() as tasks:
        for number in range(100):
            tasks.start_soon(publish, one, number)
            tasks.start_soon(publish, two, 100 + number)
    await ear.until(lambda: len(ear.heard) == 200)
    offsets = [one.position.offset for one in ear.heard if one.position is not None]
    assert offsets == list(range(1, 201))
    kept = await one.read("room", keep)
    assert [payload for _, payload in kept.entries] == ear.payloads()


@pytest.mark.parametrize("size", [0, 1, 70_000, 8 * 1024 * 1024])
async def test_a_payload_of_any_size_and_any_bytes_survives(
    engine: ValkeyEngine, ear: Ear, size: int
) -> None:
    payload = bytes(range(256)) * (size // 256) + b"\x00" * (size % 256)
    await engine.subscribe(["room"])
    await engine.publish("room", payload)
    sent = await engine.publish("room", payload, keep=KEEP)
    await ear.until(lambda: len(ear.heard) == 2)
    assert ear.heard == [Heard("room", payload, None), Heard("room", payload, sent.position)]
    assert (await engine.read("room", KEEP)).entries == [(1, payload)]


async def test_a_key_publishes_once(engine: ValkeyEngine, ear: Ear) -> None:
    await engine.subscribe(["room"])
    first = await engine.publish("room", b"1", keep=KEEP, key="k", window=60)
    assert await engine.publish("room", b"2", keep=KEEP, key="k", window=60) == first
    other = await engine.publish("room", b"3", keep=KEEP, key="l", window=60)
    elsewhere = await engine.publish("hall", b"4", keep=KEEP, key="k", window=60)
    assert first.position is not None
    assert other.position == first.position._replace(offset=2)
    assert elsewhere.position is not None
    assert elsewhere.position.offset == 1
    await ear.until(lambda: len(ear.heard) == 2)
    assert ear.payloads() == [b"1", b"3"]


async def test_a_key_of_what_is_not_kept_publishes_once(engine: ValkeyEngine, ear: Ear) -> None:
    await engine.subscribe(["room"])
    assert await engine.publish("room", b"1", key="k", window=60) == (1, None)
    assert await engine.publish("room", b"2", key="k", window=60) == (1, None)
    assert await engine.publish("room", b"3") == (1, None)
    await ear.until(lambda: len(ear.heard) == 2)
    assert ear.payloads() == [b"1", b"3"]


async def test_no_two_pairs_of_topic_and_key_are_one(engine: ValkeyEngine) -> None:
    await engine.publish("a:1", b"", keep=KEEP, key="b", window=60)
    second = await engine.publish("a", b"", keep=KEEP, key="1:b", window=60)
    assert second.position is not None
    assert second.position.offset == 1
    assert len((await engine.read("a", KEEP)).entries) == 1


async def test_concurrent_publications_with_one_key_are_one(engine: ValkeyEngine, ear: Ear) -> None:
    await engine.subscribe(["room"])

    async def publish() -> None:
        await engine.publish("room", b"", keep=KEEP, key="k", window=60)

    async with anyio.create_task_group() as tasks:
        for _ in range(50):
            tasks.start_soon(publish)
    await engine.publish("room", b"end")
    await ear.until(lambda: b"end" in ear.payloads())
    assert len(ear.heard) == 2


async def test_a_frame_of_a_newer_release_is_counted_and_let_go(
    engine: ValkeyEngine,
    server: ValkeyServer,
    ear: Ear,
    prefix: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await engine.subscribe(["room"])
    with server.admin as admin:
        (channel,) = admin.pubsub_channels(f"{prefix}:*:room")
        admin.publish(channel, b"\x09something")
        admin.publish(channel, b"")
    await engine.publish("room", b"end")
    await ear.until(lambda: bool(ear.heard))
    assert ear.payloads() == [b"end"]
    assert engine.statistics()["unreadable"] == 2
    assert caplog.text.count(f"of another program under the prefix {prefix}") == 1
