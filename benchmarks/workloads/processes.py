"""Between processes: what carries a message from one to another, without any socket of a client."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from ..contenders import Contender
from ..control import Child
from ..engine import URL, Engine, running_engine
from ..ratios import Ratio
from ..results import Figures
from ..trial import Options
from .base import Workload

__all__ = ["CROWD", "HISTORY", "LATE", "MEMBERS", "PLAIN", "WORKLOAD"]

PUBLISHES, MESSAGES = 20_000, 500
MEMBERS = 100
GROUPS = 1_000

PLAIN, HISTORY = "64 at a time", "64 at a time, history"
LATE = "one at a time"
SMALL, CROWD = "wire, 1 member", f"wire, {MEMBERS} members"
ONE, TWO = "100 members in one process", "50 in each of two"
KEPT, IDLE, PRESENT = "memory, 100 kept", "memory, idle group", "memory, present member"

SHARE = {"channels_redis": 0.1, "channels_pubsub": 0.1}  # of the publishes: they take longer


class _Stage:
    """The server, and processes of one contender."""

    def __init__(self, contender: Contender, engine: Engine, processes: list[Child]) -> None:
        self.name = contender.name
        self.engine = engine
        self.publisher, self.reader, self.other = processes

    def figures(self, options: Options) -> Iterator[tuple[str, Figures]]:
        count = int(options.size(PUBLISHES, PUBLISHES // 10) * SHARE.get(self.name, 1))
        self.reader.ask("join", group="plain")
        yield PLAIN, self._publish("plain", count)
        self.publisher.ask("pace", group="plain", count=options.size(MESSAGES, MESSAGES // 5))
        late = self.reader.ask("heard", count=options.size(MESSAGES, MESSAGES // 5))
        yield LATE, {name: late[name] for name in ("p50_ms", "p99_ms", "lost") if name in late}
        yield SMALL, self._wire("plain", options.size(2_000, 200))
        if self.name == "glide":
            return  # it has one callback, whatever is behind it
        self.reader.ask("join", group="crowd", members=MEMBERS)
        yield CROWD, self._wire("crowd", options.size(500, 50))
        yield ONE, self._deliver("crowd", count // 20, [self.reader])
        for process in (self.reader, self.other):
            process.ask("join", group="halves", members=MEMBERS // 2)
        yield TWO, self._deliver("halves", count // 20, [self.reader, self.other])
        if self.name == "ours_valkey":
            yield from self._ours(count, options.size(GROUPS, GROUPS // 5))

    def _ours(self, count: int, groups: int) -> Iterator[tuple[str, Figures]]:
        self.reader.ask("join", group="kept")
        yield HISTORY, self._publish("kept", count)
        before = self.engine.memory()
        self.publisher.ask("publish", group="kept-", groups=groups, count=100 * groups)
        yield KEPT, {"engine_bytes": (self.engine.memory() - before) / groups}
        before = self.engine.memory()
        self.reader.ask("join", group="idle", groups=groups)
        yield IDLE, {"engine_bytes": (self.engine.memory() - before) / groups}
        before = self.engine.memory()
        self.reader.ask("join", group="present", members=groups)
        yield PRESENT, {"engine_bytes": (self.engine.memory() - before) / groups}

    def _publish(self, group: str, count: int) -> Figures:
        sent = self.publisher.ask("publish", group=group, count=count)
        came = self.reader.ask("heard", count=count)
        return {
            "publishes_per_s": sent["per_s"],
            "publish_cpu_us": sent["cpu_us"],
            "lost": came["lost"],
        }

    def _wire(self, group: str, count: int) -> Figures:
        before = self.engine.wire()
        self.publisher.ask("publish", group=group, count=count)
        self.reader.ask("heard", count=count * (MEMBERS if group == "crowd" else 1))
        return {"wire_bytes": (self.engine.wire() - before) / count}

    def _deliver(self, group: str, count: int, readers: list[Child]) -> Figures:
        """What the readers work for each delivery."""
        expected = count * MEMBERS
        before = sum(reader.ask("stats")["cpu"] for reader in readers)
        self.publisher.ask("publish", group=group, count=count)
        lost = sum(
            reader.ask("heard", count=expected // len(readers))["lost"] for reader in readers
        )
        cpu = sum(reader.ask("stats")["cpu"] for reader in readers) - before
        return {"cpu_us": cpu / 1000 / expected, "lost": lost}


@contextmanager
def _stage(contender: Contender, options: Options) -> Iterator[_Stage]:
    pins = options.pins
    with ExitStack() as stack:
        engine = stack.enter_context(running_engine())
        processes = [
            stack.enter_context(
                Child("benchmarks.carrying", contender.name, core=core, env={URL: engine.url})
            )
            for core in (pins.server, pins.client, pins.client)
        ]
        yield _Stage(contender, engine, processes)


def measure(contender: Contender, options: Options) -> dict[str, Figures]:
    """Publish in one process, read in another one or two."""
    with _stage(contender, options) as stage:
        return dict(stage.figures(options))


NAMES = ("glide", "ours_valkey", "channels_redis", "channels_pubsub")

WORKLOAD = Workload(
    name="processes",
    title="messages of 100 bytes from one process to members in another, by way of a server",
    measure=measure,
    contenders=NAMES,
    quick=NAMES,
    columns=(
        "publishes_per_s",
        "publish_cpu_us",
        "p50_ms",
        "p99_ms",
        "wire_bytes",
        "cpu_us",
        "engine_bytes",
        "lost",
    ),
    ratios=(
        Ratio("publishes/s over channels_redis", "publishes_per_s", contender="channels_redis"),
        Ratio("p50 / glide", "p50_ms", contender="glide"),
    ),
)
