"""The tasks beside the one that handles: they end with the connection, whoever ends it, and how."""

import asyncio
from contextlib import suppress

import anyio
import pytest
from anyio.lowlevel import checkpoint

from asgi_notify import AsyncWebsocketConsumer, InMemoryChannelLayer, Message, MisuseError
from asgi_notify.types import Event, Receive
from tests.consumers.harness import CONNECT, Wire, assert_nothing_left, left

pytestmark = pytest.mark.anyio


class Working(AsyncWebsocketConsumer):
    """Has a task of its own, which notes how it ends."""

    def __init__(self, log: list[str]) -> None:
        super().__init__()
        self.log = log

    async def connect(self) -> None:
        await self.accept()
        self.start_soon(self.work)

    async def work(self) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            self.log.append("cancelled")

    async def disconnect(self, code: int) -> None:
        self.log.append("disconnect")


async def until_open(wire: Wire) -> None:
    while not wire.sent:
        await checkpoint()


async def test_a_task_that_is_cancelled_stays_cancelled_until_it_has_ended(
    layer: InMemoryChannelLayer,
) -> None:
    class Stubborn(Working):
        async def work(self) -> None:
            for _ in range(3):  # asyncio by itself would cancel it once
                with suppress(anyio.get_cancelled_exc_class()):
                    await anyio.sleep_forever()
                self.log.append("cancelled")
            await anyio.sleep_forever()

    log, wire = list[str](), Wire(CONNECT)
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wire.run, Stubborn(log))
            await until_open(wire)
            wire.tell(left())
    assert log == ["disconnect", *["cancelled"] * 3]
    assert_nothing_left(layer)


async def test_a_task_tidies_up_in_a_shield_before_the_connection_has_ended(
    layer: InMemoryChannelLayer,
) -> None:
    class Tidy(Working):
        async def work(self) -> None:
            try:
                await anyio.sleep_forever()
            finally:
                with anyio.CancelScope(shield=True):
                    await checkpoint()
                    await checkpoint()
                    self.log.append("tidy")

    log, wire = list[str](), Wire(CONNECT)
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wire.run, Tidy(log))
            await until_open(wire)
            tasks.cancel_scope.cancel()
    assert log == ["disconnect", "tidy"] or log == ["tidy", "disconnect"]
    assert_nothing_left(layer)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # where servers cancel tasks of their own
async def test_a_server_that_cancels_twice_has_to_wait_for_their_end(
    layer: InMemoryChannelLayer,
) -> None:
    class Slow(Working):
        async def work(self) -> None:
            try:
                await anyio.sleep_forever()
            finally:
                with anyio.CancelScope(shield=True):
                    is_ending.set()
                    await may_end.wait()
                self.log.append("over")

    is_ending, may_end = anyio.Event(), anyio.Event()
    log, wire = list[str](), Wire(CONNECT)
    with anyio.fail_after(20):
        serving = asyncio.create_task(wire.run(Slow(log)))
        await until_open(wire)
        serving.cancel()
        await is_ending.wait()
        serving.cancel()
        await anyio.wait_all_tasks_blocked()
        assert not serving.done()
        may_end.set()
        await asyncio.wait([serving])
    assert serving.cancelled()
    assert log == ["disconnect", "over"]
    assert_nothing_left(layer)


async def test_a_receive_that_goes_on_when_it_is_cancelled_is_cancelled_again(
    layer: InMemoryChannelLayer,
) -> None:
    class Closes(AsyncWebsocketConsumer):
        async def connect(self) -> None:
            await self.accept()
            await anyio.wait_all_tasks_blocked()
            await self.close()

    wire, cancellations = Wire(CONNECT), 0

    async def receive() -> Event:
        nonlocal cancellations
        while True:
            try:
                return await wire.receive()
            except anyio.get_cancelled_exc_class():
                cancellations += 1
                if cancellations == 3:
                    raise

    with anyio.fail_after(20):
        await Closes()(wire.scope, receive, wire.send)
    assert cancellations == 3
    assert wire.close is not None
    assert_nothing_left(layer)


async def test_there_is_none_before_the_connection_and_none_after_it(
    layer: InMemoryChannelLayer,
) -> None:
    consumers: list[AsyncWebsocketConsumer] = []

    async def work() -> None:
        raise AssertionError("it was started")

    class Early(AsyncWebsocketConsumer):
        def wrap_receive(self, receive: Receive) -> Receive:
            with pytest.raises(MisuseError, match="no connection yet"):
                self.start_soon(work)
            consumers.append(self)
            return super().wrap_receive(receive)

    with anyio.fail_after(20):
        await Wire(CONNECT, left()).run(Early())
    with pytest.raises(MisuseError, match="has ended"):
        consumers[0].start_soon(work)
    assert_nothing_left(layer)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # where a future may be cancelled
async def test_a_receive_that_is_cancelled_by_the_server_ends_the_reading_alone(
    layer: InMemoryChannelLayer,
) -> None:
    class Closing(AsyncWebsocketConsumer):
        async def note(self, message: Message) -> None:
            await self.close()

    wire = Wire(CONNECT)

    async def receive() -> Event:
        if wire.sent:
            raise asyncio.CancelledError
        return await wire.receive()

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(Closing(), wire.scope, receive, wire.send)
            await until_open(wire)
            await anyio.wait_all_tasks_blocked()
            for mailbox in layer.hub.attached:
                await layer.send(mailbox.channel, {"type": "note"})
    assert wire.close is not None
    assert_nothing_left(layer)
