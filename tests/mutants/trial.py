"""Run tests in a copy of the project, in a process forked from one that has imported the rest.

To start Python, pytest and the packages that the tests use takes seconds, to fork a process
that has them takes none. The project itself is imported after the fork, changed as it may be.
"""

import importlib
import json
import os
import resource
import signal
import sys
import time
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hypothesis
import pytest

PACKAGES = [
    "anyio.pytest_plugin", "asgi_lifespan", "asyncio", "hypothesis.stateful", "httpx", "jsonschema",
    "logging.handlers", "pytest_timeout", "trio.testing", "unittest.mock", "uvicorn", "uvloop",
    "websockets.asyncio.client", "websockets.asyncio.server", "websockets.sync.client", "wsproto",
]  # fmt: skip
EXAMPLES = 20  # of a property, at most; always the same ones
TEST_LIMIT = 20  # seconds of one test; what hangs is noticed
MAX_MEMORY = 4 * 1024**3  # bytes
OPTIONS = [
    "-q", "-x", "--tb=no", "-p", "no:cacheprovider", "-p", "no:randomly",
    "-m", "not slow and not browser", "--timeout", str(TEST_LIMIT),
    "-W", "ignore::pytest.PytestAssertRewriteWarning",  # PACKAGES came before pytest
]  # fmt: skip


@dataclass
class Outcome:
    """What has come of a run of tests."""

    seconds: dict[str, float] = field(default_factory=dict)  # of each test that was run
    failed: list[str] = field(default_factory=list)
    ended: str = "ok"  # else what ended the process


class Selected:
    """Runs the tests that are named, the quickest first, and remembers what came of each.

    The tests of a file stay together, as they may share a server.
    """

    def __init__(self, outcome: Outcome, tests: dict[str, float] | None) -> None:
        self.outcome = outcome
        self.tests = tests

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        if (tests := self.tests) is None:
            return
        items[:] = [item for item in items if item.nodeid in tests]
        of_file: defaultdict[str, float] = defaultdict(float)  # seconds
        for item in items:
            of_file[str(item.path)] += tests[item.nodeid]
        items.sort(key=lambda item: (of_file[str(item.path)], str(item.path), tests[item.nodeid]))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.outcome.failed.append(report.nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.outcome.failed.append(report.nodeid)
        if not report.skipped:
            took = self.outcome.seconds.get(report.nodeid, 0)
            self.outcome.seconds[report.nodeid] = took + report.duration


def prepare() -> None:
    """Import what every run needs, and have hypothesis try little."""
    for name in PACKAGES:
        try:
            importlib.import_module(name)
        except ImportError:
            print(f"without {name}", file=sys.stderr)
    sys.dont_write_bytecode = True
    plain = hypothesis.settings.__init__

    def fewer(self: Any, *args: Any, **options: Any) -> None:
        options["max_examples"] = min(options.get("max_examples") or EXAMPLES, EXAMPLES)
        options |= {"derandomize": True, "database": None}
        plain(self, *args, **options)

    hypothesis.settings.__init__ = fewer  # type: ignore[method-assign] # tests name their own
    hypothesis.settings.register_profile("mutants")
    hypothesis.settings.load_profile("mutants")


def run_tests(
    copy: Path, arguments: list[str], tests: dict[str, float] | None, seconds: float
) -> Outcome:
    """Run tests in a fork, inside the copy; ended where they take more than these seconds."""
    report = copy.parent / "outcome.json"
    report.unlink(missing_ok=True)
    child = os.fork()
    if child == 0:
        _in_child(copy, arguments, tests, report, int(seconds))
    ended = _awaited(child, time.monotonic() + 10 * seconds)  # others may use the machine too
    outcome = Outcome(**json.loads(report.read_text())) if report.exists() else Outcome()
    outcome.ended = ended
    return outcome


def _in_child(
    copy: Path, arguments: list[str], tests: dict[str, float] | None, report: Path, seconds: int
) -> None:
    code = 99
    try:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
        resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
        silence = os.open(os.devnull, os.O_RDWR)
        for stream in 0, 1, 2:
            os.dup2(silence, stream)
        os.chdir(copy)
        sys.path.insert(0, str(copy))
        outcome = Outcome()
        code = pytest.main([*OPTIONS, *arguments], plugins=[Selected(outcome, tests)])
        report.write_text(json.dumps(vars(outcome)))
    finally:
        os._exit(code)


def _awaited(child: int, end: float) -> str:
    """Wait for a child, and end it and all that it has started; return what came of it."""
    try:
        while True:
            found, status = os.waitpid(child, os.WNOHANG)
            if found:
                break
            if time.monotonic() > end:
                os.killpg(child, signal.SIGKILL)
                os.waitpid(child, 0)
                return "took too long"
            time.sleep(0.01)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
    if os.WIFSIGNALED(status):
        return signal.Signals(os.WTERMSIG(status)).name
    code = os.WEXITSTATUS(status)
    return "ok" if code in (0, 1) else f"exit code {code}"
