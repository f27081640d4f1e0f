"""A connection ends when its login does, and brings nothing from that moment on."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import anyio
import pytest

from asgi_notify import (
    AsyncWebsocketConsumer,
    InMemoryChannelLayer,
    Message,
    NotificationConsumer,
    NotificationHttpConsumer,
    URLRouter,
    WebsocketConsumer,
    path,
)
from asgi_notify.auth import Identity
from asgi_notify.consumers.expiries import LONGEST, SLACK, Expiries, expiries_of
from asgi_notify.consumers.passing import Render
from asgi_notify.middleware import Authentication
from asgi_notify.protocol import PROTOCOL
from tests.consumers.conftest import layer as layer
from tests.consumers.harness import CONNECT, DirectWire, Wire, assert_nothing_left, left
from tests.consumers.streams import LEFT, Stream, until

from .tools import NOW, Clock, LoggedIn, closed, credential, verify

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("layer")]

WAYS = {"steps": ("asyncio", "1"), "plain": ("asyncio", "0"), "trio": ("trio", "1")}
FAR = LONGEST * 10  # seconds; no alarm rings while a test runs
SOON = 0.02


@pytest.fixture(params=WAYS)
def anyio_backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each way to wake an idle consumer that there is."""
    backend, stepping = WAYS[request.param]
    monkeypatch.setenv("ASGI_NOTIFY_STEPPING", stepping)
    monkeypatch.delenv("ASGI_NOTIFY_DIRECT", raising=False)
    return backend


@pytest.fixture
def clock() -> Clock:
    return Clock()


class Handling(AsyncWebsocketConsumer):
    groups = ("user_7",)

    async def send_notification(self, message: Message) -> None:
        await self.send(text_data=message["data"])


class Passing(AsyncWebsocketConsumer):
    groups = ("user_7",)
    passes_on: ClassVar[Mapping[str, Render]] = {"send.notification": lambda m: str(m["data"])}


class Threaded(WebsocketConsumer):
    groups = ("user_7",)

    def send_notification(self, message: Message) -> None:
        self.send(text_data=message["data"])


class ThreadedPassing(WebsocketConsumer):
    groups = ("user_7",)
    passes_on: ClassVar[Mapping[str, Render]] = {"send.notification": lambda m: str(m["data"])}


ROOM = "notifications/<int:room_name>/"
notified = URLRouter(
    [path(ROOM, NotificationConsumer), path("notifications/", NotificationConsumer)]
)
over_http = URLRouter([path(ROOM, NotificationHttpConsumer)])

SOCKETS = {
    "handler": Handling,
    "passes_on": Passing,
    "thread": Threaded,
    "thread, passes_on": ThreadedPassing,
    "notifications": notified,
    "protocol": notified,
}


@pytest.fixture(params=SOCKETS)
def socket(request: pytest.FixtureRequest) -> tuple[Any, bool]:
    return SOCKETS[request.param], request.param == "protocol"


def wire_of(speaks_protocol: bool = False, is_direct: bool = False) -> Wire:
    kind = DirectWire if is_direct else Wire
    wire = kind(CONNECT, path="/notifications/7/")
    wire.scope["subprotocols"] = [PROTOCOL] if speaks_protocol else []
    return wire


@asynccontextmanager
async def running(app: Any, wire: Wire) -> AsyncIterator[None]:
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wire.run, app)
            yield
            wire.tell(LEFT if wire.scope["type"] == "http" else left())


def brought(wire: Wire) -> list[object]:
    """The data of all notifications that the client has got."""
    found: list[object] = []
    for content in wire.texts:
        if not content.startswith("{"):
            found.append(content)
        elif json.loads(content)["type"] == "notification":
            found.append(json.loads(content)["data"])
    return found


async def notify(layer: InMemoryChannelLayer, data: object) -> None:
    await layer.group_send("user_7", {"type": "send.notification", "data": data})


@pytest.mark.parametrize("is_direct", [False, True], ids=["plain send", "direct lane"])
async def test_no_message_comes_after_the_end_of_the_login_and_the_socket_is_closed(
    socket: tuple[Any, bool], is_direct: bool, clock: Clock, layer: InMemoryChannelLayer
) -> None:
    app, speaks_protocol = socket
    wire = wire_of(speaks_protocol, is_direct)
    app = LoggedIn(app, clock, Identity("7", expires_at=NOW + FAR))
    async with running(app, wire):
        await until(lambda: "user_7" in layer.hub._groups)
        await until(lambda: any(event["type"] == "websocket.accept" for event in wire.sent))
        await anyio.wait_all_tasks_blocked()
        clock.move(FAR - 0.001)
        await notify(layer, "in time")
        await until(lambda: brought(wire) == ["in time"])
        clock.move(0.001)
        await notify(layer, "late")
        await until(lambda: wire.close is not None)
    assert closed(wire) == (4401, "the credential has expired; come back with a fresh one")
    assert brought(wire) == ["in time"]
    assert_nothing_left(layer, "user_7")


async def test_the_direct_lane_is_open_behind_authentication_until_the_end(
    clock: Clock, layer: InMemoryChannelLayer, anyio_backend: str
) -> None:
    wire = DirectWire(CONNECT)
    shown = credential("7", expires_at=NOW + FAR).encode()
    wire.scope["headers"] = [(b"authorization", b"Bearer " + shown)]
    async with running(Authentication(Passing, verify, clock=clock), wire):
        await until(lambda: any(event["type"] == "websocket.accept" for event in wire.sent))
        await anyio.wait_all_tasks_blocked()
        await notify(layer, "in time")
        await until(lambda: wire.texts == ["in time"])
        assert wire.taken == (["in time"] if anyio_backend == "asyncio" else [])
        clock.move(FAR)
        await notify(layer, "late")
        await until(lambda: wire.close is not None)
    assert wire.texts == ["in time"]


async def test_what_a_task_of_the_consumer_sends_late_does_not_go_out(
    clock: Clock, layer: InMemoryChannelLayer
) -> None:
    moved = anyio.Event()

    class Ticking(AsyncWebsocketConsumer):
        async def connect(self) -> None:
            await self.accept()
            self.start_soon(self.tick)

        async def tick(self) -> None:
            await self.send(text_data="in time")
            await moved.wait()
            await self.send(text_data="late")

    wire = wire_of()
    async with running(LoggedIn(Ticking, clock, Identity("7", expires_at=NOW + FAR)), wire):
        await until(lambda: wire.texts == ["in time"])
        clock.move(FAR)
        moved.set()
        await until(lambda: wire.close is not None)
    assert wire.texts == ["in time"]
    assert wire.close is not None
    assert wire.close["code"] == 4401


async def test_a_socket_is_closed_in_time_though_nothing_happens(
    socket: tuple[Any, bool], clock: Clock, layer: InMemoryChannelLayer
) -> None:
    app, speaks_protocol = socket
    wire = wire_of(speaks_protocol)
    async with running(LoggedIn(app, clock, Identity("7", expires_at=NOW + SOON)), wire):
        await until(lambda: any(event["type"] == "websocket.accept" for event in wire.sent))
        await anyio.sleep(
            3 * SOON
        )  # the clock of logins stands still, so the alarm rings too early
        assert wire.close is None
        clock.move(SOON)
        await until(lambda: wire.close is not None)
    assert closed(wire) == (4401, "the credential has expired; come back with a fresh one")
    assert len(expiries_of(clock)) == 0


async def test_a_login_that_is_over_before_the_connection_begins_is_refused(
    socket: tuple[Any, bool], clock: Clock
) -> None:
    wire = wire_of(socket[1])
    wire.scope["extensions"] = {"websocket.http.response": {}}
    async with running(LoggedIn(socket[0], clock, Identity("7", expires_at=NOW)), wire):
        await until(lambda: bool(wire.sent))
    assert wire.sent[0]["status"] == 401


async def test_a_connection_that_ends_first_leaves_no_timer(clock: Clock) -> None:
    wire = wire_of()
    async with running(LoggedIn(Handling, clock, Identity("7", expires_at=NOW + FAR)), wire):
        await until(lambda: bool(wire.sent))
        assert len(expiries_of(clock)) == 1
    assert len(expiries_of(clock)) == 0


async def test_a_login_without_an_end_has_no_timer(
    clock: Clock, layer: InMemoryChannelLayer
) -> None:
    wire = wire_of(is_direct=True)
    async with running(LoggedIn(Passing, clock, Identity("7")), wire):
        await until(lambda: bool(wire.sent))
        assert len(expiries_of(clock)) == 0
        clock.move(1e9)
        await notify(layer, "hello")
        await until(lambda: wire.texts == ["hello"])


# Renewed by the application, as any consumer can.


async def test_a_renewed_login_goes_on(clock: Clock, layer: InMemoryChannelLayer) -> None:
    wire = wire_of(is_direct=True)
    app = LoggedIn(Passing, clock, Identity("ann", expires_at=NOW + FAR))
    async with running(app, wire):
        await until(lambda: bool(wire.sent))
        clock.move(FAR - 1)
        await app.sessions[0].authenticate(credential(expires_at=clock() + FAR))
        clock.move(FAR - 1)
        await notify(layer, "hello")
        await until(lambda: wire.texts == ["hello"])
        await app.sessions[0].authenticate(credential(expires_at=clock() + SOON))
        clock.move(SOON)
        await until(lambda: wire.close is not None)


async def test_a_login_that_gets_an_end_while_it_lasts_has_one(
    clock: Clock, layer: InMemoryChannelLayer
) -> None:
    wire = wire_of(is_direct=True)
    app = LoggedIn(Passing, clock, Identity("ann"))
    async with running(app, wire):
        await until(lambda: bool(wire.sent))
        await app.sessions[0].authenticate(credential(expires_at=clock() + FAR))
        await notify(layer, "in time")
        await until(lambda: wire.texts == ["in time"])
        clock.move(FAR)
        await notify(layer, "late")
        await until(lambda: wire.close is not None)
    assert wire.texts == ["in time"]


# Over HTTP.


async def test_a_stream_brings_nothing_late_and_ends(
    clock: Clock, layer: InMemoryChannelLayer
) -> None:
    wire = Stream((b"accept", b"text/event-stream"), path="/notifications/7/")
    async with running(LoggedIn(over_http, clock, Identity("7", expires_at=NOW + FAR)), wire):
        await until(lambda: bool(wire.chunks))
        await notify(layer, "in time")
        await until(lambda: [event.data for event in wire.events] == ["in time"])
        clock.move(FAR)
        await notify(layer, "late")
        await until(lambda: not wire.sent[-1].get("more_body", True))
    assert [event.data for event in wire.events] == ["in time"]
    assert_nothing_left(layer, "user_7")


async def test_a_stream_ends_in_time_though_nothing_happens(clock: Clock) -> None:
    wire = Stream((b"accept", b"text/event-stream"), path="/notifications/7/")
    async with running(LoggedIn(over_http, clock, Identity("7", expires_at=NOW + SOON)), wire):
        await until(lambda: bool(wire.chunks))
        clock.move(SOON)
        await until(lambda: not wire.sent[-1].get("more_body", True))


@pytest.mark.parametrize("is_noticed_by", ["a message", "the alarm"])
async def test_a_poll_that_waits_is_answered_401(
    is_noticed_by: str, clock: Clock, layer: InMemoryChannelLayer
) -> None:
    lasts = SOON if is_noticed_by == "the alarm" else FAR
    wire = Stream(path="/notifications/7/")
    async with running(LoggedIn(over_http, clock, Identity("7", expires_at=NOW + lasts)), wire):
        await until(lambda: layer.hub.has_members("user_7"))
        await anyio.wait_all_tasks_blocked()
        clock.move(lasts)
        if is_noticed_by == "a message":
            await notify(layer, "late")
        await until(lambda: bool(wire.chunks))
    assert wire.sent[0]["status"] == 401
    assert (b"www-authenticate", b"Bearer") in wire.sent[0]["headers"]
    assert b"late" not in b"".join(wire.chunks)


# The row.


class One:
    def __init__(self, ended: list["One"]) -> None:
        self._ended = ended

    def expire(self) -> None:
        self._ended.append(self)


async def test_the_row_ends_each_in_its_time_and_holds_nothing_that_has_left() -> None:
    clock, ended = Clock(), list[One]()
    row = Expiries(clock)
    early, late, gone = One(ended), One(ended), One(ended)
    row.watch(late, NOW + 2 * SOON)
    row.watch(gone, NOW + SOON)
    row.watch(early, NOW + SOON)
    row.forget(gone)
    clock.move(SOON)
    await until(lambda: ended == [early])
    row.watch(late, NOW + 4 * SOON)
    clock.move(SOON)
    await anyio.sleep(2 * SOON)
    assert ended == [early]
    clock.move(2 * SOON)
    await until(lambda: ended == [early, late])
    many = [One(ended) for _ in range(10 * SLACK)]
    for one in many:
        row.watch(one, NOW + FAR)
    for one in many:
        row.watch(one, NOW + FAR + 1)
        row.forget(one)
    assert (len(row), len(row._row)) == (0, 0)
