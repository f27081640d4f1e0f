"""A method that is ``def`` where it should be ``async def``, or the other way round, is named."""

import logging
from typing import Any

import pytest

from asgi_notify import (
    AsyncConsumer,
    AsyncHttpConsumer,
    AsyncJsonWebsocketConsumer,
    AsyncSseConsumer,
    AsyncWebsocketConsumer,
    InMemoryChannelLayer,
    JsonWebsocketConsumer,
    Message,
    NotificationConsumer,
    URLRouter,
    WebsocketConsumer,
    path,
)
from asgi_notify.testing import HttpCommunicator, WebsocketCommunicator
from tests.consumers.harness import connected

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True, params=["steps", "plain"])
def stepping(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASGI_NOTIFY_STEPPING", "0" if request.param == "plain" else "1")


def plain(self: Any, *args: Any, **kwargs: Any) -> None:
    """What a handler is like that was written without ``async``."""


async def asynchronous(self: Any, *args: Any, **kwargs: Any) -> None:
    raise AssertionError("never awaited")


def own(base: type[Any], method: str, handler: Any = plain) -> type[Any]:
    return type("Own", (base,), {method: handler, "groups": ("all",)})


def sentence(method: str) -> str:
    return f"Own.{method}() returned None, which cannot be awaited: write `async def {method}`"


def failures(caplog: pytest.LogCaptureFixture) -> list[str]:
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    return [str(record.exc_info and record.exc_info[1]) for record in errors]


@pytest.mark.parametrize(
    ("base", "method"),
    [
        (AsyncWebsocketConsumer, "connect"),
        (AsyncWebsocketConsumer, "websocket_connect"),
        (AsyncJsonWebsocketConsumer, "connect"),
        (AsyncConsumer, "websocket_connect"),
    ],
)
async def test_a_socket_that_nobody_would_answer_is_refused(
    base: type[Any], method: str, layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    async with WebsocketCommunicator(own(base, method), "/") as client:
        assert await client.connect() == (False, 1011)
    assert failures(caplog) == [sentence(method)]


@pytest.mark.parametrize(
    ("base", "method"),
    [
        (AsyncWebsocketConsumer, "receive"),
        (AsyncWebsocketConsumer, "websocket_receive"),
        (AsyncJsonWebsocketConsumer, "receive"),
        (AsyncJsonWebsocketConsumer, "receive_json"),
        (AsyncJsonWebsocketConsumer, "decode_json"),
        (AsyncWebsocketConsumer, "chat_message"),
        (AsyncWebsocketConsumer, "connection_close"),
    ],
)
async def test_a_handler_closes_the_socket(
    base: type[Any], method: str, layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    async with connected(own(base, method)) as client:
        if method in ("chat_message", "connection_close"):
            await layer.group_send("all", {"type": method.replace("_", ".")})
        else:
            await client.send_to("{}")
        assert (await client.receive_output())["code"] == 1011
    assert failures(caplog) == [sentence(method)]


@pytest.mark.parametrize("method", ["disconnect", "websocket_disconnect"])
async def test_the_last_handler_is_in_the_log(
    method: str, layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    async with connected(own(AsyncWebsocketConsumer, method)):
        pass
    assert failures(caplog) == [sentence(method)]


async def test_the_spelling_of_json_is_awaited(
    layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    class Own(AsyncJsonWebsocketConsumer):
        def encode_json(self, content: object) -> str:  # type: ignore[override]
            return str(content)

        async def receive_json(self, content: object) -> None:
            await self.send_json(content)

    async with connected(Own) as client:
        await client.send_to("1")
        assert (await client.receive_output())["code"] == 1011
    [failure] = failures(caplog)
    assert failure.endswith("encode_json() returned '1', which cannot be awaited: "
                            "write `async def encode_json`")  # fmt: skip


@pytest.mark.parametrize(
    ("base", "method"),
    [
        (AsyncHttpConsumer, "handle"),
        (AsyncHttpConsumer, "http_request"),
        (AsyncSseConsumer, "connect"),
    ],
)
async def test_a_request_is_answered_500(
    base: type[Any], method: str, layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    async with HttpCommunicator(own(base, method), "GET", "/") as client:
        assert (await client.get_response())["status"] == 500
    assert failures(caplog) == [sentence(method)]


@pytest.mark.parametrize("base", [AsyncHttpConsumer, AsyncSseConsumer])
async def test_the_end_of_a_request_is_in_the_log(
    base: type[Any], layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    class Own(base):  # type: ignore[misc]
        disconnect = plain

        async def handle(self, body: bytes) -> None:
            if base is AsyncSseConsumer:
                await super().handle(body)
            await self.send_response(200, b"") if base is AsyncHttpConsumer else None

    Own.__qualname__ = "Own"
    async with HttpCommunicator(Own, "GET", "/") as client:
        await client.send_input({"type": "http.request"})
        assert (await client.receive_output())["status"] == 200
        await client.send_input({"type": "http.disconnect"})
        await client.wait()
    assert failures(caplog) == [sentence("disconnect")]


@pytest.mark.parametrize(
    ("method", "frame"), [("client_message", "hello"), ("send_notification", None)]
)
async def test_a_hook_of_notifications_closes_the_socket(
    method: str, frame: str | None, layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    app = URLRouter([path("<int:room_name>/", own(NotificationConsumer, method))])
    async with connected(app, "/7/") as client:
        if frame is not None:
            await client.send_to(frame)
        else:
            await layer.group_send("user_7", {"type": "send.notification", "data": "x"})
        assert (await client.receive_output())["code"] == 1011
    assert failures(caplog) == [sentence(method)]


async def test_a_plain_function_may_return_what_another_method_does(
    layer: InMemoryChannelLayer,
) -> None:
    class Brief(AsyncWebsocketConsumer):
        groups = ("all",)

        def note(self, message: Message) -> Any:
            return self.send(message["text"])

    async with connected(Brief) as client:
        await layer.group_send("all", {"type": "note", "text": "a"})
        assert await client.receive_from() == "a"


@pytest.mark.parametrize(
    ("base", "method"),
    [
        (WebsocketConsumer, "receive"),
        (WebsocketConsumer, "websocket_receive"),
        (JsonWebsocketConsumer, "receive_json"),
        (WebsocketConsumer, "chat_message"),
    ],
)
async def test_an_async_method_of_a_synchronous_consumer_closes_the_socket(
    base: type[Any], method: str, layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    async with connected(own(base, method, asynchronous)) as client:
        await client.send_to("{}")
        await layer.group_send("all", {"type": "chat.message"})
        assert (await client.receive_output(10))["code"] == 1011
    [failure] = failures(caplog)
    assert "is async, but a SyncConsumer calls plain functions: write `def`" in failure
