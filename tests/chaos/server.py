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

_SIGNALS = {"kill": signal.SIGKILL, "term": signal.SIGTERM}

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
        self._began = anyio.Event()  # set while there is one

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
            self._began.set()
            return

    async def suffer(self, kind: str, seconds: float = 0.0) -> None:
        """Be killed, told to end, or stopped for so many seconds.

        On a busy machine the next life takes its time to begin: it suffers then.
        """
        while self._server is None:
            await self._began.wait()
        self.suffered[kind] += 1
        if kind == "stop":
            server = self._server
            server.signal(signal.SIGSTOP)
            await anyio.sleep(seconds)
            server.signal(signal.SIGCONT)
            return
        # The next one does not wait for the one that is told to end.
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._let_end, self._taken(), _SIGNALS[kind])
            await self.begin()

    async def end(self) -> None:
        """Kill the present process, if there is one."""
        if self._server is not None:
            await self._let_end(self._taken(), signal.SIGKILL)

    def _taken(self) -> _Serve:
        """The present process, which is the present one no more."""
        assert self._server is not None
        server, self._server, self._began = self._server, None, anyio.Event()
        return server

    async def _let_end(self, server: _Serve, number: signal.Signals) -> None:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self._end, server, number)

    def _end(self, server: _Serve, number: signal.Signals) -> None:
        server.signal(number)
        with suppress(subprocess.TimeoutExpired):
            server.wait(GRACE)
        self.outputs.append(server.output)
        server.__exit__(None, None, None)
