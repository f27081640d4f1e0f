"""Which tests run which line, found by running them all once."""

import hashlib
import json
import tempfile
from collections.abc import Iterable
from pathlib import Path

from coverage import CoverageData

from tests.mutants.trial import Outcome, run_tests

WITH_COVERAGE = ["--cov=asgi_notify", "--cov-context=test", "--cov-report=", "--cov-fail-under=0"]


class Reach:
    """The tests that pass, how long each takes, and the lines that each runs."""

    def __init__(self, seconds: dict[str, float], lines: dict[str, dict[str, list[str]]]) -> None:
        self.seconds = seconds
        self.lines = lines  # path -> line -> tests; no tests where only an import runs it

    def of(self, path: str, lines: Iterable[int]) -> dict[str, float]:
        """Return the tests that run one of these lines, each with its seconds.

        What only an import runs may be noticed by any test of a file of tests that use it,
        also by one that reads a constant and runs no line.
        """
        by_line = self.lines.get(path, {})
        reached = [by_line[str(line)] for line in lines if str(line) in by_line]
        tests = {test for found in reached for test in found}
        if reached and not tests:
            files = {_file(test) for found in by_line.values() for test in found}
            tests = {test for test in self.seconds if _file(test) in files}
        return {test: self.seconds[test] for test in tests if test in self.seconds}


def reach(copy: Path, tests: list[str], seconds: float) -> Reach:
    """Find the reach of these tests; kept in the system's temporary folder for the next time."""
    kept = Path(tempfile.gettempdir(), f"asgi_notify-reach-{_digest(copy, tests)}.json")
    if kept.exists():
        return Reach(*json.loads(kept.read_text()))
    outcome = run_tests(copy, [*tests, *WITH_COVERAGE, "--maxfail=1000"], None, seconds)
    if outcome.ended != "ok" or not outcome.seconds:
        raise SystemExit(f"the tests do not pass as they are: {outcome.ended} {outcome.failed}")
    for test in outcome.failed:
        print(f"left out, it fails without any mutant: {test}")
    found = _passed(outcome), _lines(copy)
    kept.write_text(json.dumps(found))
    return Reach(*found)


def _file(test: str) -> str:
    return test.partition("::")[0]


def _passed(outcome: Outcome) -> dict[str, float]:
    return {test: took for test, took in outcome.seconds.items() if test not in outcome.failed}


def _lines(copy: Path) -> dict[str, dict[str, list[str]]]:
    data = CoverageData(str(copy / ".coverage"))
    data.read()
    found: dict[str, dict[str, list[str]]] = {}
    for file in data.measured_files():
        by_line = found.setdefault(str(Path(file).relative_to(copy.resolve())), {})
        for line, contexts in data.contexts_by_lineno(file).items():
            # A context is a test's name and its phase: "tests/test_a.py::test_b|run".
            by_line[str(line)] = sorted({name.rpartition("|")[0] for name in contexts} - {""})
    return found


def _digest(copy: Path, tests: list[str]) -> str:
    digest = hashlib.sha256(repr(tests).encode())
    for file in sorted(copy.rglob("*.py")):
        digest.update(f"{file.relative_to(copy)}\n".encode() + file.read_bytes())
    return digest.hexdigest()[:16]
