"""One contender's server with its clients, and what is measured between the two."""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import TypeVar

from .contenders import Contender
from .control import Child, ChildError, Pins
from .engine import URL, running_engine
from .publisher import Job
from .results import Figures

__all__ = ["Options", "Trial", "rotated"]

T = TypeVar("T")

QUIET = 2.0  # seconds without a message, after which the rest counts as lost
PROBES = 7  # tries until all clients are subscribed; the last waits for 16 s
REST = 500_000  # nanoseconds of CPU within 50 ms, of which a server at rest stays below
US, MS, S = 1_000, 1_000_000, 1_000_000_000  # nanoseconds


@dataclass(frozen=True)
class Options:
    """How a run is made.

    Args:
        is_quick: whether small figures will do.
        pins: where servers and clients run.
        round: which one it is, from 0.
    """

    is_quick: bool = False
    pins: Pins = field(default_factory=lambda: Pins(is_on=False))
    round: int = 0

    def size(self, whole: int, quick: int) -> int:
        """The one or the other."""
        return quick if self.is_quick else whole


def rotated(items: Sequence[T], number: int) -> list[T]:
    """The items, from another one on in each round: in as many rounds each stands in each place."""
    first = number % len(items) if items else 0
    return [*items[first:], *items[:first]]


@contextmanager
def environment(contender: Contender) -> Iterator[dict[str, str]]:
    """What a contender's process is told of the server that carries its messages, if it has one."""
    if not contender.has_engine:
        yield {}
        return
    with running_engine() as engine:
        yield {URL: engine.url}


class Trial:
    """A server that runs, and the process of its clients."""

    def __init__(self, contender: Contender, server: Child, client: Child) -> None:
        self.contender = contender
        self._server = server
        self._client = client
        self._groups = 1
        self._readers = 0

    @classmethod
    @contextmanager
    def of(cls, contender: Contender, options: Options) -> Iterator["Trial"]:
        """Start both processes, and end them at the end of the block."""
        server_module, client_module = "benchmarks.server", "benchmarks.client"
        with (
            environment(contender) as env,
            Child(server_module, *contender.arguments, core=options.pins.server, env=env) as server,
        ):
            port = server.ask("port")["port"]
            core = options.pins.client
            arguments = (contender.dialect, str(port), "sleep" if core is None else "spin")
            with Child(client_module, *arguments, core=core) as client:
                try:
                    yield cls(contender, server, client)
                except ChildError as error:
                    raise ChildError(f"{error}\nThe server printed:\n{server.output}") from error

    def connect(self, clients: int, *, groups: int = 1) -> Figures:
        """Connect so many clients, evenly over the groups, and wait until messages reach them."""
        paths = [self._path(1 + number % groups) for number in range(clients)]
        before = self._server.ask("stats")["total_cpu"]
        seconds = self._client.ask("connect", paths=paths)["seconds"]
        cpu = self._server.ask("stats")["total_cpu"] - before
        self._groups = groups
        self._readers += clients
        self._probe()
        return {"connections_per_s": clients / seconds, "connect_cpu_us": cpu / clients / US}

    def churn(self, clients: int, turns: int) -> Figures:
        """Open so many connections and close them, and do so again, each turn in a row."""
        opening = closing = 0
        for _ in range(turns):
            before = self._settled()
            self._client.ask("connect", paths=[self._path(1)] * clients)
            between = self._settled()
            self._client.ask("close")
            opening += between - before
            closing += self._settled() - between
        each = clients * turns * US
        return {
            "open_cpu_us": opening / each,
            "close_cpu_us": closing / each,
            "churn_cpu_us": (opening + closing) / each,
        }

    def _settled(self) -> int:
        """The CPU that the server has used, in nanoseconds, once it does nothing any more."""
        used = -REST
        while (now := int(self._server.ask("stats")["total_cpu"])) - used > REST:
            used = now
            time.sleep(0.05)
        return now

    def connect_slow(self, clients: int, receive_buffer: int) -> None:
        """Connect clients to the first group that never read."""
        paths = [self._path(1)] * clients
        self._client.ask("connect", paths=paths, receive_buffer=receive_buffer)

    def _path(self, group: int) -> str:
        return self.contender.path.format(group=group)

    def _probe(self) -> None:
        """Publish until everybody gets it: some servers accept before they subscribe."""
        for attempt in range(PROBES):
            if self.publish(Job(1, self._groups), quiet=0.25 * 2**attempt)["lost"] == 0:
                return
        raise ChildError(f"{self.contender.name}: messages do not reach all clients")

    def publish(self, job: Job, *, quiet: float = QUIET) -> Figures:
        """Publish, and wait until all clients have got everything, or nothing more comes."""
        expected = self._readers // self._groups * job.groups * job.messages
        self._client.ask("collect", expected=expected, quiet=quiet)
        self._server.ask("publish", **asdict(job))
        came = self._client.answer()
        stats = self._server.ask("stats")
        received = came["received"]
        if not received:
            return {"lost": expected, "closed": came["closed"], "published": stats["published"]}
        seconds = (came["last"] - stats["began"]) / S
        return {
            "cpu_us": stats["cpu"] / received / US,
            "deliveries_per_s": received / seconds,
            "p50_ms": came["p50"] / MS,
            "p99_ms": came["p99"] / MS,
            "max_ms": came["max"] / MS,
            "lost": expected - received,
            "closed": came["closed"],
            "published": stats["published"],
            "client_cpu_us": came["cpu"] / received / US,
        }

    def burst(self, messages: int, **options: int) -> Job:
        """A job of so many messages, or of the contender's share of them."""
        return Job(math.ceil(messages * self.contender.share), **options)

    def memory(self) -> float:
        """What the server's process holds in memory, in bytes."""
        return float(self._server.ask("memory")["bytes"])

    def shrink_send_buffers(self, size: int) -> None:
        """Have the kernel keep so many bytes for each client to come, and not megabytes."""
        self._server.ask("shrink_send_buffers", size=size)

    def add_others(self, count: int) -> None:
        """Have the server make so many more groups."""
        self._server.ask("add_others", count=count)
