"""A burst that is sent in one go: a consumer that keeps up loses nothing, and little of it waits.

"In one go" is without letting the event loop do anything else, as a loop around
``group_send`` does. To keep up is to handle a message without waiting for anything.
"""

import threading
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from asgi_notify import (
    AsyncWebsocketConsumer,
    InMemoryChannelLayer,
    Message,
    NotificationConsumer,
    Sent,
)
from asgi_notify.consumers.stepping import TURN
from asgi_notify.layers import Mailbox
from asgi_notify.types import Event
from tests.consumers.harness import CONNECT, Wire, assert_nothing_left, left
from tests.loops import other_loop

pytestmark = pytest.mark.anyio

WAYS = {"steps": ("asyncio", "1"), "plain": ("asyncio", "0"), "trio": ("trio", "1")}

CAPACITIES = [10, 100, TURN - 1, TURN, TURN + 500, 5 * TURN]

BURST = 5 * TURN  # messages


@pytest.fixture(params=WAYS)
def anyio_backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each way to wake an idle consumer: by a step of asyncio's loop, or by its task."""
    backend, stepping = WAYS[request.param]
    monkeypatch.setenv("ASGI_NOTIFY_STEPPING", stepping)
    return backend


class Reads(AsyncWebsocketConsumer):
    """Handles each message at once."""

    groups = ("all",)

    def __init__(self, got: list[int]) -> None:
        super().__init__()
        self.got = got

    async def note(self, message: Message) -> None:
        self.got.append(message["n"])


class Sends(Reads):
    """Sends each message on, to a server whose send does not wait."""

    async def note(self, message: Message) -> None:
        self.got.append(message["n"])
        await self.send(text_data="x")


class Waits(Reads):
    """Waits for one turn of the loop, as the send of some servers does."""

    async def note(self, message: Message) -> None:
        await checkpoint()
        self.got.append(message["n"])


class Room:
    """Some connections of one consumer, and the most that has waited for any of them."""

    def __init__(self, layer: InMemoryChannelLayer) -> None:
        self.layer = layer
        self.wires: list[Wire] = []
        self.mailboxes: list[Mailbox] = []
        self.most = 0

    def watch(self) -> None:
        self.most = max(self.most, *(mailbox.unread for mailbox in self.mailboxes))

    async def send(self, first: int, count: int) -> list[Sent]:
        """Send so many messages in one go."""
        sent = []
        for n in range(first, first + count):
            sent.append(await self.layer.group_send("all", {"type": "note", "n": n}))
            self.watch()
        return sent

    @property
    def closes(self) -> list[Event | None]:
        return [wire.close for wire in self.wires]


async def in_room(
    app: Any, capacity: int, members: int, test: Callable[[Room], Awaitable[None]]
) -> None:
    """Run a test with idle connections of a consumer, and end them after it."""
    room = Room(InMemoryChannelLayer(capacity=capacity))
    room.wires = [Wire(CONNECT) for _ in range(members)]
    with anyio.fail_after(90):
        async with anyio.create_task_group() as tasks:
            for wire in room.wires:
                wire.scope["channel_layer"] = room.layer
                tasks.start_soon(wire.run, app)
            while not all(wire.sent for wire in room.wires):
                await checkpoint()
            await anyio.wait_all_tasks_blocked()
            room.mailboxes = list(room.layer.hub.attached)
            await test(room)
            for wire in room.wires:
                wire.tell(left())
    assert_nothing_left(room.layer, "all")


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(40):
        while not condition():
            await checkpoint()


@pytest.mark.parametrize(
    ("app", "capacity"), [(Sends, 10), *((Reads, capacity) for capacity in CAPACITIES)]
)
async def test_a_consumer_that_keeps_up_loses_nothing_of_a_burst_and_little_of_it_waits(
    app: type[Reads], capacity: int
) -> None:
    got: list[int] = []

    async def burst(room: Room) -> None:
        sent = await room.send(0, BURST)
        assert set(sent) == {Sent(reached=1, dropped=0)}
        await until(lambda: len(got) == BURST)
        assert got == list(range(BURST))
        assert room.closes == [None]
        assert room.most <= capacity + 1

    await in_room(app.as_asgi(got=got), capacity, 1, burst)


@pytest.mark.parametrize("capacity", [10, 5 * TURN])
async def test_the_same_for_several_consumers_and_a_longer_burst(capacity: int) -> None:
    got: list[int] = []

    async def burst(room: Room) -> None:
        threads = set(threading.enumerate())
        await room.send(0, 4 * BURST)
        assert set(threading.enumerate()) <= threads, "who waits here needs no thread for it"
        await until(lambda: len(got) == 3 * 4 * BURST)
        assert room.closes == [None] * 3
        assert room.most <= capacity + 1
        assert not room.layer.hub.drops

    await in_room(Reads.as_asgi(got=got), capacity, 3, burst)


@pytest.mark.parametrize("capacity", [10, TURN])
async def test_each_publisher_at_once_lets_no_more_than_one_message_wait_beyond_the_capacity(
    capacity: int,
) -> None:
    got: list[int] = []
    publishers = 5

    async def burst(room: Room) -> None:
        async with anyio.create_task_group() as tasks:
            for number in range(publishers):
                tasks.start_soon(room.send, number * BURST, BURST)
        await until(lambda: len(got) == publishers * BURST)
        assert room.closes == [None]
        assert room.most <= capacity + publishers
        assert not room.layer.hub.drops

    await in_room(Reads.as_asgi(got=got), capacity, 1, burst)


@pytest.mark.parametrize("other", ["asyncio", "trio"])
async def test_a_burst_from_another_loop_is_bounded_as_well(other: str) -> None:
    got: list[int] = []

    async def burst(room: Room) -> None:
        async with other_loop(other) as call:
            await call(room.send, 0, 100)
        await until(lambda: len(got) == 100)
        assert room.closes == [None]
        assert room.most <= 2

    await in_room(Reads.as_asgi(got=got), 1, 1, burst)


async def test_a_burst_to_one_channel_is_bounded_as_well() -> None:
    got: list[int] = []

    async def burst(room: Room) -> None:
        [mailbox] = room.mailboxes
        for n in range(BURST):
            await room.layer.send(mailbox.channel, {"type": "note", "n": n})
            room.watch()
        await until(lambda: len(got) == BURST)
        assert room.most <= 11

    await in_room(Reads.as_asgi(got=got), 10, 1, burst)


async def test_notifications_keep_up_with_a_burst() -> None:
    class Notifies(NotificationConsumer):
        async def join(self) -> None:
            await self.channel_layer.group_add("all", self.channel_name)

    async def burst(room: Room) -> None:
        for n in range(BURST):
            await room.layer.group_send("all", {"type": "send.notification", "data": str(n)})
            room.watch()
        [wire] = room.wires
        await until(lambda: len(wire.texts) == BURST)
        assert wire.texts == [str(n) for n in range(BURST)]
        assert room.most <= 11

    app = Notifies.as_asgi()

    async def at_a_path(scope: Any, receive: Any, send: Any) -> None:
        route = {"args": (), "kwargs": {"room_name": "1"}}
        await app({**scope, "url_route": route}, receive, send)

    await in_room(at_a_path, 10, 1, burst)


async def test_a_consumer_whose_handlers_wait_gets_its_capacity_of_a_burst_and_no_more() -> None:
    got: list[int] = []

    async def burst(room: Room) -> None:
        await room.send(0, 11)  # one is being handled, or the sender waits until it is
        await until(lambda: len(got) == 11)
        assert room.closes == [None]
        await room.send(11, 100)
        await until(lambda: room.closes != [None])
        assert [close["code"] for close in room.closes if close] == [1013]

    await in_room(Waits.as_asgi(got=got), 10, 1, burst)
    assert got == list(range(len(got)))
