"""A client that reads nothing: its connection ends, whoever waits for the send."""

import logging
import socket
import time
from typing import Any

import anyio
import httpx
import pytest

from asgi_notify import (
    AsyncHttpConsumer,
    AsyncSseConsumer,
    AsyncWebsocketConsumer,
    InMemoryChannelLayer,
    Message,
    NotificationConsumer,
    NotificationHttpConsumer,
    URLRouter,
    WebsocketConsumer,
    path,
)
from asgi_notify.protocol import PROTOCOL
from asgi_notify.types import Event
from tests.consumers.harness import CONNECT, Wire, assert_nothing_left, left, text
from tests.consumers.streams import LEFT, Stream, until
from tests.servers import HOST, Server

pytestmark = pytest.mark.anyio

LIMIT = 0.1  # seconds
NEWS: Message = {"type": "send.notification", "data": "x"}
STREAM = (b"accept", b"text/event-stream")


@pytest.fixture(params=["1", "0"], ids=["steps", "plain"], autouse=True)
def stepping(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASGI_NOTIFY_STEPPING", request.param)


class Socket(AsyncWebsocketConsumer):
    groups = ("user_42",)
    send_timeout = LIMIT
    ends: list[int]

    async def send_notification(self, event: Message) -> None:
        await self.send(event["data"])

    async def disconnect(self, code: int) -> None:
        self.ends.append(code)


class SocketInThread(WebsocketConsumer):
    groups = ("user_42",)
    send_timeout = LIMIT
    ends: list[int]

    def send_notification(self, event: Message) -> None:
        self.send(event["data"])

    def disconnect(self, code: int) -> None:
        self.ends.append(code)


class Room(NotificationConsumer):
    send_timeout = LIMIT
    ends: list[int]

    async def disconnect(self, code: int) -> None:
        self.ends.append(code)


class Pinged(Room):
    """Its silence is noticed long before its send is given up."""

    send_timeout = 60.0
    ping_interval = 0.05
    pong_timeout = LIMIT


class HttpRoom(NotificationHttpConsumer):
    send_timeout = LIMIT
    ends: list[int]

    async def disconnect(self) -> None:
        self.ends.append(0)


class Plain(AsyncHttpConsumer):
    groups = ("user_42",)
    send_timeout = LIMIT
    ends: list[int]

    async def handle(self, body: bytes) -> None:
        await self.send_headers(headers={"content-type": "text/plain"})
        await self.send_body(b"begun", more_body=True)

    async def send_notification(self, event: Message) -> None:
        await self.send_body(event["data"].encode(), more_body=True)

    async def disconnect(self) -> None:
        self.ends.append(0)


def with_ends(kind: Any) -> tuple[Any, list[int]]:
    ends: list[int] = []
    return type(kind.__name__, (kind,), {"ends": ends}), ends


def client_of(kind: Any, *, protocol: bool = False) -> Wire:
    """Who asks for the room, or for whatever it is."""
    if issubclass(kind, AsyncHttpConsumer):
        return Stream(STREAM, path="/42/")
    wire = Wire(CONNECT, path="/42/")
    wire.scope["subprotocols"] = [PROTOCOL] if protocol else []
    return wire


def stop_reading(wire: Wire) -> anyio.Event:
    """From now on no send ends; the event tells of the first that waits."""
    waits = anyio.Event()

    async def wait(event: Event) -> None:
        waits.set()
        await anyio.sleep_forever()

    wire.on_send = wait
    return waits


def application(kind: Any) -> Any:
    return URLRouter([path("<int:room_name>/", kind)])


@pytest.mark.parametrize("capacity", [1, 1000])
@pytest.mark.parametrize(
    ("kind", "protocol"),
    [
        (Socket, False),
        (SocketInThread, False),
        (Room, False),
        (Room, True),
        (Pinged, True),
        (HttpRoom, False),
        (Plain, False),
    ],
)
async def test_a_client_that_reads_nothing_is_closed_and_others_stay(
    kind: Any, protocol: bool, capacity: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asgi_notify.consumers.connection.CLOSE_TIMEOUT", 0.01)
    layer = InMemoryChannelLayer(capacity=capacity)
    app, ends = with_ends(kind)
    stuck, reads = client_of(kind, protocol=protocol), client_of(kind)
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            for wire in stuck, reads:
                wire.scope["channel_layer"] = layer
                tasks.start_soon(wire.run, application(app))
            await until(lambda: len(list(layer.hub.members("user_42"))) == 2)
            await until(lambda: len(stuck.sent) >= 1 and len(reads.sent) >= 1)
            waits = stop_reading(stuck)
            await layer.group_send("user_42", NEWS)
            await waits.wait()  # one message: its mailbox is empty, and never full
            await until(lambda: len(ends) == 1)
            await until(lambda: len(list(layer.hub.members("user_42"))) == 1)
            heard = len(reads.sent)
            await layer.group_send("user_42", NEWS)
            await until(lambda: len(reads.sent) == heard + 1)
            is_http = isinstance(reads, Stream)
            assert ends == [0] if is_http else [4408]
            reads.tell(LEFT if is_http else left())
    assert_nothing_left(layer, "user_42")


async def test_a_client_that_reads_slowly_is_left_alone(layer: InMemoryChannelLayer) -> None:
    app, ends = with_ends(Socket)
    wire = Wire(CONNECT)

    async def slowly(event: Event) -> None:
        await anyio.sleep(LIMIT / 2)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wire.run, app())
        await until(lambda: len(wire.sent) == 1)
        wire.on_send = slowly
        for _ in range(10):
            await layer.group_send("user_42", NEWS)
        await until(lambda: len(wire.texts) == 10)
        assert ends == []
        wire.tell(left())


async def test_a_handler_that_works_for_long_is_no_client_that_reads_nothing(
    layer: InMemoryChannelLayer,
) -> None:
    class Works(Pinged):
        send_timeout = LIMIT

        async def send_notification(self, event: Message) -> None:
            await anyio.sleep(5 * LIMIT)
            await super().send_notification(event)

    app, ends = with_ends(Works)
    wire = client_of(app, protocol=True)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wire.run, application(app))
        await until(lambda: len(wire.texts) == 2)
        await layer.group_send("user_42", NEWS)
        await until(lambda: any('"notification"' in frame for frame in wire.texts))
        assert ends == []
        wire.tell(left())


async def test_a_keep_alive_that_nobody_reads_ends_a_stream(layer: InMemoryChannelLayer) -> None:
    class News(AsyncSseConsumer):
        keep_alive = 0.01
        send_timeout = LIMIT

        async def disconnect(self) -> None:
            ends.append(0)

    ends: list[int] = []
    wire = Stream(STREAM)
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wire.run, News())
            await until(lambda: len(wire.sent) > 1)
            stop_reading(wire)
    assert ends == [0]


async def test_a_close_that_nobody_reads_does_not_hold_its_handler(
    layer: InMemoryChannelLayer,
) -> None:
    class Closes(Socket):
        async def receive(
            self, text_data: str | None = None, bytes_data: bytes | None = None
        ) -> None:
            await self.close(4000)

    app, ends = with_ends(Closes)
    wire = Wire(CONNECT, text("go"))

    async def never(event: Event) -> None:
        if event["type"] == "websocket.close":
            await anyio.sleep_forever()

    wire.on_send = never
    with anyio.fail_after(20):
        await wire.run(app())
    assert ends == [4000]


async def test_a_file_that_the_server_sends_may_take_its_time(layer: InMemoryChannelLayer) -> None:
    class File(Plain):
        async def handle(self, body: bytes) -> None:
            await self.send_headers()
            await self.send({"type": "http.response.pathsend", "path": "/large"})

    app, _ = with_ends(File)
    wire = Stream()

    async def slowly(event: Event) -> None:
        if event["type"] == "http.response.pathsend":
            await anyio.sleep(5 * LIMIT)

    wire.on_send = slowly
    await wire.run(app())
    assert wire.sent[-1]["type"] == "http.response.pathsend"


async def test_there_may_be_no_limit(layer: InMemoryChannelLayer) -> None:
    class Patient(Socket):
        send_timeout = float("inf")

    app, ends = with_ends(Patient)
    wire = Wire(CONNECT)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wire.run, app())
        await until(lambda: len(wire.sent) == 1)
        stop_reading(wire)
        await layer.group_send("user_42", NEWS)
        await anyio.sleep(3 * LIMIT)
        assert ends == []
        wire.tell(left())
    assert ends == [1001]


async def test_what_is_given_up_is_one_line_of_the_log(
    layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asgi_notify.consumers.connection.CLOSE_TIMEOUT", 0.01)
    app, _ = with_ends(Socket)
    wire = Wire(CONNECT)
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wire.run, app())
            await until(lambda: len(wire.sent) == 1)
            stop_reading(wire)
            await layer.group_send("user_42", NEWS)
    [record] = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert "send.notification was cancelled, nothing was read for 0.1 s" in record.getMessage()


# On real servers.

UPGRADE = (
    b"GET /notifications/42/ HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
GET = b"GET /notifications/42/ HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n"
MESSAGES = 40  # 20 MB, more than the kernel takes for a client; fewer than fill its mailbox
WAIT = 30  # seconds; the limit of the application is one


@pytest.mark.slow
@pytest.mark.parametrize("stepping", ["1"], indirect=True)
@pytest.mark.parametrize("request_of", [UPGRADE, GET], ids=["websocket", "stream"])
@pytest.mark.parametrize("kind", ["uvicorn-websockets", "uvicorn-websockets-sansio"])
def test_a_client_that_stops_reading_is_forgotten_on_a_real_server(
    kind: str, request_of: bytes
) -> None:
    with Server(kind, "tests.apps.unread:app") as server, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(WAIT)
        client.connect((HOST, server.port))
        client.sendall(request_of)
        assert client.recv(12) in (b"HTTP/1.1 101", b"HTTP/1.1 200")
        crowd = f"{server.http}/crowd"
        deadline = time.monotonic() + WAIT
        while httpx.get(crowd).text != "1":
            assert time.monotonic() < deadline
        for _ in range(MESSAGES):
            httpx.post(crowd).raise_for_status()
        while httpx.get(crowd).text != "0":
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert "(full;" not in server.output  # its mailbox was not, which would end it, too
        assert "nothing was read for 1 s" in server.output
