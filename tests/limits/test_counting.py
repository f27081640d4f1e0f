"""The counters: places that are taken and given back, and rates that are used up."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_notify.exceptions import Overloaded, TooManyRequests
from asgi_notify.limits.counting import Meter, Rate, Rates, Tally


class Clock:
    """Shows what it is set to."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def retry_after(error: TooManyRequests | Overloaded) -> int:
    return int(dict(error.headers)[b"retry-after"])


# Tallies.


def test_one_too_many_of_a_key_is_refused_and_not_counted() -> None:
    tally = Tally(2, "too many")
    for key in ("a", "a", "b"):
        tally.add(key)
    for _ in range(3):
        with pytest.raises(TooManyRequests, match=r"^too many$") as caught:
            tally.add("a")
        assert retry_after(caught.value) == 5
    assert (tally.of("a"), tally.of("b"), tally.of("c"), tally.refused) == (2, 1, 0, 3)
    tally.take_away("a")
    tally.add("a")


def test_what_is_not_there_any_more_takes_no_memory() -> None:
    tally = Tally(None, "never")
    for number in range(100):
        tally.add(str(number))
        tally.add(str(number))
    for number in range(100):
        tally.take_away(str(number), 2)
    assert len(tally) == 0


def test_a_tally_says_that_the_server_is_full_where_nobody_is_to_blame() -> None:
    tally = Tally(1, "full", Overloaded)
    tally.add("")
    with pytest.raises(Overloaded, match=r"^full$"):
        tally.add("")


# Rates of addresses.


def rates(clock: Clock, per_second: float = 2, burst: float = 3, size: int = 10) -> Rates:
    return Rates(Rate(per_second, burst, "too fast", clock), size)


def admitted(table: Rates, address: str, tries: int) -> int:
    count = 0
    for _ in range(tries):
        try:
            table.spend(address)
            count += 1
        except TooManyRequests:
            pass
    return count


@pytest.mark.parametrize("now", [1000.0, 123_456.789, 8_765_432.1])
@pytest.mark.parametrize("per_second", [0.001, 0.03, 0.07, 0.0999])
def test_the_first_one_may_come_however_slow_the_rate(per_second: float, now: float) -> None:
    clock = Clock()
    for number in range(100):
        clock.now = now + number / 7
        slow = Rates(Rate(per_second, 10.0, "too fast", clock))
        slow.spend("a")
        with pytest.raises(TooManyRequests):
            slow.spend("a")


def test_an_address_may_use_the_burst_at_once_and_the_rate_then() -> None:
    clock = Clock()
    table = rates(clock)
    assert admitted(table, "a", 100) == 6  # 2 a second, saved for 3 seconds
    assert admitted(table, "b", 1) == 1
    assert table.rate.refused == 94
    clock.now += 1
    assert admitted(table, "a", 100) == 2
    clock.now += 1000
    assert admitted(table, "a", 100) == 6  # no more is saved than that


def test_who_is_too_fast_is_told_when_to_come_back_and_is_let_in_then() -> None:
    clock = Clock()
    table = rates(clock, per_second=0.1, burst=1)
    table.spend("a")
    with pytest.raises(TooManyRequests) as caught:
        table.spend("a")
    assert retry_after(caught.value) == 10
    clock.now += 10
    table.spend("a")


def test_no_number_of_addresses_fills_the_table() -> None:
    clock = Clock()
    table = rates(clock, size=10)
    assert admitted(table, "mine", 100) == 6
    for number in range(1000):
        table.spend(f"other {number}")
        table.owe(f"further {number}", 5)
    assert len(table) == 10


def test_filling_the_table_forgets_who_was_silent_and_not_who_attacks() -> None:
    table = rates(Clock(), size=10)
    admitted(table, "attacker", 100)
    for number in range(1000):
        table.spend(f"other {number}")
        assert admitted(table, "attacker", 1) == 0
    assert len(table) == 10


def test_debts_are_required_before_one_may_go_on() -> None:
    clock = Clock()
    table = rates(clock)
    table.require("a")
    table.owe("a", 6)
    table.require("a")
    table.owe("a", 2)
    with pytest.raises(TooManyRequests) as caught:
        table.require("a")
    assert retry_after(caught.value) == 1
    clock.now += 1
    table.require("a")


@given(st.lists(st.floats(0, 5), max_size=50))
def test_no_pattern_gets_more_than_the_burst_and_the_rate(pauses: list[float]) -> None:
    clock = Clock()
    table = rates(clock)
    begin, count = clock.now, 0
    for pause in pauses:
        clock.now += pause
        count += admitted(table, "a", 3)
    assert count <= 6 + 2 * (clock.now - begin) + 1e-6


# Meters of connections.


def test_who_has_used_up_the_burst_is_warned_once_and_refused_when_it_is_used_up_again() -> None:
    meter = Meter(Rate(2, 3, "too fast", Clock()))
    warnings = [meter.spend() for _ in range(12)]
    assert warnings == [False] * 6 + [True] + [False] * 5
    with pytest.raises(TooManyRequests, match=r"^too fast$"):
        meter.spend()


def test_who_calms_down_is_warned_anew() -> None:
    clock = Clock()
    meter = Meter(Rate(2, 3, "too fast", clock))
    assert [meter.spend() for _ in range(8)].count(True) == 1
    clock.now += 1.5
    assert not any(meter.spend() for _ in range(3))  # within the rate, and still warned
    clock.now += 100
    assert [meter.spend() for _ in range(8)].count(True) == 1


def test_one_large_message_is_a_warning_and_the_next_the_end() -> None:
    meter = Meter(Rate(10, 1, "too fast", Clock()))
    assert meter.spend(1000)
    with pytest.raises(TooManyRequests):
        meter.spend(1)


@given(st.lists(st.tuples(st.floats(0, 2), st.floats(0, 10)), max_size=60))
def test_no_pattern_spends_more_than_twice_the_burst_and_the_rate(
    spent: list[tuple[float, float]],
) -> None:
    clock = Clock()
    meter = Meter(Rate(2, 3, "too fast", clock))
    begin, total, last = clock.now, 0.0, 0.0
    for pause, amount in spent:
        clock.now += pause
        try:
            meter.spend(amount)
        except TooManyRequests:
            break
        total, last = total + amount, max(last, amount)
    # What is spent at once, before there was a warning, may be any amount.
    assert total <= 2 * 6 + last + 2 * (clock.now - begin) + 1e-6
