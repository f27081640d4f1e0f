"""Real ASGI servers, started as processes of their own on free ports of this machine.

::

    with Server("uvicorn-websockets", "tests.apps.raw:app") as server:
        httpx.get(server.http + "/")
        exit = server.stop()

The commands stand in one table, so that a test runs on every server by being
parametrised over `KINDS`. What a server prints goes into a file, and is printed
once more when the ``with`` block ends, so that pytest shows it where a test fails.
"""

import http.client
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

__all__ = ["HOST", "KINDS", "ROOT", "Exit", "Server", "ServerError", "free_port", "is_answered"]

ROOT = Path(__file__).resolve().parent.parent
"""Where the processes run, so that ``tests.apps.raw:app`` and ``examples.x:app`` are found."""

HOST = "127.0.0.1"
POLL = 0.02  # seconds between two looks at a process that gives no other sign
START = 30.0  # seconds; a loaded machine imports a framework slowly
STOP = 15.0  # seconds from SIGTERM until a server counts as hung

_UVICORN = "uvicorn {app} --host {host} --port {port} --ws "
_HYPERCORN = "hypercorn {app} --bind {host}:{port} --graceful-timeout 3 --worker-class "
_BOUNDED = (
    _UVICORN + "asgi_notify.uvicorn:WebSocketProtocol --http asgi_notify.uvicorn:HttpProtocol"
)
_COMMANDS = {
    "uvicorn-websockets": _UVICORN + "websockets",
    "uvicorn-websockets-sansio": _UVICORN + "websockets-sansio",
    "uvicorn-wsproto": _UVICORN + "wsproto",
    "uvicorn-bounded": _BOUNDED,
    "uvicorn-ungathered": _BOUNDED,
    "hypercorn-asyncio": _HYPERCORN + "asyncio",
    "hypercorn-trio": _HYPERCORN + "trio",
    "daphne": "daphne {app} --bind {host} --port {port}",
    "granian": "granian {app} --interface asgi --host {host} --port {port}",
}
_ENVIRONMENTS = {"uvicorn-ungathered": {"ASGI_NOTIFY_GATHERING": "0"}}

KINDS = tuple(_COMMANDS)
"""Every server, and every way in which it can serve a WebSocket."""


class ServerError(Exception):
    """A server that did not start, or did not stop; with all that it printed."""


@dataclass(frozen=True)
class Exit:
    """How a server ended."""

    code: int
    seconds: float
    output: str


class Server:
    """One server process that runs one application.

    Args:
        kind: one of `KINDS`.
        app: ``"module:attribute"``, importable from the project's root.
        env: variables added to this process's own.
        cwd: where the process runs; the project's root if not given.
        options: further arguments for the server's command line.
    """

    def __init__(
        self,
        kind: str,
        app: str,
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path = ROOT,
        options: tuple[str, ...] = (),
    ) -> None:
        self.kind = kind
        self.port = free_port()
        self.http = f"http://{HOST}:{self.port}"
        self.ws = f"ws://{HOST}:{self.port}"
        words = _COMMANDS[kind].format(app=app, host=HOST, port=self.port).split()
        self._command = [sys.executable, "-m", *words, *options]
        own = {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **_ENVIRONMENTS.get(kind, {})}
        self._env = {**os.environ, **own, **(env or {})}
        self._cwd = cwd
        self._process: subprocess.Popen[bytes] | None = None
        # Outlives this method; __exit__ closes it.
        self._output = tempfile.TemporaryFile()  # noqa: SIM115

    @property
    def output(self) -> str:
        """All that the process has printed so far."""
        # Not seek and read: the process writes through the same file position.
        size = os.fstat(self._output.fileno()).st_size
        return os.pread(self._output.fileno(), size, 0).decode(errors="replace")

    def __enter__(self) -> Self:
        # A session of its own: some servers have children, and all end as one group.
        self._process = subprocess.Popen(
            self._command,
            env=self._env,
            cwd=self._cwd,
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            self._wait_until_it_answers(self._process)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        print(f"{self.kind} printed:\n{self.output}")  # pytest shows it where a test fails
        self._end()

    def kill(self) -> None:
        """End it at once, with no chance to say goodbye to anybody."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(STOP)

    def stop(self) -> Exit:
        """Send SIGTERM and wait until the server is gone.

        Raises:
            ServerError: it was still there after `STOP` seconds; it is killed then.
        """
        assert self._process is not None, "stop() belongs inside the with block"
        started = time.monotonic()
        self._process.send_signal(signal.SIGTERM)
        try:
            code = self._process.wait(STOP)
        except subprocess.TimeoutExpired:
            raise ServerError(f"{self.kind} was still there {STOP} s after SIGTERM") from None
        return Exit(code, time.monotonic() - started, self.output)

    def _wait_until_it_answers(self, process: subprocess.Popen[bytes]) -> None:
        # An answer, not a mere connection: several servers listen before they load the app.
        deadline = time.monotonic() + START
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise ServerError(
                    f"{self.kind} ended with {process.returncode} as it started:\n{self.output}"
                )
            if self._answers():
                return
            time.sleep(POLL)
        raise ServerError(f"{self.kind} did not answer within {START} s:\n{self.output}")

    def _answers(self) -> bool:
        return _answers(self.port)

    def _end(self) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):  # the whole group is gone already
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._output.close()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        port: int = listener.getsockname()[1]
        return port


def _answers(port: int) -> bool:
    return is_answered(http.client.HTTPConnection(HOST, port, timeout=1))


def is_answered(connection: http.client.HTTPConnection) -> bool:
    """Whether a GET of / is answered, with whatever."""
    try:
        connection.request("GET", "/")
        connection.getresponse().read()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return True


def skip_where_it_waits_for_clients(kind: str) -> None:
    """Skip what stops a server under open connections, on a Python where it never ends."""
    if kind == "hypercorn-asyncio" and sys.version_info >= (3, 12):
        pytest.skip("asyncio's Server.wait_closed, as of Python 3.12, waits for every client")
