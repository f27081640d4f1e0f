"""What a benchmark counts, and how the figures are reckoned."""

import json
from collections.abc import Iterator
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_notify.cli.measure import (
    MIN_SIZE,
    Listener,
    Measurement,
    Report,
    latencies_ms,
    percentile,
)


def measurement(
    *, clients: int = 1, rooms: int = 1, messages: int = 3
) -> tuple[Measurement, list[Listener]]:
    ticks: Iterator[int] = count(step=1_000_000)
    measurement = Measurement(messages, rooms, MIN_SIZE, clock=lambda: next(ticks))
    return measurement, [measurement.add() for _ in range(clients)]


def report(**figures: object) -> Report:
    whole = {
        "url": "http://host", "clients": 2, "rooms": 1, "size": 128, "connect_seconds": 0.5,
        "published": 10, "publish_seconds": 1.0, "expected": 20, "delivered": 20,
        "deliver_seconds": 2.0, "latency_ms": {"p50": 1.0, "p90": 2.0, "p99": 3.0, "max": 4.0},
        "cut": {}, "busy": 0.1, "error": None,
    }  # fmt: skip
    return Report(**whole | figures)  # type: ignore[arg-type]  # of many types


# Percentiles.


@pytest.mark.parametrize(
    ("share", "found"), [(1, 15), (30, 20), (40, 20), (50, 35), (99, 50), (100, 50)]
)
def test_a_percentile_is_one_of_the_numbers_by_nearest_rank(share: int, found: int) -> None:
    assert percentile([15, 20, 35, 40, 50], share) == found


@given(st.lists(st.integers(0, 100), min_size=1), st.integers(1, 100))
def test_that_share_is_not_above_the_percentile_and_fewer_are_below(
    numbers: list[int], share: int
) -> None:
    found = percentile(sorted(numbers), share)
    assert sum(number <= found for number in numbers) * 100 >= share * len(numbers)
    assert sum(number < found for number in numbers) * 100 < share * len(numbers)


def test_latencies_are_told_in_milliseconds_and_none_of_none() -> None:
    numbers = [1_500_000, *range(2_000_000, 101_000_000, 1_000_000)]
    assert latencies_ms(numbers[::-1]) == {"p50": 50.0, "p90": 90.0, "p99": 99.0, "max": 100.0}
    assert latencies_ms([]) == {}


# Counting.


def test_a_message_has_its_size_and_is_counted_with_its_time() -> None:
    counted, [listener] = measurement()
    text = counted.text(0)
    assert len(text.encode()) == MIN_SIZE
    counted.take(listener, text)
    counted.published = 1
    assert (counted.expected, counted.delivered, counted.is_any_missing()) == (1, 1, False)
    assert list(counted.latencies) == [1_000_000]
    assert counted.ended - counted.started == 1_000_000


def test_no_mark_is_longer_than_the_smallest_size() -> None:
    huge = Measurement(1, 1, MIN_SIZE, clock=lambda: 2**63 - 1)
    assert len(huge.text(10**12)) == MIN_SIZE


def test_repeats_and_the_words_of_others_are_not_counted() -> None:
    counted, [listener] = measurement()
    text = counted.text(0)
    other, _ = measurement()
    for foreign in ["bench", "", "pong", '{"error": "..."}', other.text(0)]:
        counted.take(listener, foreign)
    counted.take(listener, text)
    counted.take(listener, text)
    counted.published = 1
    assert counted.delivered == len(counted.latencies) == 1


def test_messages_go_to_the_rooms_in_turn_and_so_do_clients() -> None:
    counted, listeners = measurement(clients=3, rooms=2, messages=5)
    assert [listener.room for listener in listeners] == [0, 1, 0]
    counted.published = 5  # three to the first room, which has two clients
    assert counted.expected == 3 * 2 + 2 * 1


def test_who_was_cut_is_counted_by_code_and_no_longer_waited_for() -> None:
    counted, listeners = measurement(clients=3)
    counted.published = 3
    for listener in listeners[:2]:
        assert counted.is_any_missing()
        listener.close_code = 1013
    assert counted.is_any_missing()
    assert counted.is_anyone_left()
    listeners[2].close_code = 1006
    assert not counted.is_any_missing()
    assert not counted.is_anyone_left()
    assert (counted.expected, counted.delivered) == (9, 0)
    assert counted.cut == {1013: 2, 1006: 1}


def test_a_message_that_was_not_published_for_certain_counts_nowhere() -> None:
    counted, [listener] = measurement()
    counted.take(listener, counted.text(0))
    counted.take(listener, counted.text(1))
    counted.published = 1
    assert (counted.expected, counted.delivered, counted.is_any_missing()) == (1, 1, False)


# Telling.


def test_the_figures_for_a_reader() -> None:
    assert report().to_text().splitlines() == [
        "connected  2 in 0.50 s (4 per second)",
        "published  10 in 1.00 s (10 per second)",
        "delivered  20 in 2.00 s (10 per second)",
        "lost       0 of 20",
        "latency    p50 1.0, p90 2.0, p99 3.0, max 4.0 ms",
    ]


def test_what_went_wrong_and_what_was_never_reached_is_told() -> None:
    text = report(
        delivered=0, deliver_seconds=0.0, latency_ms={}, cut={1013: 1_000, 1006: 1}, busy=0.97
    ).to_text()
    assert "delivered  0 in 0.00 s (0 per second)" in text
    assert "lost       20 of 20" in text
    assert "latency" not in text
    assert "cut        1,000 with 1013, 1 with 1006" in text
    assert "busy 97% of the time: they, rather than the server, may be the limit" in text


def test_the_figures_for_a_program() -> None:
    figures = json.loads(report(delivered=15, cut={1013: 1}, error="gone").to_json())
    assert figures["lost"] == 5
    assert figures["connects_per_second"] == 4
    assert figures["published_per_second"] == 10
    assert figures["delivered_per_second"] == 7.5
    assert figures["latency_ms"]["p99"] == 3
    assert figures["cut"] == {"1013": 1}
    assert figures["error"] == "gone"
