"""A server may cancel a connection at any await: nothing is left, and what began is ended once."""

from collections.abc import Coroutine, Generator
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from asgi_notify import AsyncWebsocketConsumer, InMemoryChannelLayer, WebsocketConsumer
from asgi_notify.sync import async_to_sync
from asgi_notify.testing import WebsocketCommunicator
from asgi_notify.types import Event
from tests.consumers.harness import CONNECT, Wire, assert_nothing_left, left, text

pytestmark = pytest.mark.anyio


class CancelAt:
    """Runs a coroutine, and cancels its scope where it waits for the n-th time."""

    def __init__(self, coroutine: Coroutine[Any, Any, None], scope: anyio.CancelScope, n: int):
        self.coroutine, self.scope, self.n = coroutine, scope, n

    def __await__(self) -> Generator[Any, Any, None]:
        step, value = self.coroutine.send, None
        while True:
            try:
                waits_for = step(value)
            except StopIteration:
                return
            self.n -= 1
            if self.n == 0:
                self.scope.cancel()
            try:
                step, value = self.coroutine.send, (yield waits_for)
            except BaseException as error:
                step, value = self.coroutine.throw, error


class Steps(AsyncWebsocketConsumer):
    """Waits at each step of its life."""

    groups = ("first",)

    def __init__(self, log: list[str]) -> None:
        super().__init__()
        self.log = log

    async def connect(self) -> None:
        self.log.append("connect")
        await checkpoint()
        await self.channel_layer.group_add("second", self.channel_name)
        await checkpoint()
        await self.accept()
        await checkpoint()
        await self.channel_layer.group_add("third", self.channel_name)
        await checkpoint()

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        await checkpoint()
        await self.send("answer")

    async def disconnect(self, code: int) -> None:
        await checkpoint()
        await self.channel_layer.group_discard("second", self.channel_name)
        await checkpoint()
        self.log.append("disconnect")


async def slow(event: Event) -> None:
    await checkpoint()


async def test_cancellation_at_every_await_leaves_nothing_and_disconnects_once(
    layer: InMemoryChannelLayer,
) -> None:
    logs: list[list[str]] = []
    for n in range(1, 1000):
        log, wire = list[str](), Wire(CONNECT, text("a"), left())
        wire.on_send = slow

        async def receive(wire: Wire = wire) -> Event:
            await checkpoint()
            return await wire.receive()

        with anyio.fail_after(20), anyio.CancelScope() as scope:
            app = Steps.as_asgi(log=log)
            await CancelAt(app(wire.scope, receive, wire.send), scope, n)
        assert log in ([], ["connect", "disconnect"]), f"cancelled at await {n}"
        assert_nothing_left(layer, "first", "second", "third")
        logs.append(log)
        if not scope.cancel_called:
            break
    assert len(logs) > 8  # it was cancelled before, within and after connect
    assert [] in logs


async def test_who_is_cancelled_before_the_accept_sends_no_refusal(
    layer: InMemoryChannelLayer,
) -> None:
    """The server answers as it likes; the client was not refused by the application."""
    begun, wire = anyio.Event(), Wire(CONNECT)

    class Slow(AsyncWebsocketConsumer):
        async def connect(self) -> None:
            begun.set()
            await anyio.sleep_forever()

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wire.run, Slow())
            await begun.wait()
            tasks.cancel_scope.cancel()
    assert wire.sent == []
    assert_nothing_left(layer)


async def test_a_server_that_cancels_natively_gets_its_disconnect(
    layer: InMemoryChannelLayer,
) -> None:
    log: list[str] = []
    async with WebsocketCommunicator(Steps.as_asgi(log=log), "/") as client:
        assert await client.connect() == (True, None)
        client.stop()
        with anyio.fail_after(20):
            while layer.hub.attached:
                await checkpoint()
    assert log == ["connect", "disconnect"]
    assert_nothing_left(layer, "first", "second", "third")


async def test_cancellation_waits_for_a_thread_before_it_disconnects(
    layer: InMemoryChannelLayer,
) -> None:
    log, begun, gate = list[str](), anyio.Event(), anyio.Event()

    async def hold() -> None:
        begun.set()
        with anyio.CancelScope(shield=True):
            await gate.wait()

    class Threaded(WebsocketConsumer):
        def connect(self) -> None:
            self.accept()

        def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
            log.append("begin receive")
            try:
                async_to_sync(hold)()
                async_to_sync(self.channel_layer.group_add)("all", self.channel_name)
            finally:
                log.append("end receive")

        def disconnect(self, code: int) -> None:
            log.append("disconnect")

    async with WebsocketCommunicator(Threaded(), "/") as client:
        assert await client.connect() == (True, None)
        await client.send_to("a")
        with anyio.fail_after(20):
            await begun.wait()
            client.stop()
            await anyio.wait_all_tasks_blocked()
            assert log == ["begin receive"]
            gate.set()
            while layer.hub.attached:
                await checkpoint()
    assert log == ["begin receive", "end receive", "disconnect"]
    assert_nothing_left(layer, "all")
