"""An engine of the server's own: a real Valkey or Redis that lives exactly as long as the server.

::

    asgi-notify serve --workers 4
     |-- a thread here watches it --> valkey-server 127.0.0.1:PORT
     |-- worker 1 ------------------------^
     |-- worker 2 ------------------------^      all of them with its password

It listens on the loopback interface alone, with a password made for it, which is told to it on
its standard input: it stands in no file and in no list of processes. Without a folder it keeps
everything in memory, so that it leaves nothing behind, however it ends.
"""

import logging
import os
import random
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from threading import Event, Lock, Thread
from types import TracebackType
from typing import IO, Self

from ..exceptions import ConfigurationError
from .engine_folder import claim
from .engine_program import Program

__all__ = ["EmbeddedEngine"]

logger = logging.getLogger("asgi_notify.engine")

HOST = "127.0.0.1"

# Below the ports that Linux (from 32768) and others give to outgoing connections: one of these
# could else hold the port just when the engine is to listen on it again.
PORTS = range(10_000, 32_000)

ATTEMPTS = 5  # ports that are tried: another program may take one after it was seen free
START_TIMEOUT = 60.0  # seconds; what a large folder holds is read first
STOP_TIMEOUT = 10.0  # seconds from SIGTERM on; what a folder is to hold is written then
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0  # seconds before one that has died is started again
SETTLED = 10.0  # seconds after which one that lives counts as started well
POLL = 0.01  # seconds between two looks at one that starts

# Linux ends the engine with the thread that started it, however that ended. It has to be asked
# by the process itself, before it becomes the engine, which a Python does that has no threads.
# The parent may have died before it was asked: then nobody would ever end the engine.
_LEASHED = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""


class EmbeddedEngine:
    """A Valkey or Redis server that runs from ``__enter__`` to ``__exit__``.

    One that dies meanwhile is started again, with the same port and password, so that who was
    connected comes back. Without a folder it has forgotten everything then.

    Args:
        program: what is started.
        folder: where it keeps its data, made if it is not there; None: in memory alone.
    """

    def __init__(self, program: Program, folder: Path | None = None) -> None:
        self._program = program
        self._folder = folder
        self._password = ""
        self._port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._output: IO[bytes] | None = None
        self._turn = Lock()  # held by whoever starts or ends it
        self._is_ending = Event()
        self._has_begun = Event()
        self._error: ConfigurationError | None = None
        self._claim: int | None = None  # of the folder
        # The engine is bound to the thread that starts it, so one thread does all of that.
        self._thread = Thread(target=self._live, name="asgi_notify's engine", daemon=True)

    @property
    def location(self) -> str:
        """What a URL has between ``valkey://`` and its options, with the password."""
        return f":{self._password}@{HOST}:{self._port}/0"

    @property
    def pid(self) -> int | None:
        """The number of its latest process; None before the first."""
        return None if self._process is None else self._process.pid

    def __enter__(self) -> Self:
        """Start it, and wait until it answers.

        Raises:
            ConfigurationError: it does not start, or its folder cannot be used.
        """
        if self._folder is not None:
            self._claim = claim(self._folder)
        self._thread.start()
        try:
            self._has_begun.wait()
        except BaseException:  # somebody does not want to wait
            self.__exit__(None, None, None)
            raise
        if self._error is not None:
            self.__exit__(None, None, None)
            raise self._error
        keeps = "in memory alone" if self._folder is None else f"in {self._folder}"
        logger.info(
            "started an engine of its own: %s on %s:%d [%s], which keeps its data %s",
            self._program.name, HOST, self._port, self.pid, keeps,
        )  # fmt: skip
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._is_ending.set()
        with self._turn:
            process = self._process
        if process is not None:
            _end(process)
        self._thread.join()
        if self._output is not None:
            self._output.close()
        if self._claim is not None:
            os.close(self._claim)
            self._claim = None

    # The thread.

    def _live(self) -> None:
        try:
            self._begin()
        except ConfigurationError as error:
            self._error = error
        except OSError as error:  # such as no folder for temporary files, or no process more
            self._error = ConfigurationError(f"{self._program.path} cannot be started: {error}")
        finally:
            self._has_begun.set()
        if self._error is None:
            self._watch()

    def _begin(self) -> None:
        """Start it on a port that is free."""
        said = ""
        for _ in range(ATTEMPTS):
            # With another password each time: whoever took the last port was told that one.
            self._port, self._password = _free_port(), secrets.token_urlsafe(32)
            if self._start() or self._is_ending.is_set():
                return
            said = self._last_words()
        raise ConfigurationError(f"{self._program.path} does not start: {said}")

    def _watch(self) -> None:
        """Start it again whenever it dies."""
        pause = FIRST_PAUSE
        while not self._is_ending.is_set():
            began = time.monotonic()
            assert self._process is not None
            status = self._process.wait()
            if self._is_ending.is_set():
                return
            logger.error("the engine has ended %s; it is started again", self._ended(status))
            if time.monotonic() - began > SETTLED:
                pause = FIRST_PAUSE
            while not self._is_ending.wait(pause) and not self._try_to_start():
                pause = min(2 * pause, LONGEST_PAUSE)
            if not self._is_ending.is_set():
                pause = min(2 * pause, LONGEST_PAUSE)
                logger.warning(
                    "the engine is back on %s:%d [%s]; what it had is %s",
                    HOST, self._port, self.pid,
                    "gone" if self._folder is None else f"read from {self._folder}",
                )  # fmt: skip

    def _try_to_start(self) -> bool:
        try:
            return self._start()
        except OSError as error:
            logger.error("the engine could not be started again, and is tried soon: %s", error)
            return False

    def _ended(self, status: int) -> str:
        if status < 0:
            return f"by {signal.Signals(-status).name}"
        return f"with status {status}: {self._last_words()}"

    def _start(self) -> bool:
        """Start the program; return whether it answers, and end it if it does not."""
        with self._turn:
            if self._is_ending.is_set():
                return False
            if self._output is not None:
                self._output.close()
            self._output = tempfile.TemporaryFile()  # noqa: SIM115  # without a name, so it is gone
            process = self._process = subprocess.Popen(
                self._command(),
                stdin=subprocess.PIPE,
                stdout=self._output,
                stderr=self._output,
                # Ctrl-C is for the server, whose workers need the engine until they have ended.
                start_new_session=True,
                # Whoever holds it has the folder: the engine for as long as it lives.
                pass_fds=() if self._claim is None else (self._claim,),
            )
        assert process.stdin is not None
        try:
            with process.stdin as pipe:
                pipe.write(self._configuration().encode())
        except BrokenPipeError:
            pass  # it has ended already
        until = time.monotonic() + START_TIMEOUT
        while process.poll() is None and time.monotonic() < until:
            if self._answers():
                return True
            time.sleep(POLL)
        _end(process)
        return False

    def _command(self) -> list[str]:
        command = [self._program.path, "-"]  # its configuration comes on standard input
        if sys.platform != "linux":
            return command
        return [sys.executable, "-I", "-S", "-c", _LEASHED, str(os.getpid()), *command]

    def _configuration(self) -> str:
        lines = [
            f"bind {HOST}",
            f"port {self._port}",
            f"requirepass {self._password}",
            "loglevel warning",
            'save ""',
            f"appendonly {'no' if self._folder is None else 'yes'}",
        ]
        if self._folder is not None:
            lines.append(f"dir {_quoted(str(self._folder.absolute()))}")
        return "\n".join([*lines, ""])

    def _answers(self) -> bool:
        """Whether it is this engine that listens, and it has read its data."""
        try:
            with socket.create_connection((HOST, self._port), timeout=1) as connection:
                connection.sendall(f"AUTH {self._password}\r\nPING\r\n".encode())
                answer = b""
                while answer.count(b"\n") < 2 and (some := connection.recv(1024)):
                    answer += some
        except OSError:
            return False
        return answer == b"+OK\r\n+PONG\r\n"

    def _last_words(self) -> str:
        """What it printed at last, on one line."""
        assert self._output is not None
        size = os.fstat(self._output.fileno()).st_size
        text = os.pread(self._output.fileno(), 500, max(0, size - 500)).decode(errors="replace")
        return " ".join(text.split()) or "it says nothing"


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a process; return when it has ended."""
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _free_port() -> int:
    """A port on which nothing listens just now."""
    while True:
        port = random.choice(PORTS)
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind((HOST, port))
            except OSError:
                continue
        return port


def _quoted(text: str) -> str:
    """A text as one word of a configuration."""
    for character, escaped in ("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n"):
        text = text.replace(character, escaped)
    return f'"{text}"'
