"""Rounds of trials: each contender once, then each again, so that all meet the same weather.

Each round begins with another one: who always went first would always meet the machine
as the one before has left it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from .contenders import CONTENDERS, Contender
from .control import ChildError
from .engine import find_program
from .results import Result, Results
from .trial import Options, rotated
from .workloads import Workload

__all__ = ["Planned", "plan", "run"]


@dataclass(frozen=True)
class Planned:
    """One trial to make."""

    workload: Workload
    contender: Contender
    round: int


def plan(
    workloads: Sequence[Workload],
    names: Sequence[str],
    rounds: int | None = None,
    is_quick: bool = False,
) -> tuple[list[Planned], Results]:
    """The trials to make, in order, and results that hold why others are not made.

    Args:
        workloads: what to measure.
        names: contenders; where empty, all that the workload names.
        rounds: for each workload, where it is not to be its own number.
        is_quick: name fewer of them.
    """
    results = Results()
    planned: list[Planned] = []
    for workload in workloads:
        wanted = names or (workload.quick if is_quick else workload.contenders)
        chosen = [CONTENDERS[name] for name in workload.contenders if name in wanted]
        for contender in chosen:
            if (reason := _lack(contender)) is not None:
                results.skipped[workload.name, contender.name] = reason
        for name, reason in workload.left_out.items():
            if not names or name in names:
                results.skipped[workload.name, name] = reason
        there = [contender for contender in chosen if _lack(contender) is None]
        planned += [
            Planned(workload, contender, number)
            for number in range(rounds or workload.rounds)
            for contender in rotated(there, number)
        ]
    return planned, results


def _lack(contender: Contender) -> str | None:
    """What is missing on this machine for a contender to take part."""
    if not contender.is_installed:
        return f"the package {contender.needs} is not installed"
    if contender.has_engine and find_program() is None:
        return "there is no redis-server or valkey-server"
    return None


def run(
    planned: Sequence[Planned],
    results: Results,
    options: Options,
    progress: Callable[[Planned], None] = lambda trial: None,
) -> None:
    """Make the trials; who fails in one is left out of the rest of its workload."""
    for trial in planned:
        progress(trial)
        key = trial.workload.name, trial.contender.name
        if key in results.skipped:
            continue
        try:
            cases = trial.workload.measure(trial.contender, replace(options, round=trial.round))
        except ChildError as error:
            results.skipped[key] = f"it failed: {error}"
            continue
        results.measured += [
            Result(trial.workload.name, case, trial.contender.name, trial.round, figures)
            for case, figures in cases.items()
        ]
