"""A publisher that tries again publishes once, for as long as its key is known."""

from math import nan
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)

from asgi_notify.exceptions import ConfigurationError
from asgi_notify.layers.idempotency import STEPS, Publications
from tests.examples import examples

from .tools import Clock


def make(window: float = 10.0, max_keys: int = 100) -> tuple[Publications[str], Clock]:
    clock = Clock()
    return Publications(window, max_keys, clock), clock


def test_a_key_gives_the_first_result_within_the_window_and_no_longer() -> None:
    publications, clock = make(window=10.0)
    assert publications.first("room", "key") is None
    publications.remember("room", "key", "sent")
    clock.move(9.5)
    assert publications.first("room", "key") == "sent"
    clock.move(0.5)
    assert publications.first("room", "key") is None
    publications.remember("room", "key", "sent again")
    clock.move(9.5)
    assert publications.first("room", "key") == "sent again"


def test_a_key_is_known_for_five_minutes_unless_told_otherwise() -> None:
    clock = Clock()
    publications: Publications[str] = Publications(clock=clock)
    publications.remember("room", "key", "sent")
    clock.move(299.5)
    assert publications.first("room", "key") == "sent"
    clock.move(0.5)
    assert publications.first("room", "key") is None


def test_a_key_is_known_in_its_own_group_alone() -> None:
    publications, _ = make()
    publications.remember("room", "key", "sent")
    assert publications.first("other", "key") is None
    assert publications.first("room", "other") is None


def test_a_better_result_does_not_make_the_window_longer() -> None:
    publications, clock = make(window=10.0)
    publications.remember("room", "key", "on its way")
    clock.move(9.5)
    publications.remember("room", "key", "arrived")
    assert publications.first("room", "key") == "arrived"
    clock.move(0.5)
    assert publications.first("room", "key") is None


def test_one_key_too_many_makes_the_oldest_go_and_is_counted() -> None:
    publications, _ = make(max_keys=2)
    for key in ("a", "b", "a", "c"):
        publications.remember("room", key, key)
    assert [publications.first("room", key) for key in "abc"] == [None, "b", "c"]
    assert publications.evicted == 1
    assert len(publications) == 2


def test_keys_whose_time_is_over_make_room_uncounted() -> None:
    publications, clock = make(window=10.0, max_keys=5)
    for key in "abcde":
        publications.remember("room", key, key)
    clock.move(10)
    for key in "fghij":
        publications.remember("room", key, key)
    assert [publications.first("room", key) for key in "fghij"] == list("fghij")
    assert publications.evicted == 0


def test_each_call_lets_go_of_a_few_keys_whose_time_is_over() -> None:
    publications, clock = make(window=10.0)
    for n in range(9):
        publications.remember("room", str(n), "sent")
    clock.move(10)
    for left in range(9 - STEPS, 0, -STEPS):
        assert publications.first("room", "other") is None
        assert len(publications) == left


def test_a_key_whose_time_is_over_is_unknown_even_while_it_is_in_memory() -> None:
    publications, clock = make(window=10.0)
    for key in "abcde":
        publications.remember("room", key, key)
    clock.move(10)
    assert publications.first("room", "e") is None
    assert len(publications) == 5 - STEPS


def test_a_key_that_is_used_anew_stands_last_again() -> None:
    publications, clock = make(window=10.0)
    for key in "abcd":
        publications.remember("room", key, key)
    clock.move(10)
    publications.remember("room", "c", "c again")
    assert publications.first("room", "other") is None
    assert len(publications) == 1
    assert publications.first("room", "c") == "c again"


def test_what_is_cleared_is_published_again() -> None:
    publications, _ = make()
    publications.remember("room", "key", "sent")
    publications.clear()
    assert publications.first("room", "key") is None
    assert len(publications) == 0


@pytest.mark.parametrize(
    "options", [{"window": 0}, {"window": nan}, {"max_keys": 0}, {"max_keys": 1.5}]
)
def test_options_that_make_no_sense_are_refused(options: Any) -> None:
    (name,) = options
    with pytest.raises(ConfigurationError, match=f"{name} is a .*number above 0, not"):
        Publications(**options)


MAX_KEYS = 4
keys = st.sampled_from([(group, key) for group in "gh" for key in "abcd"])


class Retries(RuleBasedStateMachine):
    """Random publishers against a list of what they remembered, when and in which order."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.publications: Publications[int] = Publications(10.0, MAX_KEYS, self.clock)
        self.known: list[tuple[float, tuple[str, str], int]] = []
        self.evicted = 0
        self.results = 0

    def live(self, key: tuple[str, str]) -> int | None:
        found = [i for i, known in enumerate(self.known) if known[1] == key]
        return found[0] if found else None

    @rule(seconds=st.sampled_from([0.5, 3.0, 9.5, 10.0]))
    def move(self, seconds: float) -> None:
        self.clock.move(seconds)
        self.known = [known for known in self.known if known[0] + 10.0 > self.clock.now]

    @rule(key=keys)
    def publish(self, key: tuple[str, str]) -> None:
        self.ask(key)
        if self.live(key) is None:
            self.remember(key)

    @rule(key=keys)
    def ask(self, key: tuple[str, str]) -> None:
        live = self.live(key)
        expected = None if live is None else self.known[live][2]
        assert self.publications.first(*key) == expected

    @rule(key=keys)
    def remember(self, key: tuple[str, str]) -> None:
        self.results += 1
        self.publications.remember(*key, self.results)
        live = self.live(key)
        if live is not None:
            self.known[live] = (*self.known[live][:2], self.results)
            return
        if len(self.known) == MAX_KEYS:
            del self.known[0]
            self.evicted += 1
        self.known.append((self.clock.now, key, self.results))

    @invariant()
    def the_bounds_hold(self) -> None:
        assert len(self.known) <= len(self.publications) <= MAX_KEYS
        assert self.publications.evicted == self.evicted


def test_any_interleaving_of_tries_is_as_the_model_says() -> None:
    run_state_machine_as_test(
        Retries,
        settings=settings(deadline=None, max_examples=examples(200), stateful_step_count=40),
    )
