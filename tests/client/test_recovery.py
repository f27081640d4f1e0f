"""What the ledger asks for and hands out, over any number of connections."""

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from asgi_notify import Forbidden, NotifyError
from asgi_notify.client import Gap, Notification
from asgi_notify.client.items import Frame
from asgi_notify.client.recovery import Follower, Recovery
from tests.examples import examples

HISTORY = "aaaaaaaa"


def at(offset: int, history: str = HISTORY) -> str:
    return f"{history}-{offset}"


def confirmed(ask: Frame, position: str | None, **more: Any) -> Frame:
    return {
        "type": "subscribed",
        "group": ask["group"],
        "ref": ask["ref"],
        "position": position,
    } | more


def notified(id: str | None, group: str = "a") -> Frame:
    return {"type": "notification", "group": group, "id": id, "data": id}


def test_a_follower_takes_nothing_before_it_is_confirmed_and_nothing_twice() -> None:
    recovery, one = Recovery(), Follower("a")
    ask = recovery.follow(one)
    assert ask == {"type": "subscribe", "group": "a", "ref": ask["ref"]}
    assert recovery.take(notified(at(4))) == ([], [])
    assert recovery.take(confirmed(ask, at(5))) == ([], [])
    assert recovery.take(notified(at(5))) == ([], [])
    assert recovery.take(notified(at(6))) == ([(one, Notification("a", at(6), at(6)))], [])
    assert recovery.take(notified(at(6))) == ([], [])
    assert recovery.take(notified(at(7), "b")) == ([], [])
    assert recovery.take(notified(None)) == ([(one, Notification("a", None, None))], [])
    assert one.position == at(6)


def resumed() -> tuple[Recovery, list[Follower], list[Frame]]:
    """A new connection's questions for followers at 5, 5 and 2 of one group, and one elsewhere."""
    recovery = Recovery()
    followers = [Follower("a"), Follower("a"), Follower("a", at(2)), Follower("b")]
    for follower, position in zip(followers, [at(5), at(5), at(2), None], strict=True):
        recovery.take(confirmed(recovery.follow(follower), position))
    return recovery, followers, recovery.resume()


def wanted(asks: list[Frame]) -> list[tuple[str, str | None]]:
    return [(ask["group"], ask.get("since")) for ask in asks]


def test_a_new_connection_asks_once_for_all_of_a_group_from_where_the_last_stands() -> None:
    recovery, followers, asks = resumed()
    assert wanted(asks) == [("a", at(2)), ("b", None)]
    assert recovery.take(notified(at(9))) == ([], []), "before the answer nothing is taken"
    assert recovery.take(confirmed(asks[0], at(2), recovered=True)) == ([], [])
    taken, _ = recovery.take(notified(at(3)))
    assert [follower for follower, _ in taken] == [followers[2]]
    taken, _ = recovery.take(notified(at(6)))
    assert [follower for follower, _ in taken] == followers[:3]


def test_who_was_asked_for_from_too_far_back_is_asked_for_again() -> None:
    recovery, followers, asks = resumed()
    taken, again = recovery.take(confirmed(asks[0], at(9), recovered=False))
    assert taken == [(followers[2], Gap("a", "unrecovered", None))]
    assert wanted(again) == [("a", at(5))]
    assert recovery.take(confirmed(again[0], at(5), recovered=True)) == ([], [])
    taken, _ = recovery.take(notified(at(6)))
    assert [follower for follower, _ in taken] == followers[:2]


def test_no_question_skips_what_another_still_waits_for() -> None:
    recovery, early, late = Recovery(), Follower("a", at(2)), Follower("a", at(7))
    first, second = recovery.follow(early), recovery.follow(late)
    assert wanted([first, second]) == [("a", at(2)), ("a", at(2))]
    for ask in first, second:
        recovery.take(confirmed(ask, at(2), recovered=True))
    assert recovery.take(notified(at(7)))[0] == [(early, Notification("a", at(7), at(7)))]
    assert wanted([recovery.follow(Follower("a", at(5)))]) == [("a", at(5))]


def test_no_question_skips_what_another_who_is_confirmed_has_not_had_yet() -> None:
    recovery, early, late = Recovery(), Follower("a", at(2)), Follower("a", at(7))
    first, _ = recovery.follow(early), recovery.follow(late)
    recovery.take(confirmed(first, at(2), recovered=True))
    ask = recovery.follow(Follower("a", at(7)))
    assert wanted([ask]) == [("a", at(2))]
    # Where the history is gone that far, each asks for what it needs itself.
    told, again = recovery.take(confirmed(ask, at(2), recovered=False))
    assert (told, wanted(again)) == ([], [("a", at(7))])
    recovery.take(notified(at(3)))
    assert wanted([recovery.follow(Follower("a", at(7)))]) == [("a", at(3))]


def test_a_group_that_was_left_before_its_refusal_came_can_be_asked_for_again() -> None:
    recovery, one, other = Recovery(), Follower("a"), Follower("a")
    recovery.follow(one)
    assert recovery.leave(one) is not None
    ask = recovery.follow(other)
    # The first was refused, so that there is nothing to leave.
    error = {"type": "error", "code": "not_subscribed", "message": "no", "group": "a", "ref": None}
    assert recovery.take(error) == ([], [])
    recovery.take(confirmed(ask, None))
    assert other.is_live


def test_what_could_not_be_recovered_is_a_gap_from_which_it_goes_on() -> None:
    recovery, one = Recovery(), Follower("a", at(5))
    ask = recovery.follow(one)
    assert ask["since"] == at(5)
    taken, _ = recovery.take(confirmed(ask, at(1, "bbbbbbbb"), recovered=False))
    assert taken == [(one, Gap("a", "unrecovered", None))]
    assert one.position == at(1, "bbbbbbbb")


def test_without_a_history_a_lost_connection_is_a_gap() -> None:
    recovery, one = Recovery(), Follower("a")
    assert recovery.take(confirmed(recovery.follow(one), None)) == ([], [])
    (ask,) = recovery.resume()
    assert "since" not in ask
    assert recovery.take(confirmed(ask, None))[0] == [(one, Gap("a", "unrecovered", None))]


def test_one_that_was_never_confirmed_has_missed_nothing() -> None:
    recovery = Recovery()
    recovery.follow(Follower("a"))
    (ask,) = recovery.resume()
    assert recovery.take(confirmed(ask, None)) == ([], [])


def test_a_gap_is_asked_for_again_where_there_is_a_history() -> None:
    recovery, one = Recovery(), Follower("a")
    recovery.take(confirmed(recovery.follow(one), at(5)))
    told, (ask,) = recovery.take({"type": "gap", "group": "a", "reason": "full", "lost": 3})
    assert (told, ask["since"]) == ([], at(5))
    assert recovery.take(notified(at(9))) == ([], [])
    assert recovery.take(confirmed(ask, at(5), recovered=True)) == ([], [])
    assert recovery.take(notified(at(6)))[0] == [(one, Notification("a", at(6), at(6)))]


def test_a_gap_is_told_where_there_is_no_history() -> None:
    recovery, one = Recovery(), Follower("a")
    recovery.take(confirmed(recovery.follow(one), None))
    gap = {"type": "gap", "group": "a", "reason": "full", "lost": 3}
    assert recovery.take(gap) == ([(one, Gap("a", "full", 3))], [])


@pytest.mark.parametrize("reason", ["unrecovered", "unreadable"])
@pytest.mark.parametrize("following", [at(9), at(1, "bbbbbbbb")])
def test_behind_a_gap_that_no_history_can_fill_it_goes_on_at_once(
    reason: str, following: str
) -> None:
    recovery, one = Recovery(), Follower("a")
    recovery.take(confirmed(recovery.follow(one), at(5)))
    gap = {"type": "gap", "group": "a", "reason": reason, "lost": 3}
    assert recovery.take(gap) == ([(one, Gap("a", reason, 3))], [])
    notification = Notification("a", following, following)
    assert recovery.take(notified(following)) == ([(one, notification)], [])
    assert wanted(recovery.resume()) == [("a", following)]


def test_a_group_is_left_with_its_last_follower() -> None:
    recovery, one, other = Recovery(), Follower("a"), Follower("a")
    recovery.follow(one)
    recovery.follow(other)
    assert recovery.leave(one) is None
    assert recovery.leave(one) is None
    assert recovery.leave(other) == {"type": "unsubscribe", "group": "a"}
    assert recovery.resume() == []


def test_an_answer_to_one_who_left_is_for_nobody() -> None:
    recovery, one = Recovery(), Follower("a")
    ask = recovery.follow(one)
    recovery.leave(one)
    assert recovery.take(confirmed(ask, None)) == ([], [])
    assert not one.is_live


def test_an_answer_of_an_earlier_connection_is_for_nobody() -> None:
    recovery, one = Recovery(), Follower("a")
    before = recovery.follow(one)
    (ask,) = recovery.resume()
    assert recovery.take(confirmed(before, at(5))) == ([], [])
    assert not one.is_live
    recovery.take(confirmed(ask, at(6)))
    assert one.position == at(6)


def test_a_refusal_ends_the_followers_that_it_answers() -> None:
    recovery, one, other = Recovery(), Follower("a"), Follower("a")
    ask = recovery.follow(one)
    recovery.follow(other)
    error = {"type": "error", "code": "forbidden", "message": "not yours"}
    [(refused, why)], _ = recovery.take({**error, "ref": ask["ref"]})
    assert refused is one
    assert isinstance(why, Forbidden)
    assert recovery.followers == [other]
    [(refused, _)], _ = recovery.take({**error, "ref": None, "group": "a"})
    assert refused is other


def test_frames_of_a_later_version_and_broken_ones_change_nothing() -> None:
    recovery, one = Recovery(), Follower("a")
    recovery.take(confirmed(recovery.follow(one), None))
    broken: list[Frame] = [
        {"type": "sparkle"},
        {"type": "notification"},
        {"type": "notification", "group": "a", "id": 5},
        {"type": "notification", "group": ["a"], "id": None},
        {"type": "subscribed", "ref": [1]},
        {"type": "gap"},
        {"type": "error"},
    ]
    for frame in broken:
        assert recovery.take(frame) == ([], [])


class Server:
    """A model of a server: one group, whose history can be trimmed and lost."""

    def __init__(self) -> None:
        self.epoch = 0
        self.first = 1  # the oldest message that is kept
        self.top = 0
        self.wire: list[Frame] = []
        self.is_subscribed = False

    def position(self, offset: int) -> str:
        return f"{self.epoch:08d}-{offset}"

    def publish(self) -> None:
        self.top += 1
        if self.is_subscribed:
            self.wire.append(notified(self.position(self.top)))

    def answer(self, ask: Frame) -> None:
        self.is_subscribed = True
        since = ask.get("since")
        if since is None:
            self.wire.append(confirmed(ask, self.position(self.top)))
            return
        epoch, _, offset = since.partition("-")
        recovered = int(epoch) == self.epoch and int(offset) + 1 >= self.first
        start = int(offset) if recovered else self.top
        self.wire.append(confirmed(ask, self.position(start), recovered=recovered))
        self.wire += [notified(self.position(n)) for n in range(start + 1, self.top + 1)]


STEPS = st.lists(
    st.sampled_from(
        ["publish", "publish", "read", "read", "cut", "trim", "restart", "gap", "hole", "join"]
    ),
    max_size=60,
)


@settings(max_examples=examples(300), deadline=None)
@given(STEPS)
def test_whatever_happens_each_has_all_in_order_or_is_told_of_the_gap(steps: list[str]) -> None:
    recovery, server = Recovery(), Server()
    read: dict[Follower, list[Notification | Gap | NotifyError]] = {}

    def join() -> None:
        follower = Follower("a")
        read[follower] = []
        server.answer(recovery.follow(follower))

    def cut() -> None:
        server.wire.clear()
        server.is_subscribed = False
        for ask in recovery.resume():
            server.answer(ask)

    def gap(reason: str) -> None:
        server.wire = [{"type": "gap", "group": "a", "reason": reason, "lost": None}]

    def hole() -> None:
        """What is on its way is lost, and the history does not have it; then comes another."""
        server.first = server.top + 1
        gap("unrecovered")
        server.publish()

    def take() -> None:
        deliveries, answers = recovery.take(server.wire.pop(0))
        for follower, item in deliveries:
            read[follower].append(item)
        for ask in answers:
            server.answer(ask)

    join()
    for step in steps:
        if step == "publish":
            server.publish()
        elif step == "read" and server.wire:
            take()
        elif step == "cut":
            cut()
        elif step == "trim":
            server.first = server.top + 1
        elif step == "restart":
            server.epoch, server.first, server.top = server.epoch + 1, 1, 0
            cut()
        elif step == "gap" and server.is_subscribed and all(f.is_live for f in read):
            gap("full")
        elif step == "hole" and server.is_subscribed and all(f.is_live for f in read):
            hole()
        elif step == "join" and len(read) < 3:
            join()
    while server.wire:
        take()

    for follower, items in read.items():
        last: tuple[int, int] | None = None
        for item in items:
            if isinstance(item, Gap):
                last = None
                continue
            assert isinstance(item, Notification)
            assert item.id is not None
            epoch, offset = (int(part) for part in item.id.split("-"))
            assert last is None or (epoch, offset) == (last[0], last[1] + 1), items
            last = epoch, offset
        assert follower.position == server.position(server.top)


class BusyServer(Server):
    """One that answers later than it is asked, and sends later than it has answered.

    A resume takes the place of what still waits, as in a mailbox.
    """

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Frame] = []
        self.waiting: list[list[Frame]] = [[]]  # behind each of these, and before the first

    def publish(self) -> None:
        self.top += 1
        if self.is_subscribed:
            self.waiting[-1].append(notified(self.position(self.top)))

    def ask(self, ask: Frame) -> None:
        self.asked.append(ask)
        self.waiting.append([])

    def handle(self) -> None:
        self.wire += self.waiting[0]
        self.waiting[0] = []
        if not self.asked:
            return
        ask = self.asked.pop(0)
        before = len(self.wire)
        self.answer(ask)
        replayed = self.wire[before + 1 :]
        del self.wire[before + 1 :]
        del self.waiting[0]
        if self.wire[before].get("recovered"):
            self.waiting = [[] for _ in self.waiting]
            self.waiting[-1] = replayed


# Three who share a connection: the third asks when the first is confirmed, and has had
# nothing yet of what waits for it.
THREE = ["publish", "publish", 0, 1, "handle", "read", 1, "handle", "handle", "handle"]


@settings(max_examples=examples(300), deadline=None)
@example(THREE)
@given(
    st.lists(
        st.one_of(
            st.sampled_from(["publish", "publish", "handle", "handle", "read", "read", "cut"]),
            st.integers(0, 12),
        ),
        max_size=60,
    )
)
def test_followers_from_different_places_share_a_connection_without_a_hole(
    steps: list[str | int],
) -> None:
    recovery, server = Recovery(), BusyServer()
    read: dict[Follower, list[str]] = {}
    began: dict[Follower, int] = {}

    def take() -> None:
        deliveries, answers = recovery.take(server.wire.pop(0))
        for follower, item in deliveries:
            assert isinstance(item, Notification), item  # nothing is ever lost here
            read[follower].append(str(item.id))
        for ask in answers:
            server.ask(ask)

    for step in steps:
        if step == "publish":
            server.publish()
        elif step == "handle":
            server.handle()
        elif step == "read" and server.wire:
            take()
        elif step == "cut":
            server.wire, server.asked, server.waiting = [], [], [[]]
            server.is_subscribed = False
            for ask in recovery.resume():
                server.ask(ask)
        elif isinstance(step, int) and len(read) < 4:
            start = min(step, server.top)
            one = Follower("a", server.position(start))
            began[one], read[one] = start, []
            server.ask(recovery.follow(one))
    while server.asked or server.waiting[0] or server.wire:
        server.handle()
        while server.wire:
            take()

    for follower, ids in read.items():
        expected = range(began[follower] + 1, server.top + 1)
        assert ids == [server.position(offset) for offset in expected]
