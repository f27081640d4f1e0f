"""What asgi_notify is to reach, as data, and whether it does."""

from dataclasses import dataclass
from typing import Literal

from .ratios import Figure, How, compare
from .results import Results
from .statistics import Spread
from .workloads.blocking import BLOCKING
from .workloads.burst import ONE, TRAIN
from .workloads.churn import CHURN
from .workloads.paced import PACED
from .workloads.private import PRIVATE
from .workloads.processes import CROWD, HISTORY, LATE, MEMBERS, PLAIN

__all__ = ["TARGETS", "Target", "Verdict"]

Verdict = Literal["reached", "missed", "not measured"]


@dataclass(frozen=True)
class Target:
    """A figure, what it is set against, and how far it may go.

    Args:
        title: for people.
        figure: what counts; the median over the rounds.
        base: what it is set against in the same round, if anything.
        at_most: the most that will do.
        at_worst: the most that will do in any single round.
        at_least: the least that will do.
        how: whether the base divides it or is taken away.
    """

    title: str
    figure: Figure
    base: Figure | None = None
    at_most: float | None = None
    at_least: float | None = None
    how: How = "ratio"
    at_worst: float | None = None

    @property
    def limit(self) -> str:
        """The limit, for people."""
        if self.at_most is not None:
            worst = "" if self.at_worst is None else f", each round <= {self.at_worst:g}"
            return f"<= {self.at_most:g}{worst}"
        return f">= {self.at_least:g}"

    def measured(self, results: Results) -> Spread | None:
        """What the target speaks of, where it was measured."""
        return compare(self.figure, self.base, self.how, results)

    def verdict(self, results: Results) -> Verdict:
        """Whether it was reached."""
        found = self.measured(results)
        if found is None:
            return "not measured"
        too_much = self.at_most is not None and found.median > self.at_most
        too_much = too_much or (self.at_worst is not None and found.high > self.at_worst)
        too_little = self.at_least is not None and found.median < self.at_least
        return "missed" if too_much or too_little else "reached"


def _burst(contender: str, case: str = ONE) -> Figure:
    return Figure("burst", case, contender, "cpu_us")


def _paced(contender: str, name: str = "cpu_us") -> Figure:
    return Figure("paced", PACED, contender, name)


def _private(contender: str) -> Figure:
    return Figure("private", PRIVATE, contender, "cpu_us")


def _peer(title: str, contender: str, times: float) -> Target:
    """A peer is to take so many times our CPU."""
    return Target(
        f"burst: CPU per delivery, {title} / async consumer",
        _burst(contender), _burst("ours_async"), at_least=times,
    )  # fmt: skip


def _layer(members: str) -> Target:
    figure = Figure("layer", members, "ours_async", "ns_per_member")
    return Target(f"layer alone: ns per member, {members} members", figure, at_most=300)


def _processes(case: str, name: str, contender: str = "ours_valkey") -> Figure:
    return Figure("processes", case, contender, name)


TARGETS: tuple[Target, ...] = (
    Target(
        "burst: CPU per delivery, async consumer / raw",
        _burst("ours_async"), _burst("raw"), at_most=0.45,
    ),
    Target(
        "trains of 10: CPU per delivery, async consumer / raw doing the same",
        _burst("ours_async", TRAIN), _burst("raw", TRAIN), at_most=0.35,
    ),
    Target(
        "trains of 10: CPU per delivery, async consumer / raw, one per turn",
        _burst("ours_async", TRAIN), _burst("raw"), at_most=0.35,
    ),
    Target(
        "burst: CPU per delivery, NotificationConsumer / raw",
        _burst("ours_notification"), _burst("raw"), at_most=0.40,
    ),
    Target(
        "paced: CPU per delivery, async consumer / raw",
        _paced("ours_async"), _paced("raw"), at_most=1.25,
    ),
    Target(
        "paced: CPU per delivery, NotificationConsumer / raw",
        _paced("ours_notification"), _paced("raw"), at_most=0.85,
    ),
    Target(
        "paced: p99, async consumer / raw",
        _paced("ours_async", "p99_ms"), _paced("raw", "p99_ms"), at_most=1.1, at_worst=2,
    ),
    Target(
        "paced: p99, NotificationConsumer / raw",
        _paced("ours_notification", "p99_ms"), _paced("raw", "p99_ms"), at_most=1.1, at_worst=2,
    ),
    Target(
        "burst: CPU per delivery, NotificationConsumer / websockets' broadcast",
        _burst("ours_notification"), _burst("websockets"), at_most=0.99,
    ),
    Target(
        "paced: CPU per delivery, NotificationConsumer / websockets' broadcast",
        _paced("ours_notification"), _paced("websockets"), at_most=0.99,
    ),
    Target(
        "burst: CPU per delivery, server-sent events / raw",
        _burst("ours_sse"), _burst("raw"), at_most=1.0,
    ),
    _peer("Channels", "channels", 25),
    Target(
        "burst: CPU per delivery, sync consumer / raw",
        _burst("ours_sync"), _burst("raw"), at_most=3,
    ),
    Target(
        "burst: CPU per delivery, Channels' sync consumer / ours",
        _burst("channels_sync"), _burst("ours_sync"), at_least=10,
    ),
    _peer("python-socketio", "socketio", 4),
    _peer("Litestar", "litestar", 1.8),
    _peer("broadcaster", "broadcaster", 1.2),
    _layer("10"),
    _layer("1,000"),
    _layer("100,000"),
    Target(
        "private: CPU per delivery, async consumer / raw",
        _private("ours_async"), _private("raw"), at_most=1.3,
    ),
    Target(
        "private: CPU per delivery, NotificationConsumer / raw",
        _private("ours_notification"), _private("raw"), at_most=1.0,
    ),
    Target(
        "churn: CPU to open and close a connection, async consumer / raw",
        Figure("churn", CHURN, "ours_async_stock", "churn_cpu_us"),
        Figure("churn", CHURN, "raw", "churn_cpu_us"),
        at_most=1.6,
    ),
    Target(
        "churn: CPU to open and close a connection, sync consumer / raw",
        Figure("churn", CHURN, "ours_sync", "churn_cpu_us"),
        Figure("churn", CHURN, "raw", "churn_cpu_us"),
        at_most=2,
    ),
    Target(
        "scale: kB per idle connection above raw's, at 15,000",
        Figure("scale", "15,000", "ours_async", "kb_per_connection"),
        Figure("scale", "15,000", "raw", "kb_per_connection"),
        at_most=4,
        how="difference",
    ),
    Target(
        "burst: CPU per delivery, async consumer on valkey:// / in memory",
        _burst("ours_valkey"), _burst("ours_async"), at_most=1.3,
    ),
    Target(
        "burst: CPU per delivery, channels_redis core / ours on valkey://",
        _burst("channels_redis"), _burst("ours_valkey"), at_least=8,
    ),
    Target(
        "burst: CPU per delivery, channels_redis pub/sub / ours on valkey://",
        _burst("channels_pubsub"), _burst("ours_valkey"), at_least=8,
    ),
    Target(
        "processes: publishes a second with history, 64 at a time",
        _processes(HISTORY, "publishes_per_s"), at_least=15_000,
    ),
    Target(
        "processes: publishes a second with history / channels_redis core, without",
        _processes(HISTORY, "publishes_per_s"),
        _processes(PLAIN, "publishes_per_s", "channels_redis"),
        at_least=3,
    ),
    Target(
        "processes: p50 to another process / bare publish and subscribe",
        _processes(LATE, "p50_ms"), _processes(LATE, "p50_ms", "glide"), at_most=1.5,
    ),
    Target(
        f"processes: bytes on the wire, {MEMBERS} members",
        _processes(CROWD, "wire_bytes"), at_most=400,
    ),
    Target(
        "private: connections a second, in memory / on valkey://",
        Figure("private", PRIVATE, "ours_async", "connections_per_s"),
        Figure("private", PRIVATE, "ours_valkey", "connections_per_s"),
        at_most=1.5,
    ),
    Target(
        "50 handlers that block 0.1 s each, in 40 threads: ms until all are done",
        Figure("blocking", BLOCKING, "ours_blocking", "max_ms"),
        at_most=400,
    ),
)  # fmt: skip
