"""How figures become the few that are quoted."""

from math import isnan

import pytest

from benchmarks.ratios import Figure, Ratio, compare
from benchmarks.results import Result, Results
from benchmarks.statistics import Spread, quantile, spread

RAW = Figure("burst", "one", "raw", "cpu_us")
OURS = Figure("burst", "one", "ours", "cpu_us")


def results(**cpu: list[float]) -> Results:
    """What contenders measured, round by round."""
    return Results(
        [
            Result("burst", "one", contender, number, {"cpu_us": value})
            for contender, values in cpu.items()
            for number, value in enumerate(values)
        ]
    )


def test_a_ratio_is_of_the_same_round() -> None:
    # Of the medians it would be 10 / 10.
    found = compare(OURS, RAW, "ratio", results(raw=[5, 10, 20], ours=[10, 10, 30]))
    assert found == Spread(1.5, 1, 2)


def test_a_difference_is_of_the_same_round() -> None:
    found = compare(OURS, RAW, "difference", results(raw=[5, 10], ours=[7, 14]))
    assert found == Spread(3, 2, 4)


def test_a_round_that_one_of_them_lacks_does_not_count() -> None:
    found = compare(OURS, RAW, "ratio", results(raw=[5], ours=[10, 1000]))
    assert found == Spread(2, 2, 2)


def test_a_figure_alone_is_its_own_spread() -> None:
    assert compare(OURS, None, "ratio", results(ours=[3, 1, 2])) == Spread(2, 1, 3)


def test_nothing_measured_is_no_ratio() -> None:
    assert compare(OURS, RAW, "ratio", results(ours=[1])) is None


def test_a_trial_without_the_figure_does_not_count() -> None:
    measured = [Result("burst", "one", "ours", 0, {"lost": 7})]
    assert compare(OURS, None, "ratio", Results(measured)) is None


def test_a_column_is_empty_where_it_would_compare_a_figure_with_itself() -> None:
    column = Ratio("CPU / raw", "cpu_us", contender="raw")
    both = results(raw=[5], ours=[10])
    assert column.of("burst", "one", "raw", both) is None
    assert column.of("burst", "one", "ours", both) == Spread(2, 2, 2)


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, 1), (0.01, 1), (0.5, 50), (0.99, 99), (0.995, 100), (1, 100)]
)
def test_a_quantile_is_a_value_that_was_measured(share: float, expected: int) -> None:
    assert quantile(range(1, 101), share) == expected


def test_nothing_has_no_quantile_and_no_spread() -> None:
    assert isnan(quantile([], 0.5))
    assert spread([]) is None
