"""Observers see each connection begin and end, and each event of a client, on every transport."""

from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from asgi_notify import (
    AsyncHttpConsumer,
    AsyncSseConsumer,
    AsyncWebsocketConsumer,
    ClientError,
    ConfigurationError,
    Connection,
    Event,
    EventRouter,
    HttpConsumer,
    InMemoryChannelLayer,
    Message,
    NotificationConsumer,
    NotificationHttpConsumer,
    Observed,
    Observer,
    StopConsumer,
    URLRouter,
    WebsocketConsumer,
    path,
    route,
)
from asgi_notify.types import ASGIApp
from tests.consumers.harness import CONNECT, Wire, assert_nothing_left, left, text

pytestmark = pytest.mark.anyio

WAYS = {"steps": ("asyncio", "1"), "plain": ("asyncio", "0"), "trio": ("trio", "1")}

REQUEST: Event = {"type": "http.request", "body": b"", "more_body": False}
HTTP_LEFT: Event = {"type": "http.disconnect"}


@pytest.fixture(params=WAYS)
def anyio_backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    backend, stepping = WAYS[request.param]
    monkeypatch.setenv("ASGI_NOTIFY_STEPPING", stepping)
    return backend


class Journal(Observer):
    """Writes down what it sees, and raises where it is told to."""

    def __init__(self, **errors: Exception) -> None:
        self.lines: list[str] = []
        self.there: list[Connection] = []
        self.errors = errors

    def opened(self, connection: Connection) -> None:
        self._note("opened")
        self.there.append(connection)

    def received(self, connection: Connection, event: Event) -> None:
        assert connection in self.there
        self._note(event["type"])

    def closed(self, connection: Connection) -> None:
        self.there.remove(connection)
        self._note("closed")

    def _note(self, line: str) -> None:
        self.lines.append(line)
        if line in self.errors:
            raise self.errors[line]


class Echo(AsyncWebsocketConsumer):
    """Sends back what it gets."""

    groups = ("all",)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        await self.send(text_data=text_data)

    async def note(self, message: Message) -> None:
        await self.send(text_data="note")


class SyncEcho(WebsocketConsumer):
    """The same, in threads."""

    groups = ("all",)

    def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        self.send(text_data=text_data)

    def note(self, message: Message) -> None:
        self.send(text_data="note")


async def accept(message: Any) -> None:
    await message.reply({"type": "websocket.accept"})


async def echo_receive(message: Any) -> None:
    await message.reply({"type": "websocket.send", "text": message["text"]})


class Answer(AsyncHttpConsumer):
    """Answers at once."""

    async def handle(self, body: bytes) -> None:
        await self.send_response(200, b"yes")


class SyncAnswer(HttpConsumer):
    """The same, in a thread."""

    def handle(self, body: bytes) -> None:
        self.send_response(200, b"yes")


class Stream(AsyncSseConsumer):
    """Brings one event."""

    async def connect(self) -> None:
        await self.send_event("yes")


async def until(condition: Any) -> None:
    with anyio.fail_after(20):
        while not condition():
            await checkpoint()


@pytest.mark.parametrize("consumer", [Echo, SyncEcho])
async def test_a_socket_is_seen_from_its_beginning_to_its_end(
    layer: InMemoryChannelLayer, consumer: type[Any]
) -> None:
    journal = Journal()
    wire = Wire(CONNECT, text("hello"))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wire.run, Observed(consumer, [journal]))
        await until(lambda: wire.texts)
        (connection,) = journal.there
        assert connection.scope["path"] == wire.scope["path"]
        assert connection.groups == {"all"}
        assert connection.is_answered
        await layer.send(connection.channel, {"type": "note"})  # which is no event of the client's
        await until(lambda: wire.texts == ["hello", "note"])
        wire.tell(left(1001))
    assert journal.lines == [
        "opened", "websocket.connect", "websocket.receive", "websocket.disconnect", "closed",
    ]  # fmt: skip
    assert connection.end["code"] == 1001
    assert connection.is_closed
    assert "observers" not in wire.scope
    assert_nothing_left(layer, "all")


ROOM = "notifications/<int:room_name>/"


@pytest.mark.parametrize(
    ("app", "accept", "query"),
    [
        (Answer, "*/*", b""),
        (SyncAnswer, "*/*", b""),
        (Stream, "text/event-stream", b""),
        (NotificationHttpConsumer, "text/event-stream", b""),
        (NotificationHttpConsumer, "*/*", b"timeout=0"),
    ],
    ids=["async", "sync", "stream", "notifications", "poll"],
)
async def test_a_request_is_seen_from_its_beginning_to_its_end(
    layer: InMemoryChannelLayer, app: type[Any], accept: str, query: bytes
) -> None:
    journal = Journal()
    wire = Wire(REQUEST, kind="http", path="/notifications/7/")
    wire.scope.update(headers=[(b"accept", accept.encode())], query_string=query)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wire.run, Observed(URLRouter([path(ROOM, app)]), [journal]))
        await until(lambda: len(wire.sent) >= 2)
        wire.tell(HTTP_LEFT)
    assert [line for line in journal.lines if line != "http.disconnect"] == [
        "opened", "http.request", "closed",
    ]  # fmt: skip
    assert wire.sent[0]["status"] == 200
    assert_nothing_left(layer, "user_7")


async def test_the_connections_of_an_event_router_are_seen(layer: InMemoryChannelLayer) -> None:
    journal = Journal()
    routes = [route("websocket.connect", accept), route("websocket.receive", echo_receive)]
    wire = Wire(CONNECT, text("hello"), left())
    with anyio.fail_after(20):
        await wire.run(Observed(EventRouter(routes), [journal]))
    assert journal.lines[0] == "opened"
    assert journal.lines[-2:] == ["websocket.disconnect", "closed"]


@pytest.mark.parametrize("consumer", [Echo, SyncEcho])
@pytest.mark.parametrize(
    ("error", "code"),
    [(ClientError("too many"), 4400), (KeyError("a bug"), 1011), (StopConsumer(), 1000)],
)
async def test_an_observer_ends_a_connection_for_what_its_client_sends(
    layer: InMemoryChannelLayer, consumer: type[Any], error: Exception, code: int
) -> None:
    journal = Journal(**{"websocket.receive": error})
    wire = Wire(CONNECT)
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wire.run, Observed(consumer, [journal]))
            await until(lambda: wire.sent)
            wire.tell(text("hello"))
            await until(lambda: wire.close is not None)
    assert wire.close is not None
    assert wire.close["code"] == code
    assert wire.texts == []
    assert journal.lines[-1] == "closed"
    assert_nothing_left(layer, "all")


@pytest.mark.parametrize("moment", ["opened", "websocket.connect"])
@pytest.mark.parametrize(
    ("error", "code"), [(ClientError("too many"), 4400), (KeyError("a bug"), 1011)]
)
async def test_an_observer_refuses_a_socket(
    layer: InMemoryChannelLayer, moment: str, error: Exception, code: int
) -> None:
    journal, outer = Journal(**{moment: error}), Journal()
    wire = Wire(CONNECT)
    with anyio.fail_after(20):
        await wire.run(Observed(Observed(Echo, [journal]), [outer]))
    (closing,) = wire.sent
    assert (closing["type"], closing["code"]) == ("websocket.close", code)
    # One that let the connection in is told of its end; one that did not has seen none.
    assert outer.lines[-1] == "closed"
    assert (journal.lines[-1] == "closed") is (moment != "opened")
    assert_nothing_left(layer, "all")


@pytest.mark.parametrize("moment", ["opened", "http.request"])
@pytest.mark.parametrize("app", [Answer, SyncAnswer, Stream])
async def test_an_observer_refuses_a_request(
    layer: InMemoryChannelLayer, moment: str, app: type[Any]
) -> None:
    journal = Journal(**{moment: ClientError("too many")})
    wire = Wire(REQUEST, kind="http")
    with anyio.fail_after(20):
        await wire.run(Observed(app, [journal]))
    assert [event.get("status") for event in wire.sent] == [400, None]
    assert_nothing_left(layer)


async def test_an_observer_that_refuses_a_protocol_of_ones_own_tells_who_runs_it(
    layer: InMemoryChannelLayer,
) -> None:
    journal = Journal(opened=ClientError("too many"))
    with pytest.raises(ClientError, match="too many"):
        await Wire({"type": "line.connect"}, kind="line").run(Observed(Echo, [journal]))
    assert_nothing_left(layer)


async def test_an_observer_closes_a_connection_whose_handler_hangs(
    layer: InMemoryChannelLayer,
) -> None:
    class Hangs(Echo):
        async def receive(
            self, text_data: str | None = None, bytes_data: bytes | None = None
        ) -> None:
            await anyio.sleep_forever()

    journal = Journal()
    wire = Wire(CONNECT, text("hello"))
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wire.run, Observed(Hangs, [journal]))
            await until(lambda: "websocket.receive" in journal.lines)
            journal.there[0].close(ClientError("by hand"))
    assert wire.close == {"type": "websocket.close", "code": 4400, "reason": "by hand"}
    assert_nothing_left(layer, "all")


async def test_a_cancelled_connection_is_seen_to_end(layer: InMemoryChannelLayer) -> None:
    journal = Journal()
    wire = Wire(CONNECT)
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wire.run, Observed(Echo, [journal]))
            await until(lambda: wire.sent)
            tasks.cancel_scope.cancel()
    assert journal.lines == ["opened", "websocket.connect", "closed"]


@pytest.mark.parametrize("moment", ["websocket.disconnect", "closed"])
async def test_what_fails_at_the_end_is_logged_and_costs_nothing(
    layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture, moment: str
) -> None:
    ended: list[int] = []

    class Ends(Echo):
        async def disconnect(self, code: int) -> None:
            ended.append(code)

    journal, outer = Journal(**{moment: KeyError("a bug")}), Journal()
    with anyio.fail_after(20):
        await Wire(CONNECT, left(1001)).run(Observed(Ends, [outer, journal]))
    assert ended == [1001]
    assert outer.lines[-1] == "closed"
    (record,) = [record for record in caplog.records if record.exc_info]
    name = "closed" if moment == "closed" else "received"
    assert record.getMessage().endswith(f"Journal.{name}() failed")
    assert_nothing_left(layer, "all")


async def test_outer_observers_come_first_and_leave_last(layer: InMemoryChannelLayer) -> None:
    lines: list[str] = []

    class Named(Observer):
        def __init__(self, name: str) -> None:
            self.name = name

        def opened(self, connection: Connection) -> None:
            lines.append(f"{self.name} opened")

        def closed(self, connection: Connection) -> None:
            lines.append(f"{self.name} closed")

    inner = Observed(Echo, [Named("third")])
    with anyio.fail_after(20):
        await Wire(CONNECT, left()).run(Observed(inner, [Named("first"), Named("second")]))
    assert lines == [
        "first opened", "second opened", "third opened",
        "third closed", "second closed", "first closed",
    ]  # fmt: skip


async def test_a_scope_that_is_no_connection_is_passed_on_as_it_is() -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope)

    scope = {"type": "lifespan"}
    observed: ASGIApp = Observed(app, [Observer()])
    await observed(scope, Wire().receive, Wire().send)
    assert seen[0] is scope


@pytest.mark.parametrize("wrong", [Observer(), [Observer], [None], 7])
def test_what_is_no_list_of_observers_is_refused(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match="must be a list"):
        Observed(Echo, wrong)


async def test_a_notification_socket_is_seen(layer: InMemoryChannelLayer) -> None:
    journal = Journal()
    wire = Wire(CONNECT, text("ping"), left(), path="/notifications/7/")
    with anyio.fail_after(20):
        await wire.run(Observed(URLRouter([path(ROOM, NotificationConsumer)]), [journal]))
    assert journal.lines.count("websocket.receive") == 1
    assert journal.lines[-1] == "closed"
