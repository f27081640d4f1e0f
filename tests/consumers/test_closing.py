"""A close that comes from outside the handlers: from a timer, or another task of the consumer's."""

from collections.abc import Awaitable, Callable
from math import inf
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from asgi_notify import AsyncHttpConsumer, AsyncWebsocketConsumer, InMemoryChannelLayer, Message
from asgi_notify.types import Event
from tests.consumers.harness import CONNECT, Wire, assert_nothing_left, text
from tests.loops import other_loop

pytestmark = pytest.mark.anyio

WAYS = {"steps": ("asyncio", "1"), "plain": ("asyncio", "0"), "trio": ("trio", "1")}


@pytest.fixture(params=WAYS)
def anyio_backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    backend, stepping = WAYS[request.param]
    monkeypatch.setenv("ASGI_NOTIFY_STEPPING", stepping)
    return backend


class Timed(AsyncWebsocketConsumer):
    """Is closed by a task of its own, when the test says so."""

    groups = ("all",)
    leave_grace = inf

    def __init__(self, now: anyio.Event, log: list[str]) -> None:
        super().__init__()
        self.now, self.log = now, log

    async def connect(self) -> None:
        await self.accept()
        self.start_soon(self.timer)

    async def timer(self) -> None:
        await self.now.wait()
        await self.close(4000)
        self.log.append("closed")

    async def note(self, message: Message) -> None:
        self.log.append("note")

    async def disconnect(self, code: int) -> None:
        self.log.append(f"disconnect {code}")


async def send_burst(layer: InMemoryChannelLayer, count: int) -> None:
    for _ in range(count):
        await layer.group_send("all", {"type": "note"})


async def run(app: Any, wire: Wire, test: Callable[[], Awaitable[None]]) -> None:
    """Run a connection that is idle when the test begins, and that ends by itself."""
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wire.run, app)
            await anyio.wait_all_tasks_blocked()
            await test()


@pytest.mark.parametrize("messages", [0, 1, 50])
async def test_an_idle_consumer_that_its_own_timer_closes_ends_at_once(messages: int) -> None:
    layer, now, log, wire = InMemoryChannelLayer(capacity=5), anyio.Event(), list[str](), Wire()
    wire.tell(CONNECT)

    async def close() -> None:
        now.set()
        while wire.close is None:
            await checkpoint()
        await send_burst(layer, messages)

    await run(Timed.as_asgi(now=now, log=log, channel_layer=layer), wire, close)
    assert wire.close is not None
    assert wire.close["code"] == 4000
    assert log.count("disconnect 4000") == 1
    assert_nothing_left(layer, "all")


async def test_senders_do_not_wait_for_a_consumer_that_says_goodbye() -> None:
    layer, now, log, wire = InMemoryChannelLayer(capacity=5), anyio.Event(), list[str](), Wire()
    wire.tell(CONNECT)
    over = anyio.Event()

    class Slow(Timed):
        overflow = "drop_newest"

        async def disconnect(self, code: int) -> None:
            self.log.append("disconnect")
            await over.wait()

    async def close() -> None:
        now.set()
        while "disconnect" not in log:
            await checkpoint()
        await send_burst(layer, 50)
        over.set()

    await run(Slow.as_asgi(now=now, log=log, channel_layer=layer), wire, close)
    assert_nothing_left(layer, "all")


async def test_a_sender_that_waits_for_a_consumer_is_let_go_when_it_is_closed() -> None:
    layer, now, log, wire = InMemoryChannelLayer(capacity=2), anyio.Event(), list[str](), Wire()
    wire.tell(CONNECT)

    async def close() -> None:
        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(send_burst, layer, 20)
            now.set()

    await run(Timed.as_asgi(now=now, log=log, channel_layer=layer), wire, close)
    assert_nothing_left(layer, "all")


async def test_a_handler_that_runs_has_its_grace_when_another_task_closes() -> None:
    layer, now, log, wire = InMemoryChannelLayer(), anyio.Event(), list[str](), Wire()
    wire.tell(CONNECT)
    go_on = anyio.Event()

    class Busy(Timed):
        async def receive(
            self, text_data: str | None = None, bytes_data: bytes | None = None
        ) -> None:
            await go_on.wait()
            self.log.append("finished")

    async def close() -> None:
        wire.tell(text("a"))
        await anyio.wait_all_tasks_blocked()
        now.set()
        await anyio.wait_all_tasks_blocked()
        go_on.set()

    await run(Busy.as_asgi(now=now, log=log, channel_layer=layer), wire, close)
    assert log == ["closed", "finished", "disconnect 4000"]


@pytest.mark.parametrize("is_busy", [False, True])
async def test_the_close_is_sent_whole_before_the_task_that_sends_it_is_cancelled(
    is_busy: bool,
) -> None:
    layer, now, log, wire = InMemoryChannelLayer(), anyio.Event(), list[str](), Wire()
    wire.tell(CONNECT)
    go_on = anyio.Event()

    class Busy(Timed):
        async def receive(
            self, text_data: str | None = None, bytes_data: bytes | None = None
        ) -> None:
            await go_on.wait()

    async def slow(event: Event) -> None:
        if event["type"] == "websocket.close":
            go_on.set()
            await anyio.sleep(0.01)
            for _ in range(10):
                await checkpoint()

    wire.on_send = slow

    async def close() -> None:
        if is_busy:
            wire.tell(text("a"))
            await anyio.wait_all_tasks_blocked()
        now.set()

    await run(Busy.as_asgi(now=now, log=log, channel_layer=layer), wire, close)
    assert wire.close is not None
    assert log[-1] == "disconnect 4000"


async def test_a_close_that_is_stuck_does_not_keep_the_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("asgi_notify.consumers.connection.CLOSE_TIMEOUT", 0.01)
    layer, now, log, wire = InMemoryChannelLayer(), anyio.Event(), list[str](), Wire()
    wire.tell(CONNECT)

    async def stuck(event: Event) -> None:
        if event["type"] == "websocket.close":
            await anyio.sleep_forever()

    wire.on_send = stuck

    async def close() -> None:
        now.set()

    await run(Timed.as_asgi(now=now, log=log, channel_layer=layer), wire, close)
    assert log == ["disconnect 4000"]
    assert_nothing_left(layer, "all")


async def test_a_response_that_another_task_ends_is_sent_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("asgi_notify.consumers.connection.CLOSE_TIMEOUT", 0.01)
    layer, wire = InMemoryChannelLayer(), Wire(kind="http")
    wire.tell({"type": "http.request", "body": b"", "more_body": False})
    now, log = anyio.Event(), list[str]()

    class Answers(AsyncHttpConsumer):
        async def handle(self, body: bytes) -> None:
            await self.send_headers()
            self.start_soon(self.answer)

        async def answer(self) -> None:
            await now.wait()
            await self.send_body(b"done")
            log.append("answered")

        async def disconnect(self) -> None:
            log.append("disconnect")

    async def slow(event: Event) -> None:
        await anyio.sleep(0.05)  # longer than a close may take here

    wire.on_send = slow

    async def answer() -> None:
        now.set()

    await run(Answers.as_asgi(channel_layer=layer), wire, answer)
    assert b"".join(event.get("body", b"") for event in wire.sent) == b"done"
    assert log[-1] == "disconnect"
    assert_nothing_left(layer)


@pytest.mark.parametrize("messages", [0, 1])
async def test_nothing_was_cut_short_where_an_idle_consumer_is_closed(
    messages: int, caplog: pytest.LogCaptureFixture
) -> None:
    layer, log, wire = InMemoryChannelLayer(), list[str](), Wire(CONNECT)

    async def close() -> None:
        await send_burst(layer, messages)
        await anyio.wait_all_tasks_blocked()
        await layer.close()

    await run(Timed.as_asgi(now=anyio.Event(), log=log, channel_layer=layer), wire, close)
    assert log == [*["note"] * messages, "disconnect 1012"]
    assert caplog.records == []


async def test_nothing_was_cut_short_where_an_idle_consumer_has_lost_its_client(
    caplog: pytest.LogCaptureFixture,
) -> None:
    layer, log, wire = InMemoryChannelLayer(), list[str](), Wire(CONNECT)

    class Sends(Timed):
        leave_grace = 0.01

        async def note(self, message: Message) -> None:
            await self.send(text_data="to nobody")

    async def gone(event: Event) -> None:
        if event["type"] == "websocket.send":
            raise OSError("gone")

    wire.on_send = gone

    async def send() -> None:
        await send_burst(layer, 1)

    await run(Sends.as_asgi(now=anyio.Event(), log=log, channel_layer=layer), wire, send)
    assert log == ["disconnect 1006"]
    assert caplog.records == []


async def test_a_sender_in_another_loop_is_let_go_when_the_consumer_is_closed() -> None:
    layer, now, log, wire = InMemoryChannelLayer(capacity=1), anyio.Event(), list[str](), Wire()
    wire.tell(CONNECT)

    async def close() -> None:
        async with other_loop() as call, anyio.create_task_group() as tasks:

            async def publish() -> None:
                await call(send_burst, layer, 50)

            tasks.start_soon(publish)
            now.set()

    await run(Timed.as_asgi(now=now, log=log, channel_layer=layer), wire, close)
    assert_nothing_left(layer, "all")
