"""Notifications over HTTP: as a stream, as answers to polls, and by the hooks of the WebSocket."""

import json
import logging
from typing import Any

import anyio
import pytest
import trio.testing

from asgi_notify import (
    Forbidden,
    InMemoryChannelLayer,
    InvalidMessage,
    Message,
    MisuseError,
    NotificationConsumer,
    NotificationHttpConsumer,
    Notifications,
    URLRouter,
    path,
)
from asgi_notify.testing import HttpCommunicator, WebsocketCommunicator
from tests.consumers.harness import assert_nothing_left
from tests.consumers.streams import LEFT, REQUEST, Stream, streaming
from tests.eventstream import Dispatched, EventStream

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("layer")]

ROOM = "notifications/<int:room_name>/"
STREAM = (b"accept", b"text/event-stream")
app = URLRouter([path(ROOM, NotificationHttpConsumer)])

# The clock jumps ahead as soon as all tasks wait; asyncio has none like it.
ON_ITS_OWN_CLOCK = ("trio", {"clock": trio.testing.MockClock(autojump_threshold=0)})


def notification(data: object) -> dict[str, object]:
    return {"type": "send.notification", "data": data}


class Poll:
    """A long poll that runs beside the test."""

    def __init__(self, application: Any = app, query: str = "", room: int = 42) -> None:
        target = f"/notifications/{room}/{query}"
        self.client = HttpCommunicator(application, "GET", target)

    async def __aenter__(self) -> "Poll":
        await self.client.send_input(REQUEST)
        self.client.sent_request = True
        await anyio.wait_all_tasks_blocked()
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self.client.__aexit__(*error)

    async def answer(self) -> list[str]:
        response = await self.client.get_response(timeout=70)  # of a turned clock, too
        assert response["status"] == 200, response
        headers = dict(response["headers"])
        assert headers[b"content-type"] == b"application/json"
        assert headers[b"cache-control"] == b"no-store"
        content = json.loads(response["body"])
        assert content.keys() == {"notifications", "position"}
        texts: list[str] = content["notifications"]
        return texts


async def get(
    query: str = "", *headers: tuple[bytes, bytes], application: Any = app, method: str = "GET"
) -> tuple[int, Any, dict[bytes, bytes]]:
    target = f"/notifications/42/{query}"
    async with HttpCommunicator(application, method, target, headers=headers) as client:
        response = await client.get_response()
    return response["status"], json.loads(response["body"]), dict(response["headers"])


# A stream.


async def test_who_accepts_a_stream_gets_an_event_for_each_notification(
    layer: InMemoryChannelLayer,
) -> None:
    async with streaming(app, STREAM, path="/notifications/42/") as wire:
        assert EventStream().feed(wire.chunks[0]) == []
        assert wire.chunks == [b"retry: 2000\n\n"]  # at once, so that the client knows
        for data in "hello", {"a": [1]}, "two\nlines":
            await layer.group_send("user_42", notification(data))
        await layer.group_send("user_43", notification("for others"))
        await anyio.wait_all_tasks_blocked()
        assert wire.events == [
            Dispatched("hello"),
            Dispatched('{"a": [1]}'),
            Dispatched("two\nlines"),
        ]
    assert_nothing_left(layer, "user_42")


@pytest.mark.parametrize(
    "headers",
    [
        [(b"accept", b"text/event-stream")],
        [(b"Accept", b"Text/Event-Stream;q=0.9")],
        [(b"accept", b"text/event-stream;q=0.01, */*;q=0")],
        [(b"accept", b"text/html, text/event-stream , */*")],
        [(b"accept", b"text/html"), (b"accept", b"text/event-stream")],
        [(b"accept", b"text/event-stream"), (b"accept", b"text/html")],
    ],
)
async def test_what_counts_as_accepting_a_stream(headers: list[tuple[bytes, bytes]]) -> None:
    async with streaming(app, *headers, path="/notifications/42/") as wire:
        assert dict(wire.sent[0]["headers"])[b"content-type"].startswith(b"text/event-stream")


@pytest.mark.parametrize(
    "accept",
    [
        b"*/*",
        b"text/*",
        b"application/json",
        b"text/event-streams",
        b"text/event-stream;q=0, */*",
        b"*/*, text/event-stream ; Q=0.000",
    ],
)
async def test_who_names_no_stream_polls(accept: bytes) -> None:
    assert await get("?timeout=0", (b"accept", accept)) == await get("?timeout=0")


# A poll.


async def test_a_poll_is_answered_at_the_first_notification(layer: InMemoryChannelLayer) -> None:
    async with Poll() as poll:
        assert await poll.client.receive_nothing(0.01)
        await layer.group_send("user_43", notification("for others"))
        await layer.group_send("user_42", notification({"a": 1}))
        assert await poll.answer() == ['{"a": 1}']
    assert_nothing_left(layer, "user_42")


async def test_all_that_waits_goes_along_in_order(layer: InMemoryChannelLayer) -> None:
    texts = [f"number {number}" for number in range(50)]
    async with Poll() as poll:
        for text in texts:
            await layer.group_send("user_42", notification(text))
        assert await poll.answer() == texts


async def test_what_a_consumer_does_with_other_messages_answers_no_poll(
    layer: InMemoryChannelLayer,
) -> None:
    class Counts(NotificationHttpConsumer):
        async def count(self, message: Message) -> None:
            counted.append(self.is_polling)

    counted: list[bool] = []
    async with Poll(URLRouter([path(ROOM, Counts)])) as poll:
        await layer.group_send("user_42", {"type": "count"})
        assert await poll.client.receive_nothing(0.01)
        assert counted == [True]
        await layer.group_send("user_42", notification("now"))
        await layer.group_send("user_42", {"type": "count"})
        assert await poll.answer() == ["now"]


async def test_a_poll_ends_empty_when_its_time_is_over(layer: InMemoryChannelLayer) -> None:
    with anyio.fail_after(20):
        async with Poll(query="?timeout=0.05") as poll:
            assert await poll.answer() == []
    assert_nothing_left(layer, "user_42")


async def test_a_poll_of_no_time_is_answered_at_once() -> None:
    with anyio.fail_after(20):
        async with Poll(query="?timeout=0") as poll:
            assert await poll.answer() == []


@pytest.mark.parametrize(
    ("query", "seconds"), [("", 25), ("?timeout=60", 60), ("?timeout=2.5", 2.5), ("?a=b", 25)]
)
@pytest.mark.parametrize("anyio_backend", [ON_ITS_OWN_CLOCK], ids=["trio"])
async def test_a_poll_waits_as_long_as_it_was_asked_to(query: str, seconds: float) -> None:
    async with Poll(query=query) as poll:
        started = anyio.current_time()
        assert await poll.answer() == []
        assert anyio.current_time() - started == pytest.approx(seconds, abs=0.01)


@pytest.mark.parametrize(
    "value",
    ["", "-1", "60.1", "61", "x", "1e1", "nan", "inf", "+1", "1_0", " 1", "1%0a", "%D9%A1",
     "1&timeout=2", "9" * 5000],
)  # fmt: skip
async def test_a_bad_timeout_is_a_400_that_says_what_is_a_good_one(value: str) -> None:
    status, content, _ = await get(f"?timeout={value}")
    assert status == 400
    assert content == {
        "error": "timeout is one number of seconds, from 0 to 60, such as timeout=25"
    }


async def test_a_subclass_says_how_long_a_poll_waits() -> None:
    class Quick(NotificationHttpConsumer):
        poll_timeout = 0.0
        max_poll_timeout = 0.5

    quick = URLRouter([path(ROOM, Quick)])
    with anyio.fail_after(20):
        status, content, _ = await get("", application=quick)
        assert (status, content) == (200, {"notifications": [], "position": None})
    status, content, _ = await get("?timeout=0.6", application=quick)
    assert status == 400
    assert "from 0 to 0.5" in content["error"]


async def test_a_client_that_leaves_a_poll_leaves_the_group(
    layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    wire = Stream(path="/notifications/42/")
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wire.run, app)
            await anyio.wait_all_tasks_blocked()
            wire.tell(LEFT)
    assert wire.sent == []
    assert caplog.records == []
    assert_nothing_left(layer, "user_42")


async def test_a_poll_at_shutdown_is_told_to_come_back(layer: InMemoryChannelLayer) -> None:
    async with Poll() as poll:
        await layer.close()
        assert (await poll.client.get_response())["status"] == 503


@pytest.mark.parametrize("accept", ["text/event-stream", "*/*"])
@pytest.mark.parametrize("method", ["HEAD", "POST", "OPTIONS"])
async def test_another_method_is_a_405(method: str, accept: str) -> None:
    status, _, headers = await get("", (b"accept", accept.encode()), method=method)
    assert (status, headers[b"allow"]) == (405, b"GET")


@pytest.mark.parametrize("accept", ["text/event-stream", "*/*"])
async def test_a_room_that_no_group_can_be_called_is_a_404(accept: str) -> None:
    anywhere = URLRouter([path("notifications/<str:room_name>/", NotificationHttpConsumer)])
    target = f"/notifications/{'a' * 96}/"
    headers = [(b"accept", accept.encode())]
    async with HttpCommunicator(anywhere, "GET", target, headers=headers) as client:
        assert (await client.get_response())["status"] == 404


async def test_an_event_in_a_poll_is_misuse(
    layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    class Greets(NotificationHttpConsumer):
        async def connect(self) -> None:
            await super().connect()
            await self.send_event("hello")

    greets = URLRouter([path(ROOM, Greets)])
    async with streaming(greets, STREAM, path="/notifications/42/") as wire:
        assert wire.events == [Dispatched("hello")]
    assert (await get(application=greets))[0] == 500
    [record] = caplog.records
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], MisuseError)
    assert "where is_polling is False" in str(record.exc_info[1])


async def test_a_message_may_answer_a_poll_early_but_no_stream(
    layer: InMemoryChannelLayer,
) -> None:
    answer = {"type": "poll.answer"}
    async with streaming(app, STREAM, path="/notifications/42/") as wire, Poll() as poll:
        await layer.group_send("user_42", answer)
        assert await poll.answer() == []
        assert wire.chunks == [b"retry: 2000\n\n"]


# One set of hooks.


class OwnRooms(Notifications):
    """Lets nobody into room 7, and speaks louder than others."""

    async def join(self) -> None:
        if self.room_name == 7:
            raise Forbidden("room 7 is not yours")
        await super().join()

    def render(self, data: object) -> str:
        if data == "unspeakable":
            raise InvalidMessage("it cannot be said")
        return super().render(data).upper()


class OwnSocket(OwnRooms, NotificationConsumer):
    """Own rooms over WebSocket."""


class OwnHttp(OwnRooms, NotificationHttpConsumer):
    """Own rooms over HTTP."""


own_http = URLRouter([path(ROOM, OwnHttp)])


async def test_who_may_not_watch_may_not_over_any_transport(layer: InMemoryChannelLayer) -> None:
    sockets = URLRouter([path(ROOM, OwnSocket)])
    async with WebsocketCommunicator(sockets, "/notifications/7/", denial_response=True) as socket:
        assert await socket.connect() == (False, 403)
    for headers in ([STREAM], []):
        client = HttpCommunicator(own_http, "GET", "/notifications/7/", headers=headers)
        async with client:
            response = await client.get_response()
        assert response["status"] == 403
        assert json.loads(response["body"]) == {"error": "room 7 is not yours"}
    assert_nothing_left(layer, "user_7")


async def test_a_notification_reads_the_same_over_every_transport(
    layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    sockets = URLRouter([path(ROOM, OwnSocket)])
    async with (
        WebsocketCommunicator(sockets, "/notifications/42/") as socket,
        streaming(own_http, STREAM, path="/notifications/42/") as wire,
        Poll(own_http) as poll,
    ):
        assert (await socket.connect())[0]
        for data in "unspeakable", "hello":
            sent = await layer.group_send("user_42", notification(data))
            assert sent.reached == 3
        assert await socket.receive_from() == "HELLO"
        assert await poll.answer() == ["HELLO"]
        assert wire.events == [Dispatched("HELLO")]
    assert [record.levelno for record in caplog.records] == [logging.ERROR] * 3
    assert all("it cannot be said" in record.getMessage() for record in caplog.records)
    assert_nothing_left(layer, "user_42")
