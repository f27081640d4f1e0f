"""A handler that raises is logged once, closes its own connection, and leaves nothing behind."""

import asyncio
import logging
import math
from collections.abc import Iterator
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from asgi_notify import (
    AcceptConnection,
    AsyncConsumer,
    AsyncWebsocketConsumer,
    ClientError,
    DenyConnection,
    Forbidden,
    InMemoryChannelLayer,
    LayerUnavailable,
    Message,
    MisuseError,
    StopConsumer,
    TooLarge,
    WebsocketConsumer,
    async_to_sync,
)
from asgi_notify.consumers import connection
from asgi_notify.testing import WebsocketCommunicator
from asgi_notify.types import Event
from tests.consumers.harness import CONNECT, Wire, assert_nothing_left, connected, text

pytestmark = pytest.mark.anyio

HANDLERS = ["connect", "accepted", "receive", "note", "disconnect"]


class Fails(AsyncWebsocketConsumer):
    """Raises in the handler that it is told, and says at the end that it has ended."""

    groups = ("all",)

    def __init__(self, where: str, error: BaseException | None, ends: list[int]) -> None:
        super().__init__()
        self.where, self.error, self.ends = where, error, ends

    def fail(self, where: str) -> None:
        fail(self, where)

    async def connect(self) -> None:
        self.fail("connect")
        await self.accept()
        self.fail("accepted")

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        self.fail("receive")
        await self.send(text_data)

    async def note(self, message: Message) -> None:
        self.fail(message["to"])

    async def disconnect(self, code: int) -> None:
        self.ends.append(code)
        self.fail("disconnect")


def fail(consumer: "Fails | FailsInThread", where: str) -> None:
    if where == consumer.where and consumer.error is not None:
        raise consumer.error


class FailsInThread(WebsocketConsumer):
    """The same with plain functions."""

    groups = ("all",)

    def __init__(self, where: str, error: BaseException | None, ends: list[int]) -> None:
        super().__init__()
        self.where, self.error, self.ends = where, error, ends

    def fail(self, where: str) -> None:
        fail(self, where)

    def connect(self) -> None:
        self.fail("connect")
        self.accept()
        self.fail("accepted")

    def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        self.fail("receive")
        self.send(text_data)

    def note(self, message: Message) -> None:
        self.fail(message["to"])

    def disconnect(self, code: int) -> None:
        self.ends.append(code)
        self.fail("disconnect")


async def provoke(client: WebsocketCommunicator, layer: InMemoryChannelLayer, where: str) -> Any:
    """Bring the consumer to that handler; return the close code or status that it answers with."""
    is_open, code = await client.connect()
    if not is_open:
        return code
    if where == "receive":
        await client.send_to("a")
    if where == "note":
        await layer.group_send("all", {"type": "note", "to": where})
    if where == "disconnect":
        await client.disconnect(1001)
        return 1001
    event = await client.receive_output()
    assert event["type"] == "websocket.close"
    return event["code"]


@pytest.fixture
def errors(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """What was logged as an error, or worse; filled as the test runs."""

    class Records(list[logging.LogRecord]):
        def __iter__(self) -> Iterator[logging.LogRecord]:
            return (record for record in caplog.records if record.levelno >= logging.ERROR)

    return Records()


@pytest.mark.parametrize("where", HANDLERS)
@pytest.mark.parametrize("consumer", [Fails, FailsInThread])
async def test_an_error_is_logged_once_and_closes_its_own_connection(
    consumer: Any, where: str, layer: InMemoryChannelLayer, errors: list[logging.LogRecord]
) -> None:
    ends: list[int] = []
    error = ZeroDivisionError(f"in {where}")
    async with connected(consumer.as_asgi(where="", error=None, ends=[])) as neighbour:
        app = consumer.as_asgi(where=where, error=error, ends=ends)
        async with WebsocketCommunicator(app, "/rooms/7/") as client:
            code = await provoke(client, layer, where)
            await client.wait()
        assert code == (1001 if where == "disconnect" else 1011)
        assert ends == [code]
        assert len(list(layer.hub.members("all"))) == len(layer.hub.attached) == 1
        await neighbour.send_to("still here")
        assert await neighbour.receive_from() == "still here"
    [record] = errors
    assert record.exc_info is not None
    assert record.exc_info[1] is error
    assert "/rooms/7/" in record.getMessage()
    assert "channel specific." in record.getMessage()
    assert_nothing_left(layer, "all")


@pytest.mark.parametrize("where", HANDLERS)
@pytest.mark.parametrize(
    ("consumer", "error"),
    [
        (Fails, SystemExit(3)),
        (FailsInThread, SystemExit(3)),
        # In the main thread it may be the one of whoever runs the server.
        (FailsInThread, KeyboardInterrupt()),
    ],
)
async def test_a_handler_that_would_end_the_process_fails_like_any_other(
    consumer: Any,
    error: BaseException,
    where: str,
    layer: InMemoryChannelLayer,
    errors: list[logging.LogRecord],
) -> None:
    ends: list[int] = []
    async with connected(consumer.as_asgi(where="", error=None, ends=[])) as neighbour:
        app = consumer.as_asgi(where=where, error=error, ends=ends)
        async with WebsocketCommunicator(app, "/rooms/7/") as client:
            code = await provoke(client, layer, where)
            await client.wait()
        assert code == (1001 if where == "disconnect" else 1011)
        assert ends == [code]
        await neighbour.send_to("still here")
        assert await neighbour.receive_from() == "still here"
    [record] = errors
    assert record.exc_info is not None
    failure = record.exc_info[1]
    assert isinstance(failure, RuntimeError)
    assert failure.__cause__ is error
    assert str(failure) == f"a handler raised {error!r}, which does not end a server"
    assert_nothing_left(layer, "all")


async def test_a_failure_before_the_accept_is_a_500_where_the_server_can_say_so(
    layer: InMemoryChannelLayer, errors: list[logging.LogRecord]
) -> None:
    app = Fails.as_asgi(where="connect", error=ValueError("the password is 123"), ends=[])
    async with WebsocketCommunicator(app, "/", denial_response=True) as client:
        assert await client.connect() == (False, 500)
        assert client.denial is not None
        assert b"password" not in client.denial.body
    assert len(list(errors)) == 1


async def test_the_client_is_not_told_what_went_wrong_inside(layer: InMemoryChannelLayer) -> None:
    app = Fails.as_asgi(where="receive", error=ValueError("the password is 123"), ends=[])
    async with connected(app) as client:
        await client.send_to("a")
        assert (await client.receive_output())["reason"] == "Internal Server Error"


@pytest.mark.parametrize("consumer", [Fails, FailsInThread])
@pytest.mark.parametrize(
    ("where", "code"),
    [("connect", 4403), ("accepted", 1000), ("receive", 1000), ("note", 1000),
     ("disconnect", 1001)],
)  # fmt: skip
async def test_stop_consumer_ends_the_connection_from_any_handler(
    consumer: Any,
    where: str,
    code: int,
    layer: InMemoryChannelLayer,
    errors: list[logging.LogRecord],
) -> None:
    ends: list[int] = []
    app = consumer.as_asgi(where=where, error=StopConsumer(), ends=ends)
    async with WebsocketCommunicator(app, "/") as client:
        assert await provoke(client, layer, where) == code
        await client.wait()
    assert ends == [code]
    assert list(errors) == []
    assert_nothing_left(layer, "all")


@pytest.mark.parametrize("consumer", [Fails, FailsInThread])
async def test_accept_connection_and_deny_connection_decide_in_connect(
    consumer: Any, layer: InMemoryChannelLayer
) -> None:
    async with connected(consumer.as_asgi(where="connect", error=AcceptConnection(), ends=[])):
        pass
    ends: list[int] = []
    app = consumer.as_asgi(where="connect", error=DenyConnection(), ends=ends)
    async with WebsocketCommunicator(app, "/", denial_response=True) as client:
        assert await client.connect() == (False, 403)
    async with WebsocketCommunicator(app, "/") as client:
        assert await client.connect() == (False, 4403)
    assert len(ends) == 2


async def test_accept_connection_in_another_handler_is_an_error_like_any_other(
    layer: InMemoryChannelLayer, errors: list[logging.LogRecord]
) -> None:
    ends: list[int] = []
    app = Fails.as_asgi(where="receive", error=AcceptConnection(), ends=ends)
    async with WebsocketCommunicator(app, "/") as client:
        assert await provoke(client, layer, "receive") == 1011
        await client.wait()
    [record] = errors
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], MisuseError)
    assert ends == [1011]


async def test_deny_connection_after_the_accept_closes(layer: InMemoryChannelLayer) -> None:
    app = Fails.as_asgi(where="receive", error=DenyConnection("banned"), ends=[])
    async with connected(app) as client:
        await client.send_to("a")
        event = await client.receive_output()
        assert (event["code"], event["reason"]) == (4403, "banned")


@pytest.mark.parametrize(
    ("error", "code", "status"),
    [(ClientError("no"), 4400, 400), (Forbidden("no"), 4403, 403), (TooLarge("no"), 1009, 413)],
)
async def test_what_a_client_did_is_told_to_it_and_is_no_error_of_the_server(
    error: ClientError,
    code: int,
    status: int,
    layer: InMemoryChannelLayer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    async with connected(Fails.as_asgi(where="receive", error=error, ends=[])) as client:
        await client.send_to("a")
        event = await client.receive_output()
        assert (event["code"], event["reason"]) == (code, "no")
    app = Fails.as_asgi(where="connect", error=error, ends=[])
    async with WebsocketCommunicator(app, "/", denial_response=True) as client:
        assert await client.connect() == (False, status)
    assert {record.levelno for record in caplog.records} == {logging.INFO}
    assert not any(record.exc_info for record in caplog.records)


async def test_a_layer_that_is_away_is_one_line_and_its_address_stays_inside(
    layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    away = LayerUnavailable("valkey://10.0.0.7:6379/0: no answer in time")
    async with connected(Fails.as_asgi(where="receive", error=away, ends=[])) as client:
        await client.send_to("a")
        event = await client.receive_output()
        assert event["code"] == 1013
        assert "10.0.0.7" not in event["reason"]
    app = Fails.as_asgi(where="connect", error=away, ends=[])
    async with WebsocketCommunicator(app, "/", denial_response=True) as client:
        assert await client.connect() == (False, 503)
        assert client.denial is not None
        assert b"try again" in client.denial.body
        assert b"10.0.0.7" not in client.denial.body
    lines = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert [level for level, _ in lines] == ["WARNING"] * 2
    assert all(text.endswith(str(away)) for _, text in lines)
    assert not any(record.exc_info for record in caplog.records)


async def test_a_denial_that_breaks_off_is_an_error_and_not_a_close(
    layer: InMemoryChannelLayer, errors: list[logging.LogRecord]
) -> None:
    ends: list[Event] = []

    class Denies(AsyncConsumer):
        async def websocket_connect(self, event: Event) -> None:
            start = {"type": "websocket.http.response.start", "status": 402, "headers": []}
            await self.send(start)
            raise ValueError("no body after all")

        async def websocket_disconnect(self, event: Event) -> None:
            ends.append(event)

    wire = Wire(CONNECT)
    await wire.run(Denies())
    assert [event["type"] for event in wire.sent] == ["websocket.http.response.start"]
    assert len(list(errors)) == len(ends) == 1


async def test_an_error_of_disconnect_is_logged_also_when_the_server_shuts_down(
    layer: InMemoryChannelLayer, errors: list[logging.LogRecord]
) -> None:
    app = Fails.as_asgi(where="disconnect", error=ValueError("too late"), ends=[])
    async with connected(app):
        await layer.close()
    [record] = errors
    assert "websocket.disconnect failed" in record.getMessage()


async def test_an_error_of_a_slow_disconnect_is_logged_after_the_client_has_left(
    layer: InMemoryChannelLayer, errors: list[logging.LogRecord]
) -> None:
    class Slow(AsyncWebsocketConsumer):
        leave_grace = 0.001

        async def disconnect(self, code: int) -> None:
            await anyio.sleep(0.01)  # until the grace is over
            raise ValueError("too late")

    async with connected(Slow) as client:
        await client.disconnect()
    assert len(list(errors)) == 1


# Only asyncio lets a task be cancelled from outside like this.
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("where", ["connect", "receive", "disconnect"])
async def test_a_handler_that_awaits_a_cancelled_task_has_failed(
    layer: InMemoryChannelLayer, errors: list[logging.LogRecord], where: str
) -> None:
    ends: list[int] = []

    class Awaits(AsyncWebsocketConsumer):
        groups = ("all",)

        async def lose(self, here: str) -> None:
            if here == where:
                task = asyncio.create_task(asyncio.sleep(10))
                await checkpoint()
                task.cancel()
                await task

        async def connect(self) -> None:
            await self.accept()
            await self.lose("connect")

        async def receive(
            self, text_data: str | None = None, bytes_data: bytes | None = None
        ) -> None:
            await self.lose("receive")
            await self.close()

        async def disconnect(self, code: int) -> None:
            ends.append(code)
            await self.lose("disconnect")

    wire = Wire(CONNECT, text("a"))
    await wire.run(Awaits.as_asgi())
    assert wire.close is not None
    assert ends == [wire.close["code"]] == [1000 if where == "disconnect" else 1011]
    [record] = errors
    assert f"websocket.{where} failed" in record.getMessage()
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], RuntimeError)
    assert isinstance(record.exc_info[1].__cause__, asyncio.CancelledError)
    assert_nothing_left(layer, "all")


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_thread_that_waits_for_a_cancelled_task_has_failed(
    layer: InMemoryChannelLayer, errors: list[logging.LogRecord]
) -> None:
    async def lose() -> None:
        task = asyncio.create_task(asyncio.sleep(10))
        await checkpoint()
        task.cancel()
        await task

    class Waits(WebsocketConsumer):
        def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
            async_to_sync(lose)()

    wire = Wire(CONNECT, text("a"))
    with anyio.fail_after(20):
        await wire.run(Waits.as_asgi())
    assert wire.close is not None
    assert wire.close["code"] == 1011
    [record] = errors
    assert "websocket.receive failed" in record.getMessage()
    assert_nothing_left(layer)


# What the server itself raises.


async def test_an_error_of_receive_is_raised_as_it_is_and_ends_the_connection(
    layer: InMemoryChannelLayer,
) -> None:
    ends: list[int] = []
    wire = Wire(CONNECT)

    async def receive() -> Event:
        if wire.received:
            raise LookupError("from a middleware")
        return await wire.receive()

    app = Fails.as_asgi(where="", error=None, ends=ends)
    with pytest.raises(LookupError, match="from a middleware"):
        await app(wire.scope, receive, wire.send)
    assert ends in ([], [1006])  # it may have failed before connect began
    assert_nothing_left(layer, "all")


async def test_an_error_of_receive_ends_a_handler_at_once(layer: InMemoryChannelLayer) -> None:
    ended: list[str] = []
    begun = anyio.Event()

    class Works(AsyncWebsocketConsumer):
        leave_grace = math.inf  # a client that has left would be waited for; here the server is ill

        async def connect(self) -> None:
            try:
                begun.set()
                await anyio.sleep_forever()
            finally:
                ended.append("connect")

        async def disconnect(self, code: int) -> None:
            ended.append(f"disconnect {code}")

    wire = Wire(CONNECT)

    async def receive() -> Event:
        if wire.received:
            await begun.wait()
            raise LookupError("from a middleware")
        return await wire.receive()

    with anyio.fail_after(20), pytest.raises(LookupError, match="from a middleware"):
        await Works.as_asgi()(wire.scope, receive, wire.send)
    assert ended == ["connect", "disconnect 1006"]


async def test_a_send_that_fails_on_an_open_connection_is_logged_once(
    layer: InMemoryChannelLayer,
    errors: list[logging.LogRecord],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection, "NOTICE_TIMEOUT", 0.01)
    ends: list[int] = []
    wire = Wire(CONNECT, text("a"))

    async def broken(event: Event) -> None:
        if event["type"] != "websocket.accept":
            raise RuntimeError("the server has a bug")

    wire.on_send = broken
    await wire.run(Fails.as_asgi(where="", error=None, ends=ends))
    [record] = errors
    assert record.exc_info is not None
    assert "the server has a bug" in str(record.exc_info[1])
    assert len(ends) == 1
    assert_nothing_left(layer, "all")


async def test_an_accept_that_fails_is_logged_once(
    layer: InMemoryChannelLayer,
    errors: list[logging.LogRecord],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection, "NOTICE_TIMEOUT", 0.01)
    wire, ends = Wire(CONNECT), list[int]()

    async def broken(event: Event) -> None:
        raise RuntimeError("the server has a bug")

    wire.on_send = broken
    await wire.run(Fails.as_asgi(where="connect", error=AcceptConnection(), ends=ends))
    assert len(list(errors)) == len(ends) == 1


async def test_a_close_that_cannot_be_sent_is_logged(
    errors: list[logging.LogRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "NOTICE_TIMEOUT", 0.01)
    layer, ends, wire = InMemoryChannelLayer(), list[int](), Wire(CONNECT)

    async def broken(event: Event) -> None:
        if event["type"] != "websocket.accept":
            raise RuntimeError("the server has a bug")

    wire.on_send = broken
    app = Fails.as_asgi(where="", error=None, ends=ends, channel_layer=layer)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wire.run, app)
        await anyio.wait_all_tasks_blocked()
        await layer.close()
    [record] = errors
    assert record.exc_info is not None
    assert len(ends) == 1
