"""Connections that have not sent a whole request: how long they stay, and how many of them."""

import asyncio
import logging
import socket
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from http.client import HTTPConnection

import pytest
from anyio.lowlevel import checkpoint

from asgi_notify import half_open
from asgi_notify.half_open import HalfOpen, half_open_of
from tests.servers import HOST, Server
from tests.wire import Connection, until

pytestmark = pytest.mark.anyio

HEAD = b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # uvicorn's


@pytest.fixture(autouse=True, params=["1", "0"], ids=["gathered", "ungathered"])
def soon(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASGI_NOTIFY_GATHERING", request.param)
    monkeypatch.setenv("ASGI_NOTIFY_LIMIT_HEAD_TIMEOUT", "0.1")
    monkeypatch.setenv("ASGI_NOTIFY_LIMIT_HALF_OPEN", "5")


def waiting() -> int:
    return len(half_open_of(asyncio.get_running_loop()))


async def test_who_says_nothing_is_ended_without_a_word() -> None:
    connection = Connection()
    await until(lambda: connection.wire.is_gone)
    assert connection.wire.sent == b""
    assert not connection.state.connections
    assert waiting() == 0


@pytest.mark.parametrize("begin", [b"GET / HT", b"GET / HTTP/1.1\r\nHost: x\r\n"])
async def test_who_says_half_of_it_is_told_that_it_is_late(begin: bytes) -> None:
    connection = Connection()
    for byte in begin:  # slowly
        await connection.wire.receive(bytes([byte]))
        await checkpoint()
    await until(lambda: connection.wire.is_gone)
    assert connection.wire.sent.startswith(b"HTTP/1.1 408 ")
    assert waiting() == 0


async def test_who_dribbles_has_no_more_time_than_others() -> None:
    connection = Connection()
    began_at = time.monotonic()
    with suppress(AssertionError):
        while not connection.wire.is_closing():
            await connection.wire.receive(b"X")
            await asyncio.sleep(0.01)
    assert time.monotonic() - began_at < 5


async def test_a_request_is_answered_however_long_that_takes() -> None:
    connection = Connection()
    await connection.wire.receive(HEAD % 1)
    assert waiting() == 0
    await asyncio.sleep(0.3)  # three times what a head may take
    connection.app.may_hear.set()
    await until(lambda: connection.wire.sent.endswith(b"/1\r\n0\r\n\r\n"))
    await connection.end()


async def test_an_application_says_itself_how_long_it_reads_a_body() -> None:
    connection = Connection()
    connection.app.may_hear.set()
    await connection.wire.receive(POST)
    await asyncio.sleep(0.3)
    assert not connection.wire.is_closing()
    await connection.wire.receive(bytes(10))
    await until(lambda: b"200 OK" in connection.wire.sent)
    await connection.end()


async def test_a_web_socket_stays() -> None:
    connection = Connection()
    await connection.open()
    assert waiting() == 0
    await asyncio.sleep(0.3)
    assert not connection.wire.is_closing()
    await connection.end()


@pytest.mark.parametrize("more", [b"G", b"\r\n", b"GET / HTTP/1.1\r\nHost: x\r\n"])
async def test_a_further_request_has_to_be_whole_too(more: bytes) -> None:
    connection = Connection()
    connection.app.may_hear.set()
    await connection.wire.receive(HEAD % 1)
    await until(lambda: connection.wire.sent.endswith(b"0\r\n\r\n"))
    await connection.wire.receive(more)
    assert waiting() == 1
    await until(lambda: connection.wire.is_gone)
    assert waiting() == 0


async def test_further_requests_are_answered() -> None:
    connection = Connection()
    connection.app.may_hear.set()
    for number in range(5):
        connection.wire.sent = b""
        await connection.wire.receive(HEAD % number)
        await until(lambda: connection.wire.sent.endswith(b"0\r\n\r\n"))
        await asyncio.sleep(0.05)  # five of these are longer than a head may take
    assert waiting() == 0
    await connection.end()


async def test_a_rest_of_a_body_that_was_not_asked_for_keeps_nothing() -> None:
    connection = Connection()
    connection.app.may_hear.set()

    async def refuse(scope: object, receive: object, send: object) -> None:
        assert callable(send)
        await send({"type": "http.response.start", "status": 401, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    connection.wire.protocol.app = refuse
    await connection.wire.receive(POST)
    await until(lambda: b"401" in connection.wire.sent)
    await connection.wire.receive(b".")  # one byte of ten, and uvicorn waits for no more
    await until(lambda: connection.wire.is_gone)


async def test_who_waits_for_an_answer_is_not_ended_for_half_of_a_further_request() -> None:
    connection = Connection()
    await connection.wire.receive(HEAD % 1 + b"GET / HT")
    await asyncio.sleep(0.3)
    assert not connection.wire.is_closing()
    connection.app.may_hear.set()
    await until(lambda: connection.wire.sent.endswith(b"/1\r\n0\r\n\r\n"))
    connection.wire.abort()
    await connection.end()


async def test_of_too_many_the_one_that_has_waited_longest_is_ended(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("ASGI_NOTIFY_LIMIT_HEAD_TIMEOUT", "1000")
    silent = [Connection() for _ in range(50)]
    assert waiting() == 5
    assert [each.wire.is_closing() for each in silent] == [True] * 45 + [False] * 5
    late = Connection()
    late.app.may_hear.set()
    await late.wire.receive(HEAD % 1)
    await until(lambda: late.wire.sent.endswith(b"0\r\n\r\n"))
    assert caplog.messages == ["ended 1 connections that had sent no whole request; 5 more wait"]
    for each in [*silent, late]:
        await each.end()
    assert waiting() == 0


async def test_there_may_be_no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "HEAD_TIMEOUT", "HALF_OPEN":
        monkeypatch.setenv(f"ASGI_NOTIFY_LIMIT_{name}", "none")
    silent = [Connection() for _ in range(50)]
    await asyncio.sleep(0.2)
    assert waiting() == 50
    for each in silent:
        await each.end()


class Silent:
    """A connection that is ended when its time is over."""

    is_ended = False

    def expire(self) -> bool:
        self.is_ended = True
        return True


async def test_the_log_has_a_line_in_a_while(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    there = HalfOpen(asyncio.get_running_loop(), None, 1)
    for _ in range(100):
        there.add(Silent())
    assert len(caplog.messages) == 1
    monkeypatch.setattr(half_open, "LOG_EVERY", 0)
    there.add(Silent())
    assert caplog.messages[1].startswith("ended 99 connections")
    assert there.ended == 100


# A real server.


@pytest.fixture(scope="module")
def served() -> Iterator[Server]:
    env = {"ASGI_NOTIFY_LIMIT_HEAD_TIMEOUT": "2", "ASGI_NOTIFY_LIMIT_HALF_OPEN": "300"}
    with Server("uvicorn-bounded", "asgi_notify.app:application", env=env) as server:
        yield server


def opened(port: int, begin: bytes = b"") -> socket.socket:
    client = socket.create_connection((HOST, port), timeout=20)
    client.sendall(begin)
    return client


def test_silent_connections_are_ended_while_others_are_served(served: Server) -> None:
    begins = [b"", b"GET / HTTP/1.1\r\n", b"POST /notifications/1/ HT"]
    silent = [opened(served.port, begins[number % 3]) for number in range(900)]
    try:
        began_at = time.monotonic()
        with closing(HTTPConnection(HOST, served.port, timeout=5)) as honest:
            honest.request("GET", "/healthz")
            assert honest.getresponse().status == 200
        for client in silent:
            with suppress(ConnectionResetError):
                while client.recv(1000):
                    pass
        assert time.monotonic() - began_at < 15
    finally:
        for client in silent:
            client.close()
    lines = [line for line in served.output.splitlines() if "no whole request" in line]
    assert 1 <= len(lines) <= 4
