"""A server that is tried: what it costs in memory, how long others wait, how it stops."""

import http.client
import re
import shlex
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.servers import HOST, ROOT, Server

__all__ = ["SERVERS", "Victim"]

APP = "tests.hostile.app:application"
PAUSE = 0.05  # seconds between two looks
PATIENCE = 30.0  # seconds that an answer may take at all


def _documented() -> str:
    """The line for uvicorn itself that docs/deployment.md offers as equal to `serve`."""
    text = (ROOT / "docs/deployment.md").read_text().replace("\\\n", "")
    found = re.search(r"^\$ uvicorn (\S+) (.*)$", text, re.MULTILINE)
    assert found is not None
    return f"uvicorn {APP} {found[2]}"


SERVERS = {
    "serve": f"asgi_notify serve {APP}",
    "uvicorn": _documented(),
    "plain": f"uvicorn {APP}",
}
"""What is tried: the command, the documented line for uvicorn itself, and uvicorn's defaults."""


class Victim(Server):
    """A server with somebody who looks at it all the time, and asks for its health.

    Args:
        kind: one of `SERVERS`.
    """

    def __init__(self, kind: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="hostile-")
        self._notes = Path(self._folder.name, "notes")
        self._notes.touch()
        super().__init__("uvicorn-websockets", APP, env={"HOSTILE_NOTES": str(self._notes)})
        words = shlex.split(SERVERS[kind])
        self._command = [sys.executable, "-m", *words, "--port", str(self.port)]
        self._looker = threading.Thread(target=self._look, daemon=True)
        self._has_ended = threading.Event()
        self._before = 0
        self.most = 0  # bytes
        self.worst = 0.0  # seconds until /healthz was answered

    @property
    def grown(self) -> int:
        """Bytes of memory that the process has taken at most, above what it began with."""
        return self.most - self._before

    def __enter__(self) -> Self:
        super().__enter__()
        for _ in range(20):  # what the first requests load is not the clients' doing
            self.ask("/healthz")
        self._before = self.most = self._resident()
        self._looker.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._has_ended.set()
        self._looker.join()
        self._end()
        self._folder.cleanup()

    def ask(self, path: str, method: str = "GET") -> int:
        """The status of the answer, or 0 if there was none."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=PATIENCE)
        try:
            connection.request(method, path)
            response = connection.getresponse()
            response.read()
        except (OSError, http.client.HTTPException):
            return 0
        finally:
            connection.close()
        return response.status

    def end(self) -> str:
        """Stop it while it has a job and a request to end; say what has come of these."""
        answers: list[int] = []
        asker = threading.Thread(target=lambda: answers.append(self.ask("/slow/")))
        asker.start()
        self.ask("/order/", "POST")
        deadline = time.monotonic() + PATIENCE
        while self._notes.read_text().count("begun") < 2 and time.monotonic() < deadline:
            time.sleep(PAUSE)
        self._has_ended.set()  # from here on nobody need be answered
        self._looker.join()
        exit = self.stop()
        asker.join()
        faults = [
            f"status {exit.code}" * (exit.code not in (0, -15)),
            "job cut off" * ("job done" not in self._notes.read_text()),
            f"request answered {answers[0]}" * (answers != [200]),
        ]
        return ", ".join(filter(None, faults)) or f"{exit.seconds:.1f} s"

    def _look(self) -> None:
        while not self._has_ended.is_set():
            started = time.monotonic()
            self.ask("/healthz")
            self.worst = max(self.worst, time.monotonic() - started)
            with suppress(OSError):  # it has just ended
                self.most = max(self.most, self._resident())
            self._has_ended.wait(PAUSE)

    def _resident(self) -> int:
        assert self._process is not None
        status = Path(f"/proc/{self._process.pid}/status").read_text()  # proc(5)
        found = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
        assert found is not None
        return int(found[1]) * 1024
