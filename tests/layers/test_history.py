"""What a group's history gives back: everything that was missed, or the word that it cannot."""

import re
import weakref
from collections.abc import Mapping
from math import inf
from typing import Any, NamedTuple

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from asgi_notify.codec import stamped
from asgi_notify.exceptions import ConfigurationError
from asgi_notify.layers.history import LOOKS, Histories, History
from asgi_notify.layers.results import Replay
from asgi_notify.positions import Position
from tests.examples import examples

from .tools import Clock

Limits = Mapping[str | re.Pattern[str], History]


def make(
    size: int = 3, ttl: float = 10.0, max_groups: int = 100, **more: Any
) -> tuple[Histories, Clock]:
    clock = Clock()
    return Histories({"*": History(size, ttl)}, max_groups, clock, **more), clock


def send(histories: Histories, group: str, *numbers: int) -> list[Position]:
    positions = []
    for n in numbers:
        position = histories.append(group, stamped({"type": "number", "n": n}, group))
        assert position is not None
        positions.append(position)
    return positions


def numbers(replay: Replay) -> list[int]:
    return [message["n"] for message in replay.messages]


def top(histories: Histories, group: str) -> Position:
    position = histories.top(group)
    assert position is not None
    return position


def test_a_message_goes_on_with_its_group_and_position() -> None:
    histories, _ = make()
    before = top(histories, "room")
    message = stamped({"type": "number", "n": 1}, "room")
    position = histories.append("room", message)
    assert message == {"type": "number", "n": 1}
    assert message.position == position == Position(before.epoch, 1) == histories.top("room")
    assert histories.since("room", before) == Replay([message], True, position)
    assert histories.since("room", before).messages[0] is message


def test_a_group_without_history_costs_nothing_and_recovers_nothing() -> None:
    histories = Histories({"room_*": History()})
    message = stamped({"type": "number", "n": 1}, "user_1")
    assert histories.append("user_1", message) is message.position is None
    assert histories.top("user_1") is None
    for position in (None, Position("abcdefgh", 0)):
        assert histories.since("user_1", position) == Replay([], False, None)
    assert len(histories) == histories.held == 0


def test_a_position_is_handed_out_before_the_first_message() -> None:
    histories, _ = make()
    start = top(histories, "room")
    assert start.offset == 0
    assert histories.since("room", start) == Replay([], True, start)
    send(histories, "room", 1, 2)
    assert numbers(histories.since("room", start)) == [1, 2]


def test_whoever_missed_too_much_gets_nothing_and_is_told() -> None:
    histories, _ = make(size=3)
    first, second, *_ = send(histories, "room", 1, 2, 3, 4, 5)
    assert histories.since("room", first) == Replay([], False, top(histories, "room"))
    assert numbers(histories.since("room", second)) == [3, 4, 5]
    assert histories.since("room", second).recovered


def test_what_expired_is_missed_and_the_epoch_stays() -> None:
    histories, clock = make(ttl=10.0)
    (first,) = send(histories, "room", 1)
    clock.move(5)
    (second,) = send(histories, "room", 2)
    clock.move(5)
    assert histories.since("room", Position(first.epoch, 0)) == Replay([], False, second)
    assert numbers(histories.since("room", first)) == [2]
    assert numbers(histories.since("room", None)) == [2]
    clock.move(100)
    assert histories.since("room", first) == Replay([], False, second)
    assert histories.since("room", second) == Replay([], True, second)
    assert send(histories, "room", 3) == [Position(first.epoch, 3)]
    assert numbers(histories.since("room", second)) == [3]


def test_a_position_of_another_history_or_not_reached_yet_is_not_recovered() -> None:
    histories, _ = make()
    (position,) = send(histories, "room", 1)
    for other in (Position("abcdefgh", 1), Position("abcdefgh", 0), Position(position.epoch, 2)):
        assert histories.since("room", other) == Replay([], False, position)
    ahead = Position(position.epoch, 1)
    assert not histories.since("nothing sent yet", ahead).recovered


def test_a_replay_is_read_page_by_page() -> None:
    histories, _ = make(size=5)
    send(histories, "room", *range(1, 9))
    page = histories.since("room", None, limit=2)
    assert numbers(page) == [4, 5]
    assert page.position == top(histories, "room")
    page = histories.since("room", page.messages[-1].position, limit=2)
    assert numbers(page) == [6, 7]
    page = histories.since("room", page.messages[-1].position, limit=2)
    assert numbers(page) == [8]
    assert histories.since("room", page.position, limit=2) == Replay([], True, page.position)
    assert numbers(histories.since("room", None, limit=0)) == []


def test_one_group_too_many_makes_the_least_used_go_and_is_counted() -> None:
    histories, _ = make(max_groups=2)
    (old,) = send(histories, "old", 1)
    (read,) = send(histories, "read", 1)
    histories.since("old", old)
    send(histories, "new", 1)
    assert histories.evicted == 1
    assert len(histories) == histories.held == 2
    assert numbers(histories.since("old", None)) == [1]
    assert not histories.since("read", read).recovered
    assert top(histories, "read").offset == 0


def test_a_group_that_was_forgotten_begins_again_in_another_epoch() -> None:
    histories, _ = make(max_groups=1)
    (lost,) = send(histories, "room", 1)
    send(histories, "other", 1)
    (again,) = send(histories, "room", 2)
    assert again.offset == lost.offset
    assert again.epoch != lost.epoch
    assert histories.since("room", lost) == Replay([], False, again)


def test_asking_for_many_groups_makes_no_history_go() -> None:
    histories, _ = make(max_groups=2)
    start = top(histories, "room")
    send(histories, "room", 1)
    for n in range(100):
        histories.since(f"guessed_{n}", top(histories, f"guessed_{n}"))
    assert len(histories) == 1
    assert histories.evicted == 0
    assert numbers(histories.since("room", start)) == [1]


def test_what_is_cleared_is_no_longer_recovered() -> None:
    histories, _ = make()
    start = top(histories, "quiet")
    (position,) = send(histories, "room", 1)
    histories.clear()
    assert len(histories) == histories.held == 0
    assert not histories.since("room", position).recovered
    assert not histories.since("quiet", start).recovered
    (again,) = send(histories, "room", 2)
    assert again == Position(again.epoch, 1)
    assert again.epoch != position.epoch


def test_idle_groups_are_emptied_by_what_is_sent_elsewhere() -> None:
    clock = Clock()
    histories = Histories({"long_*": History(5, 100), "*": History(5, 10)}, clock=clock)
    for n in range(40):
        send(histories, f"room_{n}", 1, 2, 3)
        send(histories, f"long_{n}", 1)
    clock.move(10)
    assert histories.held == 160
    for n in range(40 // LOOKS + 1):
        send(histories, "long_0", n)
    assert histories.held == 39 + 5
    clock.move(200)
    for n in range(40 // LOOKS + 1):
        send(histories, "room_0", n)
    assert histories.held == 5
    assert len(histories) == 80


def test_a_group_that_still_held_something_is_looked_at_again() -> None:
    histories, clock = make(ttl=10.0)
    send(histories, "room", 1)
    clock.move(5)
    send(histories, "room", 2)
    clock.move(5)
    send(histories, "other", 1)
    assert histories.held == 2
    clock.move(10)
    send(histories, "other", 2)
    assert histories.held == 1


def test_a_group_that_was_emptied_before_its_look_keeps_no_other_waiting() -> None:
    histories, clock = make(ttl=10.0)
    (position,) = send(histories, "room", 1)
    clock.move(1)
    send(histories, "idle", 1)
    clock.move(9)
    assert histories.since("room", position).recovered
    assert histories.held == 1
    send(histories, "room", 2)
    clock.move(1)
    send(histories, "room", 3)
    assert histories.held == 2


class Payload:
    """Something in a message, to see whether the message is still in memory."""


def test_what_is_no_longer_held_is_no_longer_in_memory() -> None:
    histories, clock = make(size=2, ttl=10.0, max_groups=2)

    def put(group: str) -> "weakref.ref[Payload]":
        payload = Payload()
        histories.append(group, stamped({"type": "number", "payload": payload}, group))
        return weakref.ref(payload)

    trimmed = put("room")
    expired = put("room")
    clock.move(5)
    kept = put("room")
    assert trimmed() is None
    clock.move(5)
    assert expired() is not None
    histories.since("room", None)
    assert expired() is None
    assert kept() is not None
    put("second")
    put("third")
    assert kept() is None
    gone = put("room")
    histories.clear()
    assert gone() is None


def test_a_group_that_is_always_in_use_holds_nothing_old() -> None:
    histories, clock = make(size=1000, ttl=10.0)
    for n in range(100):
        send(histories, "room", n)
        clock.move(1)
        assert histories.held <= 10


def test_an_infinite_time_to_live_is_one() -> None:
    histories, clock = make(size=2, ttl=inf)
    send(histories, "room", 1, 2, 3)
    clock.move(1e9)
    assert numbers(histories.since("room", None)) == [2, 3]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"size": 0}, "size is a whole number above 0, not 0"),
        ({"size": 1.5}, "size is a whole number above 0, not 1.5"),
        ({"ttl": 0}, "ttl is a number above 0, not 0"),
        ({"ttl": "1h"}, "ttl is a number above 0, not '1h'"),
    ],
)
def test_limits_that_make_no_sense_are_refused(options: Any, sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        History(**options)


def test_no_groups_at_all_are_refused() -> None:
    with pytest.raises(
        ConfigurationError, match=r"^history_groups is a whole number above 0, not 0"
    ):
        Histories({}, max_groups=0)


# Any interleaving, against a model that is as plain as it can be.


class Told(NamedTuple):
    """A position that was handed out, and how many messages the group had been sent by then."""

    group: str
    position: Position
    sent: int


class Record:
    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.messages: list[tuple[float, int]] = []  # all there ever were: when, and which


LIMITS: Limits = {"a*": History(3, 10.0), re.compile("[bc]"): History(5, 25.0)}
GROUPS = ["a1", "a2", "b", "c", "without"]

groups = st.sampled_from(GROUPS)


class Interleavings(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.histories = Histories(LIMITS, 3, self.clock)
        self.sent: dict[str, list[int]] = {group: [] for group in GROUPS}
        self.told: list[Told] = []
        self.records: dict[str, Record] = {}  # the least recently used first
        self.epoch = 0
        self.epochs: dict[tuple[int, str], str] = {}
        self.evicted = 0

    def touch(self, group: str) -> Record:
        """The group's record or, where there is none, one that is not kept."""
        if group in self.records:
            self.records[group] = self.records.pop(group)
        return self.records.get(group) or Record(self.epoch)

    def told_of(self, group: str, position: Position | None) -> None:
        """Check a group's top, and note that it was handed out."""
        if group == "without":
            assert position is None
            return
        assert position is not None
        record = self.touch(group)
        assert position.offset == len(record.messages)
        known = self.epochs.setdefault((record.epoch, group), position.epoch)
        assert known == position.epoch
        assert len(set(self.epochs.values())) == len(self.epochs)
        self.told.append(Told(group, position, len(self.sent[group])))

    @rule(group=groups, count=st.integers(1, 4))
    def append(self, group: str, count: int) -> None:
        for _ in range(count):
            n = len(self.sent[group])
            position = self.histories.append(group, stamped({"type": "number", "n": n}, group))
            self.sent[group].append(n)
            if group != "without":
                self.model_append(group, n)
            self.told_of(group, position)

    def model_append(self, group: str, n: int) -> None:
        if group not in self.records:
            if len(self.records) == 3:
                gone = self.records.pop(next(iter(self.records)))
                self.evicted += 1
                self.epoch += gone.epoch == self.epoch
            self.records[group] = Record(self.epoch)
        self.touch(group).messages.append((self.clock.now, n))

    @rule(seconds=st.sampled_from([0.5, 5.0, 9.5, 10.0, 25.0]))
    def move(self, seconds: float) -> None:
        self.clock.move(seconds)

    @rule(group=groups)
    def ask_for_the_top(self, group: str) -> None:
        self.told_of(group, self.histories.top(group))

    @precondition(lambda self: self.told)
    @rule(data=st.data(), ahead=st.sampled_from([0, 0, 0, 0, 1, 7, -1]))
    def resume(self, data: st.DataObject, ahead: int) -> None:
        told = data.draw(st.sampled_from(self.told))
        position = told.position._replace(offset=told.position.offset + ahead)
        replay = self.histories.since(told.group, position)
        record = self.touch(told.group)
        held = self.held(told.group)
        reaches = len(record.messages) - len(held) <= position.offset <= len(record.messages)
        epoch = self.epochs.get((record.epoch, told.group))
        assert replay.recovered == (position.epoch == epoch and reaches)
        if not replay.recovered:
            assert replay.messages == []
        elif ahead == 0:
            assert numbers(replay) == self.sent[told.group][told.sent :]
        self.told_of(told.group, replay.position)

    @rule(group=groups, limit=st.none() | st.integers(0, 6))
    def read(self, group: str, limit: int | None) -> None:
        replay = self.histories.since(group, None, limit)
        assert replay.recovered == (group != "without")
        assert numbers(replay) == self.held(group)[:limit]
        assert all(message.group == group for message in replay.messages)
        self.told_of(group, replay.position)
        for message in replay.messages:
            assert message.position is not None
            self.told.append(Told(group, message.position, message["n"] + 1))

    @rule()
    def clear(self) -> None:
        self.histories.clear()
        self.records.clear()
        self.epoch += 1

    def held(self, group: str) -> list[int]:
        if group not in self.records:
            return []
        limits = LIMITS["a*"] if group in ("a1", "a2") else History(5, 25.0)
        messages = self.records[group].messages[-limits.size :]
        return [n for sent_at, n in messages if sent_at + limits.ttl > self.clock.now]

    @invariant()
    def the_bounds_hold(self) -> None:
        assert len(self.histories) == len(self.records) <= 3
        assert self.histories.evicted == self.evicted
        needed = sum(len(self.held(group)) for group in GROUPS)
        assert needed <= self.histories.held <= 5 * len(self.records)


def test_any_interleaving_is_as_the_model_says() -> None:
    run_state_machine_as_test(
        Interleavings,
        settings=settings(deadline=None, max_examples=examples(200), stateful_step_count=40),
    )
