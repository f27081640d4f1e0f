"""The HTTP consumer: whole bodies in, one response out, for as long as it likes."""

import logging
from collections.abc import Iterator
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from asgi_notify import (
    AsyncConsumer,
    AsyncHttpConsumer,
    InMemoryChannelLayer,
    Message,
    MethodNotAllowed,
    MisuseError,
    StopConsumer,
)
from asgi_notify.testing import ApplicationCommunicator, HttpCommunicator
from asgi_notify.types import Event
from tests.consumers.harness import Wire, assert_nothing_left

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("layer")]


def chunk(body: bytes, more_body: bool = True) -> Event:
    return {"type": "http.request", "body": body, "more_body": more_body}


class Echo(AsyncHttpConsumer):
    """Sends the body back."""

    max_body_size = 10

    async def handle(self, body: bytes) -> None:
        await self.send_response(200, body, headers={"X-Length": str(len(body))})


async def respond(app: Any, body: bytes = b"", method: str = "POST") -> dict[str, Any]:
    async with HttpCommunicator(app, method, "/", body) as client:
        return await client.get_response()


@pytest.mark.parametrize("app", [Echo, Echo(), Echo.as_asgi()])
async def test_a_request_is_answered_by_handle(app: Any) -> None:
    response = await respond(app, b"hello")
    assert response == {"status": 200, "headers": [(b"x-length", b"5")], "body": b"hello"}


async def test_a_body_in_chunks_is_handled_once_and_whole() -> None:
    wire = Wire(chunk(b"he"), {"type": "http.request", "more_body": True}, chunk(b"llo", False),
                kind="http")  # fmt: skip
    await wire.run(Echo())
    assert [event.get("body") for event in wire.sent] == [None, b"hello"]


async def test_two_requests_of_one_instance_share_no_body() -> None:
    app = Echo()
    assert (await respond(app, b"one"))["body"] == b"one"
    assert (await respond(app, b"two"))["body"] == b"two"


async def test_a_body_over_the_limit_is_413_before_it_is_read_to_its_end() -> None:
    assert (await respond(Echo, b"0123456789"))["status"] == 200
    response = await respond(Echo, b"0123456789a")
    assert response["status"] == 413
    assert b"over the limit of 10 bytes" in response["body"]
    wire = Wire(chunk(b"012345"), chunk(b"678901"), kind="http")  # and more to come
    await wire.run(Echo())
    assert wire.sent[0]["status"] == 413


async def test_the_parts_of_a_body_are_looked_at_once_however_many_they_are() -> None:
    looks = 0

    class Parts(list[bytes]):
        def __iter__(self) -> Iterator[bytes]:
            nonlocal looks
            looks += len(self)
            return super().__iter__()

    class Many(AsyncHttpConsumer):
        def __init__(self) -> None:
            super().__init__()
            self._body.parts = Parts()

        async def handle(self, body: bytes) -> None:
            await self.send_response(200, body)

    wire = Wire(*[chunk(b"a")] * 500, chunk(b"", False), kind="http")
    await wire.run(Many())
    assert wire.sent[1]["body"] == b"a" * 500
    assert looks <= 501


@pytest.mark.parametrize(
    "headers",
    [
        [(b"X-A", b"1"), (b"X-B", b"\xe9")],
        [("X-A", "1"), ("X-B", "é")],
        {"X-A": "1", b"X-B": b"\xe9"},
    ],
)
async def test_headers_are_pairs_or_a_mapping_of_bytes_or_text(headers: Any) -> None:
    class Headers(AsyncHttpConsumer):
        async def handle(self, body: bytes) -> None:
            await self.send_headers(status=404, headers=headers)
            await self.send_body(b"")

    response = await respond(Headers)
    assert response["headers"] == [(b"x-a", b"1"), (b"x-b", b"\xe9")]
    assert response["status"] == 404


@pytest.mark.parametrize("stops", [False, True])
async def test_no_response_is_a_500_and_an_error_with_the_way_out(
    stops: bool, caplog: pytest.LogCaptureFixture
) -> None:
    class Silent(AsyncHttpConsumer):
        async def handle(self, body: bytes) -> None:
            if stops:
                raise StopConsumer

    assert (await respond(Silent))["status"] == 500
    [record] = caplog.records
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], MisuseError)
    assert "call send_response()" in str(record.exc_info[1])


async def test_a_consumer_may_stop_once_it_has_answered(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Stops(AsyncHttpConsumer):
        async def handle(self, body: bytes) -> None:
            await self.send_headers()
            await self.send_body(b"half", more_body=True)
            raise StopConsumer

    wire = Wire(chunk(b"", False), kind="http")
    await wire.run(Stops())
    assert [event.get("body") for event in wire.sent] == [None, b"half"]
    assert caplog.records == []


async def test_a_plain_consumer_that_stops_without_a_response_is_a_500() -> None:
    class Stops(AsyncConsumer):
        async def http_request(self, event: Event) -> None:
            raise StopConsumer

    assert (await respond(Stops))["status"] == 500


async def test_a_consumer_without_handle_says_so(caplog: pytest.LogCaptureFixture) -> None:
    class Nothing(AsyncHttpConsumer):
        pass

    assert (await respond(Nothing))["status"] == 500
    [record] = caplog.records
    assert record.exc_info is not None
    assert "Nothing has no handle() method; add one" in str(record.exc_info[1])


async def test_an_error_before_the_response_is_a_500_that_tells_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Fails(AsyncHttpConsumer):
        async def handle(self, body: bytes) -> None:
            raise ValueError("the password is 123")

    response = await respond(Fails)
    assert response["status"] == 500
    assert response["body"] == b'{"error": "Internal Server Error"}'
    [record] = caplog.records
    assert "http '/' (channel specific." in record.getMessage()
    assert record.exc_info is not None


async def test_a_client_error_is_its_status_and_no_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Refuses(AsyncHttpConsumer):
        async def handle(self, body: bytes) -> None:
            raise MethodNotAllowed("PUT")

    caplog.set_level(logging.INFO)
    response = await respond(Refuses)
    assert response["status"] == 405
    assert (b"allow", b"PUT") in response["headers"]
    assert [record.levelno for record in caplog.records] == [logging.INFO]


async def test_an_error_within_the_response_cuts_it_short(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Breaks(AsyncHttpConsumer):
        async def handle(self, body: bytes) -> None:
            await self.send_headers()
            await self.send_body(b"half", more_body=True)
            raise ValueError("the other half is lost")

    wire = Wire(chunk(b"", False), kind="http")
    await wire.run(Breaks())
    assert [event.get("body") for event in wire.sent] == [None, b"half"]
    assert len(caplog.records) == 1


@pytest.mark.parametrize("body", ["text", None, [b"a"]])
async def test_a_body_that_is_no_bytes_is_refused_with_the_way_out(
    body: Any, caplog: pytest.LogCaptureFixture
) -> None:
    class Wrong(AsyncHttpConsumer):
        async def handle(self, _: bytes) -> None:
            await self.send_body(body)

    assert (await respond(Wrong))["status"] == 500
    assert caplog.records[0].exc_info is not None
    assert "use text.encode()" in str(caplog.records[0].exc_info[1])


async def test_a_body_before_the_headers_is_misuse(caplog: pytest.LogCaptureFixture) -> None:
    class Wrong(AsyncHttpConsumer):
        async def handle(self, body: bytes) -> None:
            await self.send_body(b"early")

    assert (await respond(Wrong))["status"] == 500
    assert caplog.records[0].exc_info is not None
    assert "call send_headers() first" in str(caplog.records[0].exc_info[1])


# A response that goes on.


class Stream(AsyncHttpConsumer):
    """Sends what its group is sent, until "end"."""

    groups = ("news",)

    def __init__(self, ends: list[str]) -> None:
        super().__init__()
        self.ends = ends

    async def handle(self, body: bytes) -> None:
        await self.send_headers(headers=[(b"content-type", b"text/event-stream")])
        await self.send_body(b"", more_body=True)

    async def news(self, message: Message) -> None:
        await self.send_body(message["text"].encode(), more_body=message["text"] != "end")

    async def disconnect(self) -> None:
        await checkpoint()
        self.ends.append("disconnect")


async def test_a_response_goes_on_from_messages_and_is_finished_by_one(
    layer: InMemoryChannelLayer,
) -> None:
    ends: list[str] = []
    async with HttpCommunicator(Stream.as_asgi(ends=ends), "GET", "/") as client:
        await client.send_input(chunk(b"", False))
        for kind in "start", "body":
            assert (await client.receive_output())["type"] == f"http.response.{kind}"
        for word in "one", "two", "end":
            await layer.group_send("news", {"type": "news", "text": word})
            assert (await client.receive_output())["body"] == word.encode()
        await client.wait()
    assert ends == ["disconnect"]
    assert_nothing_left(layer, "news")


async def test_a_client_that_leaves_a_stream_ends_it_once(
    layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    ends: list[str] = []
    scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
    async with ApplicationCommunicator(Stream.as_asgi(ends=ends), scope) as client:
        await client.send_input(chunk(b"", False))
        await client.receive_output()
        await client.receive_output()
        await client.send_input({"type": "http.disconnect"})
        await client.wait()
        assert await client.receive_nothing(0.01)
    assert ends == ["disconnect"]
    assert caplog.records == []
    assert_nothing_left(layer, "news")


async def test_a_client_that_leaves_in_the_middle_of_a_body_is_not_handled() -> None:
    ends: list[str] = []
    wire = Wire(chunk(b"a"), {"type": "http.disconnect"}, kind="http")
    await wire.run(Stream.as_asgi(ends=ends))
    assert wire.sent == []
    assert ends == ["disconnect"]


async def test_a_shutdown_ends_a_stream(layer: InMemoryChannelLayer) -> None:
    ends: list[str] = []
    wire = Wire(chunk(b"", False), kind="http")
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wire.run, Stream.as_asgi(ends=ends))
            await anyio.wait_all_tasks_blocked()
            await layer.close()
    assert ends == ["disconnect"]
    assert wire.sent[-1]["more_body"] is True


async def test_a_request_that_comes_while_the_layer_closes_is_a_503(
    layer: InMemoryChannelLayer,
) -> None:
    class Lingers(Stream):
        async def disconnect(self) -> None:
            await gate.wait()

    gate, wire = anyio.Event(), Wire(chunk(b"", False), kind="http")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wire.run, Lingers.as_asgi(ends=[]))
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(layer.close)
        await anyio.wait_all_tasks_blocked()
        assert (await respond(Echo))["status"] == 503
        gate.set()
