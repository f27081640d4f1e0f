"""One connection from beginning to end: what is handled when, and how much may wait."""

import logging
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from asgi_notify import (
    AsyncWebsocketConsumer,
    InMemoryChannelLayer,
    InvalidMessage,
    Message,
    WebsocketConsumer,
)
from asgi_notify.consumers import connection
from asgi_notify.layers.mailbox import READ_AHEAD
from asgi_notify.testing import WebsocketCommunicator
from asgi_notify.types import Event
from tests.consumers.harness import CONNECT, Wire, assert_nothing_left, connected, left, text

pytestmark = pytest.mark.anyio


class Gated(AsyncWebsocketConsumer):
    """Writes down what it handles; a text or message "hold" waits for the gate."""

    groups = ("all",)

    def __init__(self, log: list[str], gate: anyio.Event) -> None:
        super().__init__()
        self.log, self.gate = log, gate

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        await self.handle(text_data or "")

    async def note(self, message: Message) -> None:
        await self.handle(message["text"])

    async def handle(self, what: str) -> None:
        self.log.append(f"begin {what}")
        if what == "hold":
            await self.gate.wait()
        await checkpoint()
        self.log.append(f"end {what}")

    async def disconnect(self, code: int) -> None:
        self.log.append(f"disconnect {code}")


def note(content: str) -> Message:
    return {"type": "note", "text": content}


# One at a time, in one order.


async def test_events_and_messages_are_handled_one_at_a_time_in_the_order_they_came(
    layer: InMemoryChannelLayer,
) -> None:
    log, gate = list[str](), anyio.Event()
    wire = Wire(CONNECT, text("hold"))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wire.run, Gated.as_asgi(log=log, gate=gate))
        await anyio.wait_all_tasks_blocked()
        for number in range(3):
            wire.tell(text(f"client {number}"))
            await anyio.wait_all_tasks_blocked()
            await layer.group_send("all", note(f"group {number}"))
        assert log == ["begin hold"]
        gate.set()
        await anyio.wait_all_tasks_blocked()
        wire.tell(left())
    handled = ["hold", "client 0", "group 0", "client 1", "group 1", "client 2", "group 2"]
    expected = [line for what in handled for line in (f"begin {what}", f"end {what}")]
    assert log == [*expected, "disconnect 1001"]


async def test_a_message_sent_while_connect_runs_waits_until_it_is_done(
    layer: InMemoryChannelLayer,
) -> None:
    class Slow(AsyncWebsocketConsumer):
        async def connect(self) -> None:
            await self.channel_layer.group_add("all", self.channel_name)
            await self.channel_layer.group_send("all", note("first"))
            await checkpoint()
            await self.accept()
            await self.send("welcome")

        async def note(self, message: Message) -> None:
            await self.send(message["text"])

    async with connected(Slow) as client:
        assert await client.receive_from() == "welcome"
        assert await client.receive_from() == "first"


async def test_a_message_to_the_groups_of_the_class_waits_for_connect(
    layer: InMemoryChannelLayer,
) -> None:
    log, gate = list[str](), anyio.Event()

    class Slow(Gated):
        async def connect(self) -> None:
            await self.handle("hold")
            await self.accept()

    wire = Wire(CONNECT)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wire.run, Slow.as_asgi(log=log, gate=gate))
        await anyio.wait_all_tasks_blocked()
        await layer.group_send("all", note("early"))
        gate.set()
        await anyio.wait_all_tasks_blocked()
        wire.tell(left())
    assert log[:3] == ["begin hold", "end hold", "begin early"]


async def test_a_burst_is_handled_in_one_turn_of_the_loop(layer: InMemoryChannelLayer) -> None:
    turns, seen = 0, list[int]()

    class Bursts(Gated):
        async def note(self, message: Message) -> None:
            seen.append(turns)
            await self.send(message["text"])

    gate, wire = anyio.Event(), Wire(CONNECT, text("hold"))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wire.run, Bursts.as_asgi(log=[], gate=gate))
        await anyio.wait_all_tasks_blocked()
        for number in range(50):
            await layer.group_send("all", note(str(number)))
        gate.set()
        while len(seen) < 50:
            turns += 1
            await checkpoint()
        wire.tell(left())
    assert len(set(seen)) == 1
    assert wire.texts == [str(number) for number in range(50)]


async def test_a_handler_that_feeds_itself_for_ever_does_not_starve_the_others(
    layer: InMemoryChannelLayer,
) -> None:
    class Endless(AsyncWebsocketConsumer):
        async def receive(
            self, text_data: str | None = None, bytes_data: bytes | None = None
        ) -> None:
            await self.channel_layer.group_add("own", self.channel_name)
            await self.note({})

        async def note(self, message: Message) -> None:
            await self.channel_layer.group_send("own", note("again"))

    with anyio.fail_after(10):
        async with connected(Endless) as client, connected(AsyncWebsocketConsumer):
            await client.send_to("go")
            for _ in range(10):
                await checkpoint()
            await client.disconnect()  # which is noticed, and ends it
    assert_nothing_left(layer, "own")


# How much may wait.


async def test_a_flooding_client_is_read_only_a_little_ahead_of_its_handlers(
    layer: InMemoryChannelLayer,
) -> None:
    log, gate = list[str](), anyio.Event()
    wire = Wire(CONNECT, text("hold"), *[text("more")] * 1000)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wire.run, Gated.as_asgi(log=log, gate=gate))
        await anyio.wait_all_tasks_blocked()
        # Two were taken out to be handled, and one is in the reader's hand.
        assert wire.received <= READ_AHEAD + 3
        gate.set()
        await anyio.wait_all_tasks_blocked()
        assert log.count("end more") == 1000
        wire.tell(left())


class Stuck(AsyncWebsocketConsumer):
    """Sends each message to a client that may not be reading."""

    groups = ("all",)

    def __init__(self, ends: list[int]) -> None:
        super().__init__()
        self.ends = ends

    async def note(self, message: Message) -> None:
        await self.send(message["text"])

    async def disconnect(self, code: int) -> None:
        self.ends.append(code)


class StuckInThread(WebsocketConsumer):
    """The same with plain functions."""

    groups = ("all",)

    def __init__(self, ends: list[int]) -> None:
        super().__init__()
        self.ends = ends

    def note(self, message: Message) -> None:
        self.send(message["text"])

    def disconnect(self, code: int) -> None:
        self.ends.append(code)


@pytest.mark.parametrize("consumer", [Stuck, StuckInThread])
async def test_a_full_mailbox_closes_with_1013_even_while_a_send_is_stuck(
    consumer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    layer, ends = InMemoryChannelLayer(capacity=2), list[int]()
    wire, is_stuck = Wire(CONNECT), anyio.Event()

    async def no_reader(event: Event) -> None:
        if event["type"] == "websocket.send":  # the close is read at once
            is_stuck.set()
            await anyio.sleep_forever()

    wire.on_send = no_reader
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wire.run, consumer.as_asgi(ends=ends, channel_layer=layer))
            await anyio.wait_all_tasks_blocked()
            await layer.group_send("all", note("stuck"))
            await is_stuck.wait()  # a thread may be on its way there while all tasks are blocked
            while not (await layer.group_send("all", note("more"))).dropped:
                await checkpoint()
    assert wire.close is not None
    assert wire.close["code"] == 1013
    assert ends == [1013]
    assert_nothing_left(layer, "all")
    lost, cut = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert "lost a message" in lost.getMessage()
    assert "was cancelled, the mailbox of" in cut.getMessage()


async def test_overflow_drop_oldest_keeps_the_connection_and_the_newest() -> None:
    class Patient(Stuck):
        overflow = "drop_oldest"

    layer, wire = InMemoryChannelLayer(capacity=2), Wire(CONNECT)
    gate = anyio.Event()

    async def hold(event: Event) -> None:
        if event.get("text") == "0":
            await gate.wait()

    wire.on_send = hold
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wire.run, Patient.as_asgi(ends=[], channel_layer=layer))
        await anyio.wait_all_tasks_blocked()
        await layer.group_send("all", note("0"))
        await anyio.wait_all_tasks_blocked()
        for number in range(1, 6):
            await layer.group_send("all", note(str(number)))
        gate.set()
        await anyio.wait_all_tasks_blocked()
        wire.tell(left())
    assert wire.texts == ["0", "4", "5"]


async def test_a_close_that_a_client_does_not_read_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection, "CLOSE_TIMEOUT", 0.01)
    layer, ends, wire = InMemoryChannelLayer(), list[int](), Wire(CONNECT)

    async def never(event: Event) -> None:
        if event["type"] == "websocket.close":
            await anyio.sleep_forever()

    wire.on_send = never
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wire.run, Stuck.as_asgi(ends=ends, channel_layer=layer))
            await anyio.wait_all_tasks_blocked()
            await layer.close()
    assert ends == [1012]


# The end.


@pytest.mark.parametrize("consumer", [Stuck, StuckInThread])
async def test_a_shutdown_closes_with_1012_and_waits_for_disconnect(
    consumer: Any, layer: InMemoryChannelLayer
) -> None:
    ends: list[int] = []
    async with connected(consumer.as_asgi(ends=ends)) as client:
        await layer.close()
        assert ends == [1012]
        assert_nothing_left(layer, "all")
        event = await client.receive_output()
        assert (event["type"], event["code"]) == ("websocket.close", 1012)
        assert event["reason"] == "the server is shutting down; come back in a moment"


async def test_a_client_that_comes_while_the_layer_closes_is_refused_with_503() -> None:
    layer, gate, answers = InMemoryChannelLayer(), anyio.Event(), list[object]()

    class Lingers(Stuck):
        async def disconnect(self, code: int) -> None:
            await gate.wait()

    app = Lingers.as_asgi(ends=[], channel_layer=layer)
    async with connected(app), anyio.create_task_group() as tasks:
        tasks.start_soon(layer.close)
        await anyio.wait_all_tasks_blocked()
        async with WebsocketCommunicator(app, "/", denial_response=True) as late:
            answers.append(await late.connect())
        gate.set()
    assert answers == [(False, 503)]


async def test_a_layer_that_is_shut_down_before_the_accept_refuses(
    layer: InMemoryChannelLayer,
) -> None:
    class Slow(Stuck):
        async def connect(self) -> None:
            await anyio.sleep_forever()

    ends, wire = list[int](), Wire(CONNECT)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wire.run, Slow.as_asgi(ends=ends))
        await anyio.wait_all_tasks_blocked()
        await layer.close()
    assert wire.close is not None
    assert wire.close["code"] == 1012
    assert len(ends) == 1


async def test_a_disconnect_sent_through_the_layer_ends_the_connection_once(
    layer: InMemoryChannelLayer,
) -> None:
    ends: list[int] = []
    async with connected(Stuck.as_asgi(ends=ends)) as client:
        await layer.group_send("all", {"type": "websocket.disconnect"})
        assert (await client.receive_output())["code"] == 1000
    assert ends == [1000]


async def test_a_message_that_names_no_handler_is_an_error_of_the_sender(
    layer: InMemoryChannelLayer,
) -> None:
    messages: list[Any] = [{"text": "a"}, {"type": ""}, {"type": "_send"}, {"type": ".x"}, "note"]
    async with connected(Stuck.as_asgi(ends=[])) as client:
        for message in messages:
            with pytest.raises(InvalidMessage):
                await layer.group_send("all", message)
        await layer.group_send("all", note("still here"))
        assert await client.receive_from() == "still here"


async def test_each_step_of_a_connection_is_one_line_of_the_log(
    layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with connected(Stuck.as_asgi(ends=[]), "/rooms/7/") as client:
        await client.disconnect(4000)
    accepted, ended = (record.getMessage() for record in caplog.records)
    assert accepted.startswith("accepted websocket '/rooms/7/' (channel specific.")
    assert ended.startswith("ended websocket '/rooms/7/'")
    assert ended.endswith(" s, code 4000")


async def test_a_churn_of_connections_leaves_nothing_behind(layer: InMemoryChannelLayer) -> None:
    for _ in range(200):
        wire = Wire(CONNECT, text("a"), left())
        await wire.run(Stuck.as_asgi(ends=[]))
    assert_nothing_left(layer, "all")
