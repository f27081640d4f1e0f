"""Two server processes on one real Redis, with all that befalls it, them and their clients:
nothing is lost or repeated but what was told, and nobody is closed because the engine blinked."""

import os
from dataclasses import replace
from random import randrange

import pytest

from tests.chaos.clients import Poll, Socket, Stream
from tests.chaos.cluster import CLUSTER_FAULTS
from tests.chaos.engine import FAULTS
from tests.chaos.plan import Scenario, actions
from tests.chaos.proxy import Proxy
from tests.chaos.run import Run, run
from tests.valkey_servers import program

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

SEED = 21
SECONDS = float(os.environ.get("CHAOS_SECONDS") or 16.0)


@pytest.fixture
def anyio_backend() -> str:
    """One loop: what is tested runs in the servers' processes."""
    return "asyncio"


def on(engine: str, scenario: Scenario) -> Scenario:
    return scenario.on_engine(program(engine))


def total(done: Run, what: str) -> int:
    return sum(counts[what] for counts in done.counts.values())


async def test_whatever_breaks_nothing_is_lost_or_repeated_unless_it_was_told() -> None:
    seed = int(os.environ.get("CHAOS_SEED") or randrange(10**6))
    scenario = on("redis-server", Scenario.drawn(seed, SECONDS))
    print(f"CHAOS_SEED={seed} plays it again: {scenario}")
    done = await run(scenario)
    print(done)
    assert not done.faults, f"CHAOS_SEED={seed}"
    # It has been through something, too.
    assert done.counts["engine"].keys() == set(FAULTS)
    assert len(done.counts["ways"]) >= 3  # some kinds meet no connection, where it is away
    assert done.counts["server"]["kill"]
    assert all(total(done, what) for what in ("messages", "replayed", "told unrecovered"))


# Everything befalls the engine, and nothing anybody else.
BLINKING = Scenario(SEED, 8.0, 1_000, 1_000, kills=0, terms=0, stops=0, cuts=())
KEEPING = ("commands cut", "subscriptions cut", "stop", "full")


async def test_no_client_is_closed_or_told_of_a_gap_because_the_engine_blinked() -> None:
    blinking = replace(on("redis-server", BLINKING), faults=KEEPING)
    done = await run(blinking, [Socket, Stream, Poll, Socket, Stream])
    print(done)
    assert not done.faults
    assert done.counts["engine"].keys() == set(KEEPING)
    assert sum(done.counts["ways"].values()) >= len(Proxy.KINDS)
    for kind in ("Socket", "Stream"):
        assert done.counts[kind]["visits"] >= 2
        assert not done.counts[kind]["returns"], kind
    assert not {kind for counts in done.counts.values() for kind in counts if "told" in kind}


async def test_an_engine_that_forgets_closes_nobody_either() -> None:
    forgetting = ("restart", "restart without data", "flush")
    blinking = replace(on("redis-server", BLINKING), faults=forgetting, ways=())
    done = await run(blinking, [Socket, Stream, Poll, Socket, Stream])
    print(done)
    assert not done.faults
    assert done.counts["engine"].keys() == set(forgetting)
    for kind in ("Socket", "Stream"):
        assert not done.counts[kind]["returns"], kind
        assert done.counts[kind]["told unrecovered"], kind


def test_the_same_seed_is_the_same_trouble_for_the_engine() -> None:
    scenarios = [Scenario.drawn(seed, SECONDS).on_engine("redis") for seed in (1, 1, 2)]
    first, again, other = (actions(scenario, ["client 0"]) for scenario in scenarios)
    assert first == again != other
    assert {one.kind for one in first if one.target == "engine"} == set(FAULTS)
    assert {one.target for one in first if one.kind == "half-open"} >= {"way 0", "way 1"}


# The test can fail: each of these engines breaks one promise.

BRIEF = Scenario(
    SEED, 2.0, 10, interval=0.01, kills=0, terms=0, stops=0, cuts=("reset", "delay"), rest=6.0
)


@pytest.mark.parametrize(
    ("flaw", "sentence"),
    [
        ("recovered", "was not"),  # told, or heard
        ("idempotency", "sent twice in one life of the server"),
        ("porous", "a hole that was not told"),
        ("swapped", "two messages in one place"),
        ("renumbered", "two messages in one place"),
        ("deaf", "stopped at"),
    ],
)
async def test_an_engine_that_lies_is_found(flaw: str, sentence: str) -> None:
    lying = on("redis-server", BRIEF)
    forgets = ("flush",) * (flaw == "recovered")  # of which it says nothing
    lying = replace(lying, flaw=flaw, servers=1, faults=forgets, ways=())
    done = await run(lying)
    print(done)
    assert any(sentence in fault for fault in done.faults)


# A cluster whose slots move and whose nodes die; its nodes are busy with nothing else.

MOVING = Scenario(SEED, 14.0, 1_000, 1_000, kills=1, terms=0, stops=0, cuts=("reset", "delay"))


async def test_a_cluster_that_moves_slots_and_promotes_replicas_tells_what_it_may_have_lost() -> (
    None
):
    done = await run(MOVING.on_engine(program("redis-server"), is_cluster=True))
    print(done)
    assert not done.faults
    assert done.counts["engine"].keys() == set(CLUSTER_FAULTS)
    assert total(done, "messages")
    assert total(done, "told unrecovered")
