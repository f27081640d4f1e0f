"""The HTTP consumer with plain functions: the same promises, kept from worker threads."""

import threading
from typing import Any

import anyio
import pytest

from asgi_notify import (
    ClientError,
    HttpConsumer,
    InMemoryChannelLayer,
    Message,
    MisuseError,
    StopConsumer,
    async_to_sync,
)
from asgi_notify.testing import HttpCommunicator
from tests.consumers.harness import assert_nothing_left
from tests.consumers.streams import LEFT, Stream, until

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("layer")]


class Echo(HttpConsumer):
    """Sends the body back."""

    max_body_size = 10

    def handle(self, body: bytes) -> None:
        self.send_response(200, body, headers={"X-Thread": threading.current_thread().name})


class News(HttpConsumer):
    """Streams what its group is sent, until "end"."""

    def __init__(self, log: list[str]) -> None:
        super().__init__()
        self.log = log

    def handle(self, body: bytes) -> None:
        async_to_sync(self.channel_layer.group_add)("news", self.channel_name)
        self.send_headers(headers=[("content-type", "text/plain")])
        self.send_body(b"", more_body=True)

    def news(self, message: Message) -> None:
        self.send_body(message["text"].encode(), more_body=message["text"] != "end")

    def disconnect(self) -> None:
        self.log.append("disconnect")


async def respond(app: Any, body: bytes = b"") -> dict[str, Any]:
    async with HttpCommunicator(app, "POST", "/", body) as client:
        return await client.get_response()


@pytest.mark.parametrize("app", [Echo, Echo(), Echo.as_asgi()])
async def test_a_request_is_answered_by_handle_in_a_thread(app: Any) -> None:
    response = await respond(app, b"hello")
    assert (response["status"], response["body"]) == (200, b"hello")
    [(_, thread)] = response["headers"]
    assert thread.decode() != threading.current_thread().name


async def test_a_body_over_the_limit_is_a_413() -> None:
    assert (await respond(Echo, b"0123456789a"))["status"] == 413


async def test_a_response_goes_on_from_messages(layer: InMemoryChannelLayer) -> None:
    log: list[str] = []
    wire = Stream()
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wire.run, News.as_asgi(log=log))
            await until(lambda: bool(list(layer.hub.members("news"))))
            for word in "one", "two", "end":
                await layer.group_send("news", {"type": "news", "text": word})
    assert wire.chunks == [b"", b"one", b"two", b"end"]
    assert log == ["disconnect"]
    assert_nothing_left(layer, "news")


async def test_a_client_that_leaves_ends_it_once(layer: InMemoryChannelLayer) -> None:
    log: list[str] = []
    wire = Stream()
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wire.run, News.as_asgi(log=log))
            wire.tell(LEFT)
    assert log == ["disconnect"]
    assert_nothing_left(layer, "news")


@pytest.mark.parametrize("stops", [False, True])
async def test_no_response_is_a_500_and_an_error_with_the_way_out(
    stops: bool, caplog: pytest.LogCaptureFixture
) -> None:
    class Silent(HttpConsumer):
        def handle(self, body: bytes) -> None:
            if stops:
                raise StopConsumer

    assert (await respond(Silent))["status"] == 500
    [record] = caplog.records
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], MisuseError)
    assert "call send_response()" in str(record.exc_info[1])


async def test_a_consumer_without_handle_says_so(caplog: pytest.LogCaptureFixture) -> None:
    assert (await respond(HttpConsumer))["status"] == 500
    assert caplog.records[0].exc_info is not None
    assert "HttpConsumer has no handle() method" in str(caplog.records[0].exc_info[1])


async def test_a_client_error_is_its_status() -> None:
    class Refuses(HttpConsumer):
        def handle(self, body: bytes) -> None:
            raise ClientError("what?")

    assert (await respond(Refuses))["status"] == 400


async def test_a_body_that_is_no_bytes_is_a_500_before_anything_is_sent(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Wrong(HttpConsumer):
        def handle(self, body: bytes) -> None:
            self.send_response(200, "text")  # type: ignore[arg-type]  # the mistake that is tested

    assert (await respond(Wrong))["status"] == 500
    assert caplog.records[0].exc_info is not None
    assert "use text.encode()" in str(caplog.records[0].exc_info[1])
