"""The contract of threads: whoever publishes from wherever, clients resume as if it were here."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from threading import Event, Thread
from typing import Any

import anyio
import anyio.to_thread
import pytest
from anyio.lowlevel import checkpoint

from asgi_notify import async_to_sync
from asgi_notify.codec import FrozenMessage
from asgi_notify.exceptions import LayerUnavailable
from asgi_notify.layers import BaseChannelLayer, History
from asgi_notify.layers.engine import Published
from asgi_notify.layers.shared import EngineChannelLayer

from .conftest import MakeLayer
from .double import DoubleEngine, Place
from .tools import number, read

pytestmark = pytest.mark.anyio

THREADS = 4
EACH = 50  # messages of one thread


async def test_clients_resume_without_hole_or_repeat_while_threads_publish(
    make_layer: MakeLayer,
) -> None:
    layer = await make_layer(history={"room": History(size=THREADS * EACH)})
    first = await layer.attach()
    start = (await layer.group_add("room", first.channel)).position
    layer.detach(first)
    over: list[list[int]] = []

    def publish(thread: int) -> None:
        for n in range(EACH):
            async_to_sync(layer.group_send)("room", number(thread * EACH + n))

    async def client(patience: int) -> None:
        got: list[int] = []
        since = start
        while len(got) < THREADS * EACH:
            mailbox = await layer.attach()
            joined = await layer.group_add("room", mailbox.channel, since=since)
            assert joined.recovered
            for _ in range(min(patience, THREADS * EACH - len(got))):
                message = await read(mailbox)
                assert isinstance(message, FrozenMessage)
                assert message.position is not None
                since = message.position
                got.append(message["n"])
                assert since.offset == len(got)
            layer.detach(mailbox)
            await checkpoint()
        over.append(got)

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            for patience in (1, 7, 30):
                tasks.start_soon(client, patience)
            for thread in range(THREADS):
                tasks.start_soon(anyio.to_thread.run_sync, publish, thread)
    assert over[0] == over[1] == over[2], "all see the one order"
    assert sorted(over[0]) == list(range(THREADS * EACH))
    for thread in range(THREADS):
        own = [n for n in over[0] if n // EACH == thread]
        assert own == sorted(own), "one publisher's messages keep their order"


async def test_every_new_method_works_from_another_thread(kept: BaseChannelLayer) -> None:
    mailbox = await kept.attach()

    def call(func: Callable[..., Awaitable[object]], *args: object, **kwargs: object) -> object:
        return async_to_sync(func)(*args, **kwargs)

    def elsewhere() -> None:
        first = async_to_sync(kept.group_send)("room", number(1))
        call(kept.presence_follow, "room", mailbox.channel)
        joined = async_to_sync(kept.group_add)(
            "room", mailbox.channel, since=first.position, member="ada"
        )
        assert joined.recovered
        assert len(async_to_sync(kept.history)("room").messages) == 1
        assert async_to_sync(kept.presence)("room") == {mailbox.channel: None}
        assert async_to_sync(kept.presence_count)("room") == 1
        call(kept.presence_unfollow, "room", mailbox.channel)

    with anyio.fail_after(10):
        await anyio.to_thread.run_sync(elsewhere)
        assert (await read(mailbox))["type"] == "presence.join"
    kept.detach(mailbox)


async def test_what_was_on_its_way_when_its_loop_ended_is_not_sent_twice() -> None:
    place, on_its_way = Place(time.monotonic), Event()
    sent: list[str] = []

    class Slow(DoubleEngine):
        async def publish(self, topic: str, payload: bytes, **options: Any) -> Published:
            sent.append(topic)
            on_its_way.set()
            await anyio.sleep(60)
            raise AssertionError("its loop has ended")

    layer = EngineChannelLayer(lambda: Slow(place))
    failed: list[Exception] = []

    def publish() -> None:
        try:
            asyncio.run(layer.group_send("room", {"type": "x"}))
        except LayerUnavailable as error:
            failed.append(error)

    async def consume() -> None:
        await layer.attach()
        thread.start()
        await asyncio.to_thread(on_its_way.wait, 10)

    thread = Thread(target=publish)
    await anyio.to_thread.run_sync(asyncio.run, consume())
    await anyio.to_thread.run_sync(thread.join, 10)
    assert sent == ["room"]
    assert [str(error)[:27] for error in failed] == ["the event loop ended in whi"]
