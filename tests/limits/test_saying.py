"""What a client may say, and how fast: warned first, and then closed; with each consumer."""

import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import anyio
import pytest

from asgi_notify import (
    AsyncWebsocketConsumer,
    Authentication,
    History,
    InMemoryChannelLayer,
    Limited,
    NotificationConsumer,
    NotificationHttpConsumer,
    ProtocolTypeRouter,
    URLRouter,
    WebsocketConsumer,
    channel_layers,
    path,
)
from asgi_notify.auth import Identity, SignedTokens
from asgi_notify.layers.mailbox import READ_AHEAD
from tests.consumers.harness import Wire, left, text
from tests.frames import check
from tests.limits.harness import ANYBODY, NONE, Clock, request, socket, status, until

pytestmark = pytest.mark.anyio

WAYS = {"steps": ("asyncio", "1"), "plain": ("asyncio", "0"), "trio": ("trio", "1")}
PROTOCOL = "asgi-notify.v1"
SIZE = 5


@pytest.fixture(params=WAYS)
def anyio_backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    backend, stepping = WAYS[request.param]
    monkeypatch.setenv("ASGI_NOTIFY_STEPPING", stepping)
    return backend


@pytest.fixture(autouse=True)
def layer() -> Iterator[InMemoryChannelLayer]:
    layer = InMemoryChannelLayer(history={"user_*": History(size=SIZE)})
    old = channel_layers.set("default", layer)
    yield layer
    channel_layers.set("default", old)


class Hears(AsyncWebsocketConsumer):
    """Notes what it hears."""

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        await self.send(text_data=str(len(text_data or bytes_data or "")))


class SyncHears(WebsocketConsumer):
    """The same, in threads."""

    def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        self.send(text_data=str(len(text_data or bytes_data or "")))


class Busy(AsyncWebsocketConsumer):
    """Handles one message for ever."""

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        await anyio.sleep_forever()


notifications = ProtocolTypeRouter(
    {
        "websocket": URLRouter(
            [
                path("notifications/<int:room_name>/", NotificationConsumer),
                path("notifications/", NotificationConsumer),
            ]
        ),
        "http": URLRouter([path("notifications/<int:room_name>/", NotificationHttpConsumer)]),
    }
)


def client(*frames: dict[str, Any], where: str = "", **more: Any) -> Wire:
    """A client of the protocol."""
    events = [text(json.dumps(frame)) for frame in frames]
    wire = socket(*events, path=f"/notifications/{where}", **more)
    wire.scope["subprotocols"] = [PROTOCOL]
    return wire


def said(wire: Wire) -> list[dict[str, Any]]:
    return [check(frame) for frame in wire.texts]


def of_type(wire: Wire, kind: str) -> list[dict[str, Any]]:
    return [frame for frame in said(wire) if frame["type"] == kind]


PING = {"type": "ping"}


async def flood(wire: Wire, app: Any, *events: Any) -> None:
    """Send all of this once the client is accepted, and wait for the end of the connection."""
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wire.run, app)
            await until(lambda: wire.sent)
            wire.tell(*events)


# Messages and bytes.


@pytest.mark.parametrize("consumer", [Hears, SyncHears])
@pytest.mark.parametrize("kind", ["frames", "bytes"])
async def test_who_says_too_much_is_closed_with_4429(consumer: Any, kind: str) -> None:
    limits: dict[str, Any] = (
        {"frames_per_second": 2.0} if kind == "frames" else {"bytes_per_second": 20.0}
    )
    app = Limited(consumer, replace(NONE, burst=3.0, **limits), clock=Clock())
    wire = socket()
    await flood(wire, app, *[text("1234567890")] * 100)
    assert wire.close is not None
    assert wire.close["code"] == 4429
    assert wire.close["reason"].endswith("came too fast")
    assert len(wire.texts) <= 12  # the burst, and as much again; one that was warned goes on so far
    assert wire.received <= 14 + READ_AHEAD  # connect, and the one that was too much
    assert app.statistics()["refused"][f"{kind}_per_second"] == 1


async def test_bytes_are_those_of_utf_8_and_of_binary_messages() -> None:
    app = Limited(Hears, replace(NONE, burst=1.0, bytes_per_second=10.0), clock=Clock())
    for event in text("é" * 5), {"type": "websocket.receive", "bytes": b"1234567890"}:
        wire = socket()
        await flood(wire, app, *[event] * 3)
        assert wire.close is not None


async def test_who_keeps_to_the_rate_is_never_ended() -> None:
    clock = Clock()
    app = Limited(Hears, replace(NONE, burst=3.0, frames_per_second=2.0), clock=clock)
    wire = socket()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wire.run, app)
        for number in range(50):
            wire.tell(text("."))
            await until(lambda number=number: len(wire.texts) == number + 1)
            clock.now += 0.5
        wire.tell(left())
    assert wire.close is None


async def test_one_connection_says_nothing_for_another() -> None:
    app = Limited(Hears, replace(NONE, burst=1.0, frames_per_second=2.0), clock=Clock())
    wire, other = socket(), socket(text("."))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(other.run, app)
        await flood(wire, app, *[text(".")] * 10)
        assert wire.close is not None
        await until(lambda: other.texts == ["1"])
        other.tell(left())
    assert other.close is None


async def test_who_floods_a_handler_that_is_busy_does_not_wait_for_it() -> None:
    # No more than some messages are read ahead of a busy handler; those count.
    app = Limited(Busy, replace(NONE, burst=1.0, frames_per_second=2.0), clock=Clock())
    wire = socket()
    await flood(wire, app, *[text(".")] * 100)
    assert wire.close is not None
    assert wire.close["code"] == 4429


async def test_a_client_of_the_protocol_is_warned_first(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "asgi_notify")
    clock = Clock()
    app = Limited(notifications, replace(NONE, burst=3.0, frames_per_second=2.0), clock=clock)
    wire = client()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wire.run, app)
        await until(lambda: wire.sent)
        wire.tell(*[text(json.dumps(PING))] * 8)
        await until(lambda: len(of_type(wire, "pong")) == 8 and of_type(wire, "error"))
        (warning,) = of_type(wire, "error")
        assert (warning["code"], warning["ref"]) == ("too_many", None)
        assert warning["message"] == (
            "messages came too fast; go on, and this connection is closed with 4429"
        )
        clock.now += 100
        wire.tell(*[text(json.dumps(PING))] * 6)
        await until(lambda: len(of_type(wire, "pong")) == 14)
        assert len(of_type(wire, "error")) == 1  # it has calmed down meanwhile
        wire.tell(text(json.dumps(PING)))
        await until(lambda: len(of_type(wire, "error")) == 2)
        wire.tell(*[text(json.dumps(PING))] * 100)
    assert wire.close is not None
    assert wire.close["code"] == 4429
    assert len(of_type(wire, "error")) == 2
    assert len([line for line in caplog.messages if line.startswith("refused")]) == 1


async def test_who_does_not_speak_the_protocol_is_sent_no_frame_of_it() -> None:
    app = Limited(notifications, replace(NONE, burst=3.0, frames_per_second=2.0), clock=Clock())
    wire = socket(path="/notifications/1/")
    await flood(wire, app, *[text("ping")] * 100)
    assert set(wire.texts) <= {"pong"}
    assert wire.close is not None
    assert wire.close["code"] == 4429


# Subscriptions.


def subscribe(number: int, since: str | None = None) -> dict[str, Any]:
    frame = {"type": "subscribe", "group": f"user_{number}", "ref": number}
    return frame if since is None else {**frame, "since": since}


@pytest.mark.parametrize("whose", ["address", "user"])
async def test_subscriptions_are_so_many_over_all_connections(whose: str) -> None:
    limits: dict[str, Any] = {f"groups_per_{whose}": 3}
    app = Limited(notifications, replace(NONE, **limits))
    hosts = [ANYBODY, ANYBODY] if whose == "address" else [ANYBODY, "203.0.113.8"]
    user = Identity("ann") if whose == "user" else None
    one, two = (client(host=host, user=user) for host in hosts)
    other = client(*map(subscribe, range(3)), host="203.0.113.100")
    async with anyio.create_task_group() as tasks:
        for wire in one, two, other:
            tasks.start_soon(wire.run, app)
        one.tell(*[text(json.dumps(subscribe(number))) for number in (1, 1, 2)])
        await until(lambda: len(of_type(one, "subscribed")) == 3)  # one of them is another's answer
        two.tell(*[text(json.dumps(subscribe(number))) for number in (1, 2)])
        await until(lambda: of_type(two, "error"))
        (error,) = of_type(two, "error")
        assert (error["code"], error["ref"], error["group"]) == ("too_many", 2, "user_2")
        assert error["message"].startswith("there are too many subscriptions")
        one.tell(text(json.dumps({"type": "unsubscribe", "group": "user_1"})))
        await until(lambda: of_type(one, "unsubscribed"))
        two.tell(text(json.dumps(subscribe(2))))
        await until(lambda: len(of_type(two, "subscribed")) == 2)
        one.tell(left())
        await until(lambda: app.statistics()["connections"] == 2)
        two.tell(text(json.dumps(subscribe(3))))
        await until(lambda: len(of_type(two, "subscribed")) == 3)
        two.tell(left())
        await until(lambda: len(of_type(other, "subscribed")) == 3)
        other.tell(left())
    counters = app._counters
    assert (len(counters.groups), len(counters.user_groups)) == (0, 0)


async def test_the_group_of_the_path_counts_too() -> None:
    app = Limited(notifications, replace(NONE, groups_per_address=1))
    wire = client({"type": "unsubscribe", "group": "user_1"}, subscribe(1), where="1/")
    refused = client(where="3/")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wire.run, app)
        await until(lambda: len(of_type(wire, "subscribed")) == 2)
        await refused.run(app)
        assert refused.close is not None
        assert refused.close["code"] == 4429
        wire.tell(left())


async def test_a_refused_subscription_is_not_counted(layer: InMemoryChannelLayer) -> None:
    app = Limited(notifications, replace(NONE, groups_per_address=1))
    wire = client({"type": "subscribe", "group": "staff"}, subscribe(1))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wire.run, app)
        await until(lambda: of_type(wire, "subscribed"))
        assert [error["code"] for error in of_type(wire, "error")] == ["forbidden"]
        wire.tell(left())


# Users that say who they are in their first frame.


async def test_a_user_of_a_first_frame_counts_too() -> None:
    tokens = SignedTokens("k" * 32)
    inner = Authentication(notifications, tokens, first_frame=True)
    app = Limited(inner, replace(NONE, connections_per_user=2))
    wires = [client(host=f"203.0.113.{number}") for number in range(3)]
    async with anyio.create_task_group() as tasks:
        for wire in wires:
            tasks.start_soon(wire.run, app)
            await until(lambda wire=wire: wire.texts)
            for _ in range(2):  # a second one renews the first
                wire.tell(text(json.dumps({"type": "auth", "token": tokens.sign("ann")})))
            await until(lambda wire=wire: wire.close or len(of_type(wire, "authenticated")) == 2)
        assert [wire.close and wire.close["code"] for wire in wires] == [None, None, 4429]
        assert app.statistics()["users"] == 1
        for wire in wires[:2]:
            wire.tell(left())
    assert app.statistics()["users"] == 0


# What is asked for again.


async def first_position(layer: InMemoryChannelLayer, messages: int = SIZE) -> str:
    position = (await layer.history("user_1")).position
    for number in range(messages):
        await layer.group_send("user_1", {"type": "send.notification", "data": number})
    return str(position)


async def test_who_asks_for_a_history_again_and_again_is_closed(
    layer: InMemoryChannelLayer,
) -> None:
    since = await first_position(layer)
    limits = replace(NONE, burst=2.0, replays_per_second=10.0)
    app = Limited(notifications, limits, clock=Clock())
    wire = client(*[subscribe(1, since)] * 1000)
    with anyio.fail_after(20):
        await wire.run(app)
    assert wire.close is not None
    assert (wire.close["code"], wire.close["reason"]) == (
        4429, "too much of the history was asked for",
    )  # fmt: skip
    # 20 messages at once, and as many again after the warning; the last ones may be whole.
    assert len(of_type(wire, "notification")) <= 45
    assert [error["code"] for error in of_type(wire, "error")] == ["too_many"]
    assert app.statistics()["refused"]["replays_per_second"] == 1


async def test_an_honest_client_gets_all_it_has_missed(layer: InMemoryChannelLayer) -> None:
    since = await first_position(layer)
    app = Limited(notifications, replace(NONE, burst=2.0, replays_per_second=10.0), clock=Clock())
    wire = client(subscribe(1, since))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wire.run, app)
        await until(lambda: len(of_type(wire, "notification")) == SIZE)
        wire.tell(left())
    assert not of_type(wire, "error")


@pytest.mark.parametrize("way", ["socket", "path", "stream", "poll"])
async def test_new_connections_of_one_address_get_no_more_of_it(
    layer: InMemoryChannelLayer, way: str
) -> None:
    since = await first_position(layer)
    clock = Clock()
    limits = replace(NONE, burst=2.0, replays_per_address=10.0)
    app = Limited(notifications, limits, clock=clock)
    brought = 0
    for number in range(10):
        wire = asking(way, since)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wire.run, app)
            await until(lambda way=way, wire=wire: brought_by(way, wire) or code_of(wire))
            wire.tell(left() if wire.scope["type"] == "websocket" else {"type": "http.disconnect"})
        brought += brought_by(way, wire)
        assert code_of(wire) == (None if number < 5 else 429)
    assert brought == 25
    clock.now += 1
    wire = asking(way, since, host="203.0.113.8")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wire.run, app)
        await until(lambda: brought_by(way, wire) == SIZE)
        wire.tell(left() if wire.scope["type"] == "websocket" else {"type": "http.disconnect"})


def asking(way: str, since: str, host: str = ANYBODY) -> Wire:
    if way == "socket":
        return client(subscribe(1, since), host=host)
    if way == "path":
        wire = client(where="1/", host=host)
        wire.scope["query_string"] = f"since={since}".encode()
        return wire
    accept = {"accept": "text/event-stream"} if way == "stream" else {}
    query = f"since={since}&protocol={PROTOCOL}"
    return request(path="/notifications/1/", host=host, headers=accept, query=query)


def brought_by(way: str, wire: Wire) -> int:
    if wire.scope["type"] == "websocket":
        count = len(of_type(wire, "notification"))
    else:
        body = b"".join(event.get("body", b"") for event in wire.sent).decode()
        count = body.count('"type":"notification"')
    return count if count == SIZE else 0


def code_of(wire: Wire) -> int | None:
    """What it was refused with, as an HTTP status."""
    if wire.close is not None:
        code: int = wire.close["code"]
        return code - 4000
    return None if status(wire) == 200 else status(wire)
