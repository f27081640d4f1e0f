"""A connection ends when the credential does that it came with, whatever application it is."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from asgi_notify import (
    AsyncSseConsumer,
    AsyncWebsocketConsumer,
    Authentication,
    WebsocketConsumer,
)
from asgi_notify.asgi import DIRECT
from asgi_notify.auth import SignedTokens, session_of
from asgi_notify.middleware import expiring
from asgi_notify.middleware.expiring import Expiring
from asgi_notify.protocol import PROTOCOL
from asgi_notify.testing import HttpCommunicator, WebsocketCommunicator
from asgi_notify.types import Event, Receive, Scope, Send

pytestmark = pytest.mark.anyio

tokens = SignedTokens("k" * 32)
SHORT = 0.2  # seconds that a credential lasts
EXPIRED = {
    "type": "websocket.close",
    "code": 4401,
    "reason": "the credential has expired; come back with a fresh one",
}


@asynccontextmanager
async def connected(app: Any, **more: object) -> AsyncIterator[WebsocketCommunicator]:
    """A socket of somebody whose credential lasts a moment."""
    headers = [(b"authorization", b"Bearer " + tokens.sign("ann", max_age=SHORT).encode())]
    socket = WebsocketCommunicator(Authentication(app, tokens), "/", headers, denial_response=True)
    socket.scope.update(more)
    async with socket:
        assert await socket.connect() == (True, None)
        yield socket


async def accept(receive: Receive, send: Send) -> None:
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept"})


class Told:
    """An application that waits for its client, and notes what it hears."""

    def __init__(self) -> None:
        self.heard: list[Event] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await accept(receive, send)
        while True:
            event = await receive()
            self.heard.append(event)
            if event["type"] == "websocket.disconnect":
                if event["code"] == 4401:  # then no server stands behind it
                    self.heard.append(await receive())
                await send({"type": "websocket.send", "text": "too late"})
                return
            if event.get("text") == "renew":
                session = session_of(scope)
                assert session is not None
                await session.authenticate(tokens.sign("ann", max_age=60))
            await send({"type": "websocket.send", "text": "heard"})


async def test_an_application_that_waits_is_told_and_its_client_too() -> None:
    app = Told()
    began = time.time()
    async with connected(app) as socket:
        assert await socket.receive_output(5) == EXPIRED
        assert time.time() - began > SHORT - 0.01
        await socket.wait(5)
        assert await socket.receive_nothing()
    gone = {"type": "websocket.disconnect", "code": 4401, "reason": ""}
    assert app.heard == [gone, gone]


async def test_one_that_was_renewed_goes_on() -> None:
    app = Told()
    async with connected(app) as socket:
        await socket.send_to("renew")
        assert await socket.receive_from() == "heard"
        assert await socket.receive_nothing(SHORT * 2)
        await socket.send_to("still there?")
        assert await socket.receive_from() == "heard"


async def test_one_that_was_renewed_while_it_waits_goes_on() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await accept(receive, send)
        session = session_of(scope)
        assert session is not None

        async def renew() -> None:
            await anyio.sleep(SHORT / 2)
            await session.authenticate(tokens.sign("ann", max_age=60))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(renew)
            event = await receive()
            await send({"type": "websocket.send", "text": event["text"]})

    async with connected(app) as socket:
        assert await socket.receive_nothing(SHORT * 2)
        await socket.send_to("hello")
        assert await socket.receive_from() == "hello"


async def test_nothing_is_sent_any_more_to_who_has_expired() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await accept(receive, send)
        while True:
            await send({"type": "websocket.send", "text": str(time.time())})
            await anyio.sleep(0.02)

    async with connected(app) as socket:
        expires_at = time.time() + SHORT
        last = 0.0
        while (event := await socket.receive_output(5))["type"] == "websocket.send":
            last = float(event["text"])
        assert event == EXPIRED
        assert last < expires_at
        await socket.wait(5)  # it was cancelled


async def test_one_that_neither_waits_nor_sends_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expiring, "GRACE", 0.1)
    has_ended = anyio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await accept(receive, send)
        try:
            await anyio.sleep_forever()
        finally:
            has_ended.set()

    async with connected(app) as socket:
        assert await socket.receive_output(5) == EXPIRED
        await socket.wait(5)
    assert has_ended.is_set()


async def test_who_was_not_accepted_yet_is_refused() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        assert (await receive())["type"] == "websocket.disconnect"

    headers = [(b"authorization", b"Bearer " + tokens.sign("ann", max_age=SHORT).encode())]
    socket = WebsocketCommunicator(Authentication(app, tokens), "/", headers, denial_response=True)
    async with socket:
        assert await socket.connect(5) == (False, 401)


async def test_who_has_shown_nothing_is_sent_nothing_where_no_first_frame_is_waited_for() -> None:
    async def hasty(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept", "subprotocol": PROTOCOL})
        await send({"type": "websocket.send", "text": "secret"})

    app = Authentication(hasty, tokens, first_frame=True)
    socket = WebsocketCommunicator(app, "/", subprotocols=[PROTOCOL], denial_response=True)
    async with socket:
        assert await socket.connect() == (False, 401)


async def test_what_follows_the_applications_own_end_is_left_alone() -> None:
    heard = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await accept(receive, send)
        await send({"type": "websocket.close", "code": 1000})
        heard.append((await receive())["code"])
        await anyio.sleep(SHORT + expiring.GRACE + 0.1)
        heard.append("done")

    async with connected(app) as socket:
        assert (await socket.receive_output())["code"] == 1000
        await socket.wait(5)
    assert heard == [1000, "done"]


async def test_a_message_sets_no_deadline_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    # To set one takes as long as what is done for many messages, and leaves a timer behind.
    times = []
    set_deadlines = Expiring._set_deadlines

    def count(self: Expiring) -> None:
        times.append(time.time())
        set_deadlines(self)

    monkeypatch.setattr(Expiring, "_set_deadlines", count)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await accept(receive, send)
        while (event := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": event["text"]})

    headers = [(b"authorization", b"Bearer " + tokens.sign("ann").encode())]
    async with WebsocketCommunicator(Authentication(app, tokens), "/", headers) as socket:
        await socket.connect()
        for _ in range(20):
            await socket.send_to("hello")
            assert await socket.receive_from() == "hello"
        assert len(times) == 1


async def test_one_that_watches_itself_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expiring, "GRACE", 0.0)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        session = session_of(scope)
        assert session is not None
        session.is_watched = True
        await accept(receive, send)
        while (event := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": event["text"]})

    async with connected(app) as socket:
        assert await socket.receive_nothing(SHORT * 2)
        await socket.send_to("hello")
        assert await socket.receive_from() == "hello"


@pytest.mark.parametrize("kind", [AsyncWebsocketConsumer, WebsocketConsumer])
async def test_a_consumer_of_ones_own_is_disconnected(kind: type[Any]) -> None:
    codes = []

    class Own(kind):  # type: ignore[misc]
        if kind is AsyncWebsocketConsumer:

            async def disconnect(self, code: int) -> None:
                codes.append(code)
        else:

            def disconnect(self, code: int) -> None:  # type: ignore[misc]
                codes.append(code)

    async with connected(Own) as socket:
        assert await socket.receive_output(5) == EXPIRED
        await socket.wait(5)
    assert codes == [4401]


async def test_the_direct_lane_of_a_server_stays_open() -> None:
    offers = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        offers.append(scope["extensions"][DIRECT])
        assert scope["extensions"][DIRECT]["send"] == send
        await accept(receive, send)

    async def behind_another(scope: Scope, receive: Receive, send: Send) -> None:
        offers.append(scope["extensions"][DIRECT]["send"] == send)

    async def nothing(*args: Any) -> Event:
        return {"type": "websocket.connect"}

    header = (b"authorization", f"Bearer {tokens.sign('ann')}".encode())
    offer = {"send": nothing, "send_text": print}
    scope = {"type": "websocket", "headers": [header], "extensions": {DIRECT: offer, "x": {}}}
    await Authentication(app, tokens)(scope, nothing, nothing)  # type: ignore[arg-type]
    assert offers[0]["send_text"] is print
    assert offer["send"] is nothing  # the server's own

    async def counted(event: Event) -> None:
        """Stands for what a middleware further out counts with, so that nothing goes directly."""

    await Authentication(behind_another, tokens)(scope, nothing, counted)
    assert offers[1] is False


# HTTP.


@asynccontextmanager
async def requested(app: Any, method: str = "GET") -> AsyncIterator[HttpCommunicator]:
    headers = [
        (b"authorization", b"Bearer " + tokens.sign("ann", max_age=SHORT).encode()),
        (b"accept", b"text/event-stream"),
    ]
    async with HttpCommunicator(Authentication(app, tokens), method, "/", b"", headers) as request:
        yield request


@pytest.mark.parametrize("waits", [True, False])
async def test_a_stream_of_events_ends(waits: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expiring, "GRACE", 0.1)
    heard: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async def hear() -> None:
            while heard[-1:] != ["http.disconnect"]:
                heard.append((await receive())["type"])

        headers = [(b"Content-Type", b"text/event-stream; charset=utf-8")]
        async with anyio.create_task_group() as tasks:
            if waits:
                tasks.start_soon(hear)  # before it is known to be a stream, as Starlette does
                await anyio.wait_all_tasks_blocked()
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
            if not waits:
                await anyio.sleep_forever()

    async with requested(app) as request:
        response = await request.get_response(5)
        assert response["body"] == b"data: 1\n\n"
        await request.wait(5)
    assert heard == (["http.request", "http.disconnect"] if waits else [])


async def test_a_consumers_own_stream_ends() -> None:
    class Own(AsyncSseConsumer):
        async def connect(self) -> None:
            await self.send_event("hello")

    async with requested(Own) as request:
        assert b"data: hello" in (await request.get_response(5))["body"]
        await request.wait(5)


@pytest.mark.parametrize("type_", [b"text/csv", b"application/json"])
async def test_another_answer_runs_to_its_end(
    type_: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expiring, "GRACE", 0.0)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await anyio.sleep(SHORT)
        headers = [(b"content-type", type_)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"first,", "more_body": True})
        await anyio.sleep(SHORT)
        await send({"type": "http.response.body", "body": b"last"})

    async with requested(app, "POST") as request:
        assert (await request.get_response(5))["body"] == b"first,last"


async def test_a_stream_that_would_begin_too_late_is_over_at_once() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await anyio.sleep(SHORT)
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"data: secret\n\n", "more_body": True})

    async with requested(app) as request:
        assert (await request.get_response(5))["body"] == b""
