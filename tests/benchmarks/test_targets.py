"""Which targets are reached."""

import pytest

from benchmarks.contenders import CONTENDERS
from benchmarks.ratios import Figure
from benchmarks.report import targets_lines
from benchmarks.results import Result, Results
from benchmarks.targets import TARGETS, Target, Verdict
from benchmarks.workloads import WORKLOADS

FIGURE, BASE = Figure("w", "c", "ours", "cpu_us"), Figure("w", "c", "raw", "cpu_us")


def measured(*values: float) -> Results:
    """Rounds in which ours took so much, and raw 1."""
    rows: list[Result] = []
    for number, value in enumerate(values):
        rows.append(Result("w", "c", "ours", number, {"cpu_us": value}))
        rows.append(Result("w", "c", "raw", number, {"cpu_us": 1}))
    return Results(rows)


@pytest.mark.parametrize(
    ("ours", "verdict"), [([1.1], "reached"), ([1.11], "missed"), ([1, 1, 9], "reached")]
)
def test_the_median_is_at_most_the_limit(ours: list[float], verdict: Verdict) -> None:
    target = Target("CPU", FIGURE, BASE, at_most=1.1)
    assert target.verdict(measured(*ours)) == verdict


@pytest.mark.parametrize(("ours", "verdict"), [([1, 2, 1], "reached"), ([1, 2.1, 1], "missed")])
def test_no_round_may_be_worse_than_the_worst(ours: list[float], verdict: Verdict) -> None:
    target = Target("CPU", FIGURE, BASE, at_most=1.1, at_worst=2)
    assert target.verdict(measured(*ours)) == verdict
    assert target.limit == "<= 1.1, each round <= 2"


@pytest.mark.parametrize(("peer", "verdict"), [(25, "reached"), (24.9, "missed")])
def test_the_median_is_at_least_the_limit(peer: float, verdict: Verdict) -> None:
    assert Target("CPU", FIGURE, BASE, at_least=25).verdict(measured(peer)) == verdict


def test_a_difference_has_a_limit_too() -> None:
    target = Target("kB", FIGURE, BASE, at_most=4, how="difference")
    assert target.verdict(measured(5)) == "reached"
    assert target.verdict(measured(5.5)) == "missed"


def test_what_was_not_measured_is_neither() -> None:
    target = Target("CPU", FIGURE, BASE, at_most=1.1)
    assert target.verdict(Results()) == "not measured"
    assert targets_lines([target], Results())[-1].split() == (
        ["|", "CPU", "|", "<=", "1.1", "|", "-", "|", "not", "measured", "|"]
    )


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.title)
def test_every_target_is_of_something_that_is_measured(target: Target) -> None:
    for figure in (target.figure, target.base or target.figure):
        workload = WORKLOADS[figure.workload]
        assert figure.contender in workload.contenders
        assert figure.contender in CONTENDERS
        assert figure.name in workload.columns
