"""What waits for workers: each message for one reader, and back if it is not settled."""

from collections import Counter

import anyio
import pytest

from asgi_notify.layers.engine import Held
from asgi_notify.layers.valkey import ValkeyEngine
from tests.layers.tools import Clock
from tests.valkey_servers import ValkeyServer

from .conftest import MakeEngine
from .ear import PATIENCE, until

pytestmark = pytest.mark.anyio

HOLD = 30.0  # seconds


async def push(engine: ValkeyEngine, payload: bytes, capacity: int = 100) -> bool:
    return await engine.push("jobs", payload, capacity, 60)


async def pull(engine: ValkeyEngine) -> Held:
    with anyio.fail_after(PATIENCE):
        return await engine.pull("jobs", HOLD)


async def is_empty(engine: ValkeyEngine) -> bool:
    with anyio.move_on_after(0.2):
        await engine.pull("jobs", HOLD)
        return False
    return True


async def test_messages_wait_in_the_order_in_which_they_were_pushed(
    engine: ValkeyEngine,
) -> None:
    for payload in (b"", b"1", bytes(range(256)), b"3"):
        assert await push(engine, payload)
    payloads = []
    for _ in range(4):
        held = await pull(engine)
        payloads.append(held.payload)
        await engine.settle("jobs", held.token)
    assert payloads == [b"", b"1", bytes(range(256)), b"3"]
    assert await is_empty(engine)


async def test_each_message_has_one_reader(make_engine: MakeEngine, server: ValkeyServer) -> None:
    one, two = await make_engine(server.url), await make_engine(server.url)
    read: Counter[bytes] = Counter()

    async def work(engine: ValkeyEngine) -> None:
        while (held := await engine.pull("jobs", HOLD)).payload != b"no more":
            read[held.payload] += 1
            await engine.settle("jobs", held.token)
        await engine.settle("jobs", held.token)

    readers = (one, one, two, two)
    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as tasks:
            for engine in readers:
                tasks.start_soon(work, engine)
            for number in range(200):
                assert await push(one, b"%d" % number, capacity=1000)
            # Not cancelled: the client library complains where an answer comes just then.
            for _ in readers:
                assert await push(one, b"no more", capacity=1000)
    assert set(read.values()) == {1}
    assert len(read) == 200


async def test_a_reader_that_waits_is_woken(make_engine: MakeEngine, server: ValkeyServer) -> None:
    reader, writer = await make_engine(server.url), await make_engine(server.url)
    woken: list[float] = []

    async def read() -> None:
        for _ in range(10):
            await reader.settle("jobs", (await pull(reader)).token)
            woken.append(anyio.current_time())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read)
        begin = anyio.current_time()
        for count in range(10):
            await anyio.wait_all_tasks_blocked()
            await push(writer, b"")
            await until(lambda: len(woken) > count)  # noqa: B023
    # A reader that only looked now and then would have needed a second for each.
    assert woken[-1] - begin < 5


async def test_a_full_channel_takes_no_more(engine: ValkeyEngine) -> None:
    assert await push(engine, b"1", capacity=2)
    assert await push(engine, b"2", capacity=2)
    assert not await push(engine, b"3", capacity=2)
    held = await pull(engine)
    assert await push(engine, b"4", capacity=2)  # what was handed out takes no room
    await engine.settle("jobs", held.token)
    assert [(await pull(engine)).payload for _ in range(2)] == [b"2", b"4"]


async def test_what_expired_is_not_handed_out_and_takes_no_room(
    make_engine: MakeEngine, server: ValkeyServer
) -> None:
    clock = Clock()
    engine = await make_engine(server.url, clock=clock)
    await push(engine, b"1", capacity=2)
    clock.move(30)
    await push(engine, b"2", capacity=2)
    clock.move(30)
    assert await push(engine, b"3", capacity=2)
    assert [(await pull(engine)).payload for _ in range(2)] == [b"2", b"3"]
    clock.move(HOLD * 10)
    assert [(await pull(engine)).payload for _ in range(2)] == [b"2", b"3"]  # never settled


async def test_what_is_not_settled_comes_back_first_and_in_order(
    make_engine: MakeEngine, server: ValkeyServer
) -> None:
    clock = Clock()
    dead = await make_engine(server.url, clock=clock)
    engine = await make_engine(server.url, clock=clock)
    for number in range(4):
        await push(engine, b"%d" % number)
    lagging = [await pull(dead) for _ in range(3)]
    clock.move(HOLD - 0.1)
    held = await pull(engine)
    assert held.payload == b"3"
    clock.move(0.1)
    again = [await pull(engine) for _ in range(3)]
    assert [one.payload for one in again] == [b"0", b"1", b"2"]
    for one in lagging:  # those who were too slow settle nothing of the others'
        await dead.settle("jobs", one.token)
    clock.move(HOLD)
    assert {(await pull(engine)).payload for _ in range(4)} == {b"0", b"1", b"2", b"3"}


async def test_one_that_comes_back_reaches_a_reader_that_waits(engine: ValkeyEngine) -> None:
    await push(engine, b"1")
    await engine.pull("jobs", 0.3)
    held = await pull(engine)  # waits until then
    assert held.payload == b"1"


async def test_what_was_settled_never_comes_back(
    make_engine: MakeEngine, server: ValkeyServer, prefix: str
) -> None:
    clock = Clock()
    engine = await make_engine(server.url, clock=clock)
    await push(engine, b"1")
    held = await pull(engine)
    await engine.settle("jobs", held.token)
    await engine.settle("jobs", held.token)
    clock.move(10 * HOLD)
    assert await is_empty(engine)
    with server.admin as admin:
        assert admin.keys(f"{prefix}:q*") == []


async def test_what_nobody_reads_expires(
    engine: ValkeyEngine, server: ValkeyServer, prefix: str
) -> None:
    await push(engine, b"1")
    with server.admin as admin:
        for key in admin.keys(f"{prefix}:q*"):
            assert 60_000 <= admin.pttl(key) <= 61_000
        await push(engine, b"2")
        await pull(engine)
        for key in admin.keys(f"{prefix}:q*"):
            assert admin.pttl(key) > 80_000


async def test_a_thousand_channels_read_once_leave_few_subscriptions(
    engine: ValkeyEngine, server: ValkeyServer, prefix: str
) -> None:
    async def read(channel: str) -> None:
        with anyio.fail_after(PATIENCE):
            await engine.pull(channel, HOLD)

    async with anyio.create_task_group() as tasks:
        for number in range(300):
            tasks.start_soon(read, f"channel{number}")
        with server.admin as admin:
            await until(lambda: len(admin.pubsub_channels(f"{prefix}:qw:*")) == 300)
        for number in range(300):
            await engine.push(f"channel{number}", b"", 1, 60)
    await engine.subscribe(["end"])
    with server.admin as admin:
        assert len(admin.pubsub_channels(f"{prefix}:qw:*")) == 100


async def test_what_is_given_back_is_the_next_that_somebody_gets(engine: ValkeyEngine) -> None:
    for payload in (b"1", b"2"):
        assert await push(engine, payload)
    held = await pull(engine)
    await engine.release("jobs", held.token)
    assert [(await pull(engine)).payload for _ in range(2)] == [b"1", b"2"]
    await engine.release("jobs", held.token)  # once more changes nothing
    assert await is_empty(engine)


async def test_a_reader_that_is_cancelled_while_it_asks_has_no_message(
    engine: ValkeyEngine,
) -> None:
    for _ in range(20):
        assert await push(engine, b"1")
        taken: list[Held] = []

        async def reader(taken: list[Held] = taken) -> None:
            taken.append(await engine.pull("jobs", HOLD))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(reader)
            await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
        held = taken[0] if taken else await pull(engine)
        assert held.payload == b"1"
        await engine.settle("jobs", held.token)


async def test_one_that_is_held_on_to_stays_with_its_reader(
    make_engine: MakeEngine, server: ValkeyServer, prefix: str
) -> None:
    clock = Clock()
    engine = await make_engine(server.url, clock=clock)
    await push(engine, b"1")
    held = await pull(engine)
    for _ in range(10):
        clock.move(HOLD - 1)
        await engine.extend("jobs", held.token, HOLD)
        assert await is_empty(engine)
    with server.admin as admin:
        assert all(admin.pttl(key) > 80_000 for key in admin.keys(f"{prefix}:q*"))
    clock.move(HOLD)
    again = await pull(engine)
    assert again.payload == b"1"
    await engine.extend("jobs", held.token, HOLD)  # the first reader has it no more
    await engine.settle("jobs", again.token)
    await engine.extend("jobs", again.token, HOLD)
    clock.move(HOLD)
    assert await is_empty(engine)
    with server.admin as admin:
        assert admin.keys(f"{prefix}:q*") == []


async def test_a_message_says_how_many_of_its_readers_died(
    make_engine: MakeEngine, server: ValkeyServer
) -> None:
    clock = Clock()
    engine = await make_engine(server.url, clock=clock)
    await push(engine, b"1")
    attempts = []
    for is_given_back in (True, False, True, False, False):
        held = await pull(engine)
        attempts.append(held.attempt)
        if is_given_back:
            await engine.release("jobs", held.token)
        else:
            clock.move(HOLD)
    assert attempts == [1, 1, 2, 2, 3]
