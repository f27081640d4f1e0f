"""What `authorize` and `join` may say, and that nothing but a plain yes lets a client in."""

import json
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from asgi_notify import (
    Forbidden,
    InMemoryChannelLayer,
    NotificationConsumer,
    NotificationHttpConsumer,
    Notifications,
    PublishConsumer,
    StopConsumer,
    URLRouter,
    path,
)
from asgi_notify.testing import HttpCommunicator, WebsocketCommunicator
from tests.consumers.harness import assert_nothing_left
from tests.frames import Client

pytestmark = pytest.mark.anyio

ROOM = "/notifications/7/"
ACCEPTS_STREAM = [(b"accept", b"text/event-stream")]
PROTOCOL = "?protocol=asgi-notify.v1"

Ask = Callable[[Any], Awaitable[int]]
"""Asks to watch group user_7 over one transport; returns the status of the answer."""


def routed(hooks: Any, transport: type[Notifications]) -> URLRouter:
    app = type("Own", (hooks, transport), {})
    return URLRouter([path("notifications/<int:room_name>/", app), path("notifications/", app)])


def websocket(kind: type[WebsocketCommunicator], where: str) -> Ask:
    async def ask(hooks: Any) -> int:
        app = routed(hooks, NotificationConsumer)
        async with kind(app, where, denial_response=True) as client:
            is_open, status = await client.connect()
            return 200 if is_open else status

    return ask


async def subscribe(hooks: Any) -> int:
    async with Client(routed(hooks, NotificationConsumer)) as client:
        await client.welcome()
        await client.say(type="subscribe", group="user_7")
        event = await client.receive_output()
        if event["type"] == "websocket.close":
            return 403 if event["code"] == 1000 else 500
        frame = json.loads(event["text"])
        statuses = {"subscribed": 200, "unauthorized": 401, "forbidden": 403, "failed": 500}
        return statuses[frame.get("code", frame["type"])]


def http(where: str, headers: list[tuple[bytes, bytes]]) -> Ask:
    async def ask(hooks: Any) -> int:
        app = routed(hooks, NotificationHttpConsumer)
        async with HttpCommunicator(app, "GET", where, headers=headers) as client:
            await client.send_input({"type": "http.request"})
            status: int = (await client.receive_output())["status"]
            return status

    return ask


TRANSPORTS: dict[str, Ask] = {
    "websocket": websocket(WebsocketCommunicator, ROOM),
    "websocket ?group": websocket(WebsocketCommunicator, "/notifications/?group=user_7"),
    "protocol": websocket(Client, ROOM),
    "subscribe": subscribe,
    "stream": http(ROOM, ACCEPTS_STREAM),
    "stream of frames": http(ROOM + PROTOCOL, ACCEPTS_STREAM),
    "stream ?group": http("/notifications/?group=user_7", ACCEPTS_STREAM),
    "poll": http(ROOM + "?timeout=0", []),
    "poll of frames": http(ROOM + PROTOCOL + "&timeout=0", []),
}


ROOMLESS = ("websocket ?group", "stream ?group")


@pytest.fixture(params=TRANSPORTS)
def ask(request: pytest.FixtureRequest) -> Ask:
    return TRANSPORTS[request.param]


# A subscription joins nothing; at a path without a room, an own `join` alone is no guard.
@pytest.fixture(params=[name for name in TRANSPORTS if name not in ("subscribe", *ROOMLESS)])
def ask_join(request: pytest.FixtureRequest) -> Ask:
    return TRANSPORTS[request.param]


def answering(method: str, answer: object) -> type[Notifications]:
    """Hooks of which one gives this answer; `join` does its work before."""

    async def authorize(self: Notifications, group: str) -> object:
        return answer

    async def join(self: Notifications) -> object:
        await Notifications.join(self)
        return answer

    return type("Hooks", (Notifications,), {method: {"authorize": authorize, "join": join}[method]})


@pytest.mark.parametrize("answer", [None, True])
async def test_authorize_lets_in_with_none_or_true(
    ask: Ask, answer: object, layer: InMemoryChannelLayer
) -> None:
    assert await ask(answering("authorize", answer)) == 200


@pytest.mark.parametrize("answer", [False, 0, "", "no", 1, "yes", object()])
async def test_authorize_refuses_with_anything_else(
    ask: Ask, answer: object, layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    assert await ask(answering("authorize", answer)) == 403
    assert_nothing_left(layer, "user_7")
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    if answer is False:  # what is meant is plain
        assert warnings == []
        return
    [record] = warnings
    assert record.getMessage() == (
        f"a client was refused, since Own.authorize() returned "
        f"{answer!r}: return True or None to let one in, False or an error to refuse it"
    )


@pytest.mark.parametrize(("answer", "status"), [(None, 200), (True, 200), (False, 403), (0, 403)])
async def test_join_is_held_to_the_same(
    ask_join: Ask,
    answer: object,
    status: int,
    layer: InMemoryChannelLayer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert await ask_join(answering("join", answer)) == status
    assert_nothing_left(layer, "user_7")
    warned = "a client was refused, since Own.join() returned 0" in caplog.text
    assert warned is (answer == 0 and answer is not False)


def failures(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the tracebacks in the log end with."""
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    return [str(record.exc_info and record.exc_info[1]) for record in errors]


async def test_a_plain_authorize_lets_nobody_in_and_the_log_says_what_to_write(
    ask: Ask, layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    class Forgetful(Notifications):
        def authorize(self, group: str) -> None:  # type: ignore[override]
            """Were its None taken for an answer, everybody would be let in by a check like this."""

    assert await ask(Forgetful) == 500
    assert failures(caplog) == [
        "Own.authorize() returned None, which cannot be awaited: write `async def authorize`"
    ]


async def test_a_plain_join_lets_nobody_in_and_the_log_says_what_to_write(
    ask_join: Ask, layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    class Forgetful(Notifications):
        def join(self) -> None:  # type: ignore[override]
            pass

    assert await ask_join(Forgetful) == 500
    assert failures(caplog) == [
        "Own.join() returned None, which cannot be awaited: write `async def join`"
    ]


async def test_a_plain_function_may_return_what_is_to_be_awaited(
    ask: Ask, layer: InMemoryChannelLayer
) -> None:
    class Passing(Notifications):
        def authorize(self, group: str) -> Coroutine[Any, Any, bool | None]:
            return super().authorize(group)

    assert await ask(Passing) == 200


@pytest.mark.parametrize("method", ["authorize", "join"])
async def test_a_consumer_that_stops_while_asked_refuses(
    ask_join: Ask, method: str, layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    async def stop(*args: Any) -> None:
        raise StopConsumer

    assert await ask_join(type("Hooks", (Notifications,), {method: stop})) == 403
    assert_nothing_left(layer, "user_7")
    assert failures(caplog) == []


async def test_a_consumer_that_stops_while_a_subscription_is_asked_for_closes(
    layer: InMemoryChannelLayer,
) -> None:
    class Stops(Notifications):
        async def authorize(self, group: str) -> None:
            raise StopConsumer

    async with Client(routed(Stops, NotificationConsumer)) as client:
        await client.welcome()
        await client.say(type="subscribe", group="user_7")
        assert (await client.receive_output())["code"] == 1000


@pytest.mark.parametrize(("answer", "status"), [(None, 202), (True, 202), (False, 403), (0, 403)])
@pytest.mark.parametrize("is_async", [False, True])
async def test_a_publisher_is_held_to_the_same(
    answer: object, status: int, is_async: bool, layer: InMemoryChannelLayer
) -> None:
    class Own(PublishConsumer):
        def authorize(self) -> Any:
            return self.think() if is_async else answer

        async def think(self) -> object:
            return answer

    app = URLRouter([path("<int:room_name>/", Own)])
    async with HttpCommunicator(app, "POST", "/7/", b'{"data": 1}') as client:
        assert (await client.get_response())["status"] == status


async def test_an_error_of_authorize_still_says_why(ask: Ask, layer: InMemoryChannelLayer) -> None:
    class Strict(Notifications):
        async def authorize(self, group: str) -> None:
            raise Forbidden("not yours")

    assert await ask(Strict) == 403
