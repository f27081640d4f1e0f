"""How the harness talks to a server or client process: lines of JSON over a socket pair."""

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

__all__ = ["ROOT", "Child", "ChildError", "Pins", "available_cores", "decode", "encode"]

ROOT = Path(__file__).resolve().parent.parent

PATIENCE = 180.0  # seconds that an answer may take; 15,000 connections need their time
END = 5.0  # seconds that a process gets to end by itself


class ChildError(Exception):
    """A process did not do what it was told; with what it printed."""


class Pins:
    """On which cores servers and clients run, so that neither takes the other's time."""

    def __init__(self, is_on: bool = True) -> None:
        cores = available_cores()
        has_both = is_on and len(cores) > 1
        self.server = cores[0] if has_both else None
        self.client = cores[1] if has_both else None


def available_cores() -> list[int]:
    """The cores that this process may run on."""
    return sorted(os.sched_getaffinity(0))


def encode(content: Mapping[str, Any]) -> bytes:
    """One line that carries a command or an answer."""
    return json.dumps(content).encode() + b"\n"


def decode(line: bytes) -> dict[str, Any]:
    """What a line carries."""
    content: dict[str, Any] = json.loads(line)
    return content


class Child:
    """One process of this package, which does what it is told until the ``with`` block ends.

    It gets the number of its end of the socket pair as its last argument, and
    ends when the other end is closed. What it prints is shown where it fails.

    Args:
        module: what ``python -m`` runs.
        arguments: for its command line.
        core: the core that it runs on; any where None.
        env: further variables of its environment.
    """

    def __init__(
        self,
        module: str,
        *arguments: str,
        core: int | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self._name = " ".join((module, *arguments))
        self._socket, theirs = socket.socketpair()
        self._socket.settimeout(PATIENCE)
        self._lines = self._socket.makefile("rb")
        # Outlives this method; __exit__ closes it.
        self._printed = tempfile.TemporaryFile()  # noqa: SIM115
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments, str(theirs.fileno())],
                cwd=ROOT,
                env={**os.environ, **(env or {})},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self._printed,
                stderr=subprocess.STDOUT,
            )
        if core is not None:
            os.sched_setaffinity(self._process.pid, {core})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._lines.close()
        self._socket.close()
        try:
            self._process.wait(END)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._printed.close()

    def tell(self, do: str, **arguments: Any) -> None:
        """Give a command, and do not wait for its answer."""
        with suppress(BrokenPipeError):  # answer() says what has happened
            self._socket.sendall(encode({"do": do, **arguments}))

    def answer(self) -> dict[str, Any]:
        """Wait for the next answer.

        Raises:
            ChildError: there was none, or it was that the command failed.
        """
        try:
            line = self._lines.readline()
        except TimeoutError:
            raise ChildError(f"{self._name}: no answer within {PATIENCE:.0f} s") from None
        except ConnectionError:
            line = b""
        if not line:
            raise ChildError(f"{self._name} is gone:\n{self.output}")
        content = decode(line)
        if "error" in content:
            raise ChildError(f"{self._name}: {content['error']}\n{self.output}")
        return content

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Give a command and wait for its answer."""
        self.tell(do, **arguments)
        return self.answer()

    @property
    def output(self) -> str:
        """All that the process has printed so far."""
        # Not seek and read: the process writes through the same file position.
        size = os.fstat(self._printed.fileno()).st_size
        return os.pread(self._printed.fileno(), size, 0).decode(errors="replace")
