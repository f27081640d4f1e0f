"""``asgi-notify worker``, and ``serve --worker``: what they refuse, and real processes."""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import anyio
import pytest

from asgi_notify import ChannelNameRouter, Receive, Scope, Send, Worker, channel_layers
from asgi_notify.cli.collecting import CollectsLess
from asgi_notify.cli.draining import DrainsOnSignal
from asgi_notify.layers import registry
from tests.cli.conftest import Run
from tests.servers import ROOT, free_port

WAIT = 20.0  # seconds; a loaded machine starts a process slowly


async def nothing(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that routes nothing by itself."""


@pytest.fixture(autouse=True)
def site(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module with applications, and no layer yet."""
    module = ModuleType("a_site")
    router = ChannelNameRouter({"mail": nothing, "jobs": nothing})
    vars(module).update(router=router, plain=nothing, view=lambda request: None, number=42)
    monkeypatch.setitem(sys.modules, "a_site", module)
    monkeypatch.setattr(channel_layers, "_layers", {})


@pytest.fixture(autouse=True)
def level() -> Iterator[None]:
    """What the command sets for its whole process ends with the test."""
    logger = logging.getLogger("asgi_notify")
    level = logger.level
    yield
    logger.setLevel(level)


# What `worker` refuses.


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["a_site:router"], "serve a_site:router --worker jobs --worker mail`"),
        (["a_site:plain", "jobs"], "serve a_site:plain --worker jobs`"),
        (["a_site:plain", "jobs", "--layer", "memory://?capacity=5"], "--worker jobs`"),
        (["a_site:plain"], "a worker needs channels to read"),
        (["a_site:router", "sms"], "does not route the channel sms; it routes jobs, mail"),
        (["a_site:plain", "a b"], "'a b' cannot name a channel"),
        (["a_site:number"], "a worker leads to 42, which is no ASGI app"),
        (["a_site"], "'a_site' is no MODULE:APP"),
        (["a_site:router", "--layer", "nats://"], "no channel layer for 'nats://'"),
        (["a_site:router", "--concurrency", "0"], "0 is not in the range"),
        (["a_site:router", "--shutdown-timeout", "-1"], "-1.0 is not in the range"),
        (["a_site:router", "--log-level", "loud"], "loud"),
        ([], "Missing argument 'MODULE:APP'"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_starts(
    run: Run, monkeypatch: pytest.MonkeyPatch, arguments: list[str], sentence: str
) -> None:
    monkeypatch.setattr(anyio, "run", None)
    refused = run("worker", *arguments)
    assert refused.exit_code == 2, refused.output
    assert sentence in " ".join(refused.output.split())


def test_an_application_that_cannot_be_imported_is_told_with_the_reason(run: Run) -> None:
    refused = run("worker", "no_such_site:app")
    assert refused.exit_code == 1
    assert "No module named 'no_such_site'" in refused.output


def test_a_layer_whose_server_is_away_at_the_start_is_told_in_a_sentence(run: Run) -> None:
    pytest.importorskip("glide")
    url = f"valkey://127.0.0.1:{free_port()}?timeout=1&probe_interval=0.2"
    failed = run("worker", "a_site:router", "--layer", url)
    assert failed.exit_code == 1
    assert failed.output.startswith("Error: valkey://127.0.0.1:")
    assert "see that a server runs there" in failed.output
    assert "Traceback" not in failed.output


def test_options_reach_the_worker(
    run: Run, monkeypatch: pytest.MonkeyPatch, environ: dict[str, str]
) -> None:
    monkeypatch.setitem(registry.ENGINES, "spool", "tests.apps.spool:SpoolLayer")
    workers: list[Worker] = []
    monkeypatch.setattr(anyio, "run", lambda work, worker: workers.append(worker))
    environ["ASGI_NOTIFY_LAYER"] = "spool://"
    assert run("worker", "a_site:router").exit_code == 0
    environ["ASGI_NOTIFY_LAYER"] = "memory://"
    options = ["--layer", "spool://", "--concurrency", "3", "--shutdown-timeout", "2.5"]
    options.append("--at-most-once")
    assert run("worker", "a_site:router", "mail", *options).exit_code == 0
    found = [(w.channels, w.concurrency, w.shutdown_timeout, w.at_most_once) for w in workers]
    assert found == [(("jobs", "mail"), 10, 10.0, False), (("mail",), 3, 2.5, True)]


# A real one, on a layer that two processes share.


class Process:
    """``asgi-notify worker`` in a process of its own; its messages are files."""

    def __init__(self, spool: Path, *arguments: str) -> None:
        self.spool = spool
        self._numbers = iter(range(1000))
        self._log = Path(spool, "log").open("wb")  # noqa: SIM115  # as long as the process
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.apps.spool", "worker", "tests.apps.spool:application",
             "--layer", "spool://", *arguments],
            cwd=ROOT, stdout=self._log, stderr=subprocess.STDOUT,
            env={**os.environ, "SPOOL": str(spool)},
        )  # fmt: skip

    @property
    def output(self) -> str:
        """All that it has printed."""
        return Path(self.spool, "log").read_text()

    def send(self, kind: str) -> None:
        """Put a message where the worker finds it, in one step."""
        file = Path(self.spool, f"{next(self._numbers):03}")
        file.write_text(json.dumps({"type": kind}))
        file.rename(Path(self.spool, f"jobs.{file.name}"))

    def wait_for(self, text: str) -> None:
        """Wait until it has printed something."""
        deadline = time.monotonic() + WAIT
        while text not in self.output:
            assert time.monotonic() < deadline, self.output
            assert self._process.poll() is None, self.output
            time.sleep(0.02)

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def end(self) -> int:
        """Wait until it is gone; its exit code."""
        return self._process.wait(WAIT)

    def kill(self) -> None:
        """Make sure of its end."""
        self._process.kill()
        self._process.wait()
        self._log.close()


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Any]:
    """Starts a process."""
    started: list[Process] = []

    def start(*arguments: str) -> Process:
        started.append(Process(tmp_path, *arguments))
        return started[-1]

    yield start
    for process in started:
        process.kill()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_what_runs_end_and_what_waits_wait(
    spool: Any, number: signal.Signals, tmp_path: Path
) -> None:
    worker: Process = spool("--concurrency", "1")
    worker.send("fail")
    worker.send("wait")
    worker.wait_for("began wait")
    worker.send("later")
    worker.signal(number)
    worker.wait_for(f"told to stop by {number.name}")
    Path(tmp_path, "go").touch()
    assert worker.end() == 0
    lines = [line.split(" ", 2) for line in worker.output.splitlines()]
    said = [" ".join(line[:2]) for line in lines if line[0] in ("opened", "began", "ended")]
    assert said == ["opened", "began fail", "began wait", "ended wait"]
    assert worker.output.endswith("closed\n")
    assert worker.output.count("channel jobs: fail failed") == 1
    assert worker.output.count("ValueError: no such job") == 1
    assert [file.name for file in tmp_path.glob("jobs.*")] == ["jobs.002"]


@pytest.mark.slow
def test_what_does_not_end_in_time_is_cut_off_and_the_exit_is_clean(spool: Any) -> None:
    worker: Process = spool("jobs", "--shutdown-timeout", "0.1", "--log-level", "warning")
    worker.send("wait")
    worker.wait_for("began wait")
    worker.signal(signal.SIGTERM)
    assert worker.end() == 0
    assert "WARNING channel jobs: wait was cut off" in worker.output
    assert "INFO" not in worker.output
    assert "Traceback" not in worker.output


# `serve` with an application of one's own.


def test_an_application_of_ones_own_is_served_and_no_key_is_asked_for(
    run: Run, served: dict[str, Any]
) -> None:
    assert run("serve", "a_site:plain", "--host", "0.0.0.0").exit_code == 0
    assert served["host"] == "0.0.0.0"
    assert made(served) is nothing
    assert "ws_max_size" not in served


def test_the_default_application_needs_its_key_also_by_its_name(
    run: Run, served: dict[str, Any]
) -> None:
    refused = run("serve", "asgi_notify.app:application", "--host", "0.0.0.0")
    assert refused.exit_code == 2
    assert "set ASGI_NOTIFY_PUBLISH_KEY" in refused.output
    assert served == {}


def test_channels_get_a_worker_in_the_servers_process(run: Run, served: dict[str, Any]) -> None:
    assert run("serve", "a_site:router", "--worker", "mail", "--worker", "jobs").exit_code == 0
    assert made(served).channels == ("mail", "jobs")
    assert run("serve", "a_site:router").exit_code == 0
    assert made(served) is vars(sys.modules["a_site"])["router"]


def made(served: dict[str, Any]) -> Any:
    """What the server's process makes of what uvicorn was told, within what `serve` adds."""
    assert served["factory"] is True
    module, _, factory = served["app"].partition(":")
    draining = getattr(sys.modules[module], factory)()
    assert isinstance(draining, DrainsOnSignal)
    assert isinstance(draining.inner, CollectsLess)
    return draining.inner.inner


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["a_site:router", "--worker", "sms"], "does not route the channel sms"),
        (["a_site:plain", "--worker", "a b"], "'a b' cannot name a channel"),
        (["--worker", "jobs"], "does not route the channel jobs; it routes none"),
        (["a_site:number"], "a_site:number leads to 42, which is no ASGI app"),
        (["a_site:view"], "which is no ASGI app; an ASGI app is called with scope, receive"),
        (
            ["a_site:plain", "--workers", "2", "--layer", "memory://"],
            "2 workers cannot share the layer memory://",
        ),
    ],
)
def test_what_cannot_be_served_is_refused_before_anything_starts(
    run: Run, served: dict[str, Any], arguments: list[str], sentence: str
) -> None:
    refused = run("serve", *arguments)
    assert refused.exit_code == 2
    assert sentence in " ".join(refused.output.split())
    assert served == {}
