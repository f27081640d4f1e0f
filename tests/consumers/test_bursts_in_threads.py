"""A burst for synchronous consumers: who is prompt loses nothing, who blocks holds up nobody.

All of it holds whichever way a handler comes into its thread.
"""

import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from asgi_notify import (
    ClientError,
    InMemoryChannelLayer,
    Message,
    WebsocketConsumer,
    async_to_sync,
)
from asgi_notify.layers import pace
from asgi_notify.layers.pace import pace_of_loop
from asgi_notify.sync import handler_limiter
from asgi_notify.types import Event
from tests.consumers.harness import left
from tests.consumers.test_bursts import Room, in_room, until

pytestmark = pytest.mark.anyio

WAYS = {
    "lane": ("asyncio", "1", "1"),
    "lane without steps": ("asyncio", "0", "1"),
    "plain": ("asyncio", "1", "0"),
    "trio": ("trio", "1", "1"),
}

LOOKS = 100  # a fifth of that is enough where the machine has nothing else to do


@pytest.fixture(params=WAYS)
def anyio_backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each way into a thread."""
    backend, stepping, lane = WAYS[request.param]
    monkeypatch.setenv("ASGI_NOTIFY_STEPPING", stepping)
    monkeypatch.setenv("ASGI_NOTIFY_SYNC_LANE", lane)
    return backend


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tell who is prompt from who blocks also where other programs take the processor's time."""
    monkeypatch.setattr(pace, "LOOK", 0.1)


class Reads(WebsocketConsumer):
    """Handles each message at once."""

    groups = ("all",)

    def __init__(self, got: list[int]) -> None:
        super().__init__()
        self.got = got

    def note(self, message: Message) -> None:
        self.got.append(message["n"])


class Sends(Reads):
    """Sends each message on."""

    def note(self, message: Message) -> None:
        self.got.append(message["n"])
        self.send("x")


class Gate:
    """Where handlers stop until a test opens it."""

    def __init__(self) -> None:
        self._opened = threading.Event()
        self.passing = 0

    def open(self) -> None:
        self._opened.set()

    def stop(self) -> None:
        self.passing += 1
        assert self._opened.wait(60)


async def in_room_with(
    gate: Gate, app: Any, capacity: int, members: int, test: Callable[[Room], Awaitable[None]]
) -> None:
    """What `in_room` does, with a gate that is open at the end, so that no thread stays there."""

    async def opening(room: Room) -> None:
        try:
            await test(room)
        finally:
            gate.open()

    await in_room(app, capacity, members, opening)


def blocking(gate: Gate, **attributes: Any) -> type[Reads]:
    """A consumer whose handlers of messages stop at a gate."""

    class Blocks(Reads):
        def note(self, message: Message) -> None:
            gate.stop()
            super().note(message)

    for name, value in attributes.items():
        setattr(Blocks, name, value)
    return Blocks


def codes(room: Room) -> list[int | None]:
    """What each connection was closed with."""
    return [close["code"] if close else None for close in room.closes]


@pytest.mark.parametrize(
    ("app", "capacity"), [(Sends, 10), *((Reads, size) for size in [1, 100, 999, 1000])]
)
@pytest.mark.usefixtures("patience")
async def test_a_prompt_handler_loses_nothing_of_a_burst_and_little_of_it_waits(
    app: type[Reads], capacity: int
) -> None:
    got: list[int] = []
    count = capacity + 200

    async def burst(room: Room) -> None:
        sent = await room.send(0, count)
        assert {(one.reached, one.dropped) for one in sent} == {(1, 0)}
        await until(lambda: len(got) == count)
        assert got == list(range(count))
        assert room.closes == [None]
        assert room.most <= capacity + 1

    await in_room(app.as_asgi(got=got), capacity, 1, burst)


@pytest.mark.parametrize("anyio_backend", ["lane", "lane without steps"], indirect=True)
@pytest.mark.usefixtures("patience")
async def test_the_same_for_a_large_mailbox() -> None:
    got: list[int] = []

    async def burst(room: Room) -> None:
        await room.send(0, 5050)
        await until(lambda: len(got) == 5050)
        assert room.closes == [None]

    await in_room(Reads.as_asgi(got=got), 5000, 1, burst)


@pytest.mark.usefixtures("patience")
async def test_the_same_for_many_consumers_and_several_publishers_with_default_settings() -> None:
    got: list[int] = []
    members, publishers, count = 8, 3, 60

    async def burst(room: Room) -> None:
        capacity = room.mailboxes[0].capacity
        async with anyio.create_task_group() as tasks:
            for number in range(publishers):
                tasks.start_soon(room.send, number * count, count)
        await until(lambda: len(got) == members * publishers * count)
        assert codes(room) == [None] * members
        assert room.most <= capacity + publishers
        assert not room.layer.hub.drops

    await in_room(Sends.as_asgi(got=got), InMemoryChannelLayer().capacity, members, burst)


@pytest.mark.usefixtures("patience")
async def test_threads_that_publish_wait_as_well() -> None:
    got: list[int] = []
    publishers, count = 3, 100

    async def burst(room: Room) -> None:
        def publish(first: int) -> None:
            for n in range(first, first + count):
                async_to_sync(room.layer.group_send)("all", {"type": "note", "n": n})

        async with anyio.create_task_group() as tasks:
            for number in range(publishers):
                tasks.start_soon(anyio.to_thread.run_sync, publish, number * count)
        await until(lambda: len(got) == publishers * count)
        assert codes(room) == [None]

    await in_room(Sends.as_asgi(got=got), 2, 1, burst)


async def test_a_handler_that_blocks_holds_up_a_sender_for_a_few_looks_and_is_closed() -> None:
    shut = Gate()

    async def burst(room: Room) -> None:
        await room.send(0, 1000)
        assert codes(room) == [1013] or room.mailboxes[0].error is not None
        assert pace_of_loop().looks <= LOOKS
        assert shut.passing == 1
        shut.open()
        await until(lambda: codes(room) == [1013])

    await in_room_with(shut, blocking(shut).as_asgi(got=[]), 10, 1, burst)


async def test_a_thousand_messages_do_not_wait_anew_for_one_blocked_consumer() -> None:
    shut = Gate()

    async def burst(room: Room) -> None:
        sent = await room.send(0, 1000)
        assert sum(one.dropped for one in sent) == 1000 - 12  # it, the ten, and one beyond
        assert pace_of_loop().looks <= LOOKS
        shut.open()
        await until(lambda: room.mailboxes[0].is_empty)
        await room.send(1000, 5)  # it is trusted again
        await until(lambda: len(got) == 12 + 5)
        assert codes(room) == [None]

    got: list[int] = []
    await in_room_with(shut, blocking(shut, overflow="drop_newest").as_asgi(got=got), 10, 1, burst)


async def test_handlers_that_often_block_a_little_end_the_patience_too() -> None:
    class Naps(Reads):
        overflow = "drop_newest"

        def note(self, message: Message) -> None:
            time.sleep(0.02)
            super().note(message)

    got: list[int] = []

    async def burst(room: Room) -> None:
        await room.send(0, 100)
        assert len(got) < 10, "at that rate the sender would have waited for nearly all of them"
        assert room.layer.hub.drops["full"] > 80
        await until(lambda: room.mailboxes[0].is_empty)

    await in_room(Naps.as_asgi(got=got), 5, 1, burst)


async def test_one_who_blocks_does_not_cost_the_others_a_message() -> None:
    got: list[int] = []
    shut = Gate()

    class BlocksFirst(Reads):
        def websocket_connect(self, message: Event) -> None:
            self.blocks = "blocks" in self.scope["path"]
            super().websocket_connect(message)

        def note(self, message: Message) -> None:
            if self.blocks:
                shut.stop()
            else:
                super().note(message)

    app = BlocksFirst.as_asgi(got=got)
    paths = iter(["/blocks", "/", "/"])

    async def routed(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, "path": next(paths)}, receive, send)

    async def burst(room: Room) -> None:
        await room.send(0, 300)
        await until(lambda: len(got) == 2 * 300)
        shut.open()
        await until(lambda: room.closes.count(None) == 2)

    await in_room_with(shut, routed, 10, 3, burst)


async def test_who_waits_for_a_thread_that_never_comes_holds_up_nobody() -> None:
    shut = Gate()

    async def burst(room: Room) -> None:
        handler_limiter().total_tokens = 1
        await room.send(0, 1000)
        assert [box.error is not None for box in room.mailboxes] == [True, True]
        assert pace_of_loop().looks <= LOOKS
        shut.open()
        await until(lambda: codes(room) == [1013, 1013])

    await in_room_with(shut, blocking(shut).as_asgi(got=[]), 10, 2, burst)


async def test_a_client_that_does_not_read_holds_up_nobody() -> None:
    async def burst(room: Room) -> None:
        read = anyio.Event()

        async def hold(event: Event) -> None:
            if event["type"] == "websocket.send":
                await read.wait()

        [wire] = room.wires
        wire.on_send = hold
        await room.send(0, 1000)
        assert room.mailboxes[0].error is not None
        assert pace_of_loop().looks <= LOOKS
        read.set()
        await until(lambda: codes(room) == [1013])

    await in_room(Sends.as_asgi(got=[]), 10, 1, burst)


class Answers(Reads):
    """Sends many messages to its own group in one handler."""

    count = 30

    def many(self, message: Message) -> None:
        send = async_to_sync(self.channel_layer.group_send)
        for n in range(self.count):
            send("all", {"type": "note", "n": n})
        self.got.append(-1)


async def test_a_handler_that_sends_to_itself_never_waits_for_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pace, "LOOK", 3600.0)  # so nothing but its own mind would let it go on
    got: list[int] = []

    class Keeps(Answers):
        overflow = "drop_newest"

    async def burst(room: Room) -> None:
        await room.layer.group_send("all", {"type": "many"})
        await until(lambda: len(got) == 1 + 11)
        assert got == [-1, *range(11)]

    await in_room(Keeps.as_asgi(got=got), 10, 1, burst)


async def test_handlers_that_send_to_each_other_all_end() -> None:
    got: list[int] = []

    class Keeps(Answers):
        overflow = "drop_newest"

    async def burst(room: Room) -> None:
        await room.layer.group_send("all", {"type": "many"})
        await until(lambda: got.count(-1) == 4 and all(box.is_empty for box in room.mailboxes))
        assert codes(room) == [None] * 4

    await in_room(Keeps.as_asgi(got=got), 10, 4, burst)


async def test_a_handler_that_waits_for_a_thread_that_sends_to_it_ends() -> None:
    got: list[int] = []

    class Delegates(Answers):
        overflow = "drop_newest"

        def many(self, message: Message) -> None:
            thread = threading.Thread(target=super().many, args=[message])
            thread.start()
            thread.join(30)
            assert not thread.is_alive()

    async def burst(room: Room) -> None:
        await room.layer.group_send("all", {"type": "many"})
        await until(lambda: -1 in got)

    await in_room(Delegates.as_asgi(got=got), 10, 1, burst)


async def waiting_sender(room: Room, end: Callable[[], None]) -> None:
    """Have a sender wait for a handler that blocks, and then something that ends the wait."""
    done = anyio.Event()

    async def send() -> None:
        await room.send(1, 11)  # of which ten fit
        done.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(send)
        await until(lambda: room.mailboxes[0].is_lagging)
        await anyio.wait_all_tasks_blocked()
        assert not done.is_set()
        end()
        with anyio.fail_after(10):
            await done.wait()


@pytest.mark.parametrize("end", ["close", "leave"])
async def test_no_sender_waits_longer_than_its_consumer_lives(
    end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace, "LOOK", 3600.0)
    shut = Gate()

    async def burst(room: Room) -> None:
        [mailbox] = room.mailboxes
        await room.send(0, 1)
        await until(lambda: shut.passing == 1)

        def ending() -> None:
            if end == "close":
                mailbox.close(ClientError("enough"))
            else:
                room.wires[0].tell(left())
                shut.open()

        await waiting_sender(room, ending)
        shut.open()

    await in_room_with(shut, blocking(shut).as_asgi(got=[]), 10, 1, burst)


async def test_a_sender_that_is_cancelled_waits_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "LOOK", 3600.0)
    shut = Gate()

    async def burst(room: Room) -> None:
        await room.send(0, 1)
        await until(lambda: shut.passing == 1)
        with anyio.move_on_after(0.05) as scope:
            await room.send(1, 100)
        assert scope.cancelled_caught
        assert room.mailboxes[0].unread == 11
        assert codes(room) == [None]
        shut.open()
        await until(lambda: len(got) == 12)

    got: list[int] = []
    await in_room_with(shut, blocking(shut).as_asgi(got=got), 10, 1, burst)


async def test_nobody_looks_while_no_sender_waits() -> None:
    got: list[int] = []

    async def burst(room: Room) -> None:
        await room.send(0, 200)
        await until(lambda: len(got) == 200)
        await anyio.sleep(0.01)  # the last look finds no sender, and is the last
        looks = pace_of_loop().looks
        await room.send(200, 9)
        await until(lambda: len(got) == 209)
        assert pace_of_loop().looks == looks

    await in_room(Reads.as_asgi(got=got), 10, 1, burst)
