"""What a protocol or a transport of one's own is built on: the named hooks of a consumer."""

from collections.abc import Iterable

import anyio
import pytest
from anyio.lowlevel import checkpoint

from asgi_notify import (
    AsyncConsumer,
    AsyncHttpConsumer,
    AsyncWebsocketConsumer,
    ClientError,
    Event,
    InMemoryChannelLayer,
    Message,
    StopConsumer,
    WebsocketConsumer,
)
from asgi_notify.types import Receive, Send
from tests.consumers.harness import CONNECT, Wire, assert_nothing_left, left, text

pytestmark = pytest.mark.anyio


class Shouting(AsyncWebsocketConsumer):
    """Hears and says everything in capitals, and says goodbye."""

    groups = ("all",)

    def wrap_receive(self, receive: Receive) -> Receive:
        async def hear() -> Event:
            event = await receive()
            return {**event, "text": event["text"].upper()} if "text" in event else event

        return hear

    def wrap_send(self, send: Send) -> Send:
        async def say(event: Event) -> None:
            await send({**event, "text": event["text"] + "!"} if "text" in event else event)

        return say

    def closing_events(self, error: Exception) -> Iterable[Event]:
        return [{"type": "websocket.send", "text": f"bye: {error}"}]

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        if text_data == "FAIL":
            raise ClientError("enough")
        await self.send(text_data=text_data)


class SyncShouting(WebsocketConsumer):
    """The same, in threads."""

    groups = ("all",)

    def wrap_receive(self, receive: Receive) -> Receive:
        return Shouting.wrap_receive(self, super().wrap_receive(receive))  # type: ignore[arg-type]

    wrap_send = Shouting.wrap_send
    closing_events = Shouting.closing_events

    def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        if text_data == "FAIL":
            raise ClientError("enough")
        self.send(text_data=text_data)


@pytest.mark.parametrize("consumer", [Shouting, SyncShouting])
async def test_a_consumer_wraps_what_it_hears_and_says_and_has_the_last_word(
    layer: InMemoryChannelLayer, consumer: type[AsyncWebsocketConsumer]
) -> None:
    wire = Wire(CONNECT, text("hello"), text("fail"))
    with anyio.fail_after(20):
        await wire.run(consumer())
    assert wire.texts == ["HELLO!", "bye: enough!"]
    assert wire.close == {"type": "websocket.close", "code": 4400, "reason": "enough"}
    assert_nothing_left(layer, "all")


@pytest.mark.parametrize("wants", [True, False])
async def test_a_consumer_says_for_each_connection_whether_it_is_told_of_gaps(
    layer: InMemoryChannelLayer, wants: bool
) -> None:
    class Counting(AsyncWebsocketConsumer):
        groups = ("all",)
        overflow = "drop_oldest"

        def tells_gaps(self) -> bool:
            return bool(self.scope["wants"])

        async def note(self, message: Message) -> None:
            await self.send(text_data=str(message["number"]))

        async def group_gap(self, message: Message) -> None:
            await self.send(text_data="gap")

        async def receive(
            self, text_data: str | None = None, bytes_data: bytes | None = None
        ) -> None:
            for number in range(layer.capacity + 1):  # which this handler keeps waiting
                await layer.send(self.channel_name, {"type": "note", "number": number})
            for number in range(layer.capacity + 1):
                await layer.group_send("all", {"type": "note", "number": number})

    wire = Wire(CONNECT, text("fill"))
    wire.scope["wants"] = wants
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wire.run, Counting())
            while str(layer.capacity) not in wire.texts:
                await checkpoint()
            tasks.cancel_scope.cancel()
    assert ("gap" in wire.texts) is wants


async def test_a_task_of_the_consumers_own_ends_with_its_connection(
    layer: InMemoryChannelLayer,
) -> None:
    log: list[str] = []

    class Ticking(AsyncWebsocketConsumer):
        groups = ("all",)

        async def connect(self) -> None:
            await self.accept()
            self.start_soon(self.tick, "tick")

        async def tick(self, word: str) -> None:
            try:
                await self.send(text_data=word)
                await anyio.sleep_forever()
            finally:
                log.append("over")

    wire = Wire(CONNECT)
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wire.run, Ticking())
            while not wire.texts:
                await checkpoint()
            wire.tell(left())
    assert (wire.texts, log) == (["tick"], ["over"])
    assert_nothing_left(layer, "all")


class Worker(AsyncWebsocketConsumer):
    """Has a task that raises what it is told to, while a handler waits or nothing is handled."""

    groups = ("all",)

    def __init__(self, error: Exception, is_busy: bool) -> None:
        super().__init__()
        self.error, self.is_busy = error, is_busy

    async def connect(self) -> None:
        await self.accept()
        self.start_soon(self.work)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        if self.is_busy:
            await anyio.sleep_forever()

    async def work(self) -> None:
        await anyio.wait_all_tasks_blocked()
        raise self.error


@pytest.mark.parametrize("is_busy", [True, False])
@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (KeyError("x"), 1011, ": the task Worker.work failed"),
        (ClientError("enough"), 4400, ": enough"),
    ],
)
async def test_what_such_a_task_raises_ends_the_connection_and_is_logged_once(
    layer: InMemoryChannelLayer,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    code: int,
    line: str,
    is_busy: bool,
) -> None:
    caplog.set_level("INFO", logger="asgi_notify")
    wire = Wire(CONNECT, text("go on"))
    with anyio.fail_after(20):
        await wire.run(Worker(error, is_busy))
    assert wire.close is not None
    assert wire.close["code"] == code
    (record,) = [each for each in caplog.records if each.getMessage().endswith(line)]
    assert (record.exc_info is not None) is (code == 1011)
    assert_nothing_left(layer, "all")


async def test_such_a_task_can_stop_the_consumer(
    layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    wire = Wire(CONNECT)
    with anyio.fail_after(20):
        await wire.run(Worker(StopConsumer(), False))
    assert wire.close == {"type": "websocket.close", "code": 1000, "reason": ""}
    assert [record for record in caplog.records if record.exc_info] == []
    assert_nothing_left(layer, "all")


async def test_such_a_task_answers_a_request_that_it_fails(layer: InMemoryChannelLayer) -> None:
    class Answers(AsyncHttpConsumer):
        async def handle(self, body: bytes) -> None:
            self.start_soon(self.work)
            await anyio.sleep_forever()

        async def work(self) -> None:
            raise ClientError("enough")

    wire = Wire({"type": "http.request", "body": b"", "more_body": False}, kind="http")
    with anyio.fail_after(20):
        await wire.run(Answers())
    assert wire.sent[0]["status"] == 400
    assert_nothing_left(layer)


async def test_what_such_a_task_raises_goes_to_who_runs_a_protocol_of_its_own(
    layer: InMemoryChannelLayer,
) -> None:
    class Line(AsyncConsumer):
        async def line_connect(self, event: Event) -> None:
            self.start_soon(self.work)

        async def work(self) -> None:
            raise KeyError("x")

    with anyio.fail_after(20), pytest.raises(KeyError, match="x"):
        await Wire({"type": "line.connect"}, kind="line").run(Line())
    assert_nothing_left(layer)


@pytest.mark.parametrize(
    "kind", ["wrap.receive", "wrap.send", "tells.gaps", "closing.events", "start.soon"]
)
async def test_no_message_reaches_a_hook(
    layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    class Own(Shouting):  # the log says it once for each class
        """One for each test."""

    with anyio.fail_after(20):
        await Wire(CONNECT, {"type": kind}, left()).run(Own())
    assert "is for the consumer's own use" in caplog.text
