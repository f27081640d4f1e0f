"""The client process: many raw sockets in one loop, which costs little beside the server.

It opens connections, and then notes when each message comes. Run by the
harness: ``python -m benchmarks.client DIALECT PORT SPINS CONTROL``.
"""

import os
import select
import socket
import sys
import time
from array import array
from dataclasses import dataclass, field
from typing import Any

from .control import decode, encode
from .statistics import quantile
from .wire import CLOSE, DIALECTS, Dialect

__all__ = ["Clients", "Collected"]

READ = 256 * 1024  # bytes at a time
IN_FLIGHT = 100  # handshakes at a time
CLOSE_TIMEOUT = 60.0  # seconds until all are closed
CONNECT_TIMEOUT = 60.0  # seconds without one more open connection
PER_ADDRESS = 25_000  # connections; a source address has some 28,000 ports
BIND_ADDRESS_NO_PORT = 24  # Linux, ip(7): the port is picked when it connects
NS = 1_000_000_000


@dataclass
class Collected:
    """What has come in one measurement; times on CLOCK_MONOTONIC, in nanoseconds."""

    began: int
    latencies: "array[int]" = field(default_factory=lambda: array("q"))
    last: int = 0
    closed: int = 0  # connections that the server closed meanwhile


class Clients:
    """Connections to one server, read by one loop.

    Args:
        dialect: what they speak.
        port: the server's, on the loopback interface.
        spins: look for messages without ever going to sleep, where they have
            a core of their own. A server would else pay for waking them, which
            it does not where its clients are on other machines.
    """

    def __init__(self, dialect: Dialect, port: int, *, spins: bool = False) -> None:
        self._dialect = dialect
        self._spins = spins
        self._port = port
        self._poll = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        self._rest: dict[int, bytes] = {}  # the beginning of a message whose end is to come

    def connect(self, paths: list[str], *, receive_buffer: int | None = None) -> float:
        """Open a connection to each path; return the seconds that it took.

        Args:
            paths: what each of them asks for.
            receive_buffer: bytes of the kernel's buffer; such a client is never read.

        Raises:
            TimeoutError: no further one was opened for `CONNECT_TIMEOUT` seconds.
            Refused: the server will not have one.
        """
        began = progress = time.monotonic()
        waiting: dict[int, bytes] = {}
        todo = list(reversed(paths))
        while todo or waiting:
            while todo and len(waiting) < IN_FLIGHT:
                waiting[self._open(receive_buffer, todo.pop())] = b""
            for number, _ in self._poll.poll(1.0):
                if number in waiting and self._advance(number, waiting):
                    progress = time.monotonic()
                    if receive_buffer is not None:
                        self._poll.unregister(number)
            if time.monotonic() - progress > CONNECT_TIMEOUT:
                raise TimeoutError(f"{len(waiting) + len(todo)} connections did not open")
        return time.monotonic() - began

    def close(self) -> None:
        """Say goodbye on each connection, and wait until the server has closed it."""
        for client in self._sockets.values():
            client.send(CLOSE)
        until = time.monotonic() + CLOSE_TIMEOUT
        while self._sockets and time.monotonic() < until:
            for number, _ in self._poll.poll(1.0):
                if not os.read(number, READ):
                    self._poll.unregister(number)
                    self._sockets.pop(number).close()
        if self._sockets:
            raise TimeoutError(f"{len(self._sockets)} connections did not close")
        self._rest.clear()

    def _open(self, receive_buffer: int | None, path: str) -> int:
        client = socket.socket()
        number = client.fileno()
        if receive_buffer is not None:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        if address := len(self._sockets) // PER_ADDRESS:
            client.setsockopt(socket.IPPROTO_IP, BIND_ADDRESS_NO_PORT, 1)
            client.bind((f"127.0.0.{1 + address}", 0))
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.connect(("127.0.0.1", self._port))  # on this interface it ends at once
        client.sendall(self._dialect.request(path))
        client.setblocking(False)
        self._sockets[number] = client
        self._poll.register(number, select.EPOLLIN)
        return number

    def _advance(self, number: int, waiting: dict[int, bytes]) -> bool:
        """Go on with the handshake of one socket; return whether it has ended."""
        arrived = os.read(number, READ)
        if not arrived:
            raise ConnectionError("the server closed a connection before it was open")
        data = waiting[number] + arrived
        while data and (step := self._dialect.greet(data)).consumed:
            data = data[step.consumed :]
            if step.reply:
                self._sockets[number].send(step.reply)
            if step.is_open:
                del waiting[number]
                self._rest[number] = data
                return True
        waiting[number] = data
        return False

    def collect(self, expected: int, quiet: float, began: int) -> Collected:
        """Read until so many messages have come, or none for some seconds.

        Args:
            expected: how many messages will come.
            quiet: seconds.
            began: what was published before, on CLOCK_MONOTONIC, does not count.
        """
        found = Collected(began)
        seen = found.began
        wait = 0 if self._spins else quiet
        while len(found.latencies) < expected:
            for number, _ in self._poll.poll(wait):
                self._read(number, found)
            seen = max(seen, found.last)
            if time.monotonic_ns() - seen > quiet * NS:
                break
        return found

    def _read(self, number: int, found: Collected) -> None:
        try:
            data = os.read(number, READ)
        except ConnectionError:
            data = b""
        now = time.monotonic_ns()
        if not data:
            self._poll.unregister(number)
            self._sockets.pop(number).close()
            found.closed += 1
            return
        rest = self._rest.get(number)
        if rest:
            data = rest + data
        stamps, consumed = self._dialect.stamps(data)
        self._rest[number] = data[consumed:] if consumed < len(data) else b""
        if stamps:
            found.last = now
            # What was sent before is late from another measurement.
            found.latencies.extend([now - stamp for stamp in stamps if stamp >= found.began])


def figures(found: Collected, cpu: int) -> dict[str, Any]:
    """What the harness wants to know of a measurement; times in nanoseconds."""
    ordered = sorted(found.latencies)
    return {
        "received": len(ordered),
        "closed": found.closed,
        "last": found.last,
        "p50": quantile(ordered, 0.5),
        "p99": quantile(ordered, 0.99),
        "max": quantile(ordered, 1),
        "cpu": cpu,
    }


def main() -> None:
    """Do what the harness says, until it closes its end."""
    dialect, port, spins, control = sys.argv[1:]
    clients = Clients(DIALECTS[dialect], int(port), spins=spins == "spin")
    with socket.socket(fileno=int(control)) as harness:
        for line in harness.makefile("rb"):
            command = decode(line)
            try:
                match command.pop("do"):
                    case "connect":
                        answer: dict[str, Any] = {"seconds": clients.connect(**command)}
                    case "close":
                        clients.close()
                        answer = {}
                    case "collect":
                        began = time.monotonic_ns()  # before anybody publishes
                        harness.sendall(encode({"is_collecting": True}))
                        before = time.process_time_ns()
                        found = clients.collect(**command, began=began)
                        answer = figures(found, time.process_time_ns() - before)
                    case other:
                        answer = {"error": f"clients do not know how to {other}"}
            except Exception as error:  # for the harness to raise
                answer = {"error": f"{type(error).__name__}: {error}"}
            harness.sendall(encode(answer))


if __name__ == "__main__":
    main()
