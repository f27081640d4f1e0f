"""Which trials are made, in which order, and what becomes of those that fail."""

import ast
import os
from pathlib import Path

import pytest

import benchmarks.contenders
from benchmarks.contenders import CONTENDERS, Contender
from benchmarks.control import ChildError
from benchmarks.harness import plan, run
from benchmarks.ratios import Figure, compare
from benchmarks.report import number, report, table
from benchmarks.results import Figures
from benchmarks.trial import Options
from benchmarks.workloads import WORKLOADS, Workload, processes, slow_readers
from benchmarks.workloads.base import CPU_OVER_RAW

FILES = Path(benchmarks.contenders.__file__).parent

BORROWED = {name for name, contender in CONTENDERS.items() if contender.file}
"""Another's application on another server: they take part where the server matters."""

ON_ENGINES = {name for name, contender in CONTENDERS.items() if contender.has_engine}
"""Those whose messages go by way of a server: they take part where that matters."""


def workload(names: tuple[str, ...], fails: str = "") -> Workload:
    """One that measures how often it was called."""
    calls: list[str] = []

    def measure(contender: Contender, options: Options) -> dict[str, Figures]:
        calls.append(contender.name)
        if contender.name == fails:
            raise ChildError("it fell over\nTraceback ...")
        return {"case": {"cpu_us": len(calls)}}

    return Workload("work", "Work", measure, names, ("cpu_us",), rounds=2)


def names_of(found: Workload, *, names: tuple[str, ...] = (), quick: bool = False) -> list[str]:
    """Whose turn it is, in order."""
    planned, _ = plan([found], names, is_quick=quick)
    return [trial.contender.name for trial in planned]


def test_contenders_take_turns() -> None:
    found = workload(("raw", "ours_async"))
    assert names_of(found) == ["raw", "ours_async", "ours_async", "raw"]


def test_each_begins_a_round_in_turn() -> None:
    names = ("raw", "ours_async", "ours_sync")
    planned, _ = plan([workload(names)], (), rounds=6)
    first = [trial.contender.name for trial in planned[:: len(names)]]
    assert first == [*names, *names]
    for start in range(0, len(planned), len(names)):
        turn = planned[start : start + len(names)]
        assert {trial.round for trial in turn} == {start // len(names)}
        assert {trial.contender.name for trial in turn} == set(names)


def test_the_cases_of_slow_readers_stand_in_each_place_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(slow_readers, "_measure", lambda case, *_: {"p99_ms": 1.0})
    planned, results = plan([slow_readers.WORKLOAD], ("ours_async",))
    run(planned, results, Options())
    cases = [row.case for row in results.measured]
    rounds = [cases[start : start + 3] for start in range(0, len(cases), 3)]
    assert len(rounds) == 3
    for place in zip(*rounds, strict=True):
        assert set(place) == {slow_readers.WITHOUT, slow_readers.AGAIN, slow_readers.WITH}


def test_contenders_can_be_chosen() -> None:
    found = workload(("raw", "ours_async", "ours_sync"))
    chosen = names_of(found, names=("ours_sync", "raw"))
    assert chosen == ["raw", "ours_sync", "ours_sync", "raw"]
    assert names_of(found, quick=True) == ["raw", "ours_async", "ours_async", "raw"]


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = Contender("absent", "Absent", needs="no_such_package")
    monkeypatch.setitem(CONTENDERS, "absent", absent)
    found = workload(("raw", "absent"))
    planned, results = plan([found], ())
    assert [trial.contender.name for trial in planned] == ["raw"] * 2
    assert results.skipped == {("work", "absent"): "the package no_such_package is not installed"}
    assert "- without Absent: the package no_such_package" in report([found], results, {})


def test_who_fails_is_left_out_of_the_rest_and_named() -> None:
    found = workload(("raw", "ours_async"), fails="raw")
    planned, results = plan([found], ())
    run(planned, results, Options())
    assert results.contenders("work") == ["ours_async"]
    assert [row.figures["cpu_us"] for row in results.measured] == [2, 3]  # raw was not asked again
    text = report([found], results, {})
    assert "- without raw ASGI loop: it failed: it fell over\n" in text
    assert "Traceback" not in text


def test_a_report_sets_each_round_against_raw() -> None:
    found = workload(("raw", "ours_async"))
    planned, results = plan([found], ())
    seen: list[str] = []
    run(planned, results, Options(), lambda trial: seen.append(trial.contender.name))
    assert seen == ["raw", "ours_async", "ours_async", "raw"]
    assert CPU_OVER_RAW.of("work", "case", "ours_async", results) == (1.375, 0.75, 2)
    assert "1.38 (0.75 to 2)" in report([found], results, {"Python": "3"})


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.123, "0.12"), (12.34, "12.3"), (123.4, "123"), (12345.6, "12,346")],
)
def test_a_number_has_the_digits_that_mean_something(value: float, text: str) -> None:
    assert number(value) == text


def test_a_table_is_aligned() -> None:
    assert table(["a", "bb"], [["ccc", "d"]]) == ["| a   | bb |", "|-----|----|", "| ccc | d  |"]


@pytest.mark.parametrize("found", WORKLOADS.values(), ids=list(WORKLOADS))
def test_who_does_not_take_part_has_a_reason(found: Workload) -> None:
    everybody = CONTENDERS.keys() - {"ours_blocking", *BORROWED, *ON_ENGINES}
    if found.name in {"layer", "blocking", "processes"}:
        everybody = ON_ENGINES if found.name == "processes" else set()
    assert everybody <= {*found.contenders, *found.left_out}
    assert not set(found.contenders) & set(found.left_out)
    assert CONTENDERS.keys() >= {*found.contenders, *found.left_out}


@pytest.mark.parametrize("name", [name for name in CONTENDERS if name != "glide"])
def test_every_contender_has_something_to_serve_and_publishes(name: str) -> None:
    module = ast.parse((FILES / f"{CONTENDERS[name].arguments[0]}.py").read_text())
    defined = {node.name for node in module.body if isinstance(node, ast.AsyncFunctionDef)}
    assigned = {ast.unparse(n.targets[0]) for n in module.body if isinstance(n, ast.Assign)}
    borrowed = [n.names for n in module.body if isinstance(n, ast.ImportFrom) and n.level == 1]
    defined |= {alias.name for names in borrowed for alias in names}
    assert "publish" in defined
    assert {"app", "serve"} & (defined | assigned)


needs_linux = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this is no Linux")


def tiny(contender: Contender, options: Options) -> dict[str, Figures]:
    """20 clients and 5 messages."""
    from benchmarks.publisher import Job
    from benchmarks.trial import Trial

    with Trial.of(contender, options) as trial:
        connecting = trial.connect(20, groups=2)
        return {"all": {**trial.publish(Job(5, groups=2)), **connecting}}


@pytest.mark.slow
@needs_linux
@pytest.mark.parametrize(
    "name", ["raw", "raw_gathered", "ours_async", "ours_notification", "ours_sse", "ours_valkey"]
)
def test_messages_reach_real_clients(name: str) -> None:
    found = Workload("tiny", "Tiny", tiny, (name,), ("cpu_us",), rounds=1)
    planned, results = plan([found], ())
    run(planned, results, Options())
    assert results.skipped == {}
    figures = results.rounds("tiny", "all", name)[0]
    assert figures["lost"] == 0
    assert figures["published"] == 10  # 5 to each group
    assert 0 < figures["cpu_us"] < 1e6
    assert 0 < figures["p50_ms"] <= figures["p99_ms"] <= figures["max_ms"]
    assert figures["connections_per_s"] > 0
    assert compare(Figure("tiny", "all", name, "cpu_us"), None, "ratio", results) is not None


@pytest.mark.slow
@needs_linux
def test_a_server_that_does_not_start_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CONTENDERS, "nowhere", Contender("nowhere", "Nowhere"))
    found = Workload("tiny", "Tiny", tiny, ("nowhere",), ("cpu_us",), rounds=1)
    planned, results = plan([found], ())
    run(planned, results, Options())
    assert "No module named 'benchmarks.contenders.nowhere'" in results.skipped["tiny", "nowhere"]


@pytest.mark.slow
@needs_linux
def test_a_message_between_processes_is_small_whatever_the_groups_size() -> None:
    found = processes.measure(CONTENDERS["ours_valkey"], Options(is_quick=True))
    assert set(found) >= {processes.PLAIN, processes.HISTORY, processes.LATE, processes.CROWD}
    # A probe of the connection may come in between; it is one in a second.
    wires = [row["wire_bytes"] for row in found.values() if "wire_bytes" in row]
    assert len(wires) == 2
    assert all(200 < bytes_ < 500 for bytes_ in wires)
    assert abs(wires[0] - wires[1]) < 100
    assert not any(row.get("lost") for row in found.values())
    assert all(row["engine_bytes"] > 100 for row in found.values() if "engine_bytes" in row)
