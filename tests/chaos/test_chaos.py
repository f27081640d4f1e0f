"""Real servers, cut connections, processes that die: nothing is lost but what was told."""

import os
from collections.abc import Mapping
from dataclasses import replace
from random import randrange
from typing import Any

import pytest

from tests.chaos.clients import Stream
from tests.chaos.plan import Scenario, actions
from tests.chaos.proxy import Proxy
from tests.chaos.run import Run, run_until

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

SEED = 20
SECONDS = float(os.environ.get("CHAOS_SECONDS") or 6.0)

CUTS = ("reset", "close", "half-open up", "half-open down", "half-open", "delay")


@pytest.fixture
def anyio_backend() -> str:
    """One loop: what is tested runs in the server's process."""
    return "asyncio"


def total(done: Run, what: str) -> int:
    return sum(counts[what] for counts in done.counts.values())


async def test_whatever_breaks_nothing_is_lost_or_repeated_unless_it_was_told() -> None:
    def has_been_through_something(done: Run) -> bool:
        cuts, ends = set(done.counts["cuts"]), set(done.counts["server"])
        return (cuts, ends) == (set(Proxy.KINDS), {"kill", "term", "stop"}) and all(
            total(done, what) for what in ("messages", "replayed", "ignored", "told unrecovered")
        )

    done = await run_until(has_been_through_something, Scenario(SEED, SECONDS))
    assert not done.faults
    assert has_been_through_something(done)


async def test_the_same_with_all_that_is_left_to_chance() -> None:
    seed = int(os.environ.get("CHAOS_SEED") or randrange(10**6))
    scenario = Scenario.drawn(seed, SECONDS)
    print(f"CHAOS_SEED={seed} plays it again: {scenario}")
    done = await run_until(lambda done: total(done, "messages"), scenario)
    assert not done.faults, f"CHAOS_SEED={seed}"
    assert total(done, "messages")


async def test_where_history_reaches_back_far_enough_nobody_is_told_of_a_gap() -> None:
    calm = Scenario(SEED, SECONDS / 2, 1_000, 1_000, kills=0, terms=0, cuts=CUTS)
    done = await run_until(lambda done: total(done, "replayed"), calm)
    assert not done.faults
    assert total(done, "replayed") > 0
    told = {kind for counts in done.counts.values() for kind in counts if kind.startswith("told ")}
    assert not told


# No WebSocket is so slow that it counts as dead. All are slow as long as there is trouble: on a
# busy machine, little is published within a few seconds, and the kernel's buffers take all of it.
SLOW = Scenario(
    SEED, SECONDS / 2, 1_000, 5, pong_timeout=30.0, interval=0.01,
    kills=0, terms=0, stops=0, cuts=("slow",), slow=(3_600.0, 3_600.0),
)  # fmt: skip


def has_told_what_was_lost(done: Run) -> bool:
    return bool(done.counts["Stream"]["told full"] and done.counts["Stream"]["missed"])


async def test_slow_readers_are_told_what_they_have_lost() -> None:
    slow = replace(SLOW, history_size=10)
    done = await run_until(has_told_what_was_lost, slow)
    assert not done.faults
    assert has_told_what_was_lost(done)


def test_the_same_seed_is_the_same_trouble() -> None:
    scenarios = [Scenario.drawn(seed, SECONDS) for seed in (1, 1, 2)]
    first, again, other = (actions(scenario, ["ann", "ben"]) for scenario in scenarios)
    assert first == again != other
    assert scenarios[0] == scenarios[1]


# The test can fail: each of these servers breaks one promise, and so does this client.

BRIEF = Scenario(SEED, 2.0, 10, terms=0, stops=0, cuts=("reset", "delay"))


@pytest.mark.parametrize(
    ("flaw", "sentence"),
    [
        ("recovered", "was not told"),
        ("idempotency", "sent twice in one life of the server"),
        ("forgetful", "a hole that was not told"),
    ],
)
async def test_a_server_that_breaks_a_promise_is_found(flaw: str, sentence: str) -> None:
    done = await run_until(lambda done: done.faults, replace(BRIEF, flaw=flaw))
    assert any(sentence in fault for fault in done.faults)


class Losing(Stream):
    """A client that loses a message."""

    def take(self, group: str, id: str, data: Mapping[str, Any]) -> None:
        if data["number"] != 2:
            super().take(group, id, data)


async def test_a_client_that_loses_a_message_is_found() -> None:
    brief = replace(BRIEF, seconds=1.0, kills=0, cuts=())
    done = await run_until(lambda done: done.faults, brief, [Losing])
    assert any("a hole that was not told" in fault for fault in done.faults)
