"""The direct lane: what is only passed on is sent at once, and nobody can tell but by the clock.

How a connection notices nothing of it, whatever its handlers do, is in test_direct_model.py.
"""

import json
import logging
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import wraps
from typing import Any, ClassVar

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest
from anyio.lowlevel import checkpoint

from asgi_notify import (
    AsyncWebsocketConsumer,
    History,
    InMemoryChannelLayer,
    Message,
    NotificationConsumer,
    Sent,
    WebsocketConsumer,
    async_to_sync,
)
from asgi_notify.consumers import direct
from asgi_notify.consumers.passing import Render
from asgi_notify.protocol import PROTOCOL
from asgi_notify.types import ASGIApp, Event, Receive, Scope, Send
from tests.consumers.harness import CONNECT, DirectWire, assert_nothing_left, left, text

pytestmark = pytest.mark.anyio

WAYS = {"steps": "1", "plain": "0"}


@pytest.fixture(params=WAYS)
def anyio_backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each way to wake an idle consumer that there is in an event loop of asyncio's."""
    monkeypatch.setenv("ASGI_NOTIFY_STEPPING", WAYS[request.param])
    monkeypatch.delenv("ASGI_NOTIFY_DIRECT", raising=False)
    return "asyncio"


def as_text(message: Message) -> str:
    return str(message["text"])


class Chat(AsyncWebsocketConsumer):
    groups = ("room",)
    passes_on: ClassVar[Mapping[str, Render]] = {"chat.message": as_text}

    async def chat_other(self, message: Message) -> None:
        await self.send(text_data=f"handled {message['text']}")


class Threaded(WebsocketConsumer):
    groups = ("room",)
    passes_on: ClassVar[Mapping[str, Render]] = {"chat.message": as_text}


class Notified(NotificationConsumer):
    async def connect(self) -> None:
        self.scope["url_route"] = {"args": (), "kwargs": {"room_name": 1}}
        await super().connect()


def chat(content: object, kind: str = "chat.message") -> Message:
    return {"type": kind, "text": content}


def notification(content: object) -> Message:
    return {"type": "send.notification", "data": content}


async def until(condition: Callable[[], object]) -> None:
    with anyio.fail_after(10):
        while not condition():
            await checkpoint()


@asynccontextmanager
async def open_wires(
    layer: InMemoryChannelLayer, app: Any, count: int = 1, protocol: bool = False
) -> AsyncIterator[list[DirectWire]]:
    """Accepted connections of idle consumers."""
    wires = [DirectWire(CONNECT) for _ in range(count)]
    app = app() if isinstance(app, type) else app
    async with anyio.create_task_group() as tasks:
        for wire in wires:
            wire.scope["channel_layer"] = layer
            wire.scope["subprotocols"] = [PROTOCOL] if protocol else []
            tasks.start_soon(wire.run, app)
        await until(lambda: all(wire.sent for wire in wires))
        # Asleep, not just about to look again, as while a thread hands back its handler.
        await until(lambda: all(mailbox._reader for mailbox in layer.hub.attached))
        yield wires
        for wire in wires:
            wire.tell(left())
    assert_nothing_left(layer)


# What goes directly.


@pytest.mark.parametrize("app", [Chat, Threaded])
async def test_what_is_passed_on_is_sent_before_group_send_returns(app: Any) -> None:
    layer = InMemoryChannelLayer()
    async with open_wires(layer, app, 3) as wires:
        assert await layer.group_send("room", chat("hello")) == Sent(3, 0)
        assert [wire.texts for wire in wires] == [["hello"]] * 3
        assert [wire.taken for wire in wires] == [["hello"]] * 3
        await anyio.wait_all_tasks_blocked()
        assert [wire.texts for wire in wires] == [["hello"]] * 3


@pytest.mark.parametrize(
    ("data", "content"), [("hello", "hello"), ({"a": 1}, '{"a": 1}'), ("é" * 5, "é" * 5)]
)
async def test_a_notification_goes_directly_to_a_plain_client(data: object, content: str) -> None:
    layer = InMemoryChannelLayer()
    async with open_wires(layer, Notified, 2) as wires:
        await layer.group_send("user_1", notification(data))
        assert [wire.taken for wire in wires] == [[content]] * 2
        assert wires[0].taken[0] is wires[1].taken[0]  # a server spells its frame once


async def test_a_notification_goes_directly_to_a_client_of_the_protocol() -> None:
    layer = InMemoryChannelLayer()
    async with open_wires(layer, Notified, 2, protocol=True) as wires:
        await layer.group_send("user_1", notification("hello"))
        for wire in wires:
            (frame,) = wire.taken
            assert wire.texts[-1] is frame
            assert json.loads(frame)["data"] == "hello"
        assert wires[0].taken[0] is wires[1].taken[0]


async def test_what_is_sent_to_one_channel_goes_directly() -> None:
    layer = InMemoryChannelLayer()
    async with open_wires(layer, Chat) as (wire,):
        (mailbox,) = layer.hub.attached
        await layer.send(mailbox.channel, chat("hello"))
        assert wire.taken == ["hello"]


async def test_a_text_is_made_once_for_all_members() -> None:
    made: list[Message] = []

    def render(message: Message) -> str:
        made.append(message)
        return as_text(message)

    class Counts(Chat):
        passes_on: ClassVar[Mapping[str, Render]] = {"chat.message": render}

    layer = InMemoryChannelLayer()
    async with open_wires(layer, Counts, 5) as wires:
        wires[0].is_ready = False  # this one's handler asks for it as well
        await layer.group_send("room", chat("hello"))
        await until(lambda: all(wire.texts == ["hello"] for wire in wires))
        assert [len(wire.taken) for wire in wires] == [0, 1, 1, 1, 1]
        assert len(made) == 1


# What does not.


async def test_a_setting_turns_it_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASGI_NOTIFY_DIRECT", "0")
    layer = InMemoryChannelLayer()
    async with open_wires(layer, Chat) as (wire,):
        await layer.group_send("room", chat("hello"))
        await until(lambda: wire.texts)
        assert (wire.texts, wire.taken) == (["hello"], [])


def behind_middleware(app: Any) -> ASGIApp:
    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        async def shout(event: Event) -> None:
            if event["type"] == "websocket.send":
                event = {**event, "text": event["text"].upper()}
            await send(event)

        await app(scope, receive, shout)

    return wrapped


async def test_nothing_goes_past_a_middleware_that_sees_what_is_sent() -> None:
    layer = InMemoryChannelLayer()
    async with open_wires(layer, behind_middleware(Chat())) as (wire,):
        await layer.group_send("room", chat("hello"))
        await until(lambda: wire.texts)
        assert (wire.texts, wire.taken) == (["HELLO"], [])


def _wraps_send(self: Any, send: Send) -> Send:
    async def shout(event: Event) -> None:
        if event["type"] == "websocket.send":
            event = {**event, "text": event["text"].upper()}
        await send(event)

    return shout


async def _sends(self: Any, text_data: str | None = None, **kwargs: Any) -> None:
    assert text_data is not None
    await AsyncWebsocketConsumer.send(self, text_data.upper(), **kwargs)


async def _dispatches(self: Any, message: Message) -> None:
    if message["type"] in ("chat.message", "send.notification"):
        await AsyncWebsocketConsumer.send(self, "HELLO")
    else:
        await AsyncWebsocketConsumer.dispatch(self, message)


async def _handles(self: Any, message: Message) -> None:
    await AsyncWebsocketConsumer.send(self, "HELLO")


def _renders(self: Any, data: str) -> str:
    return data.upper()


def _decorated(method: Any, func: Any) -> Any:
    @wraps(method)
    async def decorated(*args: Any, **kwargs: Any) -> None:
        await func(*args, **kwargs)

    return decorated


@pytest.mark.parametrize(
    ("base", "override"),
    [
        (base, override)
        for base, own in [
            (Chat, {"chat_message": _handles}),
            (Chat, {"chat_message": _decorated(Chat.chat_message, _handles)}),  # type: ignore[attr-defined]
            (Chat, {"send": _decorated(Chat.send, _sends)}),
            (Notified, {"send_notification": _handles}),
            (Notified, {"send_notification": _decorated(Notified.send_notification, _handles)}),
            (Notified, {"render": _renders}),
        ]
        for override in [own, {"wrap_send": _wraps_send}, {"send": _sends},
                         {"dispatch": _dispatches}]
    ],
)  # fmt: skip
async def test_nothing_goes_past_a_method_of_the_class_own(
    base: Any, override: dict[str, Any]
) -> None:
    layer = InMemoryChannelLayer()
    async with open_wires(layer, type("Own", (base,), override)) as (wire,):
        await layer.group_send("room", chat("hello"))
        await layer.group_send("user_1", notification("hello"))
        await until(lambda: wire.texts)
        assert (wire.texts, wire.taken) == (["HELLO"], [])


async def test_a_subclass_of_ones_own_class_that_overrides_nothing_more_stays_off() -> None:
    class Loud(Notified):
        def render(self, data: object) -> str:
            return str(data).upper()

    class More(Loud):
        pass

    layer = InMemoryChannelLayer()
    async with open_wires(layer, More) as (wire,):
        await layer.group_send("user_1", notification("hello"))
        await until(lambda: wire.texts)
        assert (wire.texts, wire.taken) == (["HELLO"], [])


async def test_what_a_client_of_the_protocol_does_not_want_is_left_to_its_handler() -> None:
    layer = InMemoryChannelLayer()
    async with open_wires(layer, Notified, protocol=True) as (wire,):
        wire.tell(text('{"type": "unsubscribe", "group": "user_1"}'))
        await until(lambda: "unsubscribed" in wire.texts[-1])
        await anyio.wait_all_tasks_blocked()
        await layer.group_send("user_1", notification("hello"))  # it is still a member
        await anyio.wait_all_tasks_blocked()
        assert "unsubscribed" in wire.texts[-1]
        assert wire.taken == []


async def test_what_is_no_notification_is_logged_once_for_each_and_passed_over(
    caplog: pytest.LogCaptureFixture,
) -> None:
    layer = InMemoryChannelLayer()
    async with open_wires(layer, Notified, 2) as wires:
        await layer.group_send("user_1", {"type": "send.notification"})
        await layer.group_send("user_1", notification({1, 2}))
        await layer.group_send("user_1", notification("\ud800"))
        await layer.group_send("user_1", notification("good"))
        await until(lambda: all(wire.texts == ["good"] for wire in wires))
    assert len([line for line in caplog.messages if "passed over" in line]) == 6


# Errors.


@pytest.mark.parametrize("base", [AsyncWebsocketConsumer, WebsocketConsumer])
@pytest.mark.parametrize("result", [LookupError("no text"), None, "\ud800"])
async def test_a_function_that_fails_is_a_handler_that_fails(
    base: Any, result: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def render(message: Message) -> Any:
        if message["text"] == "good":
            return "good"
        if isinstance(result, Exception):
            raise result
        return result

    class Fails(base):  # type: ignore[misc]  # one of the two
        groups = ("room",)
        passes_on: ClassVar = {"chat.message": render}

    async def on_send(event: Event) -> None:
        event.get("text", "").encode()  # as servers do

    layer = InMemoryChannelLayer()
    async with open_wires(layer, Fails, 2) as wires:
        for wire in wires:
            wire.on_send = on_send
        await layer.group_send("room", chat("good"))
        assert await layer.group_send("room", chat("bad")) == Sent(2, 0)
        await until(lambda: all(wire.close for wire in wires))
        assert [wire.close["code"] for wire in wires if wire.close] == [1011, 1011]
        assert [wire.texts for wire in wires] == [["good"]] * 2
    failures = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(failures) == 2
    assert all(record.exc_info and "chat.message failed" in record.getMessage()
               for record in failures)  # fmt: skip


# Order, capacity, the end.


async def test_what_comes_behind_a_message_that_is_handled_waits_behind_it() -> None:
    layer = InMemoryChannelLayer()
    async with open_wires(layer, Chat) as (wire,):
        for content in ("1", "2"):
            await layer.group_send("room", chat(content))
        await layer.group_send("room", chat("3", "chat.other"))
        for content in ("4", "5"):
            await layer.group_send("room", chat(content))
        assert wire.taken == ["1", "2"]
        await until(lambda: len(wire.texts) == 5)
        await anyio.wait_all_tasks_blocked()
        assert wire.texts == ["1", "2", "handled 3", "4", "5"]
        await layer.group_send("room", chat("6"))
        assert wire.taken == ["1", "2", "6"]


async def test_what_comes_while_a_handler_runs_waits_for_its_end() -> None:
    gate = anyio.Event()

    class Slow(Chat):
        async def receive(
            self, text_data: str | None = None, bytes_data: bytes | None = None
        ) -> None:
            await gate.wait()
            await self.channel_layer.group_send("room", chat("2"))
            await self.send(text_data="1")

    layer = InMemoryChannelLayer()
    async with open_wires(layer, Slow) as (wire,):
        wire.tell(text("hello"))
        await anyio.wait_all_tasks_blocked()
        await layer.group_send("room", chat("0"))
        assert wire.texts == []
        gate.set()
        await until(lambda: len(wire.texts) == 3)
        assert (wire.texts, wire.taken) == (["1", "0", "2"], [])


async def test_what_comes_behind_a_frame_of_the_client_waits_behind_it() -> None:
    class Answers(Chat):
        async def receive(
            self, text_data: str | None = None, bytes_data: bytes | None = None
        ) -> None:
            await self.send(text_data=f"answer to {text_data}")

    layer = InMemoryChannelLayer()
    async with open_wires(layer, Answers) as (wire,):
        (mailbox,) = layer.hub.attached
        await mailbox.put_event(text("hello"))  # as the reading task does
        await layer.group_send("room", chat("1"))
        await until(lambda: len(wire.texts) == 2)
        assert wire.texts == ["answer to hello", "1"]


async def test_a_client_that_does_not_read_is_sent_all_in_order_once_it_does() -> None:
    gate = anyio.Event()
    layer = InMemoryChannelLayer()
    async with open_wires(layer, Chat, 2) as (slow, quick):
        await layer.group_send("room", chat("0"))

        async def on_send(event: Event) -> None:
            await gate.wait()

        slow.is_ready, slow.on_send = False, on_send
        for number in range(1, 50):
            await layer.group_send("room", chat(number))
            if number % 5 == 0:
                await anyio.wait_all_tasks_blocked()
        assert slow.texts == ["0"]
        assert quick.taken == [str(number) for number in range(50)]
        slow.is_ready = True
        await layer.group_send("room", chat(50))  # waits behind the others, though it could go
        gate.set()
        await until(lambda: len(slow.texts) == 51)
        await anyio.wait_all_tasks_blocked()
        await layer.group_send("room", chat(51))
        assert slow.texts == [str(number) for number in range(52)]
        assert slow.taken == ["0", "51"]


async def test_the_capacity_bounds_what_waits_for_a_client_that_does_not_read() -> None:
    class Drops(Chat):
        overflow = "drop_newest"

    async def never(event: Event) -> None:
        await anyio.sleep_forever()

    layer = InMemoryChannelLayer(capacity=5)
    async with open_wires(layer, Drops) as (wire,):
        wire.is_ready, wire.on_send = False, never
        await layer.group_send("room", chat(0))
        await anyio.wait_all_tasks_blocked()  # its handler waits, and takes no room any more
        outcomes = [await layer.group_send("room", chat(n)) for n in range(1, 9)]
        assert outcomes == [Sent(1, 0)] * 5 + [Sent(0, 1)] * 3
        assert layer.hub.drops == {"full": 3}


async def test_one_that_has_left_is_sent_nothing() -> None:
    layer = InMemoryChannelLayer()
    async with open_wires(layer, Chat, 2) as (one, other):
        one.tell(left())
        await layer.group_send("room", chat("1"))  # before the application knows
        await anyio.wait_all_tasks_blocked()
        assert await layer.group_send("room", chat("2")) == Sent(1, 0)
        assert (one.texts, other.taken) == ([], ["1", "2"])


@pytest.mark.parametrize("end", ["close", "fail", "layer", "order"])
async def test_one_that_is_closed_is_sent_nothing_more(end: str) -> None:
    class Ends(Chat):
        async def chat_end(self, message: Message) -> None:
            if message["text"] == "fail":
                raise LookupError
            await self.close(4000)

    layer = InMemoryChannelLayer()
    async with open_wires(layer, Ends) as (wire,):
        await layer.group_send("room", chat("1"))
        if end == "layer":
            for mailbox in layer.hub.attached:
                mailbox.close(LookupError())  # type: ignore[arg-type]
        elif end == "order":
            await layer.group_send("room", {"type": "connection.close"})
        else:
            await layer.group_send("room", chat(end, "chat.end"))
        await layer.group_send("room", chat("2"))
        await anyio.wait_all_tasks_blocked()
        await layer.group_send("room", chat("3"))
        await anyio.wait_all_tasks_blocked()
        assert wire.close is not None
        assert wire.texts == ["1"]


async def test_a_server_that_would_take_more_after_the_close_is_not_asked() -> None:
    class Forgetful(DirectWire):
        def send_text(self, content: str) -> bool:
            self.taken.append(content)
            return True

    gate = anyio.Event()

    class Waits(Chat):
        async def connect(self) -> None:
            self.start_soon(self.end)
            await self.accept()

        async def end(self) -> None:
            await gate.wait()
            await self.close()
            await self.channel_layer.group_send("room", chat("2"))

    layer = InMemoryChannelLayer()
    wire = Forgetful(CONNECT)
    wire.scope["channel_layer"] = layer
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wire.run, Waits())
        await until(lambda: wire.sent)
        await anyio.wait_all_tasks_blocked()
        await layer.group_send("room", chat("1"))
        gate.set()
    assert wire.taken == ["1"]


async def test_what_is_missed_comes_before_what_is_sent_now() -> None:
    layer = InMemoryChannelLayer(history={"room": History(size=10)})
    async with open_wires(layer, Chat) as (wire,):
        positions = [(await layer.group_send("room", chat(n))).position for n in range(3)]
        (mailbox,) = layer.hub.attached
        await layer.group_discard("room", mailbox.channel)
        await layer.group_send("room", chat(3))
        await layer.group_add("room", mailbox.channel, since=positions[2])
        await layer.group_send("room", chat(4))
        await until(lambda: len(wire.texts) == 5)
        assert wire.texts == ["0", "1", "2", "3", "4"]
        assert wire.taken == ["0", "1", "2"]


# Who sends.


@pytest.mark.parametrize("how", ["thread", "loop"])
async def test_it_is_sent_in_the_loop_of_the_connection_wherever_the_sender_is(how: str) -> None:
    threads: list[int] = []

    class Notes(DirectWire):
        def send_text(self, content: str) -> bool:
            threads.append(threading.get_ident())
            return super().send_text(content)

    layer = InMemoryChannelLayer()
    wire = Notes(CONNECT)
    wire.scope["channel_layer"] = layer

    async def send() -> None:
        await layer.group_send("room", chat("hello"))

    def send_elsewhere() -> None:
        if how == "loop":
            anyio.run(send)
        else:
            async_to_sync(layer.group_send)("room", chat("hello"))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wire.run, Chat())
        await until(lambda: wire.sent)
        await anyio.wait_all_tasks_blocked()
        await anyio.to_thread.run_sync(send_elsewhere)
        assert wire.taken == ["hello"]
        assert threads == [threading.get_ident()]
        wire.tell(left())


async def test_a_large_group_is_not_served_in_one_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direct, "TURN", 20)
    layer = InMemoryChannelLayer()
    async with open_wires(layer, Chat, 50) as wires:
        await layer.group_send("room", chat("1"))
        assert sum(len(wire.taken) for wire in wires) == 20
        await until(lambda: all(wire.texts == ["1"] for wire in wires))
        await layer.group_send("room", chat("2"))
        assert sum(len(wire.taken) for wire in wires) == 40
        await until(lambda: all(wire.texts == ["1", "2"] for wire in wires))


async def test_a_sender_that_never_waits_leaves_the_loop_to_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(direct, "TURN", 20)
    layer = InMemoryChannelLayer(capacity=10)
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await checkpoint()

    async with open_wires(layer, Chat) as (wire,), anyio.create_task_group() as tasks:
        tasks.start_soon(count)
        await checkpoint()
        for number in range(1000):
            await layer.group_send("room", chat(number))
        assert turns > 20
        await until(lambda: len(wire.texts) == 1000)
        assert wire.texts == [str(number) for number in range(1000)]
        assert layer.hub.drops == {}
        tasks.cancel_scope.cancel()


async def test_who_spreads_messages_over_turns_is_never_made_to_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(direct, "TURN", 20)
    layer = InMemoryChannelLayer()
    async with open_wires(layer, Chat, 10) as wires:
        for number in range(20):
            await layer.group_send("room", chat(number))
            await checkpoint()
        assert all(len(wire.taken) == 20 for wire in wires)


def test_other_event_loops_than_asyncios_have_no_lane() -> None:
    async def main() -> None:
        layer = InMemoryChannelLayer()
        async with open_wires(layer, Chat) as (wire,):
            await layer.group_send("room", chat("hello"))
            await until(lambda: wire.texts)
            assert (wire.texts, wire.taken) == (["hello"], [])

    anyio.run(main, backend="trio")
