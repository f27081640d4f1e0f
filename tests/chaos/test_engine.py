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
from tests.chaos.run import Run, run_until
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

    def has_been_through_something(done: Run) -> object:
        # Some kinds of cuts meet no connection, where the engine is away.
        befell = len(done.counts["ways"]) >= 3 and done.counts["server"]["kill"]
        return (
            done.counts["engine"].keys() == set(FAULTS)
            and befell
            and all(total(done, what) for what in ("messages", "replayed", "told unrecovered"))
        )

    done = await run_until(has_been_through_something, scenario)
    assert not done.faults, f"CHAOS_SEED={seed}"
    assert has_been_through_something(done)


# Everything befalls the engine, and nothing anybody else.
BLINKING = Scenario(SEED, 8.0, 1_000, 1_000, kills=0, terms=0, stops=0, cuts=())
KEEPING = ("commands cut", "subscriptions cut", "stop", "full")


async def test_no_client_is_closed_or_told_of_a_gap_because_the_engine_blinked() -> None:
    blinking = replace(on("redis-server", BLINKING), faults=KEEPING)

    def has_been_cut(done: Run) -> bool:
        befell = done.counts["engine"].keys() == set(KEEPING)
        return befell and sum(done.counts["ways"].values()) >= len(Proxy.KINDS)

    done = await run_until(has_been_cut, blinking, [Socket, Stream, Poll, Socket, Stream])
    assert not done.faults
    assert has_been_cut(done)
    for kind in ("Socket", "Stream"):
        assert done.counts[kind]["visits"] >= 2
        assert not done.counts[kind]["returns"], kind
    assert not {kind for counts in done.counts.values() for kind in counts if "told" in kind}


async def test_an_engine_that_forgets_closes_nobody_either() -> None:
    forgetting = ("restart", "restart without data", "flush")
    blinking = replace(on("redis-server", BLINKING), faults=forgetting, ways=())

    def has_told(done: Run) -> bool:
        befell = done.counts["engine"].keys() == set(forgetting)
        return befell and all(
            done.counts[kind]["told unrecovered"] for kind in ("Socket", "Stream")
        )

    done = await run_until(has_told, blinking, [Socket, Stream, Poll, Socket, Stream])
    assert not done.faults
    assert has_told(done)
    for kind in ("Socket", "Stream"):
        assert not done.counts[kind]["returns"], kind


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
    done = await run_until(lambda done: done.faults, lying)
    assert any(sentence in fault for fault in done.faults)


# A cluster whose slots move and whose nodes die; its nodes are busy with nothing else.

MOVING = Scenario(SEED, 14.0, 1_000, 1_000, kills=1, terms=0, stops=0, cuts=("reset", "delay"))


async def test_a_cluster_that_moves_slots_and_promotes_replicas_tells_what_it_may_have_lost() -> (
    None
):
    def has_been_through_something(done: Run) -> bool:
        befell = done.counts["engine"].keys() == set(CLUSTER_FAULTS)
        return befell and all(total(done, what) for what in ("messages", "told unrecovered"))

    moving = MOVING.on_engine(program("redis-server"), is_cluster=True)
    done = await run_until(has_been_through_something, moving)
    assert not done.faults
    assert has_been_through_something(done)
