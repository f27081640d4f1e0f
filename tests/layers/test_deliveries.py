"""A message of a fixed-name channel is one reader's until it is handled, and then nobody's."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import anyio
import pytest

from asgi_notify import ChannelNameRouter, LayerUnavailable, Receive, Scope, Send, Worker
from asgi_notify import worker as worker_module
from asgi_notify.layers import BaseChannelLayer
from asgi_notify.layers.engine import Held
from asgi_notify.layers.packing import TO_MEMBERS
from asgi_notify.layers.shared import EngineChannelLayer

from .double import DoubleEngine, DoubleLayer, Place
from .tools import Clock, drops, number

pytestmark = pytest.mark.anyio

Start = Callable[..., Awaitable[EngineChannelLayer]]

VISIBILITY = 10.0  # seconds


@pytest.fixture
def place(clock: Clock) -> Place:
    return Place(clock)


@pytest.fixture
async def start(anyio_backend: str, place: Place, clock: Clock) -> AsyncIterator[Start]:
    """Starts layers that stand for processes."""
    async with AsyncExitStack() as stack:

        async def start(**options: object) -> EngineChannelLayer:
            options.setdefault("visibility_timeout", VISIBILITY)
            return await stack.enter_async_context(DoubleLayer(place, clock=clock, **options))

        yield start


def engine_of(layer: EngineChannelLayer) -> DoubleEngine:
    assert layer._link is not None
    engine = layer._link.engine
    assert isinstance(engine, DoubleEngine)
    return engine


async def is_empty(layer: BaseChannelLayer) -> bool:
    with anyio.move_on_after(0.1):
        await layer.receive("work")
        return False
    return True


async def die_of_one(place: Place, clock: Clock) -> None:
    """A process takes a message, and is gone; its time to handle it passes."""
    async with DoubleLayer(place, clock=clock, visibility_timeout=VISIBILITY) as dead:
        with anyio.fail_after(20):
            await dead.take("work")
    clock.move(VISIBILITY + 1)


# The contract of every layer.


async def test_each_message_is_taken_once(layer: BaseChannelLayer) -> None:
    for n in range(3):
        await layer.send("work", number(n))
    with anyio.fail_after(20):
        first = await layer.take("work")
        async with await layer.take("work") as message:
            assert message == number(1)
        async with first as message:
            assert message == number(0)
        assert first.attempt == 1
        assert (await layer.receive("work")) == number(2)
    assert await is_empty(layer)


async def test_a_failure_passes_through_and_the_message_is_not_tried_again(
    layer: BaseChannelLayer, clock: Clock
) -> None:
    await layer.send("work", number(1))
    with pytest.raises(LookupError):
        async with await layer.take("work"):
            raise LookupError
    clock.move(VISIBILITY)
    assert await is_empty(layer)


async def test_a_channel_of_ones_own_is_taken_from_as_well(layer: BaseChannelLayer) -> None:
    channel = await layer.new_channel()
    await layer.send(channel, number(1))
    async with await layer.take(channel) as message:
        assert message == number(1)


# What several processes promise.


async def test_what_a_dead_process_had_is_given_to_another(
    start: Start, place: Place, clock: Clock
) -> None:
    layer = await start()
    await layer.send("work", number(1))
    await die_of_one(place, clock)
    with anyio.fail_after(20):
        delivery = await layer.take("work")
        async with delivery as message:
            assert message == number(1)
            assert delivery.attempt == 2
    clock.move(VISIBILITY * 10)
    assert await is_empty(layer)


async def test_what_is_received_is_lost_with_its_process(start: Start, clock: Clock) -> None:
    dead, layer = await start(), await start()
    await layer.send("work", number(1))
    with anyio.fail_after(20):
        assert await dead.receive("work") == number(1)
    clock.move(VISIBILITY * 10)
    assert await is_empty(layer)


async def test_what_is_cut_off_is_given_back_at_once_and_counts_as_no_attempt(
    start: Start,
) -> None:
    first, second = await start(), await start()
    await first.send("work", number(1))
    for layer in (first, second, first):
        with anyio.fail_after(20), anyio.CancelScope() as scope:
            delivery = await layer.take("work")
            assert delivery.attempt == 1
            async with delivery:
                scope.cancel()
                await anyio.sleep_forever()
    with anyio.fail_after(20):
        assert await second.receive("work") == number(1)


async def test_a_handler_may_take_longer_than_the_timeout(
    start: Start, place: Place, clock: Clock
) -> None:
    slow, other = await start(visibility_timeout=0.03), await start()
    await slow.send("work", number(1))
    with anyio.fail_after(20):
        async with await slow.take("work"):
            for _ in range(10):
                clock.move(0.02)
                while min(held[0] for held in place.held.values()) < clock.now + 0.03:  # noqa: ASYNC110
                    await anyio.sleep(0.002)
            assert await is_empty(other)
    assert place.held == {}


async def test_a_message_that_its_readers_do_not_survive_is_dropped(
    start: Start, place: Place, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    layer = await start(delivery_limit=2)
    await layer.send("work", number(1))
    for _ in range(2):
        await die_of_one(place, clock)
    await layer.send("work", number(2))
    with anyio.fail_after(20):
        async with await layer.take("work") as message:
            assert message == number(2)
    assert drops(layer) == {"undeliverable": 1}
    assert "a message of work is dropped: all 2 processes that were to handle it" in caplog.text
    assert place.held == {}


async def test_who_cannot_say_that_it_is_done_goes_on(
    start: Start, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    layer, other = await start(), await start()
    await layer.send("work", number(1))
    with anyio.fail_after(20):
        async with await layer.take("work"):
            engine_of(layer).cut()
    assert "number was handled, and will be again: nobody could be told" in caplog.text
    clock.move(VISIBILITY + 1)
    with anyio.fail_after(20):
        assert await other.receive("work") == number(1)
    engine_of(layer).mend()


async def test_a_reader_learns_that_the_engine_is_away(start: Start) -> None:
    layer = await start()
    engine_of(layer).cut()
    for ask in (layer.receive, layer.take):
        with pytest.raises(LayerUnavailable), anyio.fail_after(20):
            await ask("work")
    engine_of(layer).mend()


# Workers.


class Jobs:
    """An application whose jobs wait until they may end."""

    def __init__(self) -> None:
        self.began: list[int] = []
        self.may_end = anyio.Event()
        self._changed = anyio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.began.append((await receive())["n"])
        self._changed.set()
        self._changed = anyio.Event()
        await self.may_end.wait()

    async def until(self, *began: int) -> None:
        with anyio.fail_after(20):
            while self.began != list(began):
                await self._changed.wait()


@pytest.mark.parametrize("at_most_once", [False, True])
async def test_a_message_that_a_worker_was_handling_is_given_back_where_that_is_asked_for(
    start: Start, at_most_once: bool, caplog: pytest.LogCaptureFixture
) -> None:
    layer, other = await start(), await start()
    jobs = Jobs()
    worker = Worker(
        ChannelNameRouter({"work": jobs}), layer=layer, shutdown_timeout=0,
        at_most_once=at_most_once,
    )  # fmt: skip
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(worker.run)
        await layer.send("work", number(1))
        await jobs.until(1)
        worker.stop()
    assert "number was cut off" in caplog.text
    if at_most_once:
        assert await is_empty(other)
    else:
        with anyio.fail_after(20):
            assert await other.receive("work") == number(1)


async def test_a_worker_waits_while_the_engine_is_away(
    start: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(worker_module, "RETRY", 0.001)
    caplog.set_level(logging.ERROR, "asgi_notify.worker")
    layer, other = await start(), await start()
    jobs = Jobs()
    jobs.may_end.set()
    worker = Worker(ChannelNameRouter({"work": jobs}), layer=layer)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(worker.run)
        for n in range(3):
            await other.send("work", number(n))
            await jobs.until(*range(n + 1))
            engine_of(layer).cut()
            await anyio.sleep(0.02)
            engine_of(layer).mend()
        worker.stop()
    assert [record for record in caplog.records if record.name == "asgi_notify.worker"] == []


async def test_a_message_of_a_group_is_not_lost_where_another_cannot_be_given_back(
    start: Start,
) -> None:
    layer = await start()
    engine = engine_of(layer)
    payload = layer._packing.pack(TO_MEMBERS, number(2), "!work")

    async def pull(channel: str, hold: float) -> Held:
        layer.hub.send(channel, number(1))  # as one of a group comes in the same moment
        return Held("token", payload)

    async def release(channel: str, token: object) -> None:
        raise LayerUnavailable("away")

    engine.pull, engine.release = pull, release  # type: ignore[method-assign]
    with anyio.fail_after(20):
        assert await layer.receive("work") == number(1)
