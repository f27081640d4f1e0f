"""The consumer of server-sent events: how a stream begins, what it brings, how it ends."""

import logging
from typing import Any

import anyio
import pytest
import trio.testing

from asgi_notify import (
    AsyncSseConsumer,
    ClientError,
    DenyConnection,
    Forbidden,
    InMemoryChannelLayer,
    InvalidMessage,
    Message,
    Unauthorized,
    sse,
)
from asgi_notify.testing import HttpCommunicator
from asgi_notify.types import Event
from tests.consumers.harness import assert_nothing_left
from tests.consumers.streams import LEFT, Stream, streaming, until
from tests.eventstream import Dispatched

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("layer")]


class News(AsyncSseConsumer):
    """Brings what its group is sent, until "end"."""

    groups = ("news",)

    def __init__(self, log: list[str] | None = None) -> None:
        super().__init__()
        self.log = [] if log is None else log

    async def connect(self) -> None:
        self.log.append("connect")

    async def news(self, message: Message) -> None:
        await self.send_event(message["text"], event=message.get("event"), id=message.get("id"))

    async def end(self, message: Message) -> None:
        await self.send_body(b"")

    async def disconnect(self) -> None:
        self.log.append("disconnect")


class Quick(News):
    """Keeps the stream alive often enough for a test."""

    keep_alive = 0.02


async def respond(app: Any, method: str = "GET") -> dict[str, Any]:
    async with HttpCommunicator(app, method, "/") as client:
        return await client.get_response()


# How a stream begins.


async def test_the_headers_come_at_once_with_a_comment_so_that_the_client_knows() -> None:
    async with streaming(News()) as wire:
        start, first = wire.sent
    assert start["status"] == 200
    headers = dict(start["headers"])
    assert headers[b"content-type"] == b"text/event-stream; charset=utf-8"
    assert headers[b"cache-control"] == b"no-cache, no-transform"
    assert headers[b"x-accel-buffering"] == b"no"
    assert first == {"type": "http.response.body", "body": b":\n\n", "more_body": True}


async def test_a_class_may_say_when_browsers_come_back() -> None:
    class Patient(News):
        retry = 10_000

    async with streaming(Patient()) as wire:
        assert wire.chunks == [b"retry: 10000\n\n"]


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "DELETE", "OPTIONS"])
async def test_another_method_is_a_405_and_no_connection(method: str) -> None:
    log: list[str] = []
    response = await respond(News.as_asgi(log=log), method)
    assert response["status"] == 405
    assert dict(response["headers"])[b"allow"] == b"GET"
    assert log == []


@pytest.mark.parametrize(
    ("error", "status"),
    [(Forbidden("members only"), 403), (Unauthorized("log in"), 401), (ClientError("what?"), 400),
     (DenyConnection(), 403)],
)  # fmt: skip
async def test_connect_may_refuse_with_a_status(
    error: Exception, status: int, layer: InMemoryChannelLayer
) -> None:
    class Refuses(News):
        async def connect(self) -> None:
            await super().connect()
            raise error

    log: list[str] = []
    response = await respond(Refuses.as_asgi(log=log))
    assert response["status"] == status
    assert dict(response["headers"])[b"content-type"] == b"application/json"
    assert log == ["connect", "disconnect"]
    assert_nothing_left(layer, "news")


@pytest.mark.parametrize(
    ("headers", "id"),
    [
        ([], None),
        ([(b"last-event-id", b"")], None),
        ([(b"last-event-id", b"7")], "7"),
        ([(b"Last-Event-ID", "früh 😀".encode())], "früh 😀"),
        ([(b"last-event-id", b"\xff")], "\N{REPLACEMENT CHARACTER}"),
    ],
)
async def test_connect_knows_the_last_event_of_the_client(
    headers: list[tuple[bytes, bytes]], id: str | None
) -> None:
    class Resumes(AsyncSseConsumer):
        async def connect(self) -> None:
            ids.append(self.last_event_id)

    ids: list[str | None] = []
    async with streaming(Resumes(), *headers):
        assert ids == [id]


async def test_connect_may_send_what_the_client_has_missed(layer: InMemoryChannelLayer) -> None:
    class Resumes(News):
        async def connect(self) -> None:
            for number in range(int(self.last_event_id or 0), 3):
                await self.send_event(f"event {number + 1}", id=str(number + 1))

    async with streaming(Resumes(), (b"last-event-id", b"1")) as wire:
        await layer.group_send("news", {"type": "news", "text": "event 4", "id": "4"})
        await anyio.wait_all_tasks_blocked()
        assert [event.id for event in wire.events] == ["2", "3", "4"]
        assert [event["type"] for event in wire.sent].count("http.response.start") == 1


async def test_connect_may_answer_with_something_else() -> None:
    class Over(News):
        async def connect(self) -> None:
            await self.send_response(204, b"")  # which tells a browser not to come back

    response = await respond(Over())
    assert (response["status"], response["body"]) == (204, b"")


async def test_connect_may_send_headers_of_its_own_and_the_stream_begins_at_once() -> None:
    class Shared(Quick):
        async def connect(self) -> None:
            await self.send_headers(headers=[*sse.HEADERS, (b"access-control-allow-origin", b"*")])

    async with streaming(Shared()) as wire:
        assert (b"access-control-allow-origin", b"*") in wire.sent[0]["headers"]
        assert wire.chunks[0] == b":\n\n"
        await until(lambda: len(wire.chunks) > 2)  # and it is kept alive


# What it brings.


async def test_each_event_is_whole_in_one_chunk(layer: InMemoryChannelLayer) -> None:
    async with streaming(News()) as wire:
        await layer.group_send("news", {"type": "news", "text": "one"})
        await layer.group_send("news", {"type": "news", "text": "a\r\nb\rc", "id": "2"})
        await layer.group_send("news", {"type": "news", "text": "3", "event": "number"})
        await anyio.wait_all_tasks_blocked()
        assert len(wire.chunks) == 4  # a comment opened the stream
        assert wire.events == [
            Dispatched("one"),
            Dispatched("a\nb\nc", id="2"),
            Dispatched("3", "number", "2"),
        ]
        assert all(chunk.endswith(b"\n\n") for chunk in wire.chunks)


async def test_an_event_that_cannot_be_spelled_ends_the_stream_with_an_error_in_the_log(
    layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    async with streaming(News()) as wire:
        await layer.group_send("news", {"type": "news", "text": "x", "id": "a\nb"})
        await anyio.wait_all_tasks_blocked()
    assert wire.events == []
    [record] = caplog.records
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], InvalidMessage)


async def test_streams_of_one_instance_share_nothing(layer: InMemoryChannelLayer) -> None:
    app = News()
    async with streaming(app) as one, streaming(app) as two:
        await layer.group_send("news", {"type": "news", "text": "for both"})
        await anyio.wait_all_tasks_blocked()
        assert one.events == two.events == [Dispatched("for both")]
    assert app.log == []


# How it ends.


async def test_a_client_that_leaves_ends_it_once(
    layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    log: list[str] = []
    async with streaming(News.as_asgi(log=log)) as wire:
        wire.tell(LEFT)
        await anyio.wait_all_tasks_blocked()
        assert log == ["connect", "disconnect"]
        assert_nothing_left(layer, "news")
        sent = await layer.group_send("news", {"type": "news", "text": "too late"})
        assert sent.reached == 0
    assert caplog.records == []


async def test_a_client_that_leaves_while_connect_runs_ends_it_once(
    layer: InMemoryChannelLayer,
) -> None:
    class Waits(News):
        leave_grace = 0.01

        async def connect(self) -> None:
            await super().connect()
            await anyio.sleep_forever()

    log: list[str] = []
    with anyio.fail_after(20):
        async with streaming(Waits.as_asgi(log=log)) as wire:
            wire.tell(LEFT)
    assert log == ["connect", "disconnect"]
    assert wire.sent == []
    assert_nothing_left(layer, "news")


async def test_a_handler_may_complete_it(layer: InMemoryChannelLayer) -> None:
    log: list[str] = []
    wire = Stream()
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wire.run, News.as_asgi(log=log))
            await anyio.wait_all_tasks_blocked()
            await layer.group_send("news", {"type": "end"})
    assert wire.sent[-1]["more_body"] is False
    assert log == ["connect", "disconnect"]
    assert_nothing_left(layer, "news")


async def test_a_shutdown_ends_it(layer: InMemoryChannelLayer) -> None:
    log: list[str] = []
    wire = Stream()
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wire.run, News.as_asgi(log=log))
            await anyio.wait_all_tasks_blocked()
            await layer.close()
    assert log == ["connect", "disconnect"]


async def test_a_server_that_cancels_ends_it_once(layer: InMemoryChannelLayer) -> None:
    log: list[str] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(Stream().run, News.as_asgi(log=log))
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    assert log == ["connect", "disconnect"]
    assert_nothing_left(layer, "news")


async def test_what_a_middleware_raises_is_raised_as_it_is() -> None:
    async def receive() -> Event:
        raise LookupError("a middleware of its own")

    wire = Stream()
    with pytest.raises(LookupError, match="a middleware of its own"):
        await News()(wire.scope, receive, wire.send)


# Between the events.


async def test_a_silent_stream_is_kept_alive_with_comments() -> None:
    async with streaming(Quick()) as wire:
        await until(lambda: len(wire.chunks) > 3)
        assert set(wire.chunks) == {b":\n\n"}
    count = len(wire.chunks)
    await anyio.sleep(Quick.keep_alive * 3)
    assert len(wire.chunks) == count  # and not beyond its end


async def test_it_is_kept_alive_while_a_handler_runs(layer: InMemoryChannelLayer) -> None:
    class Thinks(Quick):
        async def think(self, message: Message) -> None:
            await anyio.sleep_forever()

    async with streaming(Thinks()) as wire:
        await layer.group_send("news", {"type": "think"})
        await until(lambda: len(wire.chunks) > 3)
        wire.tell(LEFT)


async def test_nothing_comes_in_between_while_an_event_is_on_its_way(
    layer: InMemoryChannelLayer,
) -> None:
    under_way = overlaps = 0

    async def send_slowly(event: Event) -> None:
        nonlocal under_way, overlaps
        overlaps += under_way
        under_way += 1
        await anyio.sleep(Quick.keep_alive * 2)
        under_way -= 1

    async with streaming(Quick()) as wire:
        wire.on_send = send_slowly
        for number in range(5):
            await layer.group_send("news", {"type": "news", "text": str(number)})
        await until(lambda: len(wire.events) == 5)
        await until(lambda: wire.chunks[-1] == b":\n\n")
    assert overlaps == 0


async def test_a_comment_that_fails_is_logged_and_no_end(
    layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(event: Event) -> None:
        if event["body"] == b":\n\n":
            raise RuntimeError("no comment")

    async with streaming(Quick()) as wire:
        wire.on_send = fail
        await until(lambda: bool(caplog.records))
        await layer.group_send("news", {"type": "news", "text": "still here"})
        await until(lambda: wire.events == [Dispatched("still here")])
    [record] = caplog.records
    assert record.levelno == logging.ERROR
    assert "a comment failed" in record.getMessage()


# The clock jumps ahead as soon as all tasks wait; asyncio has none like it.
ON_ITS_OWN_CLOCK = ("trio", {"clock": trio.testing.MockClock(autojump_threshold=0)})


@pytest.mark.parametrize("anyio_backend", [ON_ITS_OWN_CLOCK], ids=["trio"])
async def test_a_comment_comes_after_so_many_seconds_without_an_event(
    layer: InMemoryChannelLayer,
) -> None:
    async def note(event: Event) -> None:
        times.append((round(anyio.current_time() - started), event["body"]))

    times: list[tuple[int, bytes]] = []
    async with streaming(News()) as wire:
        started, wire.on_send = anyio.current_time(), note
        await anyio.sleep(10)
        await layer.group_send("news", {"type": "news", "text": "x"})
        await anyio.sleep(44)
    assert times == [(10, b"data: x\n\n"), (25, b":\n\n"), (40, b":\n\n")]
