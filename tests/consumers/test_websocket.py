"""The methods of the WebSocket consumers, async and sync, as Channels' documentation has them."""

from collections.abc import Callable
from typing import Any

import anyio
import pytest

from asgi_notify import (
    AsyncWebsocketConsumer,
    InMemoryChannelLayer,
    MisuseError,
    WebsocketConsumer,
)
from asgi_notify.asgi import header
from asgi_notify.testing import WebsocketCommunicator
from asgi_notify.types import Event
from tests.consumers.harness import CONNECT, Wire, connected, text

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("layer")]

Script = Callable[[Any], object]
"""What a handler does; its result is awaited in an async consumer."""


def consumer(base: Any, *, connect: Script | None = None, receive: Script | None = None) -> Any:
    """A consumer class of either kind whose handlers do this."""
    if issubclass(base, AsyncWebsocketConsumer):

        class Async(AsyncWebsocketConsumer):
            async def connect(self) -> None:
                await (connect(self) if connect else self.accept())  # type: ignore[misc]

            async def receive(
                self, text_data: str | None = None, bytes_data: bytes | None = None
            ) -> None:
                assert receive is not None
                await receive(self)  # type: ignore[misc]

        return Async

    class Sync(WebsocketConsumer):
        def connect(self) -> None:
            if connect:
                connect(self)
            else:
                self.accept()

        def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
            assert receive is not None
            receive(self)

    return Sync


both = pytest.mark.parametrize("base", [AsyncWebsocketConsumer, WebsocketConsumer])


async def first_output(app: Any) -> Event:
    async with connected(app) as client:
        await client.send_to("go")
        return await client.receive_output()


@both
async def test_an_empty_consumer_accepts_listens_and_ends(base: Any) -> None:
    async with connected(base) as client:
        await client.send_to("a")
        await client.send_to(bytes_data=b"a")
        assert await client.receive_nothing(0.01)


@both
async def test_accept_takes_a_subprotocol_and_headers(base: Any) -> None:
    app = consumer(base, connect=lambda self: self.accept("v2", headers=[(b"x-a", b"1")]))
    async with WebsocketCommunicator(app, "/", subprotocols=["v1", "v2"]) as client:
        assert await client.connect() == (True, "v2")
        assert client.response_headers == [(b"x-a", b"1")]


@both
@pytest.mark.parametrize(
    ("script", "event"),
    [
        (lambda self: self.send("a"), {"type": "websocket.send", "text": "a"}),
        (lambda self: self.send(text_data=""), {"type": "websocket.send", "text": ""}),
        (lambda self: self.send(bytes_data=b"\0"), {"type": "websocket.send", "bytes": b"\0"}),
        (lambda self: self.send("a", b"b"), {"type": "websocket.send", "text": "a"}),
        (lambda self: self.close(), {"type": "websocket.close", "code": 1000, "reason": ""}),
        (lambda self: self.close(True), {"type": "websocket.close", "code": 1000, "reason": ""}),
        (
            lambda self: self.close(code=4001, reason="bye"),
            {"type": "websocket.close", "code": 4001, "reason": "bye"},
        ),
    ],
)
async def test_what_send_and_close_send(base: Any, script: Script, event: Event) -> None:
    assert await first_output(consumer(base, receive=script)) == event


@both
@pytest.mark.parametrize(("close", "code"), [(True, 1000), (4001, 4001)])
async def test_send_closes_afterwards_if_told(base: Any, close: Any, code: int) -> None:
    app = consumer(base, receive=lambda self: self.send("last", close=close))
    async with connected(app) as client:
        await client.send_to("go")
        assert await client.receive_from() == "last"
        event = await client.receive_output()
        assert (event["type"], event["code"]) == ("websocket.close", code)
        await client.wait()


@both
async def test_close_in_connect_refuses(base: Any) -> None:
    app = consumer(base, connect=lambda self: self.close(4003))
    async with WebsocketCommunicator(app, "/") as client:
        assert await client.connect() == (False, 4003)
        await client.wait()


@both
async def test_a_reason_too_long_for_a_close_frame_is_cut_between_characters(base: Any) -> None:
    app = consumer(base, receive=lambda self: self.close(4001, "é" * 100))
    assert (await first_output(app))["reason"] == "é" * 61


@both
@pytest.mark.parametrize(
    ("connect", "sentence"),
    [
        (lambda self: self.send("a"), "call accept() first"),
        (lambda self: self.send(), "send() takes text_data or bytes_data"),
    ],
)
async def test_misuse_is_an_error_with_the_way_out(
    base: Any, connect: Script, sentence: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with WebsocketCommunicator(consumer(base, connect=connect), "/") as client:
        assert await client.connect() == (False, 1011)
    [record] = caplog.records
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], MisuseError)
    assert sentence in str(record.exc_info[1])


@both
async def test_accepting_twice_is_an_error(base: Any, caplog: pytest.LogCaptureFixture) -> None:
    event = await first_output(consumer(base, receive=lambda self: self.accept()))
    assert event["code"] == 1011
    [record] = caplog.records
    assert record.exc_info is not None
    assert "it was accepted already" in str(record.exc_info[1])


@both
async def test_a_frame_over_the_limit_closes_with_1009(base: Any) -> None:
    app = consumer(base, receive=lambda self: self.send("taken"))
    app.max_message_size = 4
    for frame in {"text_data": "éé"}, {"bytes_data": b"1234"}:
        async with connected(app) as client:
            await client.send_to(**frame)
            assert await client.receive_from() == "taken"
    for frame in {"text_data": "ééa"}, {"bytes_data": b"12345"}:
        async with connected(app) as client:
            await client.send_to(**frame)
            event = await client.receive_output()
            assert event["code"] == 1009
            assert event["reason"] == "a message of 5 bytes; at most 4 are taken"


async def test_each_method_may_be_overridden_and_call_its_super() -> None:
    log: list[str] = []

    class Calls(AsyncWebsocketConsumer):
        async def websocket_connect(self, message: Event) -> None:
            log.append("websocket_connect")
            await super().websocket_connect(message)

        async def websocket_receive(self, message: Event) -> None:
            log.append("websocket_receive")
            await super().websocket_receive(message)

        async def websocket_disconnect(self, message: Event) -> None:
            log.append("websocket_disconnect")
            await super().websocket_disconnect(message)

        async def connect(self) -> None:
            await super().connect()

        async def receive(
            self, text_data: str | None = None, bytes_data: bytes | None = None
        ) -> None:
            await super().receive(text_data, bytes_data)
            await self.send(text_data, bytes_data)

        async def disconnect(self, code: int) -> None:
            await super().disconnect(code)
            log.append(str(code))

        async def accept(self, *args: Any, **kwargs: Any) -> None:
            log.append("accept")
            await super().accept(*args, **kwargs)

        async def send(self, *args: Any, **kwargs: Any) -> None:
            log.append("send")
            await super().send(*args, **kwargs)

        async def close(self, *args: Any, **kwargs: Any) -> None:
            log.append("close")
            await super().close(*args, **kwargs)

    class CallsInThread(WebsocketConsumer):
        def websocket_connect(self, message: Event) -> None:
            log.append("websocket_connect")
            super().websocket_connect(message)

        def websocket_receive(self, message: Event) -> None:
            log.append("websocket_receive")
            super().websocket_receive(message)

        def websocket_disconnect(self, message: Event) -> None:
            log.append("websocket_disconnect")
            super().websocket_disconnect(message)

        def connect(self) -> None:
            super().connect()

        def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
            super().receive(text_data, bytes_data)
            self.send(text_data, bytes_data)

        def disconnect(self, code: int) -> None:
            super().disconnect(code)
            log.append(str(code))

        def accept(self, *args: Any, **kwargs: Any) -> None:
            log.append("accept")
            super().accept(*args, **kwargs)

        def send(self, *args: Any, **kwargs: Any) -> None:
            log.append("send")
            super().send(*args, **kwargs)

    for app in Calls, CallsInThread:
        async with connected(app) as client:
            await client.send_to("a")
            assert await client.receive_from() == "a"
            await client.disconnect(1001)
        assert log == [
            "websocket_connect", "accept", "websocket_receive", "send",
            "websocket_disconnect", "1001",
        ]  # fmt: skip
        log.clear()


async def test_headers_that_are_not_ascii_are_read_as_they_came() -> None:
    class Reads(AsyncWebsocketConsumer):
        async def connect(self) -> None:
            await self.accept()
            await self.send(header(self.scope, b"x-name"))

    async with connected(Reads, headers=[(b"x-name", b"caf\xe9 \xff")]) as client:
        assert await client.receive_from() == "café ÿ"


async def test_a_frame_with_neither_text_nor_bytes_is_received_as_nothing() -> None:
    seen: list[object] = []

    class Sees(AsyncWebsocketConsumer):
        async def receive(
            self, text_data: str | None = None, bytes_data: bytes | None = None
        ) -> None:
            seen.append((text_data, bytes_data))
            await self.close()

    await Wire(CONNECT, {"type": "websocket.receive"}).run(Sees())
    assert seen == [(None, None)]


async def test_a_consumer_sends_on_its_own_after_a_message_from_anywhere(
    layer: InMemoryChannelLayer,
) -> None:
    class Ticker(AsyncWebsocketConsumer):
        async def tick(self, message: Event) -> None:
            await self.send(str(message["n"]))

    wire = Wire(CONNECT)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wire.run, Ticker())
        await anyio.wait_all_tasks_blocked()
        [mailbox] = layer.hub.attached
        await layer.send(mailbox.channel, {"type": "tick", "n": 1})
        await anyio.wait_all_tasks_blocked()
        wire.tell(text("ignored"), {"type": "websocket.disconnect", "code": 1000})
    assert wire.texts == ["1"]
