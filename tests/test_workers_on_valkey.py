"""Workers in processes of their own, on one real Redis: what one was handling when it died."""

import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import anyio
import pytest
from anyio.to_thread import run_sync

from asgi_notify.layers.valkey_layer import ValkeyChannelLayer
from tests.servers import ROOT
from tests.valkey_servers import SERVERS, ValkeyServer, program

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

WAIT = 30.0  # seconds


@pytest.fixture(params=SERVERS)
def redis(request: pytest.FixtureRequest) -> Iterator[ValkeyServer]:
    with ValkeyServer(program(request.param)) as running:
        yield running


@pytest.fixture
async def layer(anyio_backend: str, redis: ValkeyServer) -> AsyncIterator[ValkeyChannelLayer]:
    async with ValkeyChannelLayer(redis.url) as layer:
        yield layer


class Process:
    """``asgi-notify worker`` with the jobs of `tests.apps.spool`."""

    def __init__(self, folder: Path, url: str, *options: str) -> None:
        folder.mkdir()
        self._folder = folder
        with Path(folder, "log").open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "asgi_notify", "worker", "tests.apps.spool:application",
                 "--layer", url, *options],
                cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, env={"SPOOL": str(folder)},
            )  # fmt: skip

    @property
    def output(self) -> str:
        return Path(self._folder, "log").read_text()

    async def said(self, text: str, times: int = 1) -> None:
        with anyio.fail_after(WAIT):
            while self.output.count(text) < times:
                assert self._process.poll() is None, self.output
                await anyio.sleep(0.02)

    def let_jobs_end(self) -> None:
        Path(self._folder, "go").touch()

    async def end(self, number: int) -> int:
        if self._process.poll() is None:
            self._process.send_signal(number)
        return await run_sync(self._process.wait, WAIT)


Start = Callable[..., Process]


@pytest.fixture
async def start(redis: ValkeyServer, tmp_path: Path) -> AsyncIterator[Start]:
    started: list[Process] = []

    def start(*options: str) -> Process:
        url = f"{redis.url}?visibility_timeout=1&timeout=2&probe_interval=0.2"
        started.append(Process(tmp_path / str(len(started)), url, *options))
        return started[-1]

    yield start
    for process in started:
        await process.end(signal.SIGKILL)


async def test_what_a_killed_worker_was_handling_is_handled_by_another(
    layer: ValkeyChannelLayer, start: Start
) -> None:
    dead = start()
    await layer.send("jobs", {"type": "wait"})
    await dead.said("began wait")
    other = start()
    await other.said("reading jobs")
    await anyio.sleep(2)  # twice the timeout; the worker lives, so it keeps its message
    assert "began" not in other.output
    await dead.end(signal.SIGKILL)
    await other.said("began wait")
    other.let_jobs_end()
    await other.said("ended wait")
    await layer.send("jobs", {"type": "job"})
    await other.said("ended job")
    assert other.output.count("began wait") == 1
    assert await other.end(signal.SIGTERM) == 0


async def test_a_worker_that_is_asked_to_handles_a_message_at_most_once(
    layer: ValkeyChannelLayer, start: Start
) -> None:
    dead, other = start("--at-most-once"), start("--at-most-once")
    for process in (dead, other):
        await process.said("reading jobs")
    await layer.send("jobs", {"type": "wait"})
    with anyio.fail_after(WAIT):
        while "began" not in dead.output + other.output:  # noqa: ASYNC110
            await anyio.sleep(0.02)
    if "began" in other.output:
        dead, other = other, dead
    await dead.end(signal.SIGKILL)
    await anyio.sleep(3)  # three times the timeout after which it would be given back
    await layer.send("jobs", {"type": "job"})
    await other.said("ended job")
    assert "wait" not in other.output


async def test_a_job_that_fails_is_not_tried_again(layer: ValkeyChannelLayer, start: Start) -> None:
    worker = start()
    await layer.send("jobs", {"type": "fail"})
    await worker.said("fail failed")
    await anyio.sleep(2)  # twice the timeout
    await layer.send("jobs", {"type": "job"})
    await worker.said("ended job")
    assert worker.output.count("began fail") == 1
    assert worker.output.count("ValueError: no such job") == 1


async def test_a_worker_outlives_a_restart_of_the_server(redis: ValkeyServer, start: Start) -> None:
    worker = start()
    await worker.said("reading jobs")
    for n in range(1, 3):
        redis.kill()
        await worker.said("cut off from other processes", n)
        redis.start()
        await worker.said("reaches other processes again", n)
        async with ValkeyChannelLayer(redis.url) as layer:
            await layer.send("jobs", {"type": "job"})
            await worker.said("ended job", n)
    assert await worker.end(signal.SIGTERM) == 0
    assert "Traceback" not in worker.output
