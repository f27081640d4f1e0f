"""A client that goes is noticed at once, whatever the consumer is doing just then."""

import logging
from asyncio import CancelledError
from contextlib import suppress
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from asgi_notify import (
    AsyncWebsocketConsumer,
    InMemoryChannelLayer,
    Message,
    WebsocketConsumer,
)
from asgi_notify.types import Event
from tests.consumers.harness import CONNECT, Wire, assert_nothing_left, left, text

pytestmark = pytest.mark.anyio

HANDLERS = ["connect", "receive", "note"]


class Busy(AsyncWebsocketConsumer):
    """Is in the middle of one of its handlers until the gate opens."""

    groups = ("all",)

    def __init__(self, where: str, gate: anyio.Event, log: list[str]) -> None:
        super().__init__()
        self.where, self.gate, self.log = where, gate, log

    async def work(self, where: str) -> None:
        if where != self.where:
            return
        try:
            await self.gate.wait()
            await checkpoint()
            self.log.append("finished")
            await self.send("to nobody")
        except anyio.get_cancelled_exc_class():
            self.log.append("cancelled")
            raise

    async def connect(self) -> None:
        await self.accept()
        await self.work("connect")

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        await self.work("receive")

    async def note(self, message: Message) -> None:
        await self.work("note")

    async def disconnect(self, code: int) -> None:
        self.log.append(f"disconnect {code}")


async def leave_in_the_middle(
    app: Any, wire: Wire, layer: InMemoryChannelLayer, gate: anyio.Event, opens: bool
) -> None:
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wire.run, app)
            await anyio.wait_all_tasks_blocked()
            wire.tell(text("a"))
            await layer.group_send("all", {"type": "note"})
            await anyio.wait_all_tasks_blocked()
            wire.tell(left(4000))
            await anyio.wait_all_tasks_blocked()
            if opens:
                gate.set()


@pytest.mark.parametrize("where", HANDLERS)
async def test_a_handler_shorter_than_the_grace_finishes_and_its_sends_are_quiet(
    where: str, layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    gate, log, wire = anyio.Event(), list[str](), Wire(CONNECT)
    app = Busy.as_asgi(where=where, gate=gate, log=log)
    app.leave_grace = 60
    await leave_in_the_middle(app, wire, layer, gate, opens=True)
    assert log == ["finished", "disconnect 4000"]
    assert wire.texts == []
    assert caplog.records == []
    assert_nothing_left(layer, "all")


@pytest.mark.parametrize("where", HANDLERS)
async def test_a_handler_longer_than_the_grace_is_cancelled_and_disconnect_still_runs(
    where: str, layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    gate, log, wire = anyio.Event(), list[str](), Wire(CONNECT)
    app = Busy.as_asgi(where=where, gate=gate, log=log)
    app.leave_grace = 0.01
    await leave_in_the_middle(app, wire, layer, gate, opens=False)
    assert log == ["cancelled", "disconnect 4000"]
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert "was cancelled, 0.01 s after the connection had ended" in record.getMessage()
    assert_nothing_left(layer, "all")


async def test_what_the_client_sent_last_is_handled_before_its_leaving(
    layer: InMemoryChannelLayer,
) -> None:
    seen: list[str] = []

    class Listens(AsyncWebsocketConsumer):
        async def receive(
            self, text_data: str | None = None, bytes_data: bytes | None = None
        ) -> None:
            await checkpoint()
            seen.append(text_data or "")

        async def disconnect(self, code: int) -> None:
            seen.append(str(code))

    await Wire(CONNECT, text("a"), text("b"), left(1000)).run(Listens())
    assert seen == ["a", "b", "1000"]


@pytest.mark.parametrize(
    ("event", "code"),
    [
        (left(), 1001),
        ({"type": "websocket.disconnect"}, 1005),
        ({"type": "websocket.disconnect", "code": None}, 1005),
    ],
)
async def test_disconnect_is_told_the_code_and_1005_where_there_is_none(
    event: Event, code: int, layer: InMemoryChannelLayer
) -> None:
    log: list[str] = []
    await Wire(CONNECT, event).run(Busy.as_asgi(where="", gate=anyio.Event(), log=log))
    assert log == [f"disconnect {code}"]


async def test_a_client_that_leaves_before_it_is_accepted_is_disconnected_too(
    layer: InMemoryChannelLayer,
) -> None:
    log: list[str] = []

    class Slow(Busy):
        async def connect(self) -> None:
            await self.work("connect")
            await self.accept()

    gate, wire = anyio.Event(), Wire(CONNECT)
    app = Slow.as_asgi(where="connect", gate=gate, log=log)
    await leave_in_the_middle(app, wire, layer, gate, opens=True)
    assert log == ["finished", "disconnect 4000"]
    assert wire.sent == []


async def test_a_close_of_our_own_is_what_disconnect_is_told(layer: InMemoryChannelLayer) -> None:
    log: list[str] = []

    class Closes(Busy):
        async def receive(
            self, text_data: str | None = None, bytes_data: bytes | None = None
        ) -> None:
            await self.close(4321)
            await self.work("receive")

    gate, wire = anyio.Event(), Wire(CONNECT)
    app = Closes.as_asgi(where="receive", gate=gate, log=log)
    await leave_in_the_middle(app, wire, layer, gate, opens=True)
    assert log == ["finished", "disconnect 4321"]


async def test_what_a_server_says_after_the_own_close_changes_nothing(
    layer: InMemoryChannelLayer,
) -> None:
    log, events, wire = list[str](), list[Event](), Wire(CONNECT, text("a"))

    class Closes(Busy):
        async def receive(
            self, text_data: str | None = None, bytes_data: bytes | None = None
        ) -> None:
            await self.close(4321)
            wire.tell(left(1006))
            await anyio.wait_all_tasks_blocked()

    async def receive() -> Event:  # as one that had its event already when it was cancelled
        seen = len(events)
        while len(events) == seen:
            with anyio.CancelScope(shield=True), suppress(CancelledError):
                events.append(await wire.receive())
        return events[-1]

    with anyio.fail_after(20):
        app = Closes.as_asgi(where="", gate=anyio.Event(), log=log)
        await app(wire.scope, receive, wire.send)
    assert log == ["disconnect 4321"]
    assert wire.received == 3


async def test_the_reason_of_a_close_goes_to_the_client_and_to_the_handler(
    layer: InMemoryChannelLayer,
) -> None:
    ends: list[Event] = []

    class Closes(AsyncWebsocketConsumer):
        async def receive(
            self, text_data: str | None = None, bytes_data: bytes | None = None
        ) -> None:
            await self.close(4321, "enough")

        async def websocket_disconnect(self, message: Event) -> None:
            ends.append(message)

    wire = Wire(CONNECT, text("a"))
    await wire.run(Closes())
    assert wire.close == {"type": "websocket.close", "code": 4321, "reason": "enough"}
    assert [(end["code"], end["reason"]) for end in ends] == [(4321, "enough")]


@pytest.mark.parametrize(
    ("code", "tried"), [(1000, [1000]), (1001, [1001, 4001]), (2999, [2999, 5999]), (3000, [3000])]
)
async def test_only_a_code_that_a_server_may_refuse_is_sent_again_as_another(
    code: int, tried: list[int], layer: InMemoryChannelLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asgi_notify.consumers.connection.NOTICE_TIMEOUT", 0.01)
    codes, wire = list[int](), Wire(CONNECT, text("a"))

    class Closes(AsyncWebsocketConsumer):
        async def receive(
            self, text_data: str | None = None, bytes_data: bytes | None = None
        ) -> None:
            await self.close(code)

    async def refuse(event: Event) -> None:
        if event["type"] == "websocket.close":
            codes.append(event["code"])
            if event["code"] == code:
                raise ValueError("no such code")

    wire.on_send = refuse
    with anyio.fail_after(20):
        await wire.run(Closes())
    assert codes == tried


# What servers do when something is sent to a client that has gone.


@pytest.mark.parametrize(
    "error",
    [OSError("gone"), BrokenPipeError(), ConnectionResetError(), RuntimeError("Unexpected ASGI"),
     ValueError("a server's own"), KeyError("a server's own")],
)  # fmt: skip
async def test_a_send_after_the_client_has_gone_is_quiet_on_every_server(
    error: Exception, layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    log, wire = list[str](), Wire(CONNECT, text("a"))

    class Talks(Busy):
        async def receive(
            self, text_data: str | None = None, bytes_data: bytes | None = None
        ) -> None:
            await self.send("one")
            await self.send("two")
            self.log.append("finished")

    async def gone(event: Event) -> None:
        if event["type"] == "websocket.send":
            wire.tell(left())
            raise error

    wire.on_send = gone
    await wire.run(Talks.as_asgi(where="", gate=anyio.Event(), log=log))
    assert log == ["finished", "disconnect 1001"]
    assert [event["type"] for event in wire.sent] == ["websocket.accept"]
    assert caplog.records == []
    assert_nothing_left(layer, "all")


async def test_a_server_that_says_only_by_an_oserror_that_the_client_is_gone_is_believed(
    layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    log, wire = list[str](), Wire(CONNECT, text("a"))

    class Talks(Busy):
        leave_grace = 0.01

        async def receive(
            self, text_data: str | None = None, bytes_data: bytes | None = None
        ) -> None:
            await self.send("one")

    async def gone(event: Event) -> None:
        if event["type"] == "websocket.send":
            raise OSError("gone")

    wire.on_send = gone
    with anyio.fail_after(20):
        await wire.run(Talks.as_asgi(where="", gate=anyio.Event(), log=log))
    assert log == ["disconnect 1006"]
    assert caplog.records == []  # no handler was cut short


async def test_a_close_that_comes_too_late_is_quiet(
    layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    log, wire = list[str](), Wire(CONNECT, text("a"))

    class Closes(Busy):
        async def receive(
            self, text_data: str | None = None, bytes_data: bytes | None = None
        ) -> None:
            await self.close(4000)
            self.log.append("finished")

    async def gone(event: Event) -> None:
        if event["type"] == "websocket.close":
            raise OSError("gone")

    wire.on_send = gone
    with anyio.fail_after(20):
        await wire.run(Closes.as_asgi(where="", gate=anyio.Event(), log=log))
    assert log == ["finished", "disconnect 4000"]
    assert caplog.records == []


async def test_sends_after_the_own_close_go_nowhere(layer: InMemoryChannelLayer) -> None:
    class Closes(AsyncWebsocketConsumer):
        async def receive(
            self, text_data: str | None = None, bytes_data: bytes | None = None
        ) -> None:
            await self.close()
            await self.send("late")
            await self.close(4000)
            await self.accept()

        async def disconnect(self, code: int) -> None:
            await self.send("later")

    wire = Wire(CONNECT, text("a"))
    await wire.run(Closes())
    assert [event["type"] for event in wire.sent] == ["websocket.accept", "websocket.close"]


# The handler of the disconnect event.


async def test_a_disconnect_that_hangs_is_cut_off_and_logged(
    layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    class Hangs(Busy):
        disconnect_timeout = 0.01

        async def disconnect(self, code: int) -> None:
            self.log.append("begun")
            await anyio.sleep_forever()

    log: list[str] = []
    with anyio.fail_after(20):
        app = Hangs.as_asgi(where="", gate=anyio.Event(), log=log)
        await Wire(CONNECT, left()).run(app)
    assert log == ["begun"]
    [record] = caplog.records
    assert "websocket.disconnect was cut off after 0.01 s" in record.getMessage()
    assert_nothing_left(layer, "all")


async def test_disconnect_may_still_talk_to_its_groups(layer: InMemoryChannelLayer) -> None:
    heard: list[str] = []

    class Chat(AsyncWebsocketConsumer):
        groups = ("room",)

        async def note(self, message: Message) -> None:
            heard.append(message["text"])

        async def disconnect(self, code: int) -> None:
            goodbye = {"type": "note", "text": "somebody left"}
            await self.channel_layer.group_send("room", goodbye)

    stays = Wire(CONNECT)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stays.run, Chat())
        await anyio.wait_all_tasks_blocked()
        await Wire(CONNECT, left()).run(Chat())
        await anyio.wait_all_tasks_blocked()
        assert heard == ["somebody left"]
        stays.tell(left())


@pytest.mark.parametrize("kind", ["async", "sync"])
@pytest.mark.parametrize("way", ["instance", "class", "handler", "dispatch", "base"])
async def test_what_is_to_be_done_at_the_end_is_done_however_it_is_written(
    layer: InMemoryChannelLayer, monkeypatch: pytest.MonkeyPatch, way: str, kind: str
) -> None:
    """A consumer without anything of the kind is spared the work; nobody else may be."""
    log: list[str] = []
    base: Any = AsyncWebsocketConsumer if kind == "async" else WebsocketConsumer

    def note(*args: Any) -> Any:
        log.append("the end")
        return checkpoint() if kind == "async" else None

    class Mixin:
        def disconnect(self, code: int) -> Any:
            return note()

    class Own(*((Mixin, base) if way == "base" else (base,))):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            if way == "instance":
                self.disconnect = note

    if way == "class":
        monkeypatch.setattr(base, "disconnect", note)
    elif way == "handler":
        monkeypatch.setattr(Own, "websocket_disconnect", note, raising=False)
    elif way == "dispatch":
        old = Own.dispatch

        def dispatch(self: Any, message: Message) -> Any:
            if message["type"] == "websocket.disconnect":
                log.append("the end")
            return old(self, message)

        monkeypatch.setattr(Own, "dispatch", dispatch)
    with anyio.fail_after(20):
        await Wire(CONNECT, left()).run(Own())
    assert log == ["the end"]
    assert_nothing_left(layer)
