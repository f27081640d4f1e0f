"""What is kept of a topic, and that no position is ever taken for one of a lost history."""

import anyio
import pytest

from asgi_notify.layers.history import History
from asgi_notify.layers.valkey import ValkeyEngine
from asgi_notify.layers.valkey_scripts import GENERATION, RECENT
from asgi_notify.positions import MAX_OFFSET, Position
from tests.layers.tools import Clock
from tests.valkey_servers import ValkeyServer

from .conftest import MakeEngine

pytestmark = pytest.mark.anyio

KEEP = History(size=5, ttl=60)
HOUR = GENERATION / 1000


async def send(engine: ValkeyEngine, count: int, keep: History = KEEP) -> Position:
    """Publish so many messages, named after their offsets; return the last position."""
    position = None
    for _ in range(count):
        before = 0 if position is None else position.offset
        position = (await engine.publish("room", b"%d" % (before + 1), keep=keep)).position
    assert position is not None
    return position


async def top(engine: ValkeyEngine, topic: str = "room") -> Position:
    return (await engine.tops({topic: KEEP}))[topic]


async def test_a_history_is_the_newest_messages(engine: ValkeyEngine) -> None:
    last = await send(engine, 7)
    kept = await engine.read("room", KEEP)
    assert kept.entries == [(n, b"%d" % n) for n in range(3, 8)]
    assert kept.is_whole
    assert kept.top == last == await top(engine)
    assert last.offset == 7


async def test_what_follows_a_position_is_whole_while_all_of_it_is_kept(
    engine: ValkeyEngine,
) -> None:
    epoch, _ = await send(engine, 7)
    for after, offsets, is_whole in [
        (7, [], True),
        (6, [7], True),
        (2, [3, 4, 5, 6, 7], True),
        (1, [3, 4, 5, 6, 7], False),
        (0, [3, 4, 5, 6, 7], False),
        (8, [], False),
        (MAX_OFFSET, [], False),
    ]:
        kept = await engine.read("room", KEEP, Position(epoch, after))
        assert [offset for offset, _ in kept.entries] == offsets
        assert kept.is_whole == is_whole
        assert kept.top == (epoch, 7)


async def test_a_limit_gives_the_oldest_of_them(engine: ValkeyEngine) -> None:
    epoch, _ = await send(engine, 7)
    kept = await engine.read("room", KEEP, Position(epoch, 4), limit=2)
    assert [offset for offset, _ in kept.entries] == [5, 6]
    assert kept.is_whole
    assert kept.top.offset == 7
    assert not (await engine.read("room", KEEP, Position(epoch, 1), limit=1)).is_whole


async def test_a_position_of_another_topic_is_none_of_this_one(engine: ValkeyEngine) -> None:
    await send(engine, 3)
    for topic in ("hall", "yard"):
        await engine.publish(topic, b"", keep=KEEP)
        kept = await engine.read("room", KEEP, (await top(engine, topic))._replace(offset=1))
        assert not kept.is_whole
        assert len(kept.entries) == 3
    assert not (await engine.read("room", KEEP, await top(engine, "never"))).is_whole


async def test_nothing_is_handed_out_after_its_time(
    make_engine: MakeEngine, server: ValkeyServer
) -> None:
    clock = Clock()
    engine = await make_engine(server.url, clock=clock)
    epoch, _ = await send(engine, 2)
    clock.move(30)
    await send(engine, 1)
    clock.move(29.9)
    assert len((await engine.read("room", KEEP)).entries) == 3
    clock.move(0.1)
    kept = await engine.read("room", KEEP)
    assert [offset for offset, _ in kept.entries] == [3]
    assert (await engine.read("room", KEEP, Position(epoch, 2))).is_whole
    assert not (await engine.read("room", KEEP, Position(epoch, 1))).is_whole
    clock.move(30)
    assert (await engine.read("room", KEEP)) == ([], True, (epoch, 3))
    assert (await engine.read("room", KEEP, Position(epoch, 3))).is_whole
    assert not (await engine.read("room", KEEP, Position(epoch, 2))).is_whole


async def test_what_expired_leaves_the_memory_while_others_come(
    make_engine: MakeEngine, server: ValkeyServer, prefix: str
) -> None:
    clock, keep = Clock(), History(size=1000, ttl=60)
    engine = await make_engine(server.url, clock=clock)
    for _ in range(300):
        await engine.publish("room", b"", keep=keep)
    clock.move(61)
    await engine.publish("room", b"", keep=keep)
    with server.admin as admin:
        (stream,) = admin.keys(f"{prefix}:s:*")
        assert admin.xlen(stream) == 1


async def test_a_clock_that_was_set_back_lets_nothing_old_out(
    make_engine: MakeEngine, server: ValkeyServer
) -> None:
    clock = Clock()
    engine = await make_engine(server.url, clock=clock)
    await send(engine, 1)
    clock.move(-50)
    await send(engine, 1)
    clock.move(100)  # the first has 10 seconds left, the second none
    kept = await engine.read("room", KEEP)
    assert kept.entries == []
    assert kept.top.offset == 2


async def test_asking_costs_no_memory_and_the_answer_can_be_resumed(
    engine: ValkeyEngine, server: ValkeyServer, prefix: str
) -> None:
    topics = {f"room_{number}": KEEP for number in range(3000)}
    tops = await engine.tops(topics)
    assert tops == await engine.tops(topics)
    assert len({position.epoch for position in tops.values()}) == len(tops)
    assert {position.offset for position in tops.values()} == {0}
    with server.admin as admin:
        keys = list(admin.scan_iter(f"{prefix}:*", 1000))
    assert 0 < len(keys) <= 1024  # the roots alone, however many topics there are
    for topic in ("room_1", "room_2999"):
        assert await engine.read(topic, KEEP, tops[topic]) == ([], True, tops[topic])


async def test_the_first_message_follows_the_position_from_before_it(
    engine: ValkeyEngine,
) -> None:
    before = await top(engine)
    first = await send(engine, 1)
    assert first == (before.epoch, 1)  # the same epoch: nobody has to read
    assert await engine.read("room", KEEP, before) == ([(1, b"1")], True, first)
    await send(engine, 5)
    assert not (await engine.read("room", KEEP, before)).is_whole


@pytest.mark.parametrize("hours", [0, 1, RECENT, RECENT + 1, 3 * RECENT])
@pytest.mark.parametrize("is_sent_to", [True, False])
async def test_a_position_from_before_the_first_message_is_resumed_for_hours(
    make_engine: MakeEngine, server: ValkeyServer, hours: int, is_sent_to: bool
) -> None:
    clock = Clock()
    clock.move(1_000_000 * HOUR)
    engine = await make_engine(server.url, clock=clock)
    before = await top(engine)
    clock.move(hours * HOUR)
    if is_sent_to:
        await send(engine, 1)
        clock.move(KEEP.ttl / 2)
    kept = await engine.read("room", KEEP, before)
    assert kept.is_whole == (hours <= RECENT)
    assert len(kept.entries) == is_sent_to
    assert (kept.top.epoch == before.epoch) == (hours == 0)


async def test_a_topic_outlives_every_position_that_could_be_taken_for_its_own(
    engine: ValkeyEngine, server: ValkeyServer, prefix: str
) -> None:
    await send(engine, 1)
    with server.admin as admin:
        (state,) = admin.keys(f"{prefix}:m:*:room")
        left = admin.pttl(state)
        (stream,) = admin.keys(f"{prefix}:s:*:room")
        assert 59_000 < admin.pttl(stream) <= 60_000
    # A position is of a generation's last moment at most, and of one `RECENT` ago.
    assert left > (RECENT + 1) * GENERATION


async def lose_all(server: ValkeyServer, prefix: str) -> None:
    with server.admin as admin:
        for key in admin.keys(f"{prefix}:*"):
            admin.delete(key)


async def lose(server: ValkeyServer, pattern: str) -> None:
    with server.admin as admin:
        (key,) = admin.keys(pattern)
        admin.delete(key)


@pytest.mark.parametrize("sent", [0, 1, 3])
async def test_what_was_all_lost_is_told(
    engine: ValkeyEngine, server: ValkeyServer, prefix: str, sent: int
) -> None:
    before = await top(engine)
    if sent:
        before = await send(engine, sent)
    await lose_all(server, prefix)
    assert not (await engine.read("room", KEEP, before)).is_whole
    after = await send(engine, 4)
    kept = await engine.read("room", KEEP, before)
    assert not kept.is_whole
    assert after.offset == 4
    assert after.epoch != before.epoch
    assert len(kept.entries) == 4


async def test_what_was_forgotten_is_told(engine: ValkeyEngine) -> None:
    never = await top(engine, "never")
    before = await send(engine, 2)
    await engine.publish("room", b"", keep=KEEP, key="k", window=60)
    await engine.forget()
    assert not (await engine.read("room", KEEP, before)).is_whole
    assert not (await engine.read("never", KEEP, never)).is_whole
    assert (await engine.publish("room", b"", keep=KEEP, key="k", window=60)).position != before


async def test_a_stream_that_was_evicted_leaves_a_hole_that_is_told(
    engine: ValkeyEngine, server: ValkeyServer, prefix: str
) -> None:
    before = await send(engine, 3)
    await lose(server, f"{prefix}:s:*:room")
    assert (await engine.read("room", KEEP, before)).is_whole  # nothing came since
    assert not (await engine.read("room", KEEP, before._replace(offset=2))).is_whole
    after = (await engine.publish("room", b"4", keep=KEEP)).position
    assert after == before._replace(offset=4)
    assert await engine.read("room", KEEP, before) == ([(4, b"4")], True, after)
    assert not (await engine.read("room", KEEP, before._replace(offset=2))).is_whole


async def test_a_state_that_was_lost_takes_its_stream_along(
    engine: ValkeyEngine, server: ValkeyServer, prefix: str
) -> None:
    before = await send(engine, 3)
    with server.admin as admin:
        admin.config_resetstat()
    await lose(server, f"{prefix}:m:*:room")
    assert (await engine.read("room", KEEP)).entries == []
    assert not (await engine.read("room", KEEP, before)).is_whole
    await engine.publish("room", b"new", keep=KEEP)
    assert (await engine.read("room", KEEP)).entries == [(1, b"new")]


async def test_offsets_stay_countable_in_a_browser(
    engine: ValkeyEngine, server: ValkeyServer, prefix: str
) -> None:
    epoch, _ = await send(engine, 1)
    with server.admin as admin:
        (state,) = admin.keys(f"{prefix}:m:*:room")
        (stream,) = admin.keys(f"{prefix}:s:*:room")
        admin.hset(state, "s", MAX_OFFSET - 3)
        admin.delete(stream)
    for offset in (MAX_OFFSET - 2, MAX_OFFSET - 1):
        sent = await engine.publish("room", b"", keep=KEEP)
        assert sent.position == (epoch, offset)
    kept = await engine.read("room", KEEP, Position(epoch, MAX_OFFSET - 3))
    assert [offset for offset, _ in kept.entries] == [MAX_OFFSET - 2, MAX_OFFSET - 1]
    anew = (await engine.publish("room", b"", keep=KEEP)).position
    assert anew is not None
    assert anew.offset == 1
    assert anew.epoch != epoch


async def test_a_publication_by_key_is_anew_after_its_window(
    make_engine: MakeEngine, server: ValkeyServer
) -> None:
    clock = Clock()
    engine = await make_engine(server.url, clock=clock)
    first = await engine.publish("room", b"", keep=KEEP, key="k", window=10)
    clock.move(9.9)
    assert await engine.publish("room", b"", keep=KEEP, key="k", window=10) == first
    clock.move(0.1)
    assert await engine.publish("room", b"", keep=KEEP, key="k", window=10) != first
    assert await engine.publish("room", b"", keep=KEEP, key="k", window=0) != first


async def test_two_processes_see_one_history(make_engine: MakeEngine, server: ValkeyServer) -> None:
    one, two = await make_engine(server.url), await make_engine(server.url)
    async with anyio.create_task_group() as tasks:
        for engine in (one, two):
            tasks.start_soon(send, engine, 20)
    assert (await one.read("room", KEEP)) == (await two.read("room", KEEP))
    assert (await top(one)).offset == 40
