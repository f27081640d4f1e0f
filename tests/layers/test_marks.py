"""Names that all processes remember for a while: once is once, and nothing goes too early."""

from math import inf, nan
from typing import Any

import anyio
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from asgi_notify.exceptions import ConfigurationError, InvalidName, LayerUnavailable
from asgi_notify.layers import BaseChannelLayer, InMemoryChannelLayer
from asgi_notify.layers.marks import Marks
from tests.loops import other_loop

from .conftest import MakeLayer
from .tools import Clock

contract = pytest.mark.anyio


@contract
async def test_a_name_is_new_once(layer: BaseChannelLayer) -> None:
    assert [await layer.mark(name, 10) for name in ("a", "a", "b", "a")] == [True, False] * 2
    assert await layer.is_marked("a")
    assert await layer.is_marked("c", "b")
    assert not await layer.is_marked("c", "d")
    assert not await layer.is_marked()


@contract
async def test_a_mark_lasts_for_its_time_and_no_longer(
    layer: BaseChannelLayer, clock: Clock
) -> None:
    await layer.mark("a", 10)
    clock.move(9.5)
    assert await layer.is_marked("a")
    clock.move(0.5)
    assert not await layer.is_marked("a")
    assert await layer.mark("a", 1)


@contract
async def test_a_later_mark_makes_it_longer_and_never_shorter(
    layer: BaseChannelLayer, clock: Clock
) -> None:
    await layer.mark("a", 10)
    assert not await layer.mark("a", 1)
    clock.move(9.5)
    assert await layer.is_marked("a")
    assert not await layer.mark("a", 10)
    clock.move(9.5)
    assert await layer.is_marked("a")
    clock.move(0.5)
    assert not await layer.is_marked("a")


@contract
async def test_a_mark_stands_for_the_latest_moment_of_all(
    layer: BaseChannelLayer, clock: Clock
) -> None:
    await layer.mark("a", 10, at=1_700_000_000.5)
    assert await layer.is_marked("a")
    assert await layer.is_marked("a", since=1_700_000_000)
    assert await layer.is_marked("a", since=1_700_000_000.5)
    assert not await layer.is_marked("a", since=1_700_000_001)
    await layer.mark("a", 1, at=1_600_000_000)
    assert await layer.is_marked("a", since=1_700_000_000)
    await layer.mark("a", 1, at=1_800_000_000)
    assert await layer.is_marked("a", since=1_700_000_001)
    clock.move(10)
    await layer.mark("a", 10, at=1.0)
    assert not await layer.is_marked("a", since=1_600_000_000)


@contract
async def test_a_mark_without_a_moment_is_later_than_all(layer: BaseChannelLayer) -> None:
    await layer.mark("old", 10, at=5.0)
    await layer.mark("a", 10)
    assert await layer.is_marked("old", "a", since=1e12)
    assert not await layer.is_marked("old", since=1e12)
    await layer.mark("a", 10, at=5.0)
    assert await layer.is_marked("a", since=1e12)


@contract
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
async def test_of_many_who_mark_at_once_one_is_told_that_it_is_new(
    layer: BaseChannelLayer, backend: str
) -> None:
    answers: list[bool] = []

    async def mark() -> None:
        answers.append(await layer.mark("ticket", 10))

    async def mark_elsewhere() -> None:
        async with other_loop(backend) as call:
            await call(mark)

    await layer.is_marked("nothing")  # a layer on an engine lives in the loop that came first
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(mark_elsewhere)
            for _ in range(20):
                tasks.start_soon(mark)
    assert sorted(answers) == [False] * 20 + [True]


@contract
async def test_what_is_flushed_is_new_again(layer: BaseChannelLayer) -> None:
    await layer.mark("a", 10)
    await layer.flush()
    assert not await layer.is_marked("a")
    assert await layer.mark("a", 10)


@contract
@pytest.mark.parametrize("name", ["", "n" * 201, "two words", "line\n", "café", 7])
async def test_what_cannot_be_a_name_is_refused(layer: BaseChannelLayer, name: Any) -> None:
    with pytest.raises(InvalidName, match="cannot name a mark: use 1 to 200 visible ASCII"):
        await layer.mark(name, 10)
    with pytest.raises(InvalidName, match="cannot name a mark"):
        await layer.is_marked("a", name)


@contract
@pytest.mark.parametrize("seconds", [0, -1, nan, "10"])
async def test_a_time_that_makes_no_sense_is_refused(layer: BaseChannelLayer, seconds: Any) -> None:
    with pytest.raises(ConfigurationError, match="seconds is a number above 0"):
        await layer.mark("a", seconds)


@contract
async def test_any_visible_character_may_be_in_a_name(make_layer: MakeLayer) -> None:
    layer = await make_layer()
    name = "".join(map(chr, range(33, 127)))
    assert await layer.mark(name, 10)
    assert await layer.is_marked(name)
    assert not await layer.is_marked(name[1:])


@contract
async def test_a_mark_for_ever_is_one(layer: BaseChannelLayer, clock: Clock) -> None:
    await layer.mark("a", inf)
    clock.move(1e9)
    assert await layer.is_marked("a")


# In memory.


@contract
async def test_too_many_marks_refuse_the_new_one_and_forget_none() -> None:
    clock = Clock()
    layer = InMemoryChannelLayer(max_marks=2, clock=clock)
    await layer.mark("a", 10)
    await layer.mark("b", 20)
    with pytest.raises(LayerUnavailable, match="2 marks are remembered"):
        await layer.mark("c", 1)
    assert not await layer.mark("a", 10)
    assert layer.statistics()["marks"] == 2
    clock.move(10)
    assert await layer.mark("c", 1)
    assert await layer.is_marked("b")


@contract
async def test_a_mark_that_leaves_room_to_others_is_refused_first() -> None:
    layer = InMemoryChannelLayer(max_marks=10)
    for number in range(9):
        assert await layer.mark(f"a{number}", 10, leave_room=True)
    with pytest.raises(LayerUnavailable, match="no room"):
        await layer.mark("b", 10, leave_room=True)
    assert not await layer.mark("a0", 10, leave_room=True)
    assert await layer.mark("b", 10)
    with pytest.raises(LayerUnavailable, match="no room"):
        await layer.mark("c", 10)


MAX_MARKS = 4
names = st.sampled_from("abcdefg")


class Marking(RuleBasedStateMachine):
    """Random marks against a list of what was marked, until when and with which moment."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.marks = Marks(MAX_MARKS, self.clock)
        self.known: dict[str, tuple[float, float]] = {}

    @rule(seconds=st.sampled_from([0.5, 3.0, 10.0]))
    def move(self, seconds: float) -> None:
        self.clock.move(seconds)
        self.known = {name: k for name, k in self.known.items() if k[0] > self.clock.now}

    @rule(name=names, seconds=st.sampled_from([0.5, 3.0, 9.5]), at=st.integers(0, 3))
    def mark(self, name: str, seconds: float, at: int) -> None:
        ends = self.clock.now + seconds
        if name not in self.known and len(self.known) == MAX_MARKS:
            with pytest.raises(LayerUnavailable):
                self.marks.mark(name, seconds, at)
            return
        assert self.marks.mark(name, seconds, at) is (name not in self.known)
        before = self.known.get(name, (ends, at))
        self.known[name] = max(before[0], ends), max(before[1], at)

    @rule(asked=st.lists(names, max_size=3), since=st.integers(0, 3))
    def ask(self, asked: list[str], since: int) -> None:
        expected = any(name in self.known and self.known[name][1] >= since for name in asked)
        assert self.marks.is_marked(asked, since) is expected

    @invariant()
    def the_bound_holds(self) -> None:
        assert len(self.known) <= len(self.marks) <= MAX_MARKS


def test_any_order_of_marks_is_as_the_model_says() -> None:
    run_state_machine_as_test(
        Marking, settings=settings(deadline=None, max_examples=200, stateful_step_count=40)
    )
