"""A publisher that numbers its messages, loses answers, and tries again with the same key."""

import json
import re
from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import Any

import anyio
from anyio.abc import SocketStream

from tests.chaos.journal import Published
from tests.chaos.proxy import Goal
from tests.servers import HOST

__all__ = ["Publisher"]

PATIENCE = 3.0  # seconds for an answer; a server may be stopped for a while
PAUSE = 0.1  # seconds between two tries
PADDING = (0, 0, 0, 2_000, 8_000, 20_000)  # characters; so that a reader can be too slow

_BROKEN = (anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream, OSError)


class Publisher:
    """Publishes number after number to each group, and never goes on before it has an answer.

    Args:
        name: of the publisher.
        rooms: where it publishes, by number.
        server: where it publishes to; cuts are of its own making.
        random: decides when and what, and which answers are lost.

    Attributes:
        published: what it was answered, in order, more than once for some.
        counts: of tries and lost answers, by kind.
    """

    def __init__(self, name: str, rooms: Sequence[int], server: Goal, random: Random) -> None:
        self.name = name
        self.published: list[Published] = []
        self.counts: Counter[str] = Counter()
        self._rooms = rooms
        self._server = server
        self._random = random
        self._numbers: Counter[int] = Counter()

    async def run(self, interval: float, until: anyio.Event) -> None:
        """Publish every so many seconds, on average, until the event is set."""
        while not until.is_set():
            await self.publish(self._random.choice(self._rooms))
            await anyio.sleep(self._random.uniform(0, 2 * interval))

    async def publish(self, room: int, *, is_careful: bool = False) -> None:
        """Publish the next number to a room, however many tries it takes.

        Args:
            room: where.
            is_careful: lose no answer on purpose.
        """
        self._numbers[room] += 1
        number = self._numbers[room]
        padding = "x" * self._random.choice(PADDING)
        data = {"publisher": self.name, "number": number, "padding": padding}
        request = _request(room, f"{self.name}-{room}-{number}", data)
        while True:
            loss = "" if is_careful else self._random.choice(("", "", "", *_LOSSES))
            answer = await self._ask(request, loss)
            if answer is not None:
                group = f"user_{room}"
                self.published.append(Published(group, self.name, number, answer["position"]))
                if loss != "ignored":
                    return
            self.counts[loss or "failed"] += 1

    async def _ask(self, request: bytes, loss: str) -> dict[str, Any] | None:
        """What the server has answered, or None where that was lost, or there is none."""
        try:
            with anyio.fail_after(PATIENCE):
                async with await anyio.connect_tcp(HOST, self._server.port) as stream:
                    if loss == "cut in the middle":
                        await stream.send(request[: len(request) // 2])
                        return None
                    await stream.send(request)
                    if loss == "cut before the answer":
                        return None
                    return _answer(await _read_all(stream))
        except (*_BROKEN, TimeoutError, _Refused):
            await anyio.sleep(PAUSE)
            return None


_LOSSES = ("ignored", "cut before the answer", "cut in the middle")


class _Refused(Exception):
    """The server is shutting down, or what carries its messages is away."""


def _request(room: int, key: str, data: object) -> bytes:
    body = json.dumps({"data": data}).encode()
    head = (
        f"POST /notifications/{room}/ HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        f"Idempotency-Key: {key}\r\n\r\n"
    )
    return head.encode() + body


async def _read_all(stream: SocketStream) -> bytes:
    received = b""
    try:
        while True:
            received += await stream.receive()
    except anyio.EndOfStream:
        return received


def _answer(received: bytes) -> dict[str, Any]:
    head, _, body = received.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: ([0-9]+)", head.lower())
    if length is None or len(body) < int(length[1]):
        raise anyio.EndOfStream  # the server died
    if head.startswith(b"HTTP/1.1 503 "):
        raise _Refused
    assert head.startswith(b"HTTP/1.1 202 "), received
    answer: dict[str, Any] = json.loads(body)
    return answer
