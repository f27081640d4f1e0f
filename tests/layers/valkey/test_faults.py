"""What happens when the server, or the way to it, fails: nothing is ever deaf in silence."""

import anyio
import pytest
from anyio.abc import TaskGroup

from asgi_notify.exceptions import LayerUnavailable
from asgi_notify.layers.engine import Lease, Read
from asgi_notify.layers.history import History
from asgi_notify.layers.valkey import ValkeyEngine, engine_from_url
from asgi_notify.layers.valkey_layer import ValkeyChannelLayer
from asgi_notify.layers.valkey_link import Link
from asgi_notify.positions import Position
from tests.chaos.proxy import Address, Proxy
from tests.servers import HOST, free_port
from tests.valkey_servers import ValkeyServer

from .conftest import MakeEngine
from .ear import PATIENCE, Ear, until

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

KEEP = History(size=1000, ttl=60)
OPTIONS = {"timeout": 1.0, "probe_interval": 0.2}


async def is_heard(engine: ValkeyEngine, ear: Ear, payload: bytes) -> None:
    """Publish, and wait until it comes back."""
    await engine.publish("room", payload)
    await ear.until(lambda: payload in ear.payloads())


async def read_again(engine: ValkeyEngine) -> Read:
    """Read the history as soon as that succeeds."""
    with anyio.fail_after(PATIENCE):
        while True:
            try:
                return await engine.read("room", KEEP)
            except LayerUnavailable:
                await anyio.sleep(0.05)


async def test_a_killed_connection_is_told_and_replaced(
    make_engine: MakeEngine, own_server: ValkeyServer, ear: Ear
) -> None:
    engine = await make_engine(own_server.url, ear, **OPTIONS)
    await engine.subscribe(["room", *(f"room{n}" for n in range(1500))])
    for count in range(1, 4):
        with own_server.admin as admin:
            admin.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        await ear.until(lambda: len(ear.states) == 2 * count)  # noqa: B023
        assert ear.states == ["down", "up"] * count
        with own_server.admin as admin:  # all of them stand
            assert admin.pubsub_numsub(*admin.pubsub_channels("*:room*"))[0][1] == 1
            assert len(admin.pubsub_channels("*:room*")) == 1501
        await is_heard(engine, ear, b"%d" % count)
    assert engine.statistics()["reconnects"] == 3


async def test_a_change_of_state_is_one_line_that_says_where(
    own_server: ValkeyServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with ValkeyChannelLayer(f"{own_server.url}?timeout=1&probe_interval=0.2") as layer:
        own_server.kill()
        await until(lambda: not is_up(layer))
        own_server.start()
        await until(lambda: is_up(layer))
    ours = [record for record in caplog.records if record.name.startswith("asgi_notify")]
    assert [record.levelname for record in ours] == ["ERROR", "WARNING"]
    assert own_server.url in ours[0].getMessage()


def is_up(layer: ValkeyChannelLayer) -> bool:
    return layer.state is not None and layer.state.is_up


async def test_killed_commands_fail_or_succeed_once_and_the_next_succeed(
    make_engine: MakeEngine, own_server: ValkeyServer, ear: Ear
) -> None:
    engine = await make_engine(own_server.url, ear, **OPTIONS)
    sent: list[bytes] = []
    failed: list[bytes] = []

    async def publish(payload: bytes) -> None:
        try:
            await engine.publish("room", payload, keep=KEEP)
            sent.append(payload)
        except LayerUnavailable:
            failed.append(payload)

    for burst in range(10):
        async with anyio.create_task_group() as tasks:
            for number in range(50):
                tasks.start_soon(publish, b"%d-%d" % (burst, number))
            with own_server.admin as admin:
                admin.execute_command("CLIENT", "KILL", "TYPE", "normal")
    kept = await read_again(engine)
    payloads = [payload for _, payload in kept.entries]
    assert len(set(payloads)) == len(payloads)  # nothing was sent twice
    assert set(sent) <= set(payloads) <= set(sent) | set(failed)
    assert len(sent) + len(failed) == 500


async def test_a_frozen_server_is_noticed_and_comes_back(
    make_engine: MakeEngine, own_server: ValkeyServer, ear: Ear
) -> None:
    engine = await make_engine(own_server.url, ear, **OPTIONS)
    await engine.subscribe(["room"])
    own_server.stop()
    try:
        await ear.until(lambda: ear.states == ["down"])
        begin = anyio.current_time()
        with pytest.raises(LayerUnavailable, match=f"valkey://{HOST}:{own_server.port}/0"):
            await engine.publish("room", b"")
        assert anyio.current_time() - begin < 3
        with pytest.raises(LayerUnavailable):
            await engine.subscribe(["hall"])
    finally:
        own_server.go_on()
    await ear.until(lambda: ear.states == ["down", "up"])
    await is_heard(engine, ear, b"again")
    assert (await engine.publish("hall", b"")).receivers == 0


async def test_a_call_made_while_it_is_away_succeeds_when_it_is_back_in_time(
    make_engine: MakeEngine, own_server: ValkeyServer, ear: Ear
) -> None:
    engine = await make_engine(own_server.url, ear, timeout=15.0, probe_interval=0.2)
    own_server.kill()
    await ear.until(lambda: ear.states == ["down"])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(engine.subscribe, ["room"])
        tasks.start_soon(engine.publish, "room", b"waited")
        await anyio.wait_all_tasks_blocked()
        own_server.start()
    await is_heard(engine, ear, b"1")


@pytest.mark.parametrize("is_kept", [True, False], ids=["with data", "without data"])
async def test_a_restarted_server_is_resumed_and_no_old_position_is_whole(
    make_engine: MakeEngine, own_server: ValkeyServer, ear: Ear, is_kept: bool
) -> None:
    engine = await make_engine(own_server.url, ear, **OPTIONS)
    await engine.subscribe(["room"])
    never = (await engine.tops({"never": KEEP}))["never"]
    for number in range(1, 4):
        await engine.publish("room", b"%d" % number, keep=KEEP)
    if is_kept:
        with own_server.admin as admin:
            admin.save()
    lost = [await engine.publish("room", b"lost", keep=KEEP) for _ in range(2)][-1].position
    assert lost is not None
    own_server.kill()
    await ear.until(lambda: ear.states == ["down"])
    own_server.start()
    await ear.until(lambda: ear.states == ["down", "up"])

    # As many come as were lost and more: the offsets alone would make them whole.
    new = [
        (await engine.publish("room", b"new", keep=KEEP)).position for _ in range(lost.offset + 2)
    ]
    await ear.until(lambda: ear.payloads().count(b"new") == len(new))
    for offset in range(1, lost.offset + 1):
        kept = await engine.read("room", KEEP, Position(lost.epoch, offset))
        assert not kept.is_whole
        # No message comes again, and of the new ones none is missing.
        assert [payload for _, payload in kept.entries] == [b"new"] * len(new)
    assert (await engine.read("room", KEEP, new[0])).is_whole
    everything = [payload for _, payload in (await engine.read("room", KEEP)).entries]
    assert everything == [b"1", b"2", b"3"] * is_kept + [b"new"] * len(new)
    assert not (await engine.read("never", KEEP, never)).is_whole


async def test_a_server_that_is_back_before_anybody_looked_is_told_too(
    make_engine: MakeEngine, own_server: ValkeyServer, ear: Ear
) -> None:
    # It numbers its connections from the beginning again, so that a new one may well have the
    # number of the old one.
    engine = await make_engine(own_server.url, ear, timeout=3.0, probe_interval=1.0)
    for count in range(1, 4):
        own_server.kill()
        own_server.start()
        await ear.until(lambda: ear.states == ["down", "up"] * count)  # noqa: B023
    assert engine.statistics()["reconnects"] == 3


async def test_flushall_while_members_listen_is_told(
    make_engine: MakeEngine, own_server: ValkeyServer, ear: Ear
) -> None:
    engine = await make_engine(own_server.url, ear, **OPTIONS)
    never = (await engine.tops({"never": KEEP}))["never"]
    before = (await engine.publish("room", b"", keep=KEEP)).position
    await engine.enter(Lease("room", "a", "ada", None), 10)
    with own_server.admin as admin:
        admin.flushall()
        admin.script_flush()
    assert not (await engine.read("room", KEEP, before)).is_whole
    assert not (await engine.read("never", KEEP, never)).is_whole
    assert await engine.count("room") == 0
    after = (await engine.publish("room", b"", keep=KEEP)).position
    assert after is not None
    assert before is not None
    assert after.offset == 1
    assert after.epoch != before.epoch


async def test_a_full_memory_refuses_and_changes_nothing(
    make_engine: MakeEngine, own_server: ValkeyServer, ear: Ear
) -> None:
    engine = await make_engine(own_server.url, ear, **OPTIONS)
    await engine.subscribe(["room"])
    before = (await engine.publish("room", b"1", keep=KEEP, key="1", window=60)).position
    with own_server.admin as admin:
        admin.config_set("maxmemory", "1")
    for topic in ("room", "new"):
        with pytest.raises(LayerUnavailable, match="OOM"):
            await engine.publish(topic, b"2", keep=KEEP, key="2", window=60)
    with pytest.raises(LayerUnavailable, match="OOM"):
        await engine.push("jobs", b"", 10, 60)
    with pytest.raises(LayerUnavailable, match="OOM"):
        await engine.enter(Lease("room", "a", "ada", None), 10)
    assert await engine.read("room", KEEP) == ([(1, b"1")], True, before)
    await is_heard(engine, ear, b"not kept")  # needs no memory
    with own_server.admin as admin:
        admin.config_set("maxmemory", "0")
    assert before is not None
    after = (await engine.publish("room", b"2", keep=KEEP, key="2", window=60)).position
    assert after == before._replace(offset=2)
    assert await engine.push("jobs", b"", 1, 60)
    assert ear.states == []


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-lru", "allkeys-random"])
async def test_eviction_never_makes_a_position_whole_that_is_not(
    make_engine: MakeEngine, own_server: ValkeyServer, policy: str
) -> None:
    engine = await make_engine(own_server.url, **OPTIONS)
    topics = [f"room{number}" for number in range(200)]
    never = await engine.tops(dict.fromkeys(topics, KEEP))
    with own_server.admin as admin:
        admin.config_set("maxmemory-policy", policy)
        for topic in topics:
            for _ in range(3):
                await engine.publish(topic, b"x" * 500, keep=KEEP)
        admin.config_set("maxmemory", int(admin.info("memory")["used_memory"]) - 100_000)
        for number in range(50):
            await engine.publish("filler", b"x" * 500, keep=KEEP, key=f"{number}", window=60)
        assert admin.info("stats")["evicted_keys"] > 0
        admin.config_set("maxmemory", 0)
    for topic in topics:
        for position in (never[topic], never[topic]._replace(offset=1)):
            kept = await engine.read(topic, KEEP, position)
            if kept.is_whole:
                offsets = [offset for offset, _ in kept.entries]
                assert offsets == list(range(position.offset + 1, 4))


@pytest.fixture
async def proxied(own_server: ValkeyServer, anyio_backend: str) -> "Proxied":
    return Proxied(own_server)


class Proxied:
    """A server behind a network that fails."""

    def __init__(self, server: ValkeyServer) -> None:
        self.proxy = Proxy(Address(server.port))

    async def start(self, tasks: TaskGroup) -> str:
        await tasks.start(self.proxy.serve)
        return f"valkey://{HOST}:{self.proxy.port}/0"


@pytest.mark.parametrize("kind", ["reset", "close", "half-open", "half-open down", "half-open up"])
async def test_a_network_that_cuts_or_drops_is_noticed(
    make_engine: MakeEngine, proxied: Proxied, ear: Ear, kind: str
) -> None:
    async with anyio.create_task_group() as tasks:
        engine = await make_engine(await proxied.start(tasks), ear, **OPTIONS)
        await engine.subscribe(["room"])
        await is_heard(engine, ear, b"before")
        await proxied.proxy.suffer(kind)
        await ear.until(lambda: ear.states == ["down", "up"])
        await is_heard(engine, ear, b"after")
        await engine.close()
        tasks.cancel_scope.cancel()


async def test_a_delay_of_less_than_the_timeout_fails_nothing(
    make_engine: MakeEngine, proxied: Proxied, ear: Ear
) -> None:
    async with anyio.create_task_group() as tasks:
        url = await proxied.start(tasks)
        engine = await make_engine(url, ear, timeout=10.0, probe_interval=3.0)
        await engine.subscribe(["room"])
        async with anyio.create_task_group() as delayed:
            delayed.start_soon(proxied.proxy.suffer, "delay", 1.0)
            await anyio.wait_all_tasks_blocked()
            for number in range(100):
                delayed.start_soon(engine.publish, "room", b"%d" % number)
        await ear.until(lambda: len(ear.heard) == 100)
        assert ear.states == []
        await engine.close()
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("host", [HOST, "10.255.255.1"], ids=["refused", "silent"])
async def test_a_server_that_is_not_there_is_named_in_time(host: str) -> None:
    port = free_port()
    engine = engine_from_url(f"valkey://ada:geheim@{host}:{port}/3?timeout=1.5&probe_interval=0.5")
    begin = anyio.current_time()
    with pytest.raises(LayerUnavailable, match=f"valkey://{host}:{port}/3") as caught:
        await engine.open(Ear())
    assert anyio.current_time() - begin < 4
    assert "geheim" not in str(caught.value)
    with pytest.raises(LayerUnavailable):
        await engine.publish("room", b"")
    await engine.close()


async def test_connecting_never_blocks_the_loop() -> None:
    engine = engine_from_url("valkey://10.255.255.1?timeout=1&probe_interval=0.3")
    longest = 0.0
    async with anyio.create_task_group() as tasks:

        async def watch() -> None:
            nonlocal longest
            while True:
                before = anyio.current_time()
                await anyio.sleep(0.01)
                longest = max(longest, anyio.current_time() - before)

        tasks.start_soon(watch)
        with pytest.raises(LayerUnavailable):
            await engine.open(Ear())
        tasks.cancel_scope.cancel()
    assert longest < 0.7  # connecting takes all of the second


async def test_an_error_that_nobody_has_thought_of_makes_it_connect_again(
    server: ValkeyServer, make_engine: MakeEngine, ear: Ear, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = await make_engine(server.url, ear, **OPTIONS)
    await engine.subscribe(["room"])

    async def is_replaced(link: Link) -> bool:
        monkeypatch.undo()
        raise ValueError("what is this?")

    monkeypatch.setattr(Link, "is_replaced", is_replaced)
    await ear.until(lambda: engine.statistics()["reconnects"] == 1)
    await is_heard(engine, ear, b"one")
