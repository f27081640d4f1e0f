"""A server that dies and comes back: `asgi-notify serve`, one process after the other."""

import json
import signal
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from dataclasses import asdict

import anyio

from tests.chaos.plan import Scenario
from tests.chaos.proxy import Address
from tests.servers import Server, ServerError

__all__ = ["Lives"]

GRACE = 3.0  # seconds after SIGTERM until a process is killed that waits for dead clients


class _Serve(Server):
    def __init__(self, app: str, scenario: Scenario, engine_url: str) -> None:
        env = {"CHAOS": json.dumps(asdict(scenario) | {"engine_url": engine_url})}
        super().__init__("uvicorn-websockets-sansio", app, env=env)
        serve = ["serve", app, "--port", str(self.port), "--log-level", "warning"]
        self._command = [sys.executable, "-m", "asgi_notify", *serve]

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def wait(self, seconds: float) -> None:
        assert self._process is not None
        self._process.wait(seconds)


class Lives:
    """The lives of a server, one at a time.

    Args:
        scenario: what is played.

    Attributes:
        address: where the present one is.
        engine_url: where what carries its messages is; none: they stay in memory.
        outputs: what the past ones have printed.
        suffered: what has befallen it, by kind.
    """

    def __init__(self, scenario: Scenario) -> None:
        self.address = Address()
        self.engine_url = ""
        self.outputs: list[str] = []
        self.suffered: Counter[str] = Counter()
        self._scenario = scenario
        self._server: _Serve | None = None

    async def begin(self) -> None:
        """Start a process, and wait until it answers."""
        while True:
            server = _Serve("tests.apps.chaos:app", self._scenario, self.engine_url)
            try:
                with anyio.CancelScope(shield=True):  # or nobody would end it
                    await anyio.to_thread.run_sync(server.__enter__)
            except ServerError as error:
                if not self.engine_url or "LayerUnavailable" not in str(error):
                    raise
                # It began while the engine was away: whoever supervises it tries again.
                self.suffered["started in vain"] += 1
                continue
            self._server, self.address.port = server, server.port
            return

    async def suffer(self, kind: str, seconds: float = 0.0) -> None:
        """Be killed, told to end, or stopped for so many seconds."""
        if (server := self._server) is None:
            return  # it is dead already
        self.suffered[kind] += 1
        if kind == "stop":
            server.signal(signal.SIGSTOP)
            await anyio.sleep(seconds)
            server.signal(signal.SIGCONT)
            return
        # The next one does not wait for the one that is told to end.
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.end, signal.SIGTERM if kind == "term" else signal.SIGKILL)
            await self.begin()

    async def end(self, number: signal.Signals = signal.SIGKILL) -> None:
        """End the present process, if there is one."""
        if self._server is None:
            return
        server, self._server = self._server, None
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self._end, server, number)

    def _end(self, server: _Serve, number: signal.Signals) -> None:
        server.signal(number)
        with suppress(subprocess.TimeoutExpired):
            server.wait(GRACE)
        self.outputs.append(server.output)
        server.__exit__(None, None, None)
