"""Who is in a group, and that a page reload is neither a leave nor a join."""

from collections import Counter
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
from asgi_notify.layers.presence import Arrival, Departure, Info, Presence
from tests.examples import examples

from .tools import Clock


def make(grace: float = 5.0) -> tuple[Presence, Clock]:
    clock = Clock()
    return Presence(grace, clock), clock


def test_the_first_channel_of_a_member_is_a_join_and_its_last_a_leave() -> None:
    presence, clock = make(grace=5.0)
    ada = {"name": "Ada"}
    assert presence.join("room", "tab.1", "ada", ada) == Arrival("room", "ada", ada)
    assert presence.join("room", "tab.2", "ada", {"name": "Ada", "tab": 2}) is None
    assert presence.count("room") == 1
    presence.leave("room", "tab.1")
    assert presence.next_due is None
    presence.leave("room", "tab.2")
    assert presence.next_due == clock.now + 5
    clock.move(4.5)
    assert presence.due() == []
    clock.move(0.5)
    assert presence.due() == [Departure("room", "ada", {"name": "Ada", "tab": 2})]
    assert presence.due() == []
    assert presence.next_due is None


def test_a_page_reload_is_neither_a_leave_nor_a_join() -> None:
    presence, clock = make(grace=5.0)
    presence.join("room", "old", "ada")
    presence.leave("room", "old")
    clock.move(4.5)
    assert presence.join("room", "new", "ada", {"tab": "new"}) is None
    clock.move(100)
    assert presence.due() == []
    assert presence.members("room") == {"new": {"tab": "new"}}


def test_whoever_is_back_before_the_leave_was_told_never_left() -> None:
    presence, clock = make(grace=5.0)
    presence.join("room", "old", "ada")
    presence.leave("room", "old")
    clock.move(100)
    assert presence.join("room", "new", "ada") is None
    assert presence.due() == []


def test_whoever_is_back_after_the_leave_was_told_joins_again() -> None:
    presence, clock = make(grace=5.0)
    presence.join("room", "old", "ada")
    presence.leave("room", "old")
    clock.move(5)
    assert presence.due() == [Departure("room", "ada", None)]
    assert presence.join("room", "new", "ada") == Arrival("room", "ada", None)


def test_each_absence_has_its_own_time() -> None:
    presence, clock = make(grace=5.0)
    presence.join("room", "one", "ada")
    presence.leave("room", "one")
    clock.move(4)
    presence.join("room", "two", "ada")
    presence.leave("room", "two")
    clock.move(4)
    assert presence.due() == []
    clock.move(1)
    assert presence.due() == [Departure("room", "ada", None)]


def test_without_grace_a_leave_is_told_at_once() -> None:
    presence, _ = make(grace=0)
    presence.join("room", "tab", "ada")
    presence.leave("room", "tab")
    assert presence.due() == [Departure("room", "ada", None)]


def test_leaves_are_told_in_their_order_and_per_group() -> None:
    presence, clock = make(grace=5.0)
    for group, member in [("a", "ada"), ("b", "ada"), ("a", "bob")]:
        presence.join(group, f"of {member}", member)
    presence.leave("a", "of bob")
    clock.move(1)
    presence.leave("b", "of ada")
    presence.leave("a", "of ada")
    clock.move(4)
    assert presence.due() == [Departure("a", "bob", None)]
    clock.move(1)
    assert presence.due() == [Departure("b", "ada", None), Departure("a", "ada", None)]


def test_a_channel_without_a_member_stands_for_itself() -> None:
    presence, clock = make(grace=5.0)
    assert presence.join("room", "one") == Arrival("room", "one", None)
    assert presence.join("room", "two") == Arrival("room", "two", None)
    presence.leave("room", "one")
    clock.move(5)
    assert presence.due() == [Departure("room", "one", None)]
    assert presence.members("room") == {"two": None}


def test_channels_are_listed_as_they_are_while_members_are_counted_as_told() -> None:
    presence, clock = make(grace=5.0)
    presence.join("room", "one", "ada", {"n": 1})
    presence.join("room", "two", "bob", {"n": 2})
    presence.leave("room", "one")
    assert presence.members("room") == {"two": {"n": 2}}
    assert presence.count("room") == 2
    clock.move(5)
    presence.due()
    assert presence.count("room") == 1
    assert presence.members("nobody is here") == {}
    assert presence.count("nobody is here") == 0


def test_joining_again_replaces_the_info() -> None:
    presence, _ = make()
    presence.join("room", "tab", "ada", {"status": "busy"})
    assert presence.join("room", "tab", "ada", {"status": "free"}) is None
    assert presence.members("room") == {"tab": {"status": "free"}}
    presence.leave("room", "tab")
    assert presence.members("room") == {}


def test_a_channel_may_pass_to_another_member() -> None:
    presence, clock = make(grace=5.0)
    presence.join("room", "tab", "guest", {"name": "a guest"})
    assert presence.join("room", "tab", "ada") == Arrival("room", "ada", None)
    clock.move(5)
    assert presence.due() == [Departure("room", "guest", {"name": "a guest"})]
    assert presence.members("room") == {"tab": None}


def test_the_info_is_a_copy() -> None:
    presence, _ = make()
    info = {"name": "Ada"}
    presence.join("room", "tab", "ada", info)
    info["name"] = "Eve"
    assert presence.members("room") == {"tab": {"name": "Ada"}}


def test_leaving_where_one_is_not_changes_nothing() -> None:
    presence, _ = make()
    presence.leave("room", "tab")
    presence.join("room", "tab", "ada")
    presence.leave("room", "other")
    presence.leave("other", "tab")
    assert presence.next_due is None
    assert presence.count("room") == 1


def test_nothing_stays_of_groups_that_all_have_left() -> None:
    presence, clock = make(grace=5.0)
    for n in range(10):
        presence.join(f"room_{n}", "tab", "ada")
        presence.leave(f"room_{n}", "tab")
    clock.move(5)
    assert len(presence.due()) == 10
    assert not vars(presence)["_groups"]
    assert not vars(presence)["_leaving"]


def test_what_is_cleared_is_gone_without_a_word() -> None:
    presence, clock = make(grace=5.0)
    presence.join("room", "tab", "ada")
    presence.join("room", "other", "bob")
    presence.leave("room", "tab")
    presence.clear()
    clock.move(5)
    assert presence.due() == []
    assert presence.members("room") == {}
    assert presence.join("room", "tab", "ada") == Arrival("room", "ada", None)


@pytest.mark.parametrize("grace", [-1, nan, "5", None])
def test_a_grace_that_makes_no_sense_is_refused(grace: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"grace is a number of seconds, .* not "):
        Presence(grace)


groups = st.sampled_from(["red", "blue"])
channels = st.sampled_from(["c1", "c2", "c3", "c4"])
members = st.none() | st.sampled_from(["ada", "bob"])


class Visits(RuleBasedStateMachine):
    """Random visits against a model that looks at every member each time.

    Attributes:
        present: per group and channel, the member and the info.
        told: the members of each group, as a follower of joins and leaves knows them.
        away: since when the members that are told of have no channel, and the last info.
    """

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.presence = Presence(5.0, self.clock)
        self.present: dict[tuple[str, str], tuple[str, Info]] = {}
        self.told: set[tuple[str, str]] = set()
        self.away: dict[tuple[str, str], tuple[float, Info]] = {}
        self.visits = 0

    @rule(group=groups, channel=channels, member=members)
    def join(self, group: str, channel: str, member: str | None) -> None:
        self.visits += 1
        who, info = member or channel, {"visit": self.visits}
        event = self.presence.join(group, channel, member, info)
        before = self.present.get((group, channel))
        if before is not None and before[0] != who:
            self.part(group, channel)
        self.present[group, channel] = who, info
        self.away.pop((group, who), None)
        assert event == (None if (group, who) in self.told else Arrival(group, who, info))
        self.told.add((group, who))

    @rule(group=groups, channel=channels)
    def leave(self, group: str, channel: str) -> None:
        self.presence.leave(group, channel)
        if (group, channel) in self.present:
            self.part(group, channel)

    def part(self, group: str, channel: str) -> None:
        who, info = self.present.pop((group, channel))
        if not any(at == group and one == who for (at, _), (one, _) in self.present.items()):
            self.away[group, who] = self.clock.now, info

    @rule(seconds=st.sampled_from([0.5, 2.0, 4.5, 5.0]))
    def move(self, seconds: float) -> None:
        self.clock.move(seconds)

    @rule()
    def tell(self) -> None:
        expected = [
            (since, Departure(group, who, info))
            for (group, who), (since, info) in self.away.items()
            if since + 5.0 <= self.clock.now
        ]
        told = self.presence.due()
        assert Counter(map(repr, told)) == Counter(repr(left) for _, left in expected)
        moments = {(left.group, left.member): since for since, left in expected}
        order = [moments[left.group, left.member] for left in told]
        assert order == sorted(order)
        for left in told:
            self.told.remove((left.group, left.member))
            del self.away[left.group, left.member]

    @invariant()
    def everybody_agrees(self) -> None:
        for group in ("red", "blue"):
            here = {c: info for (at, c), (_, info) in self.present.items() if at == group}
            assert self.presence.members(group) == here
            assert self.presence.count(group) == sum(at == group for at, _ in self.told)
        dues = [since + 5.0 for since, _ in self.away.values()]
        assert self.presence.next_due == min(dues, default=None)


def test_any_interleaving_of_visits_is_as_the_model_says() -> None:
    run_state_machine_as_test(
        Visits, settings=settings(deadline=None, max_examples=examples(200), stateful_step_count=40)
    )
