"""A group's live messages and its history as one order."""

from collections.abc import Iterable, Sequence

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from asgi_notify.codec import FrozenMessage, stamped
from asgi_notify.layers import stream as stream_module
from asgi_notify.layers.stream import Filled, GroupStream, Kept
from asgi_notify.positions import Position

from .tools import number

EPOCH = "aaaaaaaa"
LATER = "bbbbbbbb"


def at(offset: int, epoch: str = EPOCH) -> FrozenMessage:
    """The message that stands there."""
    return stamped(number(offset), "room", Position(epoch, offset))


def offsets(messages: Iterable[FrozenMessage]) -> list[int]:
    return [message["n"] for message in messages]


def kept(*messages: FrozenMessage, top: int, whole: bool = True, epoch: str = EPOCH) -> Kept:
    return Kept(messages, whole, Position(epoch, top))


def started(offset: int = 0) -> GroupStream:
    stream = GroupStream()
    stream.start(Position(EPOCH, offset))
    return stream


def test_the_next_message_is_delivered_at_once() -> None:
    stream = started()
    assert offsets(stream.take(at(1))) == [1]
    assert offsets(stream.take(at(2))) == [2]
    assert stream.position == Position(EPOCH, 2)
    assert not stream.is_reading


def test_what_comes_before_the_start_is_known_waits_for_it() -> None:
    stream = GroupStream()
    assert stream.take(at(4)) == ()
    assert stream.take(at(5)) == ()
    assert stream.take(at(6)) == ()
    assert offsets(stream.start(Position(EPOCH, 4))) == [5, 6]
    assert stream.position == Position(EPOCH, 6)
    assert not stream.is_reading


def test_a_start_before_the_messages_that_wait_leaves_a_hole_to_be_read() -> None:
    stream = GroupStream()
    stream.take(at(4))
    assert stream.start(Position(EPOCH, 1)) == []
    assert stream.is_reading
    filled = stream.fill(kept(at(2), at(3), at(4), top=4))
    assert offsets(filled.messages) == [2, 3, 4]
    assert not filled.is_lost


def test_a_message_that_came_before_is_passed_over() -> None:
    stream = started(3)
    assert stream.take(at(3)) == ()
    assert stream.take(at(1)) == ()
    assert not stream.is_reading


def test_a_message_without_a_position_passes_through_even_while_others_wait() -> None:
    stream = started()
    stream.take(at(5))
    plain = stamped(number(0), "room")
    assert stream.take(plain) == (plain,)


def test_a_hole_is_filled_from_the_history_before_what_waits_behind_it() -> None:
    stream = started(1)
    assert stream.take(at(4)) == ()
    assert stream.take(at(5)) == ()
    assert stream.is_reading
    filled = stream.fill(kept(at(2), at(3), at(4), top=4))
    assert filled == Filled([at(2), at(3), at(4), at(5)], False, None)
    assert stream.position == Position(EPOCH, 5)
    assert not stream.is_reading


def test_what_the_history_no_longer_holds_is_counted_as_lost() -> None:
    stream = started(1)
    stream.take(at(6))
    filled = stream.fill(kept(at(5), at(6), top=6, whole=False))
    assert filled == Filled([at(5), at(6)], True, 3, Position(EPOCH, 1))


def test_an_empty_history_says_how_many_are_lost() -> None:
    stream = started(1)
    stream.take(at(6))
    assert stream.fill(kept(top=6, whole=False)) == Filled([], True, 5, Position(EPOCH, 1))


def test_another_epoch_means_that_nobody_knows_how_many_are_lost() -> None:
    stream = started(7)
    assert stream.take(at(2, LATER)) == ()
    filled = stream.fill(kept(at(1, LATER), at(2, LATER), top=2, whole=False, epoch=LATER))
    assert filled == Filled([at(1, LATER), at(2, LATER)], True, None, Position(EPOCH, 7))
    assert stream.position == Position(LATER, 2)


def test_a_message_of_a_history_that_is_over_is_dropped_and_asked_for_once() -> None:
    stream = started(7)
    stream.take(at(1, LATER))
    stream.fill(kept(at(1, LATER), top=1, whole=False, epoch=LATER))
    stream.take(at(8))
    assert stream.is_reading
    assert stream.fill(kept(top=1, epoch=LATER)) == Filled([], False, None)
    assert not stream.is_reading


def test_a_history_that_lags_behind_is_read_again() -> None:
    stream = started(5)
    stream.take(at(8))
    assert stream.fill(kept(top=4)) == Filled((), False, None)
    assert stream.is_reading
    assert offsets(stream.fill(kept(at(6), top=6)).messages) == [6]
    assert stream.is_reading, "7 is still missing"
    assert offsets(stream.fill(kept(at(7), at(8), top=8)).messages) == [7, 8]
    assert not stream.is_reading


@pytest.mark.parametrize(
    ("top", "is_behind"),
    [
        (Position(EPOCH, 5), False),
        (Position(EPOCH, 4), False),
        (Position(EPOCH, 6), True),
        (Position(LATER, 0), True),
    ],
)
def test_a_quiet_group_learns_what_it_missed_from_where_the_group_stands(
    top: Position, is_behind: bool
) -> None:
    stream = started(5)
    assert stream.doubt(top) is is_behind
    assert stream.is_reading is is_behind


def test_one_that_joins_gets_what_is_delivered_while_it_reads() -> None:
    stream = started(1)
    with stream.collecting() as later:
        stream.take(at(2))
        stream.take(at(4))
        stream.fill(kept(at(3), at(4), top=4))
    stream.take(at(5))
    assert offsets(later) == [2, 3, 4]


def test_of_two_that_join_at_once_the_first_to_end_takes_nothing_from_the_other() -> None:
    stream = started(1)
    with stream.collecting() as slow:
        with stream.collecting() as fast:
            pass  # as empty as the other one, and so equal to it
        stream.take(at(2))
    assert offsets(slow) == [2]
    stream.take(at(3))
    assert (offsets(fast), offsets(slow)) == ([], [2])


def test_more_than_enough_waiting_messages_are_let_go_of_and_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stream_module, "MAX_WAITING", 3)
    stream = started()
    for offset in range(2, 9):
        stream.take(at(offset))
    filled = stream.fill(kept(*(at(n) for n in range(1, 9)), top=8))
    assert offsets(filled.messages) == [*range(1, 9)]
    assert not stream.is_reading


def test_a_stream_is_filled_after_its_start() -> None:
    with pytest.raises(ValueError, match="after it was started"):
        GroupStream().fill(kept(top=1))


class Server:
    """A history that loses its oldest messages, and now and then all of them."""

    def __init__(self) -> None:
        self.epochs = 1
        self.top = 0
        self.messages: list[FrozenMessage] = []

    @property
    def epoch(self) -> str:
        return f"{self.epochs:08d}"

    @property
    def position(self) -> Position:
        return Position(self.epoch, self.top)

    def publish(self) -> FrozenMessage:
        self.top += 1
        self.messages.append(at(self.top, self.epoch))
        self.messages = self.messages[-6:]
        return self.messages[-1]

    def forget(self) -> None:
        self.epochs, self.top, self.messages = self.epochs + 1, 0, []

    def read(self, after: Position) -> Kept:
        if after.epoch != self.epoch or after.offset > self.top:
            return Kept(tuple(self.messages), False, self.position)
        found = [m for m in self.messages if m.position is not None and m.position > after]
        first = found[0]["n"] if found else self.top + 1
        return Kept(found, first == after.offset + 1, self.position)


class StreamMachine(RuleBasedStateMachine):
    """Whatever is lost or repeated on the way: no hole untold, no repeat, and all in the end."""

    def __init__(self) -> None:
        super().__init__()
        self.server = Server()
        self.stream = GroupStream()
        self.wire: list[FrozenMessage] = []
        self.place = Position(self.server.epoch, 0)  # where a member stands
        self.unsure = False  # it was told of a loss of unknown size
        self.is_started = False

    def deliver(self, messages: Sequence[FrozenMessage]) -> None:
        for message in messages:
            position = message.position
            assert position is not None
            if position.epoch == self.place.epoch:
                assert position.offset > self.place.offset, "a repeat"
                assert self.unsure or position.offset == self.place.offset + 1, "an untold hole"
            else:
                assert self.unsure, "an untold change of history"
            self.place, self.unsure = position, False

    @rule()
    def publish(self) -> None:
        self.wire.append(self.server.publish())

    @rule()
    def forget(self) -> None:
        self.server.forget()

    @precondition(lambda self: self.wire)
    @rule(data=st.data())
    def lose(self, data: st.DataObject) -> None:
        self.wire.pop(data.draw(st.integers(0, len(self.wire) - 1)))

    @precondition(lambda self: self.wire)
    @rule(twice=st.booleans())
    def arrive(self, twice: bool) -> None:
        message = self.wire[0] if twice else self.wire.pop(0)
        self.deliver(self.stream.take(message))

    @precondition(lambda self: not self.is_started)
    @rule()
    def start(self) -> None:
        self.is_started = True
        self.place = self.server.position
        self.deliver(self.stream.start(self.server.position))

    @precondition(lambda self: self.is_started)
    @rule()
    def look(self) -> None:
        self.stream.doubt(self.server.position)

    @precondition(lambda self: self.is_started and self.stream.is_reading)
    @rule(arrivals=st.integers(0, 3))
    def read(self, arrivals: int) -> None:
        assert self.stream.position is not None
        kept = self.server.read(self.stream.position)
        for _ in range(arrivals):  # while the answer is on its way
            self.publish()
            self.arrive(twice=False)
        filled = self.stream.fill(kept)
        self.unsure = self.unsure or filled.is_lost
        self.deliver(filled.messages)

    @invariant()
    def a_member_stands_where_the_stream_does(self) -> None:
        if self.is_started and not self.unsure:
            assert self.stream.position == self.place

    def teardown(self) -> None:
        """With nothing lost any more, one look brings everybody to where the group stands."""
        if not self.is_started:
            return
        while self.wire:
            self.arrive(twice=False)
        self.look()
        for _ in range(3):
            if self.stream.is_reading:
                self.read(arrivals=0)
        assert not self.stream.is_reading
        assert self.stream.position == self.server.position


TestStream = StreamMachine.TestCase
TestStream.settings = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
