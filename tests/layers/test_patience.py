"""Whether a sender waits for an engine that is away, fails at once, or may send again."""

from collections.abc import AsyncIterator, Callable, Collection
from contextlib import suppress
from typing import Any

import anyio
import pytest

from asgi_notify.exceptions import ConfigurationError, LayerUnavailable
from asgi_notify.layers import BaseChannelLayer, History, Mailbox
from asgi_notify.layers.engine import Published
from asgi_notify.layers.shared import EngineChannelLayer

from .double import DoubleEngine, Place
from .tools import Clock, number, numbers, waiting

pytestmark = pytest.mark.anyio

HISTORY = {"room*": History(size=50, ttl=60)}


@pytest.fixture
def make(clock: Clock) -> Callable[..., EngineChannelLayer]:
    place = Place(clock)

    def make(**options: Any) -> EngineChannelLayer:
        make_layer: Callable[..., EngineChannelLayer] = EngineChannelLayer
        return make_layer(lambda: DoubleEngine(place), history=HISTORY, **options)

    return make


@pytest.fixture(params=["group", "worker", "channel"])
def send(request: pytest.FixtureRequest) -> Callable[[BaseChannelLayer, str], Any]:
    """Sends number 1 to a group, to a fixed-name channel, or to another process's channel."""
    if request.param == "group":
        return lambda layer, channel: layer.group_send("room", number(1))
    if request.param == "worker":
        return lambda layer, channel: layer.send("work", number(1))
    return lambda layer, channel: layer.send(channel, number(1))


def engine_of(layer: EngineChannelLayer) -> DoubleEngine:
    assert layer._link is not None
    engine = layer._link.engine
    assert isinstance(engine, DoubleEngine)
    return engine


@pytest.fixture
async def other(make: Callable[..., EngineChannelLayer]) -> AsyncIterator[EngineChannelLayer]:
    async with make() as other:
        yield other


async def got(layer: EngineChannelLayer, mailbox: Mailbox, count: int) -> list[int]:
    with anyio.fail_after(20):
        found: list[int] = []
        while len(found) < count:
            found += numbers(waiting(mailbox))
            await anyio.lowlevel.checkpoint()
        return found


async def test_with_no_patience_a_send_fails_at_once_and_says_the_way_out(
    make: Callable[..., EngineChannelLayer], other: EngineChannelLayer, send: Any
) -> None:
    async with make(publish_timeout=0) as layer:
        there = await other.new_channel()
        engine_of(layer).cut()
        sentence = "nothing was sent to .* engine is away: somebody has cut .* publish_timeout"
        with anyio.fail_after(20), pytest.raises(LayerUnavailable, match=sentence):
            await send(layer, there)
        engine_of(layer).mend()
        await send(layer, there)


async def test_with_patience_a_send_waits_until_the_engine_is_back(
    make: Callable[..., EngineChannelLayer], other: EngineChannelLayer, send: Any
) -> None:
    async with make(publish_timeout=5) as layer, anyio.create_task_group() as tasks:
        there, mailbox = await other.new_channel(), await other.attach()
        await other.group_add("room", mailbox.channel)
        engine_of(layer).cut()
        tasks.start_soon(send, layer, there)
        await anyio.wait_all_tasks_blocked()
        engine_of(layer).mend()
        with anyio.fail_after(20):
            async with anyio.create_task_group() as readers:

                async def read(channel: str) -> None:
                    assert await other.receive(channel) == number(1)
                    readers.cancel_scope.cancel()

                async def look() -> None:
                    assert await got(other, mailbox, 1) == [1]
                    readers.cancel_scope.cancel()

                readers.start_soon(read, there)
                readers.start_soon(read, "work")
                readers.start_soon(look)
        other.detach(mailbox)


async def test_patience_ends(make: Callable[..., EngineChannelLayer]) -> None:
    async with make(publish_timeout=0.1) as layer:
        engine_of(layer).cut()
        begin = anyio.current_time()
        with pytest.raises(LayerUnavailable, match="nothing was sent to room"):
            await layer.group_send("room", number(1))
        assert 0.1 <= anyio.current_time() - begin < 4
        engine_of(layer).mend()


async def test_an_engine_that_does_not_answer_is_given_up_and_nobody_knows(
    make: Callable[..., EngineChannelLayer], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with make(publish_timeout=0.1) as layer:
        monkeypatch.setattr(engine_of(layer), "publish", lambda *_, **__: anyio.sleep_forever())
        sentence = "not answered in time .* nobody knows whether room was reached: send it again"
        with anyio.fail_after(20), pytest.raises(LayerUnavailable, match=sentence):
            await layer.group_send("room", number(1))


@pytest.mark.parametrize("key", [None, "once"])
async def test_what_was_sent_without_an_answer_is_sent_again_only_with_a_key(
    make: Callable[..., EngineChannelLayer],
    other: EngineChannelLayer,
    key: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with make(publish_timeout=5) as layer:
        mailbox = await other.attach()
        await other.group_add("room", mailbox.channel)
        engine, asked = engine_of(layer), 0

        async def publish(*args: Any, **options: Any) -> Published:
            nonlocal asked
            asked += 1
            published = await DoubleEngine.publish(engine, *args, **options)
            if asked <= 2:
                raise LayerUnavailable("the answer was lost")
            return published

        monkeypatch.setattr(engine, "publish", publish)
        if key is None:
            with pytest.raises(LayerUnavailable, match="the answer was lost"):
                await layer.group_send("room", number(1))
            assert asked == 1
        else:
            sent = await layer.group_send("room", number(1), idempotency_key=key)
            assert asked == 3
            assert sent.position is not None
            assert sent.position.offset == 1
        asked = 3
        await layer.group_send("room", number(2))
        assert await got(other, mailbox, 2) == [1, 2]
        other.detach(mailbox)


@pytest.mark.parametrize("patience", [-1, float("nan"), "1"])
def test_a_patience_that_makes_no_sense_is_refused(
    make: Callable[..., EngineChannelLayer], patience: object
) -> None:
    with pytest.raises(ConfigurationError, match="publish_timeout is a number of seconds from 0"):
        make(publish_timeout=patience)


# Joining.


async def test_joins_of_one_moment_are_one_call_of_the_engine(
    make: Callable[..., EngineChannelLayer], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with make() as layer:
        engine, calls = engine_of(layer), []

        async def subscribe(topics: Collection[str]) -> None:
            calls.append(len(topics))
            await DoubleEngine.subscribe(engine, topics)

        monkeypatch.setattr(engine, "subscribe", subscribe)
        mailbox = await layer.attach()
        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                for n in range(1000):
                    tasks.start_soon(layer.group_add, f"room_{n}", mailbox.channel)
        assert sum(calls) == 1000
        assert len(calls) <= 2
        assert mailbox.groups == {f"room_{n}" for n in range(1000)}
        layer.detach(mailbox)


async def test_no_join_waits_for_longer_than_the_timeout_for_a_silent_engine(
    make: Callable[..., EngineChannelLayer], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with make(timeout=0.3) as layer:
        engine, refused = engine_of(layer), []
        mailbox = await layer.attach()

        async def join(group: str) -> None:
            begin = anyio.current_time()
            with pytest.raises(LayerUnavailable, match=f"{group} could not be joined within 0.3 s"):
                await layer.group_add(group, mailbox.channel)
            refused.append(group)
            assert anyio.current_time() - begin < 5

        with monkeypatch.context() as patch, anyio.fail_after(10):
            patch.setattr(engine, "subscribe", lambda topics: anyio.sleep_forever())
            async with anyio.create_task_group() as tasks:
                for n in range(3):
                    tasks.start_soon(join, f"room_{n}")
                await anyio.wait_all_tasks_blocked()
                tasks.start_soon(join, "late")  # while the others wait for the engine
        assert set(refused) == {"room_0", "room_1", "room_2", "late"}
        assert mailbox.groups == set()
        with anyio.fail_after(20):
            for group in ("room_0", "late"):
                while group not in mailbox.groups:
                    with suppress(LayerUnavailable):  # what was asked for last may be under way
                        await layer.group_add(group, mailbox.channel)
        layer.detach(mailbox)
