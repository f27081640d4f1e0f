"""The direct lane on real sockets: what comes to a client, with and without it."""

import itertools
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Protocol

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.sync.client import connect

from tests.eventstream import EventStream
from tests.examples import examples
from tests.servers import Server
from tests.sockets import Answers

pytestmark = pytest.mark.slow

WAIT = 20  # seconds until something that is on its way counts as lost


class Client(Protocol):
    """Reads one text after the other."""

    def recv(self, timeout: float | None = None) -> str | bytes: ...


PATHS = ("fan/", "threaded/", "notified/7/")
STREAMS = ("stream/", "events/7/")
KINDS = ("pass.on", "pass.on", "send.notification", "handle.it", "handle.slowly")

Message = tuple[str, str, str]  # group, type, text


class Stream:
    """A client of a stream of events.

    Args:
        server: which one.
        path: of the stream.
        headers: further lines of its request.
        receive_buffer: bytes that the kernel keeps for it, at least.
    """

    def __init__(
        self, server: Server, path: str, *headers: str, receive_buffer: int | None = None
    ) -> None:
        lines = [f"GET /{path} HTTP/1.1", "Host: localhost", "Accept: text/event-stream", *headers]
        request = "\r\n".join([*lines, "", ""]).encode()
        self.answers = Answers(server.port, request, receive_buffer=receive_buffer)
        assert self.answers.head().startswith(b"HTTP/1.1 200")
        self.answers.chunk()  # it has begun

    def recv(self, timeout: float | None = None) -> str:
        """The data of the next event; comments, which come where nothing else does, are none."""
        while not (events := EventStream().feed(self.answers.chunk())):
            pass
        (event,) = events
        return event.data


class Running:
    """A server that runs ``tests.apps.passing``, and a client of each of its paths."""

    def __init__(self, stack: ExitStack, *, is_direct: bool, by_steps: bool) -> None:
        env = {"ASGI_NOTIFY_DIRECT": f"{is_direct:d}", "ASGI_NOTIFY_STEPPING": f"{by_steps:d}"}
        self.is_direct = is_direct
        self.server = stack.enter_context(
            Server("uvicorn-bounded", "tests.apps.passing:app", env=env)
        )
        self.clients: dict[str, Client] = {
            # Pings would use `random` in threads, while hypothesis watches who does.
            path: stack.enter_context(
                connect(f"{self.server.ws}/{path}", compression=None, ping_interval=None)
            )
            for path in PATHS
        }
        for path in STREAMS:
            self.clients[path] = stream = Stream(self.server, path)
            stack.enter_context(stream.answers)

    def publish(self, messages: list[Message]) -> int:
        """Send all in one go; return how many texts have gone directly until now."""
        answer = httpx.post(f"{self.server.http}/", json=messages, timeout=WAIT)
        return int(answer.raise_for_status().text)


@pytest.fixture(scope="module")
def servers() -> Iterator[list[Running]]:
    """One for each way that a message can come to its client."""
    with ExitStack() as stack:
        ways = itertools.product([True, False], repeat=2)
        yield [Running(stack, is_direct=direct, by_steps=steps) for direct, steps in ways]


def texts_for(path: str, messages: list[Message]) -> list[str]:
    """What the client of a path is sent."""
    groups = {"all", "user_7"} if path.endswith("/7/") else {"all"}
    return [
        text if kind in ("pass.on", "send.notification") else f"handled {text}"
        for group, kind, text in messages
        if group in groups
    ]


def read(client: Client, count: int) -> list[str]:
    return [str(client.recv(timeout=WAIT)) for _ in range(count)]


kinds = st.sampled_from(KINDS)


@settings(
    deadline=None,
    max_examples=examples(25),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(programs=st.lists(st.lists(kinds, min_size=1, max_size=30), min_size=1, max_size=4))
def test_every_client_gets_all_in_order_however_it_comes(
    servers: list[Running], programs: list[list[str]]
) -> None:
    for running in servers:
        for program in programs:
            messages = [
                ("user_7" if kind == "send.notification" else "all", kind, str(number))
                for number, kind in enumerate(program)
            ]
            running.publish(messages)
            for path, client in running.clients.items():
                expected = texts_for(path, messages)
                assert read(client, len(expected)) == expected


def count_direct(running: Running, messages: list[Message]) -> int:
    """How many texts go directly, when all clients have read what came before."""
    before = running.publish([])
    after = running.publish(messages)
    for path, client in running.clients.items():
        expected = texts_for(path, messages)
        assert read(client, len(expected)) == expected
    return after - before


def test_messages_really_go_directly_where_they_may(servers: list[Running]) -> None:
    messages = [("user_7", "send.notification", "a"), ("all", "pass.on", "b")]
    for running in servers:
        deadline = time.monotonic() + WAIT
        # Of "b", the three that declare it, once they are idle; the others have a handler for it.
        while count_direct(running, messages) != (5 if running.is_direct else 0):
            assert running.is_direct
            assert time.monotonic() < deadline


@contextmanager
def slow_client(server: Server, kind: str) -> Iterator[Client]:
    """A client whose side of the line holds little."""
    if kind == "stream":
        stream = Stream(server, "stream/", receive_buffer=4096)
        with stream.answers:
            yield stream
        return
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(("127.0.0.1", server.port))
        with connect(
            f"{server.ws}/fan/", sock=sock, max_queue=1, compression=None, ping_interval=None
        ) as slow:
            yield slow


@pytest.mark.parametrize("kind", ["socket", "stream"])
def test_a_client_that_stops_reading_gets_all_in_order_once_it_reads(
    servers: list[Running], kind: str
) -> None:
    running = servers[0]
    with slow_client(running.server, kind) as slow:
        messages = [("all", "pass.on", f"{number}:" + "." * 20_000) for number in range(1000)]
        before = running.publish([])
        for start in range(0, 1000, 25):
            running.publish(messages[start : start + 25])
            for client in running.clients.values():
                read(client, 25)
        after = running.publish([])
        assert 0 < after - before < 4000  # others waited in mailboxes, the slow one's above all
        assert read(slow, 1000) == [text for _, _, text in messages]
        deadline = time.monotonic() + WAIT
        while True:  # and come back to the lane, once it is idle again
            was = running.publish([])
            is_back = running.publish([("all", "pass.on", "again")]) - was == 4
            assert read(slow, 1) == ["again"]
            for client in running.clients.values():
                assert read(client, 1) == ["again"]
            if is_back:
                break
            assert time.monotonic() < deadline


def test_who_leaves_in_a_stream_of_messages_harms_nobody(servers: list[Running]) -> None:
    for running in servers:
        for number in range(10):
            with connect(f"{running.server.ws}/fan/", compression=None) as gone:
                running.publish([("all", "pass.on", f"{number}.0")])
                gone.socket.shutdown(socket.SHUT_RDWR)  # without a goodbye
                running.publish([("all", "pass.on", f"{number}.{n}") for n in range(1, 10)])
                for client in running.clients.values():
                    assert read(client, 10) == [f"{number}.{n}" for n in range(10)]


def test_who_leaves_a_stream_in_its_midst_harms_nobody(servers: list[Running]) -> None:
    for running in servers:
        for number in range(10):
            gone = Stream(running.server, "stream/")
            with gone.answers:
                running.publish([("all", "pass.on", f"{number}.0")])
                gone.answers.leave()
                running.publish([("all", "pass.on", f"{number}.{n}") for n in range(1, 10)])
                for client in running.clients.values():
                    assert read(client, 10) == [f"{number}.{n}" for n in range(10)]
