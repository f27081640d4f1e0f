"""The direct lane of streams: what is only passed on is sent at once, as one event for all."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import wraps
from typing import Any, ClassVar

import anyio
import pytest
from anyio.lowlevel import checkpoint

from asgi_notify import (
    AsyncSseConsumer,
    ConfigurationError,
    History,
    InMemoryChannelLayer,
    Message,
    NotificationHttpConsumer,
    Sent,
    sse,
)
from asgi_notify.consumers.passing import RenderEvent
from asgi_notify.protocol import PROTOCOL
from asgi_notify.types import ASGIApp, Event, Receive, Scope, Send
from tests.consumers.harness import assert_nothing_left
from tests.consumers.streams import LEFT, DirectStream
from tests.eventstream import Dispatched

pytestmark = pytest.mark.anyio

WAYS = {"steps": "1", "plain": "0"}
STREAM = (b"accept", b"text/event-stream")


@pytest.fixture(params=WAYS)
def anyio_backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each way to wake an idle consumer that there is in an event loop of asyncio's."""
    monkeypatch.setenv("ASGI_NOTIFY_STEPPING", WAYS[request.param])
    monkeypatch.delenv("ASGI_NOTIFY_DIRECT", raising=False)
    return "asyncio"


def as_text(message: Message) -> str:
    return str(message["text"])


class News(AsyncSseConsumer):
    groups = ("news",)
    passes_on: ClassVar[Mapping[str, RenderEvent]] = {"news.item": as_text}

    async def news_other(self, message: Message) -> None:
        await self.send_event(f"handled {message['text']}")

    async def news_end(self, message: Message) -> None:
        await self.send_body(b"")


class Notified(NotificationHttpConsumer):
    async def connect(self) -> None:
        self.scope["url_route"] = {"args": (), "kwargs": {"room_name": 1}}
        await super().connect()


def item(content: object, kind: str = "news.item") -> Message:
    return {"type": kind, "text": content}


def notification(content: object) -> Message:
    return {"type": "send.notification", "data": content}


async def until(condition: Callable[[], object]) -> None:
    with anyio.fail_after(10):
        while not condition():
            await checkpoint()


@asynccontextmanager
async def open_streams(
    layer: InMemoryChannelLayer,
    app: Any,
    count: int = 1,
    headers: tuple[tuple[bytes, bytes], ...] = (STREAM,),
    query: str = "",
) -> AsyncIterator[list[DirectStream]]:
    """Streams of idle consumers that have begun."""
    streams = [DirectStream(*headers, query=query) for _ in range(count)]
    app = app() if isinstance(app, type) else app
    async with anyio.create_task_group() as tasks:
        for stream in streams:
            stream.scope["channel_layer"] = layer
            tasks.start_soon(stream.run, app)
        await until(lambda: all(stream.chunks for stream in streams))
        await until(lambda: all(mailbox.is_read for mailbox in layer.hub.attached))
        yield streams
        for stream in streams:
            stream.tell(LEFT)
    assert_nothing_left(layer)


def datas(stream: DirectStream) -> list[str]:
    return [event.data for event in stream.events]


# What goes directly.


async def test_what_is_passed_on_is_sent_before_group_send_returns() -> None:
    layer = InMemoryChannelLayer()
    async with open_streams(layer, News, 3) as streams:
        assert await layer.group_send("news", item("one\ntwo")) == Sent(3, 0)
        for stream in streams:
            assert stream.events == [Dispatched("one\ntwo")]
            assert stream.taken == [b"data: one\ndata: two\n\n"]
            assert stream.taken[0] is streams[0].taken[0]  # a server makes its chunk once
        await anyio.wait_all_tasks_blocked()
        assert [len(stream.events) for stream in streams] == [1, 1, 1]


async def test_a_whole_event_is_passed_on_as_it_is() -> None:
    def as_event(message: Message) -> bytes:
        return sse.event(message["text"], event="news", id="7")

    class Named(News):
        passes_on: ClassVar = {"news.item": as_event}

    layer = InMemoryChannelLayer()
    async with open_streams(layer, Named, 2) as streams:
        streams[0].is_ready = False  # this one's handler sends it
        await layer.group_send("news", item("hello"))
        await until(lambda: all(stream.events for stream in streams))
        for stream in streams:
            assert stream.events == [Dispatched("hello", "news", "7")]
        assert [len(stream.taken) for stream in streams] == [0, 1]


@pytest.mark.parametrize("data", ["hello", {"a": 1}, "one\ntwo"])
async def test_a_notification_goes_directly_with_its_id(data: object) -> None:
    layer = InMemoryChannelLayer(history={"*": History(size=10)})
    async with open_streams(layer, Notified, 2) as streams:
        sent = await layer.group_send("user_1", notification(data))
        text = data if isinstance(data, str) else json.dumps(data)
        for stream in streams:
            assert stream.events == [Dispatched(text, id=str(sent.position))]
            assert len(stream.taken) == 1
            assert stream.taken[0] is streams[0].taken[0]


async def test_a_notification_without_history_has_no_id() -> None:
    layer = InMemoryChannelLayer()
    async with open_streams(layer, Notified) as (stream,):
        await layer.group_send("user_1", notification("hello"))
        assert stream.taken == [b"data: hello\n\n"]


async def test_a_frame_of_the_protocol_goes_directly_with_its_id() -> None:
    layer = InMemoryChannelLayer(history={"*": History(size=10)})
    async with open_streams(layer, Notified, query=f"protocol={PROTOCOL}") as (stream,):
        sent = await layer.group_send("user_1", notification("hello"))
        assert len(stream.taken) == 1
        last = stream.events[-1]
        assert json.loads(last.data)["data"] == "hello"
        assert last.id == json.loads(last.data)["id"] == str(sent.position)


async def test_a_subclass_passes_on_further_types_beside_notifications() -> None:
    class More(Notified):
        passes_on: ClassVar = {"news.item": as_text}

    layer = InMemoryChannelLayer()
    async with open_streams(layer, More) as (stream,):
        await layer.group_send("user_1", notification("a"))
        await layer.group_send("user_1", item("b"))
        assert [len(stream.taken), datas(stream)] == [2, ["a", "b"]]


async def test_an_event_is_made_once_for_all_members() -> None:
    made: list[Message] = []

    def render(message: Message) -> str:
        made.append(message)
        return as_text(message)

    class Counts(News):
        passes_on: ClassVar = {"news.item": render}

    layer = InMemoryChannelLayer()
    async with open_streams(layer, Counts, 5) as streams:
        streams[0].is_ready = False
        await layer.group_send("news", item("hello"))
        await until(lambda: all(datas(stream) == ["hello"] for stream in streams))
        assert len(made) == 1


# What does not.


async def test_a_setting_turns_it_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASGI_NOTIFY_DIRECT", "0")
    layer = InMemoryChannelLayer()
    async with open_streams(layer, News) as (stream,):
        await layer.group_send("news", item("hello"))
        await until(lambda: stream.events)
        assert (datas(stream), stream.taken) == (["hello"], [])


def test_other_event_loops_than_asyncios_have_no_lane() -> None:
    async def main() -> None:
        layer = InMemoryChannelLayer()
        async with open_streams(layer, News) as (stream,):
            await layer.group_send("news", item("hello"))
            await until(lambda: stream.events)
            assert (datas(stream), stream.taken) == (["hello"], [])

    anyio.run(main, backend="trio")


def behind_middleware(app: Any) -> ASGIApp:
    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        await app(scope, receive, shouting(send))

    return wrapped


def shouting(send: Send) -> Send:
    async def shout(event: Event) -> None:
        if "body" in event:
            event = {**event, "body": event["body"].replace(b"hello", b"HELLO")}
        await send(event)

    return shout


async def test_nothing_goes_past_a_middleware_that_sees_what_is_sent() -> None:
    layer = InMemoryChannelLayer()
    async with open_streams(layer, behind_middleware(News())) as (stream,):
        await layer.group_send("news", item("hello"))
        await until(lambda: stream.events)
        assert (datas(stream), stream.taken) == (["HELLO"], [])


async def _handles(self: Any, message: Message) -> None:
    await AsyncSseConsumer.send_event(self, "HELLO")


async def _dispatches(self: Any, message: Message) -> None:
    if message["type"] in ("news.item", "send.notification"):
        await AsyncSseConsumer.send_event(self, "HELLO")
    else:
        await AsyncSseConsumer.dispatch(self, message)


async def _sends_event(self: Any, data: Any, **kwargs: Any) -> None:
    await AsyncSseConsumer.send_event(self, data and data.upper(), **kwargs)


async def _sends_body(self: Any, body: bytes, *, more_body: bool = False) -> None:
    body = body.replace(b"hello", b"HELLO")
    await AsyncSseConsumer.send_body(self, body, more_body=more_body)


def _wraps_send(self: Any, send: Send) -> Send:
    return shouting(AsyncSseConsumer.wrap_send(self, send))


def _wraps_inside(self: Any, send: Send) -> Send:
    return AsyncSseConsumer.wrap_send(self, shouting(send))


def _wraps_alone(self: Any, send: Send) -> Send:
    return shouting(send)


def _decorated(method: Any, func: Any) -> Any:
    @wraps(method)
    async def decorated(*args: Any, **kwargs: Any) -> None:
        await func(*args, **kwargs)

    return decorated


OVERRIDES: list[dict[str, Any]] = [
    {"dispatch": _dispatches},
    {"send_body": _sends_body},
    {"send_event": _sends_event},
    {"send_event": _decorated(News.send_event, _sends_event)},
    {"wrap_send": _wraps_alone},
    {"wrap_send": _wraps_inside},
    {"wrap_send": _wraps_send},
]


@pytest.mark.parametrize(
    ("base", "override"),
    [
        *((News, override) for override in [*OVERRIDES, {"news_item": _handles}]),
        (News, {"news_item": _decorated(News.news_item, _handles)}),  # type: ignore[attr-defined]
        *((Notified, override) for override in [*OVERRIDES, {"send_notification": _handles}]),
        (Notified, {"render": lambda self, data: data.upper()}),
    ],
)
async def test_nothing_goes_past_a_method_of_the_class_own(
    base: Any, override: dict[str, Any]
) -> None:
    layer = InMemoryChannelLayer()
    async with open_streams(layer, type("Own", (base,), override)) as (stream,):
        await layer.group_send("news", item("hello"))
        await layer.group_send("user_1", notification("hello"))
        await until(lambda: stream.events)
        assert (datas(stream), stream.taken) == (["HELLO"], [])


async def test_what_comes_of_another_group_has_no_id_and_is_handled() -> None:
    class More(Notified):
        async def join(self) -> None:
            await super().join()
            await self.channel_layer.group_add("all", self.channel_name)

    layer = InMemoryChannelLayer(history={"*": History(size=10)})
    async with open_streams(layer, More) as (stream,):
        await layer.group_send("all", notification("to all"))
        await until(lambda: stream.events)
        await anyio.wait_all_tasks_blocked()
        sent = await layer.group_send("user_1", notification("to one"))
        assert [event.data for event in stream.events] == ["to all", "to one"]
        assert len(stream.taken) == 1
        assert stream.events[-1].id == str(sent.position)
        assert b"id" not in stream.chunks[-2]


@pytest.mark.parametrize("returned", [LookupError("no text"), None, 7, "\ud800"])
async def test_a_function_that_fails_is_a_handler_that_fails(returned: Any) -> None:
    def render(message: Message) -> Any:
        if message["text"] == "good":
            return "good"
        if isinstance(returned, Exception):
            raise returned
        return returned

    class Fails(News):
        passes_on: ClassVar = {"news.item": render}

    layer = InMemoryChannelLayer()
    async with open_streams(layer, Fails, 2) as streams:
        await layer.group_send("news", item("good"))
        assert await layer.group_send("news", item("bad")) == Sent(2, 0)
        await until(lambda: not layer.hub.attached)
        for stream in streams:
            assert datas(stream) == ["good"]
            assert stream.sent[-1] == {
                "type": "http.response.body", "body": b"", "more_body": False
            }  # fmt: skip


def test_a_function_that_waits_is_refused() -> None:
    async def render(message: Message) -> str:
        return "too late"

    with pytest.raises(ConfigurationError, match=r"News\.passes_on.*is async"):
        type("News", (AsyncSseConsumer,), {"passes_on": {"news.item": render}})


# Order, capacity, gaps, the end.


async def test_what_comes_behind_a_message_that_is_handled_waits_behind_it() -> None:
    layer = InMemoryChannelLayer()
    async with open_streams(layer, News) as (stream,):
        await layer.group_send("news", item("1"))
        await layer.group_send("news", item("2", "news.other"))
        for content in ("3", "4"):
            await layer.group_send("news", item(content))
        assert datas(stream) == ["1"]
        await until(lambda: len(stream.events) == 4)
        await anyio.wait_all_tasks_blocked()
        assert datas(stream) == ["1", "handled 2", "3", "4"]
        await layer.group_send("news", item("5"))
        assert len(stream.taken) == 2


async def test_a_client_that_does_not_read_gets_all_in_order_once_it_does() -> None:
    gate = anyio.Event()

    async def hold(event: Event) -> None:
        await gate.wait()

    layer = InMemoryChannelLayer()
    async with open_streams(layer, News, 2) as (slow, quick):
        slow.is_ready, slow.on_send = False, hold
        for number in range(20):
            await layer.group_send("news", item(number))
            await anyio.wait_all_tasks_blocked()
        assert (slow.events, len(quick.taken)) == ([], 20)
        slow.is_ready = True  # it reads again, and a send of before waits still
        await layer.group_send("news", item(20))
        gate.set()
        await until(lambda: len(slow.events) == 21)
        assert datas(slow) == datas(quick) == [str(number) for number in range(21)]
        await anyio.wait_all_tasks_blocked()
        await layer.group_send("news", item(21))
        assert datas(slow)[-1] == "21"


async def test_what_is_lost_to_a_client_that_does_not_read_is_told_in_its_place() -> None:
    gate = anyio.Event()

    async def hold(event: Event) -> None:
        await gate.wait()

    class Drops(Notified):
        overflow = "drop_oldest"

    layer = InMemoryChannelLayer(capacity=3)
    async with open_streams(layer, Drops) as (stream,):
        await layer.group_send("user_1", notification("taken"))
        stream.is_ready, stream.on_send = False, hold
        for number in range(10):
            await layer.group_send("user_1", notification(str(number)))
            await anyio.wait_all_tasks_blocked()
        gate.set()
        stream.is_ready, stream.on_send = True, None
        await until(lambda: "9" in datas(stream))
        await layer.group_send("user_1", notification("last"))
        named = [(event.event, event.data) for event in stream.events]
        lost = json.dumps({"group": "user_1", "reason": "full", "lost": 6})
        assert named == [
            ("message", "taken"), ("message", "0"), ("gap", lost),
            *(("message", str(number)) for number in (7, 8, 9)), ("message", "last"),
        ]  # fmt: skip


async def test_a_stream_resumes_behind_what_has_gone_directly() -> None:
    layer = InMemoryChannelLayer(history={"*": History(size=10)})
    async with open_streams(layer, Notified) as (stream,):
        for number in range(3):
            await layer.group_send("user_1", notification(str(number)))
        assert len(stream.taken) == 3
        seen = stream.events[1].id
    await layer.group_send("user_1", notification("meanwhile"))
    back = (b"last-event-id", seen.encode())
    async with open_streams(layer, Notified, headers=(STREAM, back)) as (stream,):
        await until(lambda: len(stream.events) == 2)
        await anyio.wait_all_tasks_blocked()
        await layer.group_send("user_1", notification("live"))
        assert datas(stream) == ["2", "meanwhile", "live"]
        assert len(stream.taken) == 1


async def test_nothing_follows_the_end_of_a_stream() -> None:
    layer = InMemoryChannelLayer()
    async with open_streams(layer, News) as (stream,):
        await layer.group_send("news", item("1"))
        await layer.group_send("news", item("", "news.end"))
        await layer.group_send("news", item("2"))
        await until(lambda: not layer.hub.attached)
        assert datas(stream) == ["1"]
        assert stream.sent[-1]["more_body"] is False


async def test_a_stream_ends_behind_what_has_gone_directly_when_the_layer_closes() -> None:
    layer = InMemoryChannelLayer()
    async with open_streams(layer, Notified, query=f"protocol={PROTOCOL}") as (stream,):
        await layer.group_send("user_1", notification("hello"))
        await layer.close()
        await until(lambda: not stream.sent[-1].get("more_body"))
        kinds = [json.loads(event.data)["type"] for event in stream.events]
        assert kinds == ["welcome", "subscribed", "notification", "going_away"]


async def test_a_client_that_leaves_is_sent_nothing_more() -> None:
    layer = InMemoryChannelLayer()
    async with open_streams(layer, News) as (stream,):
        await layer.group_send("news", item("1"))
        stream.tell(LEFT)
        await until(lambda: not layer.hub.attached)
        await layer.group_send("news", item("2"))
        assert datas(stream) == ["1"]


async def test_a_poll_is_answered_as_ever() -> None:
    layer = InMemoryChannelLayer(history={"*": History(size=10)})
    stream = DirectStream()
    stream.scope["channel_layer"] = layer
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stream.run, Notified())
        await until(lambda: list(layer.hub.members("user_1")))
        await anyio.wait_all_tasks_blocked()
        await layer.group_send("user_1", notification("hello"))
        await until(lambda: stream.chunks)
        assert json.loads(stream.chunks[0])["notifications"] == ["hello"]
        assert stream.taken == []


# Comments.


class TurnedLoop(asyncio.SelectorEventLoop):
    """A loop whose clock a test turns."""

    ahead = 0.0

    def time(self) -> float:
        return super().time() + self.ahead


def test_what_goes_directly_puts_the_comment_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ASGI_NOTIFY_DIRECT", raising=False)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, TurnedLoop)
        layer = InMemoryChannelLayer()
        async with open_streams(layer, News) as (stream,):
            before = len(stream.chunks)
            for number in range(4):  # 40 seconds, 10 of which are silent at a time
                loop.ahead += 10
                await asyncio.sleep(0.01)
                await layer.group_send("news", item(number))
            assert len(stream.taken) == len(stream.chunks) - before == 4
            loop.ahead += 15
            await until(lambda: stream.chunks[-1] == b":\n\n")
            assert len(stream.chunks) - before == 5

    with asyncio.Runner(loop_factory=TurnedLoop) as runner:
        runner.run(main())


async def test_an_event_does_not_overtake_a_comment_that_waits() -> None:
    gate = anyio.Event()

    async def hold(event: Event) -> None:
        await gate.wait()

    class Quick(News):
        keep_alive = 0.01

    layer = InMemoryChannelLayer()
    async with open_streams(layer, Quick) as (stream,):
        stream.on_send = hold
        await until(lambda: stream._sending)
        before = len(stream.chunks)
        await layer.group_send("news", item("hello"))
        await anyio.wait_all_tasks_blocked()
        assert len(stream.chunks) == before
        gate.set()
        await until(lambda: stream.events)
        assert stream.chunks[before] == b":\n\n"
