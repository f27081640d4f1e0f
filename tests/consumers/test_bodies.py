"""What a request carries is let go of as soon as nobody reads it any more."""

import gc
import tracemalloc
from collections.abc import Iterator
from typing import Any

import anyio
import pytest

from asgi_notify import (
    AsyncHttpConsumer,
    AsyncSseConsumer,
    HttpConsumer,
    NotificationHttpConsumer,
    URLRouter,
    path,
)
from asgi_notify.testing import HttpCommunicator
from asgi_notify.types import ASGIApp, Event
from tests.consumers.streams import LEFT, Stream

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("layer")]

REQUESTS, SIZE = 10, 500_000  # each with so many bytes
STREAM = (b"accept", b"text/event-stream")
OPEN: dict[str, Any] = {"status": 200, "headers": {"content-type": "text/plain"}}


@pytest.fixture(params=["1", "0"], ids=["steps", "plain"], autouse=True)
def stepping(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASGI_NOTIFY_STEPPING", request.param)


class Streams(AsyncHttpConsumer):
    async def handle(self, body: bytes) -> None:
        await self.send_headers(**OPEN)
        await self.send_body(str(len(body)).encode(), more_body=True)


class StreamsInThread(HttpConsumer):
    def handle(self, body: bytes) -> None:
        self.send_headers(**OPEN)
        self.send_body(str(len(body)).encode(), more_body=True)


ROOM = URLRouter([path("<int:room_name>/", NotificationHttpConsumer)])


def parts(count: int) -> Iterator[Event]:
    """A body in so many parts."""
    for number in range(count):
        yield {
            "type": "http.request",
            "body": b"%d" % number * (SIZE // count),
            "more_body": number + 1 < count,
        }


@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize(
    ("app", "headers"),
    [
        (AsyncSseConsumer(), [STREAM]),
        (ROOM, [STREAM]),
        (ROOM, []),  # a poll
        (Streams(), []),
    ],
    ids=["sse", "stream", "poll", "http"],
)
async def test_an_open_response_does_not_hold_the_body_of_its_request(
    app: ASGIApp, headers: list[tuple[bytes, bytes]], count: int
) -> None:
    wires = [Stream(*headers, path="/42/") for _ in range(REQUESTS)]
    for wire in wires:
        assert (await wire.receive())["type"] == "http.request"  # one with a body comes instead
    async with anyio.create_task_group() as tasks:
        for wire in wires:
            tasks.start_soon(wire.run, app)
        await anyio.wait_all_tasks_blocked()
        tracemalloc.start()
        try:
            for wire in wires:
                wire.tell(*parts(count))
            await anyio.wait_all_tasks_blocked()
            gc.collect()
            held, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        for wire in wires:
            wire.tell(LEFT)
    assert held < SIZE


@pytest.mark.parametrize("app", [Streams, StreamsInThread])
async def test_the_whole_body_is_given_to_handle_and_not_kept(app: Any) -> None:
    seen: list[list[bytes]] = []

    class Looks(app):  # type: ignore[misc]
        def disconnect(self) -> Any:
            seen.append(self.body)
            return super().disconnect()

    async with HttpCommunicator(Looks, "POST", "/", b"x" * 1000) as client:
        await client.send_input({"type": "http.request", "body": b"x" * 1000})
        await client.receive_output()
        assert (await client.receive_output())["body"] == b"1000"
        await client.send_input(LEFT)
        await client.wait()
    assert seen == [[]]


@pytest.mark.parametrize("headers", [[STREAM], []], ids=["stream", "poll"])
async def test_a_body_over_the_limit_is_still_refused(headers: list[tuple[bytes, bytes]]) -> None:
    large = b"x" * (NotificationHttpConsumer.max_body_size + 1)
    async with HttpCommunicator(ROOM, "GET", "/42/", large, headers) as client:
        assert (await client.get_response())["status"] == 413
