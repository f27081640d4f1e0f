"""Who is present, counted over all processes; each leave is told to one of them."""

import anyio
import pytest

from asgi_notify.layers.engine import Gone, Lease
from asgi_notify.layers.valkey import ValkeyEngine
from tests.layers.tools import Clock
from tests.valkey_servers import ValkeyServer

from .conftest import MakeEngine

pytestmark = pytest.mark.anyio

LEASE = 30.0  # seconds
GRACE = 5.0


def lease(channel: str, member: str = "ada", info: bytes | None = None) -> Lease:
    return Lease("room", channel, member, info)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def one(make_engine: MakeEngine, server: ValkeyServer, clock: Clock) -> ValkeyEngine:
    return await make_engine(server.url, clock=clock)


@pytest.fixture
async def two(make_engine: MakeEngine, server: ValkeyServer, clock: Clock) -> ValkeyEngine:
    return await make_engine(server.url, clock=clock)


async def test_all_processes_count_together(one: ValkeyEngine, two: ValkeyEngine) -> None:
    assert await one.enter(lease("a"), LEASE)
    assert not await two.enter(lease("b"), LEASE)
    assert await two.enter(lease("c", "bob", b"\x00info\n"), LEASE)
    for engine in (one, two):
        assert await engine.count("room") == 2
        assert await engine.present("room") == [
            lease("a"),
            lease("b"),
            lease("c", "bob", b"\x00info\n"),
        ]
    assert await one.present("empty") == []
    assert await one.count("empty") == 0


async def test_entering_again_replaces_the_info_and_keeps_the_place(one: ValkeyEngine) -> None:
    await one.enter(lease("a", info=b""), LEASE)
    await one.enter(lease("b"), LEASE)
    assert not await one.enter(lease("a", info=b"new"), LEASE)
    assert await one.present("room") == [lease("a", info=b"new"), lease("b")]
    assert await one.count("room") == 1


async def test_a_channel_that_changes_its_member_leaves_as_the_other(
    one: ValkeyEngine, clock: Clock
) -> None:
    await one.enter(lease("a", "ada", b"1"), LEASE)
    assert await one.enter(lease("a", "bob", b"2"), LEASE)
    assert await one.present("room") == [lease("a", "bob", b"2")]
    assert await one.count("room") == 2  # ada may come back
    clock.move(GRACE)
    assert await one.gone(["room"], GRACE) == [Gone("room", "ada", b"1")]
    assert await one.count("room") == 1


async def test_a_member_is_gone_when_its_last_channel_was_away_for_the_grace(
    one: ValkeyEngine, two: ValkeyEngine, clock: Clock
) -> None:
    await one.enter(lease("a", info=b"1"), LEASE)
    await two.enter(lease("b", info=b"2"), LEASE)
    await one.leave("room", "a", GRACE)
    await one.leave("room", "a", GRACE)  # once more is nothing
    clock.move(GRACE)
    assert await one.gone(["room"], GRACE) == []
    await two.leave("room", "b", GRACE)
    assert await one.present("room") == []
    clock.move(GRACE - 0.1)
    assert await one.gone(["room"], GRACE) == []
    assert await one.count("room") == 1
    clock.move(0.1)
    assert await one.gone(["room"], GRACE) == [Gone("room", "ada", b"2")]
    assert await one.count("room") == 0


async def test_coming_back_in_time_is_no_leave(one: ValkeyEngine, clock: Clock) -> None:
    await one.enter(lease("a"), LEASE)
    await one.leave("room", "a", GRACE)
    clock.move(GRACE / 2)
    assert not await one.enter(lease("b"), LEASE)
    clock.move(GRACE)
    assert await one.gone(["room"], GRACE) == []
    assert await one.count("room") == 1


async def test_each_leave_is_told_to_one_caller(
    one: ValkeyEngine, two: ValkeyEngine, clock: Clock
) -> None:
    members = {f"member{number}" for number in range(1200)}  # more than one script takes

    async def enter(member: str) -> None:
        await one.enter(Lease("room", f"of-{member}", member, None), LEASE)

    async with anyio.create_task_group() as tasks:
        for member in members:
            tasks.start_soon(enter, member)
    clock.move(LEASE + GRACE)
    told: list[Gone] = []

    async def ask(engine: ValkeyEngine) -> None:
        told.extend(await engine.gone(["empty", "room"], GRACE))

    async with anyio.create_task_group() as tasks:
        for engine in (one, two, one, two):
            tasks.start_soon(ask, engine)
    assert sorted(gone.member for gone in told) == sorted(members)
    assert await one.count("room") == 0


async def test_a_lease_that_ran_out_was_left_at_that_moment(
    one: ValkeyEngine, clock: Clock
) -> None:
    await one.enter(lease("a", info=b"1"), LEASE)
    await one.enter(lease("b", "bob"), 2 * LEASE)
    clock.move(LEASE)
    assert await one.present("room") == [lease("b", "bob")]
    assert await one.count("room") == 2
    clock.move(GRACE - 0.1)
    assert await one.gone(["room"], GRACE) == []
    clock.move(0.1)
    assert await one.gone(["room"], GRACE) == [Gone("room", "ada", b"1")]
    assert await one.present("room") == [lease("b", "bob")]


async def test_a_renewed_lease_goes_on(one: ValkeyEngine, clock: Clock) -> None:
    leases = [lease(f"c{number}", f"m{number % 7}") for number in range(1100)]
    await one.renew(leases, LEASE)  # nothing was there: all are entered
    assert len(await one.present("room")) == 1100
    assert await one.count("room") == 7
    clock.move(LEASE - 1)
    await one.renew([*leases, Lease("hall", "x", "y", b"z")], LEASE)
    clock.move(LEASE - 1)
    assert {one.channel for one in await one.present("room")} == {one.channel for one in leases}
    assert await one.gone(["room"], GRACE) == []
    assert await one.present("hall") == [Lease("hall", "x", "y", b"z")]
    await one.renew([], LEASE)


async def test_a_lease_that_was_lost_is_entered_again(one: ValkeyEngine, clock: Clock) -> None:
    await one.enter(lease("a", info=b"1"), LEASE)
    clock.move(LEASE + GRACE)
    assert len(await one.gone(["room"], GRACE)) == 1
    await one.renew([lease("a", info=b"2")], LEASE)
    assert await one.present("room") == [lease("a", info=b"2")]
    await one.forget()
    await one.renew([lease("a", info=b"3")], LEASE)
    assert await one.present("room") == [lease("a", info=b"3")]
    assert await one.count("room") == 1


async def test_what_dead_processes_leave_behind_expires(
    one: ValkeyEngine, server: ValkeyServer, prefix: str
) -> None:
    await one.enter(lease("a"), 10)
    await one.enter(lease("b", "bob"), 20)
    await one.leave("room", "b", 1)
    with server.admin as admin:
        keys = admin.keys(f"{prefix}:p*")
        assert len(keys) == 4
        for key in keys:
            assert 10_000 < admin.pttl(key) <= 80_000


async def test_a_group_that_all_left_leaves_nothing_behind(
    one: ValkeyEngine, server: ValkeyServer, prefix: str
) -> None:
    await one.enter(lease("a"), 10)
    await one.leave("room", "a", 0)
    assert await one.gone(["room"], 0) == [Gone("room", "ada", None)]
    with server.admin as admin:
        assert admin.keys(f"{prefix}:p*") == []
