"""What the layer of a single process does about threads and event loops."""

import threading

import anyio
import pytest

from asgi_notify.exceptions import LayerClosed, MisuseError
from asgi_notify.layers import InMemoryChannelLayer, Mailbox, Sent
from asgi_notify.types import Message
from tests.loops import other_loop

from .tools import drops, read, waiting

pytestmark = pytest.mark.anyio

BACKENDS = ["asyncio", "trio"]


def number(n: int) -> Message:
    return {"type": "number", "n": n}


async def join(layer: InMemoryChannelLayer) -> Mailbox:
    mailbox = await layer.attach()
    await layer.group_add("room", mailbox.channel)
    return mailbox


# FIELD 22: one process, one loop.


@pytest.mark.parametrize("other", BACKENDS)
async def test_consumers_in_a_second_live_loop_are_told_how_to_share_a_layer(other: str) -> None:
    layer = InMemoryChannelLayer()
    mailbox = await join(layer)
    async with other_loop(other) as call:
        with pytest.raises(MisuseError, match=r"its own InMemoryChannelLayer, or share one"):
            await call(layer.attach)
        with pytest.raises(MisuseError, match=r"another event loop"):
            await call(layer.receive, "work")
        layer.detach(mailbox)
        await call(join, layer)


@pytest.mark.parametrize("other", BACKENDS)
async def test_a_second_loop_does_not_take_a_layer_from_a_waiting_reader(other: str) -> None:
    layer = InMemoryChannelLayer()
    got: list[Message] = []

    async def reader() -> None:
        got.append(await layer.receive("work"))

    with anyio.fail_after(10):
        async with other_loop(other) as call, anyio.create_task_group() as tasks:
            tasks.start_soon(reader)
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(MisuseError):
                await call(layer.receive, "other")
            await call(layer.send, "work", number(1))
    assert got == [number(1)]


@pytest.mark.parametrize("other", BACKENDS)
async def test_every_method_of_a_publisher_works_from_another_loop(other: str) -> None:
    layer = InMemoryChannelLayer()
    mailbox = await layer.attach()
    woken_in: list[int] = []

    async def reader() -> None:
        assert await read(mailbox) == number(1)
        woken_in.append(threading.get_ident())

    with anyio.fail_after(10):
        async with other_loop(other) as call, anyio.create_task_group() as tasks:
            tasks.start_soon(reader)
            await anyio.wait_all_tasks_blocked()
            await call(layer.group_add, "room", mailbox.channel)
            assert await call(layer.group_send, "room", number(1)) == Sent(1, 0)
            await call(layer.send, mailbox.channel, number(2))
            assert mailbox.channel != await call(layer.new_channel)
            await call(layer.group_discard, "room", mailbox.channel)
            assert await layer.group_send("room", number(3)) == Sent(0, 0)
            await anyio.wait_all_tasks_blocked()
            assert waiting(mailbox) == [number(2)]
            await call(layer.send, mailbox.channel, number(4))
            await call(layer.flush)
            assert waiting(mailbox) == []
    assert woken_in == [threading.get_ident()]
    layer.detach(mailbox)


@pytest.mark.parametrize("other", BACKENDS)
async def test_a_burst_from_another_loop_loses_nothing(other: str) -> None:
    layer = InMemoryChannelLayer(capacity=5)
    mailbox = await join(layer)
    got: list[int] = []

    async def reader() -> None:
        while len(got) < 100:
            got.append((await read(mailbox))["n"])

    async def burst() -> None:
        async with anyio.create_task_group() as tasks:
            for n in range(100):
                tasks.start_soon(layer.group_send, "room", number(n))

    with anyio.fail_after(20):
        async with other_loop(other) as call, anyio.create_task_group() as tasks:
            tasks.start_soon(reader)
            await anyio.wait_all_tasks_blocked()
            await call(burst)
    assert sorted(got) == list(range(100))
    assert not drops(layer)
    layer.detach(mailbox)


@pytest.mark.parametrize("other", BACKENDS)
async def test_a_close_from_another_loop_waits_for_the_consumers(other: str) -> None:
    layer = InMemoryChannelLayer()
    mailbox = await join(layer)
    steps: list[str] = []

    async def consumer() -> None:
        with pytest.raises(LayerClosed):
            await read(mailbox)
        steps.append("left")
        layer.detach(mailbox)

    with anyio.fail_after(5):
        async with other_loop(other) as call, anyio.create_task_group() as tasks:
            tasks.start_soon(consumer)
            await anyio.wait_all_tasks_blocked()
            await call(layer.close)
            steps.append("closed")
    assert steps == ["left", "closed"]


# Loops that have ended.


@pytest.mark.parametrize("first", BACKENDS)
@pytest.mark.parametrize("second", BACKENDS)
def test_a_layer_whose_loop_has_ended_serves_the_next(first: str, second: str) -> None:
    layer = InMemoryChannelLayer()

    async def whole_life(n: int) -> None:
        mailbox = await join(layer)
        assert (await layer.group_send("room", number(n))).reached == 1
        assert waiting(mailbox) == [number(n)]
        await layer.send("work", number(n))
        assert await layer.receive("work") == number(n)

    anyio.run(whole_life, 1, backend=first)  # its consumer never detaches
    anyio.run(whole_life, 2, backend=second)


@pytest.mark.parametrize("other", BACKENDS)
async def test_consumers_of_an_ended_loop_are_reached_no_more(other: str) -> None:
    layer = InMemoryChannelLayer()
    async with other_loop(other) as call:
        lost = await call(join, layer)
        assert (await layer.group_send("room", number(1))).reached == 1
    assert await layer.group_send("room", number(2)) == Sent(0, 0)
    layer.detach(lost)
    assert drops(layer) == {"left": 1}


@pytest.mark.parametrize("other", BACKENDS)
async def test_a_layer_can_be_closed_after_its_loop_has_ended(other: str) -> None:
    layer = InMemoryChannelLayer()
    async with other_loop(other) as call:
        await call(join, layer)
    with anyio.fail_after(5):
        await layer.close()
    await join(layer)


@pytest.mark.parametrize("first", BACKENDS)
@pytest.mark.parametrize("second", BACKENDS)
def test_a_channel_that_was_read_in_an_ended_loop_is_read_in_the_next(
    first: str, second: str
) -> None:
    layer = InMemoryChannelLayer()
    got: list[Message] = []

    async def give_up() -> None:
        await layer.group_add("room", "work")
        with anyio.move_on_after(0.01):
            await layer.receive("work")

    async def reader() -> None:
        got.append(await layer.receive("work"))

    async def read_on() -> None:
        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(reader)
                await anyio.wait_all_tasks_blocked()
                await layer.group_send("room", number(1))

    anyio.run(give_up, backend=first)
    anyio.run(read_on, backend=second)
    assert got == [number(1)]


async def test_a_publisher_needs_no_loop_of_consumers() -> None:
    layer = InMemoryChannelLayer()
    await layer.group_add("room", "work")
    await layer.group_send("room", number(1))
    await layer.send("work", number(2))
    assert [await layer.receive("work") for _ in range(2)] == [number(1), number(2)]
    await layer.close()
