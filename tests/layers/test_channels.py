"""The contract of channels: what is sent to one is read from it once, in order, in time."""

import re

import anyio
import pytest
from anyio.lowlevel import checkpoint

from asgi_notify.exceptions import ChannelFull, InvalidName, MisuseError
from asgi_notify.layers import BaseChannelLayer, InMemoryChannelLayer
from asgi_notify.types import Message

from .conftest import Attach, MakeLayer
from .tools import Clock, drops, read

pytestmark = pytest.mark.anyio


def number(n: int) -> Message:
    return {"type": "number", "n": n}


async def receive(layer: BaseChannelLayer, channel: str, count: int) -> list[int]:
    with anyio.fail_after(20):
        return [(await layer.receive(channel))["n"] for _ in range(count)]


async def has_nothing(layer: BaseChannelLayer, channel: str) -> bool:
    """Whether a reader of the channel would wait."""
    with anyio.CancelScope() as scope:
        scope.cancel()
        await layer.receive(channel)
    return scope.cancelled_caught


async def test_what_is_sent_is_received(layer: BaseChannelLayer) -> None:
    await layer.send("thumbnails", {"type": "make", "size": [1, 2]})
    with anyio.fail_after(20):
        message = await layer.receive("thumbnails")
    assert message == {"type": "make", "size": [1, 2]}


async def test_messages_come_in_the_order_of_their_publisher(layer: BaseChannelLayer) -> None:
    for n in range(100):
        await layer.send("work", number(n))
    assert await receive(layer, "work", 100) == list(range(100))


async def test_a_reader_waits_for_its_message(layer: BaseChannelLayer) -> None:
    got: list[int] = []

    async def reader() -> None:
        got.extend(await receive(layer, "work", 1))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(reader)
        await anyio.wait_all_tasks_blocked()
        assert got == []
        await layer.send("other", number(1))
        await layer.send("work", number(2))
    assert got == [2]


async def test_of_several_readers_one_gets_each_message(layer: BaseChannelLayer) -> None:
    got: list[int] = []

    async def reader() -> None:
        while True:
            got.append((await layer.receive("work"))["n"])
            await checkpoint()

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            for _ in range(4):
                tasks.start_soon(reader)
            await anyio.wait_all_tasks_blocked()
            for n in range(80):
                await layer.send("work", number(n))
            while len(got) < 80:
                await checkpoint()
            tasks.cancel_scope.cancel()
    assert sorted(got) == list(range(80))


async def test_a_message_for_one_of_two_readers_leaves_the_other_its_own(
    layer: BaseChannelLayer,
) -> None:
    got: list[int] = []

    async def reader() -> None:
        got.extend(await receive(layer, "work", 1))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(reader)
        tasks.start_soon(reader)
        await anyio.wait_all_tasks_blocked()
        await layer.send("work", number(1))
        with anyio.fail_after(20):
            while not got:
                await checkpoint()
        await layer.send("work", number(2))
    assert got == [1, 2]


async def test_a_cancelled_reader_loses_no_message(layer: BaseChannelLayer) -> None:
    got: list[int] = []

    async def reader() -> None:
        got.append((await layer.receive("work"))["n"])

    for n in range(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(reader)
            await anyio.wait_all_tasks_blocked()
            # The reader is woken by the message and cancelled in the same turn.
            await layer.send("work", number(n))
            tasks.cancel_scope.cancel()
        if n not in got:
            got.extend(await receive(layer, "work", 1))
    assert got == list(range(20))
    assert await has_nothing(layer, "work")


async def test_the_message_of_a_reader_that_left_goes_to_the_next(
    layer: BaseChannelLayer,
) -> None:
    got: list[int] = []

    async def impatient() -> None:
        with scope:
            await layer.receive("work")

    async def patient() -> None:
        got.extend(await receive(layer, "work", 1))

    scope = anyio.CancelScope()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(impatient)
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(patient)
        await anyio.wait_all_tasks_blocked()
        scope.cancel()
        await anyio.wait_all_tasks_blocked()
        await layer.send("work", number(1))
    assert got == [1]


# Capacity.


async def test_a_full_channel_refuses_and_says_so(
    make_layer: MakeLayer, caplog: pytest.LogCaptureFixture
) -> None:
    layer = await make_layer(capacity=3)
    for n in range(3):
        await layer.send("work", number(n))
    for n in (3, 4):
        with pytest.raises(ChannelFull, match=r"^work .* 3 unread messages.*channel_capacity"):
            await layer.send("work", number(n))
    assert drops(layer) == {"full": 2}
    if not layer.is_shared:  # where nobody but the sender knows, and it has the error
        [line] = [record.getMessage() for record in caplog.records]
        assert "channel work lost a message (full; capacity 3)" in line
    assert await receive(layer, "work", 3) == [0, 1, 2]
    await layer.send("work", number(5))
    assert await receive(layer, "work", 1) == [5]


async def test_a_hundred_messages_may_wait_unless_told_otherwise(layer: BaseChannelLayer) -> None:
    for n in range(100):
        await layer.send("work", number(n))
    with pytest.raises(ChannelFull):
        await layer.send("work", number(100))


async def test_capacity_is_the_first_that_matches(make_layer: MakeLayer) -> None:
    layer = await make_layer(
        capacity=5,
        channel_capacity={
            "thumbnails.*": 1,
            re.compile(r"thumb"): 2,
            re.compile(r"mail\d$"): 3,
            "[ab]?": 4,
        },
    )
    expected = {
        "thumbnails.small": 1,
        "thumbnails": 2,
        "thumbs.up": 2,
        "mail7": 3,
        "mail77": 5,
        "my.mail7": 5,
        "a1": 4,
        "A1": 5,
        "a12": 5,
    }
    assert {channel: layer.get_capacity(channel) for channel in expected} == expected
    for channel, capacity in expected.items():
        for n in range(capacity):
            await layer.send(channel, number(n))
        with pytest.raises(ChannelFull):
            await layer.send(channel, number(capacity))


async def test_capacity_by_name_holds_for_consumers_too(
    make_layer: MakeLayer, attach: Attach
) -> None:
    layer = await make_layer(channel_capacity={"specific.*": 2}, overflow="drop_newest")
    mailbox = await attach(layer)
    assert mailbox.capacity == 2


# Between processes the sender is told that the channel is full.
@pytest.mark.parametrize("engine", [InMemoryChannelLayer], indirect=True)
async def test_a_burst_larger_than_the_capacity_reaches_a_waiting_reader(
    make_layer: MakeLayer,
) -> None:
    layer = await make_layer(capacity=10)
    got: list[int] = []

    async def reader() -> None:
        got.extend(await receive(layer, "work", 55))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(reader)
        await anyio.wait_all_tasks_blocked()
        for n in range(55):
            await layer.send("work", number(n))
    assert got == list(range(55))
    assert not drops(layer)


async def test_a_cancelled_sender_has_sent_or_not_but_never_twice(make_layer: MakeLayer) -> None:
    layer = await make_layer(capacity=1)
    got: list[int] = []

    async def reader() -> None:
        while True:
            got.append((await layer.receive("work"))["n"])

    async def sender() -> None:
        for n in range(3):
            await layer.send("work", number(n))

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(reader)
            await anyio.wait_all_tasks_blocked()
            async with anyio.create_task_group() as senders:
                senders.start_soon(sender)
                senders.cancel_scope.cancel()
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()
    assert got == list(range(len(got)))


# Expiry.


async def test_a_message_expires_unread(
    make_layer: MakeLayer, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    layer = await make_layer(expiry=5)
    await layer.send("work", number(1))
    clock.move(2)
    await layer.send("work", number(2))
    clock.move(3)
    assert await receive(layer, "work", 1) == [2]
    if not layer.is_shared:  # what expires in an engine is counted by the engine
        assert drops(layer) == {"expired": 1}
        assert "channel work lost a message (expired" in caplog.text


async def test_a_message_may_wait_a_minute_unless_told_otherwise(
    layer: BaseChannelLayer, clock: Clock
) -> None:
    await layer.send("work", number(1))
    clock.move(59.9)
    assert await receive(layer, "work", 1) == [1]
    await layer.send("work", number(2))
    clock.move(60.1)
    assert await has_nothing(layer, "work")


async def test_expired_messages_take_no_room(make_layer: MakeLayer, clock: Clock) -> None:
    layer = await make_layer(capacity=2, expiry=5)
    await layer.send("work", number(1))
    clock.move(3)
    await layer.send("work", number(2))
    clock.move(3)
    await layer.send("work", number(3))
    with pytest.raises(ChannelFull):
        await layer.send("work", number(4))
    assert await receive(layer, "work", 2) == [2, 3]
    assert drops(layer)["full"] == 1
    if not layer.is_shared:
        assert drops(layer)["expired"] == 1


async def test_messages_may_be_told_never_to_expire(make_layer: MakeLayer, clock: Clock) -> None:
    layer = await make_layer(capacity=2, expiry=float("inf"))
    for n in range(6):
        await layer.send("work", number(n))
        clock.move(1e9)
        assert await receive(layer, "work", 1) == [n]
    await layer.send("work", number(7))
    await layer.send("work", number(8))
    with pytest.raises(ChannelFull):
        await layer.send("work", number(9))


async def test_an_endless_expiry_leaves_a_consumers_mailbox_its_bound(
    make_layer: MakeLayer, attach: Attach
) -> None:
    layer = await make_layer(capacity=2, expiry=float("inf"), overflow="drop_newest")
    mailbox = await attach(layer, "room")
    await mailbox.put_event({"type": "websocket.receive"})
    await layer.group_send("room", number(0))
    await read(mailbox)
    await read(mailbox)
    reached = [(await layer.group_send("room", number(n))).reached for n in range(4)]
    assert reached == [1, 1, 0, 0]


# Names.


async def test_new_channels_have_names_that_nobody_else_has(layer: BaseChannelLayer) -> None:
    names = [await layer.new_channel() for _ in range(50)]
    assert len(set(names)) == 50
    assert all(name.startswith("specific.") for name in names)
    assert (await layer.new_channel("mail")).startswith("mail.")


@pytest.mark.parametrize("prefix", ["specific", "a.b-c_d", "p" * 60])
async def test_a_new_channel_is_good_for_everything(layer: BaseChannelLayer, prefix: str) -> None:
    channel = await layer.new_channel(prefix)
    await layer.group_add("room", channel)
    assert (await layer.group_send("room", number(1))).reached == 1
    await layer.send(channel, number(2))
    assert await receive(layer, channel, 2) == [1, 2]
    await layer.group_discard("room", channel)


@pytest.mark.parametrize("prefix", ["", "with space", "a!b", "p" * 100, None])
async def test_a_prefix_that_makes_no_channel_name_is_refused(
    layer: BaseChannelLayer, prefix: str
) -> None:
    with pytest.raises(InvalidName):
        await layer.new_channel(prefix)
    with pytest.raises(InvalidName):
        await layer.attach(prefix)


@pytest.mark.parametrize("channel", ["c" * 101, "", "line\n", "café", "a b", "a!b!c", 7, None])
async def test_no_method_takes_a_name_that_no_channel_can_have(
    layer: BaseChannelLayer, channel: str
) -> None:
    with pytest.raises(InvalidName):
        await layer.send(channel, number(1))
    with pytest.raises(InvalidName):
        await layer.receive(channel)
    with pytest.raises(InvalidName):
        await layer.group_add("room", channel)
    with pytest.raises(InvalidName):
        await layer.group_discard("room", channel)
    assert (await layer.group_send("room", number(1))).reached == 0


async def test_a_name_of_a_hundred_characters_is_taken(layer: BaseChannelLayer) -> None:
    await layer.send("c" * 100, number(1))
    assert await receive(layer, "c" * 100, 1) == [1]


# What is left behind.


async def test_channels_that_nobody_reads_are_forgotten_once_expired(
    make_layer: MakeLayer, clock: Clock
) -> None:
    layer = await make_layer(expiry=5)
    kept = 0
    for _ in range(8):
        for _ in range(500):
            await layer.send(await layer.new_channel(), number(1))
        clock.move(6)
        kept = max(kept, _kept(layer))
    assert kept <= 1500
    assert drops(layer)["expired"] >= 2500


async def test_a_sweep_leaves_what_is_still_used(
    make_layer: MakeLayer, attach: Attach, clock: Clock
) -> None:
    layer = await make_layer(expiry=5)
    consumer = await attach(layer, "room")
    await layer.group_add("room", "member")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(receive, layer, "read", 1)
        await anyio.wait_all_tasks_blocked()
        for _ in range(3):
            for _ in range(1000):
                await layer.send(await layer.new_channel(), number(1))
            clock.move(6)
        await layer.send("fresh", number(3))
        for _ in range(3000):
            await layer.send(await layer.new_channel(), number(1))
        await layer.send("read", number(2))
    assert await receive(layer, "fresh", 1) == [3]
    assert (await layer.group_send("room", number(4))).reached == 2
    assert (await read(consumer))["n"] == 4


async def test_a_channel_that_was_read_empty_is_forgotten(layer: BaseChannelLayer) -> None:
    for _ in range(10):
        channel = await layer.new_channel()
        await layer.send(channel, number(1))
        await receive(layer, channel, 1)
        assert await has_nothing(layer, await layer.new_channel())
    assert _kept(layer) == 0


async def test_flush_forgets_messages_but_not_readers(layer: BaseChannelLayer) -> None:
    got: list[int] = []

    async def reader() -> None:
        got.extend(await receive(layer, "read", 1))

    await layer.send("work", number(1))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(reader)
        await anyio.wait_all_tasks_blocked()
        await layer.flush()
        await layer.send("read", number(2))
    assert got == [2]
    assert await has_nothing(layer, "work")


def _kept(layer: BaseChannelLayer) -> int:
    """How many mailboxes the process remembers."""
    return len(vars(vars(layer)["hub"])["_mailboxes"])


async def test_a_consumers_own_channel_is_received_by_nobody_else(layer: BaseChannelLayer) -> None:
    mailbox = await layer.attach()
    with pytest.raises(MisuseError, match="new_channel"):
        await layer.receive(mailbox.channel)
    await layer.send(mailbox.channel, {"type": "still.there"})
    entry = mailbox.pop()
    assert entry is not None
    assert entry.message == {"type": "still.there"}
    layer.detach(mailbox)
