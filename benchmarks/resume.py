"""Resume: what history costs while nobody needs it, and what it takes when everybody does.

::

    python -m benchmarks.resume             # some three minutes
    python -m benchmarks.resume --rounds 1  # a look at it

The burst is that of `benchmarks.workloads.burst`, in turns with and without a
history. The storm is a thousand clients that come back at once, each to a group
of its own, where a hundred messages wait for it; meanwhile other clients get
messages at a steady rate, and how late these are is compared with a calm time.
"""

import argparse
import base64
import json
import os
import select
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from .contenders import CONTENDERS
from .control import Child, ChildError, Pins
from .machine import describe, raise_file_limit
from .publisher import Job
from .statistics import quantile, spread
from .trial import Options
from .wire import Refused
from .workloads.burst import ONE, TRAIN
from .workloads.burst import measure as measure_burst

__all__ = ["Resuming", "Storm", "main"]

CONTENDER = "ours_notification"
OFF, ON = "memory://", "memory://?history=user_*&history_size=100&history_ttl=300"

RESUMING, MESSAGES = 1000, 100
OTHERS, RATE, SECONDS = 100, 50.0, 6  # clients, messages per second, seconds
QUIET = 5.0  # seconds without a message, after which the rest counts as lost
PATIENCE = 60.0  # seconds for all to resume
READ = 256 * 1024  # bytes at a time
US, MS, S = 1_000, 1_000_000, 1_000_000_000  # nanoseconds

_HEAD_END = b"\r\n\r\n"


@dataclass
class Resuming:
    """One client of the protocol, from its request to the last message that it waits for.

    Args:
        path: what it asks for.
        socket: its connection.
        expected: how many messages it has missed.
    """

    path: str
    socket: socket.socket
    expected: int
    buffer: bytes = b""
    is_open: bool = False
    position: str = ""
    came: int = 0

    def feed(self, data: bytes) -> bool:
        """Take what has come; return whether it was all that there is to come.

        Raises:
            ChildError: a message is missing, or the server says so.
            Refused: there is no connection.
        """
        self.buffer += data
        if not self.is_open:
            head, end, rest = self.buffer.partition(_HEAD_END)
            if not end:
                return False
            if not head.startswith(b"HTTP/1.1 101 "):
                raise Refused(f"the server answered {head[:80]!r}")
            self.is_open, self.buffer = True, rest
        frames, consumed = _texts(self.buffer)
        self.buffer = self.buffer[consumed:]
        for text in frames:
            self._take(json.loads(text))
        return self.position != "" and self.came >= self.expected

    def _take(self, frame: Mapping[str, Any]) -> None:
        if frame["type"] == "subscribed":
            self.position = frame["position"]
            if frame.get("recovered", True) is not True or frame["replayed"] != self.expected:
                raise ChildError(f"{self.path} was not resumed whole: {frame}")
        elif frame["type"] == "notification":
            epoch, _, before = self.position.rpartition("-")
            if frame["id"] != f"{epoch}-{int(before) + 1}":
                raise ChildError(f"{self.path} stood at {self.position} and was sent {frame['id']}")
            self.position = frame["id"]
            self.came += 1


class Storm:
    """Clients that connect all at once, each to a group of its own, and leave when they are served.

    Args:
        port: the server's, on the loopback interface.
        rooms: one for each client.
    """

    def __init__(self, port: int, rooms: Sequence[int]) -> None:
        self._port = port
        self._rooms = rooms
        self._positions: dict[int, str] = {}

    def pass_over(self, expected: int) -> list[int]:
        """Connect everybody, where they were before, and wait for what each has missed.

        Args:
            expected: how many messages that is.

        Returns:
            How long it took each client, from the first one's request, in nanoseconds.

        Raises:
            ChildError: somebody was not resumed, or not within `PATIENCE` seconds.
        """
        began = time.monotonic_ns()
        with ExitStack() as stack:
            poll = stack.enter_context(select.epoll())
            clients = {}
            for room in self._rooms:
                client = self._connect(room, expected)
                stack.callback(client.socket.close)
                clients[client.socket.fileno()] = room, client
                poll.register(client.socket, select.EPOLLIN)
            return list(self._read(poll, clients, began))

    def _connect(self, room: int, expected: int) -> Resuming:
        since = self._positions.get(room)
        path = f"/notifications/{room}/" + (f"?since={since}" if since else "")
        connection = socket.create_connection(("127.0.0.1", self._port))
        key = base64.b64encode(os.urandom(16)).decode()
        head = (
            f"GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Protocol: asgi-notify.v1\r\n\r\n"
        )
        connection.sendall(head.encode())
        connection.setblocking(False)
        return Resuming(path, connection, expected)

    def _read(
        self, poll: select.epoll, clients: dict[int, tuple[int, Resuming]], began: int
    ) -> Iterator[int]:
        waiting = len(clients)
        while waiting:
            if time.monotonic_ns() - began > PATIENCE * S:
                raise ChildError(f"{waiting} clients were not served within {PATIENCE:.0f} s")
            for number, _ in poll.poll(1.0):
                room, client = clients[number]
                data = client.socket.recv(READ)
                if not data:
                    raise ChildError(f"{client.path} was closed after {client.came} messages")
                if client.feed(data):
                    poll.unregister(number)
                    self._positions[room] = client.position
                    waiting -= 1
                    yield time.monotonic_ns() - began


def _texts(data: bytes) -> tuple[list[bytes], int]:
    """The whole text frames of a server's in the data, and how many bytes these took."""
    found: list[bytes] = []
    at = 0
    while len(data) - at >= 2:
        start, length = at + 2, data[at + 1]  # RFC 6455 5.1: a server's frames have no mask
        if length == 126:  # RFC 6455 5.2; no frame here is of the next larger kind
            start, length = at + 4, int.from_bytes(data[at + 2 : at + 4])
        if start + length > len(data):
            break
        if data[at] == 0x81:  # RFC 6455 5.2: FIN, opcode 1
            found.append(data[start : start + length])
        at = start + length
    return found, at


@contextmanager
def _layer(url: str) -> Iterator[None]:
    """Have the processes that are started meanwhile use this layer."""
    before = os.environ.get("ASGI_NOTIFY_LAYER")
    os.environ["ASGI_NOTIFY_LAYER"] = url
    try:
        yield
    finally:
        del os.environ["ASGI_NOTIFY_LAYER"]
        if before is not None:
            os.environ["ASGI_NOTIFY_LAYER"] = before


def _bursts(rounds: int, options: Options) -> None:
    """Measure the burst with and without history, in turns, and print the ratio."""
    ratios: dict[str, list[float]] = {ONE: [], TRAIN: []}
    for number in range(rounds):
        figures = {}
        # Who comes first in a round is last in the next one.
        for url in (OFF, ON) if number % 2 else (ON, OFF):
            with _layer(url):
                figures[url] = measure_burst(CONTENDERS[CONTENDER], options)
        for case, found in ratios.items():
            on, off = (figures[url][case]["cpu_us"] for url in (ON, OFF))
            found.append(on / off)
            print(f"burst, {case}: history on {on:.2f} us, off {off:.2f} us: {on / off:.3f}")
    for case, found in ratios.items():
        if (spreading := spread(found)) is not None:
            median, low, high = spreading
            print(f"burst, {case}: on / off {median:.3f} ({low:.3f} to {high:.3f})")


def _storms(rounds: int) -> None:
    """Let the storm pass over a server again and again, and print how it and the others fared."""
    with _layer(ON), ExitStack() as stack:
        server = stack.enter_context(Child("benchmarks.server", *CONTENDERS[CONTENDER].arguments))
        port = server.ask("port")["port"]
        others = stack.enter_context(Child("benchmarks.client", "websocket", str(port), "sleep"))
        others.ask("connect", paths=["/notifications/1/"] * OTHERS)
        storm = Storm(port, range(2, RESUMING + 2))
        storm.pass_over(0)  # everybody learns a position
        for _ in range(rounds):
            _publish(server, others, Job(MESSAGES, groups=RESUMING + 1), MESSAGES * OTHERS)
            cpu_calm, _ = _paced(server, others)
            cpu, took = _paced(server, others, lambda: storm.pass_over(MESSAGES))
            more = cpu - cpu_calm
            took.sort()
            first, half, last = (quantile(took, share) / MS for share in (0, 0.5, 1))
            print(
                f"  {RESUMING} clients resumed {MESSAGES} messages each: the first after "
                f"{first:.0f} ms, half of them after {half:.0f} ms, all after {last:.0f} ms; "
                f"for this the server worked {more / MS:.0f} ms, "
                f"{more / US / RESUMING / MESSAGES:.1f} us per message"
            )


def _paced(
    server: Child, others: Child, storm: Callable[[], list[int]] | None = None
) -> tuple[int, list[int]]:
    """Send to the others at a steady rate, through a storm, and print how they fared.

    Returns:
        What the server has worked, in nanoseconds, and what the storm has returned.
    """
    before = server.ask("stats")["total_cpu"]
    job = Job(int(RATE * SECONDS), rate=RATE)
    others.ask("collect", expected=job.messages * OTHERS, quiet=QUIET)
    server.ask("publish", **asdict(job))
    took = storm() if storm is not None else []
    came = others.answer()
    cpu = server.ask("stats")["total_cpu"] - before
    p50, p99, longest = (came[name] / MS for name in ("p50", "p99", "max"))
    print(
        f"the others, {'meanwhile' if took else 'in a calm'}: p50 {p50:.1f} ms, p99 {p99:.1f} ms, "
        f"max {longest:.1f} ms, lost {job.messages * OTHERS - came['received']}"
    )
    return cpu, took


def _publish(server: Child, others: Child, job: Job, expected: int) -> None:
    others.ask("collect", expected=expected, quiet=QUIET)
    server.ask("publish", **asdict(job))
    others.answer()
    while server.ask("stats")["published"] < job.messages * job.groups:
        time.sleep(0.05)


def main() -> None:
    """Measure both, and print the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.resume", description=main.__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="of each (default: 5)")
    parser.add_argument("--no-pin", action="store_true", help="let the system choose the cores")
    arguments = parser.parse_args()
    raise_file_limit()
    print("\n".join(f"{name}: {fact}" for name, fact in describe().items()))
    _bursts(arguments.rounds, Options(pins=Pins(not arguments.no_pin)))
    _storms(arguments.rounds)


if __name__ == "__main__":
    main()
