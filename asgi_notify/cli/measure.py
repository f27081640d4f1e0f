"""What a benchmark's clients have received, and what that says of the server."""

import json
import math
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from secrets import token_hex
from time import perf_counter_ns

__all__ = ["MIN_SIZE", "Listener", "Measurement", "Report", "percentile"]

MIN_SIZE = 64  # bytes; the marks of a message take up to 50

PERCENTILES = (50, 90, 99)

BUSY = 0.9  # of one core; a client that busy measures itself


@dataclass
class Listener:
    """One client: the place of its room among the rooms, and which messages it has."""

    room: int
    seen: bytearray
    close_code: int | None = None  # once it was cut


class Measurement:
    """Marks messages with a number and the time, and counts where they arrive.

    The messages go to the rooms in turn, and so do the clients.

    Args:
        messages: how many will be published.
        rooms: to how many rooms.
        size: of a message, in bytes, at least `MIN_SIZE`.
        clock: in nanoseconds.
    """

    def __init__(
        self, messages: int, rooms: int, size: int, clock: Callable[[], int] = perf_counter_ns
    ) -> None:
        self.messages = messages
        self.rooms = rooms
        self.size = size
        self.clock = clock
        self.run = token_hex(4)  # others may use the same rooms
        self.published = 0
        self.listeners: list[Listener] = []
        self.latencies = array("q")  # nanoseconds
        self.started = self.ended = clock()

    def add(self) -> Listener:
        """A further client, in the next room."""
        listener = Listener(len(self.listeners) % self.rooms, bytearray(self.messages))
        self.listeners.append(listener)
        return listener

    def text(self, number: int) -> str:
        """The message with this number, as it is sent now."""
        now = self.clock()
        if number == 0:
            self.started = now
        return f"bench {self.run} {number} {now} ".ljust(self.size, "x")

    def take(self, listener: Listener, text: str) -> None:
        """Count what a client has received, if it is of this run and new to it."""
        now = self.clock()
        marks = text.split(" ", 4)
        if marks[:2] != ["bench", self.run]:
            return
        number = int(marks[2])
        if listener.seen[number]:
            return
        listener.seen[number] = 1
        self.latencies.append(now - int(marks[3]))
        self.ended = now

    # A message whose publishing failed counts nowhere: it may have arrived or not.

    @property
    def expected(self) -> int:
        """How many deliveries the published messages make, if none is lost."""
        return sum(map(self._due, self.listeners))

    @property
    def delivered(self) -> int:
        """How many of them have been made."""
        return sum(map(self._has, self.listeners))

    def is_any_missing(self) -> bool:
        """Whether a delivery can still be made, for its client is connected."""
        return any(self._due(listener) > self._has(listener) for listener in self._connected())

    def is_anyone_left(self) -> bool:
        """Whether a client is still connected."""
        return any(True for _ in self._connected())

    @property
    def cut(self) -> Counter[int]:
        """How many clients have lost their connections, by the close code."""
        codes = (listener.close_code for listener in self.listeners)
        return Counter(code for code in codes if code is not None)

    def _connected(self) -> Iterator[Listener]:
        return (listener for listener in self.listeners if listener.close_code is None)

    def _due(self, listener: Listener) -> int:
        return len(range(listener.room, self.published, self.rooms))

    def _has(self, listener: Listener) -> int:
        return listener.seen.count(1, 0, self.published)


@dataclass(frozen=True)
class Report:
    """The figures of one run.

    Attributes:
        busy: the CPU that the clients' process used, as a share of one core.
        latency_ms: from publishing to receipt, under ``p50 p90 p99 max``; empty if
            nothing arrived.
        cut: how many clients lost their connection, by the close code.
        error: why publishing ended early, or None.
    """

    url: str
    clients: int
    rooms: int
    size: int
    connect_seconds: float
    published: int
    publish_seconds: float
    expected: int
    delivered: int
    deliver_seconds: float
    latency_ms: dict[str, float]
    cut: dict[int, int]
    busy: float
    error: str | None

    @property
    def lost(self) -> int:
        """How many deliveries were not made."""
        return self.expected - self.delivered

    def to_json(self) -> str:
        """All figures, the rates among them, as one JSON object."""
        rates = {
            "lost": self.lost,
            "connects_per_second": _rate(self.clients, self.connect_seconds),
            "published_per_second": _rate(self.published, self.publish_seconds),
            "delivered_per_second": _rate(self.delivered, self.deliver_seconds),
        }
        return json.dumps(asdict(self) | rates)

    def to_text(self) -> str:
        """The figures for a reader, one line for each kind."""
        lines = [
            f"connected  {_count(self.clients, self.connect_seconds)}",
            f"published  {_count(self.published, self.publish_seconds)}",
            f"delivered  {_count(self.delivered, self.deliver_seconds)}",
            f"lost       {self.lost:,} of {self.expected:,}",
        ]
        if self.latency_ms:
            figures = (f"{name} {number:.1f}" for name, number in self.latency_ms.items())
            lines.append(f"latency    {', '.join(figures)} ms")
        if self.cut:
            codes = ", ".join(f"{count:,} with {code}" for code, count in self.cut.items())
            lines.append(f"cut        {codes}")
        if self.busy > BUSY:
            lines.append(
                f"These clients were busy {self.busy:.0%} of the time: they, rather than the "
                "server, may be the limit. Try fewer clients or a lower --rate."
            )
        return "\n".join(lines)


def percentile(ordered: Sequence[int], share: int) -> int:
    """The smallest number that is not below ``share`` percent of all (nearest rank)."""
    return ordered[max(math.ceil(len(ordered) * share / 100), 1) - 1]


def latencies_ms(nanoseconds: Sequence[int]) -> dict[str, float]:
    """The percentiles and the maximum, in milliseconds; nothing of nothing."""
    if not nanoseconds:
        return {}
    ordered = sorted(nanoseconds)
    found = {f"p{share}": percentile(ordered, share) for share in PERCENTILES}
    return {name: ns / 1e6 for name, ns in {**found, "max": ordered[-1]}.items()}


def _rate(count: int, seconds: float) -> float:
    return count / seconds if seconds else 0.0


def _count(count: int, seconds: float) -> str:
    return f"{count:,} in {seconds:.2f} s ({_rate(count, seconds):,.0f} per second)"
