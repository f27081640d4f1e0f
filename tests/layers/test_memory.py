"""What the layer of a single process does about threads and event loops."""

import asyncio
import gc
import threading
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from asgi_notify import AsyncWebsocketConsumer
from asgi_notify.exceptions import LayerClosed, MisuseError
from asgi_notify.layers import History, InMemoryChannelLayer, Mailbox, Sent
from asgi_notify.types import Message
from tests.consumers.harness import CONNECT, Wire
from tests.loops import other_loop

from .tools import Clock, drops, read, waiting

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
            with pytest.raises(LayerClosed, match="flushed"):
                mailbox.pop()
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

    with anyio.fail_after(20):
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
    with anyio.fail_after(20):
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
        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(reader)
                await anyio.wait_all_tasks_blocked()
                await layer.group_send("room", number(1))

    anyio.run(give_up, backend=first)
    anyio.run(read_on, backend=second)
    assert got == [number(1)]


class Told:
    """A reader that is told, and does nothing."""

    def set(self) -> None:
        pass


async def hold_up(layer: InMemoryChannelLayer) -> None:
    """Make a consumer that senders wait for after three messages, and that never reads."""
    mailbox = await layer.attach()
    await layer.group_add("held", mailbox.channel)
    mailbox.watch(Told())


async def burst(layer: InMemoryChannelLayer) -> None:
    for n in range(layer.capacity + 1):
        await layer.group_send("held", number(n))


class Listening(AsyncWebsocketConsumer):
    """Waits for messages, as a real consumer does."""

    groups = ("room",)

    async def number(self, message: Message) -> None:
        pass


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("closes", [True, False])
@pytest.mark.parametrize("second", BACKENDS)
@pytest.mark.parametrize("stepping", ["0", "1"])
def test_a_loop_that_left_its_tasks_behind_holds_up_nobody(
    closes: bool, second: str, stepping: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither one that was closed without cancelling them, nor one that only stopped."""
    monkeypatch.setenv("ASGI_NOTIFY_STEPPING", stepping)
    layer, wire = InMemoryChannelLayer(capacity=2), Wire(CONNECT)
    loop = asyncio.new_event_loop()

    async def begin() -> list[asyncio.Task[Any]]:
        app = Listening.as_asgi(channel_layer=layer)
        await hold_up(layer)
        tasks: list[asyncio.Task[Any]] = [
            asyncio.create_task(wire.run(app)),
            asyncio.create_task(layer.receive("work")),
            asyncio.create_task(burst(layer)),
        ]
        await anyio.wait_all_tasks_blocked()
        assert (await layer.group_send("room", number(0))).reached == 1
        assert (await layer.group_send("room", number(0))).reached == 1
        return tasks

    async def go_on() -> None:
        with anyio.fail_after(20):
            for n in range(10):
                assert await layer.group_send("room", number(n)) == Sent(0, 0)
            gc.collect()  # by which Python ends what the loop left behind, where it was closed
            assert not layer.hub.is_read
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(layer.receive, "work")
                await anyio.wait_all_tasks_blocked()
                assert layer.hub.is_read
                await layer.send("work", number(1))
            assert not layer.hub.is_read
            mailbox = await join(layer)
            assert (await layer.group_send("room", number(2))).reached == 1
            assert waiting(mailbox) == [number(2)]

    left = loop.run_until_complete(begin())
    if closes:
        loop.close()
        left.clear()
    anyio.run(go_on, backend=second)
    if not closes:
        for task in left:
            task.cancel()
        loop.run_until_complete(asyncio.wait(left))
        loop.close()


@pytest.mark.parametrize("other", BACKENDS)
async def test_who_waits_for_a_consumer_in_another_loop_is_let_go_when_that_ends(
    other: str,
) -> None:
    layer = InMemoryChannelLayer(capacity=2)
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks, other_loop(other) as call:
            await call(hold_up, layer)
            tasks.start_soon(burst, layer)
            [mailbox] = layer.hub.attached
            while not mailbox.is_lagging:
                await checkpoint()
    assert await layer.group_send("held", number(1)) == Sent(0, 0)


@pytest.mark.parametrize("other", BACKENDS)
async def test_who_closes_a_layer_is_let_go_when_the_consumers_loop_ends(other: str) -> None:
    layer = InMemoryChannelLayer()
    with anyio.fail_after(8):  # less than a close may take
        async with anyio.create_task_group() as tasks, other_loop(other) as call:
            mailbox = await call(join, layer)
            tasks.start_soon(layer.close)
            while mailbox.error is None:
                await checkpoint()
    assert await layer.group_send("room", number(1)) == Sent(0, 0)


async def test_a_publisher_needs_no_loop_of_consumers() -> None:
    layer = InMemoryChannelLayer()
    await layer.group_add("room", "work")
    await layer.group_send("room", number(1))
    await layer.send("work", number(2))
    assert [await layer.receive("work") for _ in range(2)] == [number(1), number(2)]
    await layer.close()


# Leaves that are told when nobody asks.


def leaves(mailbox: Mailbox) -> list[str]:
    return [one["member"] for one in waiting(mailbox) if one["type"] == "presence.leave"]


@pytest.mark.parametrize("first", BACKENDS)
@pytest.mark.parametrize("second", BACKENDS)
def test_a_leave_that_is_due_after_its_loop_has_ended_is_told_in_the_next(
    first: str, second: str
) -> None:
    layer = InMemoryChannelLayer(presence_grace=0.05)

    async def leave() -> None:
        mailbox = await layer.attach()
        await layer.group_add("room", mailbox.channel, member="ada")
        layer.detach(mailbox)

    async def watch() -> None:
        mailbox = await layer.attach()
        await layer.presence_follow("room", mailbox.channel)
        with anyio.fail_after(20):
            assert await layer.presence_count("room") in (0, 1)
            while not leaves(mailbox) and await layer.presence_count("room"):
                await mailbox.wait()
        assert await layer.presence_count("room") == 0

    anyio.run(leave, backend=first)
    anyio.run(watch, backend=second)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_loop_ends_although_a_leave_is_to_be_told_in_it(backend: str) -> None:
    layer = InMemoryChannelLayer(presence_grace=0.01)

    async def leave() -> None:
        mailbox = await layer.attach()
        await layer.group_add("room", mailbox.channel, member="ada")
        layer.detach(mailbox)

    threads = set(threading.enumerate())
    anyio.run(leave, backend=backend)
    for thread in set(threading.enumerate()) - threads:
        if isinstance(thread, threading.Timer):
            thread.join(5)
            assert not thread.is_alive()
    assert drops(layer) == {}


async def test_a_closed_layer_has_no_timer_left() -> None:
    threads = set(threading.enumerate())
    async with InMemoryChannelLayer(presence_grace=1000) as layer:
        mailbox = await layer.attach()
        await layer.group_add("room", mailbox.channel, member="ada")
        layer.detach(mailbox)
    timers = [one for one in set(threading.enumerate()) - threads if "Timer" in type(one).__name__]
    for timer in timers:
        timer.join(5)
        assert not timer.is_alive()


async def test_without_a_loop_of_consumers_a_leave_is_told_when_presence_is_asked_for() -> None:
    clock = Clock()
    layer = InMemoryChannelLayer(presence_grace=5, clock=clock)
    await layer.presence_follow("room", "work")
    await layer.group_add("room", "tab", member="ada")
    await layer.group_discard("room", "tab")
    clock.move(5)
    assert await layer.presence_count("room") == 0
    assert (await layer.receive("work"))["type"] == "presence.join"
    assert (await layer.receive("work"))["type"] == "presence.leave"


def test_threads_that_publish_while_no_loop_has_the_layer_wait_for_each_other() -> None:
    both_inside = threading.Barrier(2)
    overlaps: list[bool] = []

    def clock() -> float:  # which the layer asks in the middle of each step
        try:
            both_inside.wait(0.1)
            overlaps.append(True)
        except threading.BrokenBarrierError:
            pass  # the other one did not come, now and whenever it is asked again
        return 1000.0

    layer = InMemoryChannelLayer(history={"room": History()}, clock=clock)
    threads = [
        threading.Thread(target=anyio.run, args=(layer.group_send, "room", number(n)))
        for n in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert not overlaps
    assert len(anyio.run(layer.history, "room").messages) == 2


async def test_more_leaves_than_are_told_in_one_go_are_all_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("asgi_notify.layers.presence_events.AT_ONCE", 2)
    async with InMemoryChannelLayer(presence_grace=0.05) as layer:
        watching = await layer.attach()
        await layer.presence_follow("room", watching.channel)
        members = [await layer.attach() for _ in range(7)]
        for mailbox in members:
            await layer.group_add("room", mailbox.channel, member=mailbox.channel)
        for mailbox in members:
            layer.detach(mailbox)
        told: list[str] = []
        with anyio.fail_after(20):
            while len(told) < 7:
                await watching.wait()
                told += leaves(watching)
        assert told == [mailbox.channel for mailbox in members]
        layer.detach(watching)


async def test_a_timer_that_rings_while_the_layer_is_flushed_does_nothing() -> None:
    layer = InMemoryChannelLayer(presence_grace=1000)
    mailbox = await layer.attach()
    await layer.group_add("room", mailbox.channel, member="ada")
    layer.detach(mailbox)
    events = vars(layer)["_presence_events"]
    assert vars(events)["_alarm"] is not None
    await layer.flush()
    events._ring()
    assert vars(events)["_alarm"] is None


async def test_many_who_join_at_once_let_a_follower_read_meanwhile() -> None:
    layer = InMemoryChannelLayer(capacity=5)
    watching = await layer.attach()
    await layer.presence_follow("room", watching.channel)
    told: list[str] = []

    async def reader() -> None:
        while len(told) < 50:
            told.append((await read(watching))["member"])

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(reader)
            await anyio.wait_all_tasks_blocked()
            for n in range(50):
                await layer.group_add("room", f"work.{n}", member=str(n))
                assert watching.unread <= 6
    assert told == [str(n) for n in range(50)]
    layer.detach(watching)
