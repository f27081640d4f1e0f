"""What Django Channels asks of a layer, on a real server, and from calls of ``async_to_sync``."""

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from itertools import count
from typing import Any

import anyio
import pytest
from asgiref.sync import async_to_sync
from channels.exceptions import ChannelFull as TheirChannelFull

from asgi_notify import ChannelFull, History
from asgi_notify.django_channels import ChannelLayer, Event
from asgi_notify.exceptions import InvalidChannelLayerError, InvalidMessage
from asgi_notify.positions import Position
from tests.valkey_servers import SERVERS, ValkeyServer, program

pytestmark = pytest.mark.anyio

PATIENCE = 20.0  # seconds
_prefixes = count()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # which Channels runs on alone


@pytest.fixture(scope="module", params=SERVERS)
def redis(request: pytest.FixtureRequest) -> Iterator[ValkeyServer]:
    with ValkeyServer(program(request.param)) as running:
        yield running


class Make:
    """Makes layers that share what they send, as those of several processes do."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.made: list[ChannelLayer] = []

    def __call__(self, query: str = "", **options: Any) -> ChannelLayer:
        layer = ChannelLayer(url=f"{self.url}&{query}", **options)
        self.made.append(layer)
        return layer


@pytest.fixture
async def make(redis: ValkeyServer) -> AsyncIterator[Make]:
    made = Make(f"{redis.url}?prefix=channels{next(_prefixes)}")
    async with AsyncExitStack() as stack:
        yield made
        for layer in made.made:
            stack.push_async_callback(layer.close)


async def take(layer: ChannelLayer, channel: str) -> Any:
    with anyio.fail_after(PATIENCE):
        return await layer.receive(channel)


async def is_quiet(layer: ChannelLayer, channel: str) -> bool:
    with anyio.move_on_after(0.2):
        await layer.receive(channel)
        return False
    return True


async def until(condition: Any) -> None:
    with anyio.fail_after(PATIENCE):
        while not condition():
            gc.collect()
            await anyio.sleep(0.01)


# Channels.


@pytest.mark.parametrize("name", ["jobs", None], ids=["fixed", "specific"])
async def test_what_is_sent_is_received_in_order(make: Make, name: str | None) -> None:
    layer = make()
    channel = name or await layer.new_channel()
    for number in range(3):
        await layer.send(channel, {"type": "test.message", "text": f"é{number}"})
    for number in range(3):
        assert await take(layer, channel) == {"type": "test.message", "text": f"é{number}"}
    assert await is_quiet(layer, channel)


async def test_new_channels_are_specific_and_differ(make: Make) -> None:
    layer = make()
    names = {await layer.new_channel() for _ in range(10)}
    assert len(names) == 10
    assert all(name.startswith("specific.") and "!" in name for name in names)
    assert (await layer.new_channel("response.")).startswith("response.")


async def test_a_specific_channel_is_sent_to_from_another_process(make: Make) -> None:
    one, other = make(), make()
    channel = await one.new_channel()
    async with anyio.create_task_group() as tasks:
        received: list[Any] = []

        async def read() -> None:
            received.append(await take(one, channel))

        tasks.start_soon(read)
        while not received:
            await other.send(channel, {"type": "test.message"})
            await anyio.sleep(0.02)
    assert received == [{"type": "test.message"}]


@pytest.mark.parametrize("name", ["", "a b", "¯\\_(ツ)_/¯", "a" * 101, 1, b"bytes"])
async def test_names_and_messages_that_make_no_sense_are_refused(make: Make, name: Any) -> None:
    layer = make()
    with pytest.raises(TypeError):
        await layer.send(name, {"type": "test.message"})
    with pytest.raises(TypeError):
        await layer.group_add(name, "channel")
    with pytest.raises(TypeError):
        await layer.group_send(name, {"type": "test.message"})
    with pytest.raises(TypeError):
        await layer.group_add("group", name)
    with pytest.raises(InvalidMessage):
        await layer.send("channel", {"text": "no type"})


@pytest.mark.parametrize("name", ["jobs", None], ids=["fixed", "specific"])
async def test_a_full_channel_refuses_with_the_error_that_channels_has(
    make: Make, name: str | None
) -> None:
    layer = make(capacity=3)
    channel = name or await layer.new_channel()
    for _ in range(3):
        await layer.send(channel, {"type": "test.message"})
    with pytest.raises(TheirChannelFull) as refused:
        await layer.send(channel, {"type": "test.message"})
    assert isinstance(refused.value, ChannelFull)


async def test_capacities_go_by_the_names_of_channels(make: Make) -> None:
    layer = make(capacity=1, channel_capacity={"jobs.*": 2})
    for channel, capacity in (("jobs.a", 2), ("other", 1)):
        for _ in range(capacity):
            await layer.send(channel, {"type": "test.message"})
        with pytest.raises(TheirChannelFull):
            await layer.send(channel, {"type": "test.message"})


@pytest.mark.parametrize("name", ["jobs", None], ids=["fixed", "specific"])
async def test_a_message_that_nobody_reads_expires(make: Make, name: str | None) -> None:
    layer = make(expiry=0.1)
    channel = name or await layer.new_channel()
    await layer.send(channel, {"type": "test.message"})
    await anyio.sleep(0.2)
    assert await is_quiet(layer, channel)


async def test_a_receive_that_was_cancelled_takes_no_message(make: Make) -> None:
    layer = make()
    channel = await layer.new_channel()
    for _ in range(3):
        assert await is_quiet(layer, channel)
    await layer.send(channel, {"type": "test.message"})
    assert await take(layer, channel) == {"type": "test.message"}


# Groups.


async def test_a_group_reaches_its_members_in_all_processes(make: Make) -> None:
    one, other = make(), make()
    members = [(one, await one.new_channel()), (other, await other.new_channel())]
    outside = await one.new_channel()
    for layer, channel in members:
        await layer.group_add("group", channel)
    await one.group_send("group", {"type": "test.message", "text": "hello"})
    for layer, channel in members:
        assert await take(layer, channel) == {"type": "test.message", "text": "hello"}
    assert await is_quiet(one, outside)


async def test_who_was_discarded_gets_nothing_more(make: Make) -> None:
    layer = make()
    stays, leaves = await layer.new_channel(), await layer.new_channel()
    for channel in (stays, leaves):
        await layer.group_add("group", channel)
    await layer.group_discard("group", leaves)
    await layer.group_discard("group", leaves)
    await layer.group_discard("another", leaves)
    await layer.group_send("group", {"type": "test.message"})
    await take(layer, stays)
    assert await is_quiet(layer, leaves)


async def test_a_full_member_holds_up_nobody(make: Make) -> None:
    layer = make(capacity=2)
    reads, full = await layer.new_channel(), await layer.new_channel()
    for channel in (reads, full):
        await layer.group_add("group", channel)
    for number in range(5):
        await layer.group_send("group", {"type": "test.message", "number": number})
        assert (await take(layer, reads))["number"] == number
    assert [(await take(layer, full))["number"] for _ in range(2)] == [0, 1]
    assert await is_quiet(layer, full)


async def test_a_membership_outlives_messages_that_expire(make: Make) -> None:
    layer = make(expiry=0.1, group_expiry=0.01)
    channel = await layer.new_channel()
    await layer.group_add("group", channel)
    await layer.group_send("group", {"type": "test.message", "number": 1})
    await anyio.sleep(0.2)
    await layer.group_send("group", {"type": "test.message", "number": 2})
    assert (await take(layer, channel))["number"] == 2


async def test_flush_forgets_messages_and_groups(make: Make) -> None:
    layer = make()
    assert {"groups", "flush"} <= set(layer.extensions)
    channel = await layer.new_channel()
    await layer.group_add("group", channel)
    for name in ("jobs", channel):
        await layer.send(name, {"type": "test.message"})
    await layer.flush()
    await layer.group_send("group", {"type": "test.message"})
    for name in ("jobs", channel):
        assert await is_quiet(layer, name)


async def test_each_member_gets_a_copy_of_its_own(make: Make) -> None:
    layer = make()
    members = [await layer.new_channel() for _ in range(2)]
    for channel in members:
        await layer.group_add("group", channel)
    sent = {"type": "test.message", "list": [1]}
    await layer.group_send("group", sent)
    event = await take(layer, members[0])
    event["list"].append(2)
    event.pop("type")
    assert await take(layer, members[1]) == {"type": "test.message", "list": [1]} == sent


async def test_a_group_with_a_history_brings_positions_and_what_was_missed(make: Make) -> None:
    layer = make("history=user_*")
    channel = await layer.new_channel()
    await layer.group_add("user_42", channel)
    sent = await layer.group_send("user_42", {"type": "test.message", "number": 1})
    event = await take(layer, channel)
    assert isinstance(event, Event)
    assert isinstance(event.position, Position)
    assert event.position == sent.position
    await layer.group_send("user_42", {"type": "test.message", "number": 2})
    late = await layer.new_channel()
    joined = await layer.group_add("user_42", late, since=event.position)
    assert (joined.recovered, joined.replayed) == (True, 1)
    assert (await take(layer, late))["number"] == 2


async def test_options_stand_in_the_url_or_beside_it(make: Make) -> None:
    layer = make("capacity=5&expiry=7", capacity=6, history={"room_*": History(size=3)})
    assert (layer.capacity, layer.expiry) == (6, 7)
    assert (await layer.group_send("room_1", {"type": "test.message"})).position is not None
    with pytest.raises(InvalidChannelLayerError):
        make("size=5")


async def test_a_channel_whose_name_nobody_holds_leaves_its_groups(make: Make) -> None:
    layer = make()
    held, dropped = await layer.new_channel(), await layer.new_channel()
    for channel in (held, dropped):
        await layer.group_add("group", channel)
    copy = str(dropped.encode(), "ascii")
    await layer.group_send("group", {"type": "test.message"})
    del dropped, channel
    await until(lambda: not layer.hub.has_member("group", copy))
    assert layer.hub.has_member("group", held)
    await layer.group_send("group", {"type": "test.message"})
    assert await is_quiet(layer, copy)
    assert layer.statistics()["dropped"] == {}


async def test_a_channel_that_is_read_by_a_copy_of_its_name_stays(make: Make) -> None:
    layer = make()
    name = await layer.new_channel()
    copy = str(name.encode(), "ascii")
    await layer.group_add("group", name)
    async with anyio.create_task_group() as tasks:
        received: list[Any] = []

        async def read() -> None:
            received.append(await take(layer, copy))

        tasks.start_soon(read)
        await anyio.wait_all_tasks_blocked()
        del name
        gc.collect()
        await anyio.wait_all_tasks_blocked()
        await layer.group_send("group", {"type": "test.message"})
    assert received == [{"type": "test.message"}]


# From code that is not async: each call of async_to_sync has an event loop of its own.


def connections(redis: ValkeyServer) -> int:
    with redis.admin as admin:
        info = admin.info("stats")
        assert isinstance(info, dict)
        return int(info["total_connections_received"])


@pytest.fixture
def alone(redis: ValkeyServer) -> Iterator[Make]:
    """Makes layers in a process without an event loop."""
    made = Make(f"{redis.url}?prefix=channels{next(_prefixes)}")
    yield made
    for layer in made.made:
        async_to_sync(layer.close)()


def test_all_calls_share_one_connection(alone: Make, redis: ValkeyServer) -> None:
    layer = alone()
    send = async_to_sync(layer.group_send)
    send("group", {"type": "test.message"})
    opened = connections(redis)
    for _ in range(20):
        send("group", {"type": "test.message"})
    threads = [
        threading.Thread(target=send, args=("group", {"type": "test.message"})) for _ in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert connections(redis) == opened + 1  # that of connections() itself


def test_several_calls_work_on_one_channel_and_its_groups(alone: Make) -> None:
    layer = alone()
    channel = async_to_sync(layer.new_channel)()
    async_to_sync(layer.group_add)("group", channel)
    async_to_sync(layer.group_send)("group", {"type": "test.message", "number": 1})
    async_to_sync(layer.send)(channel, {"type": "test.message", "number": 2})
    assert [async_to_sync(take)(layer, channel)["number"] for _ in range(2)] == [1, 2]
    async_to_sync(layer.group_discard)("group", channel)
    async_to_sync(layer.group_send)("group", {"type": "test.message", "number": 3})
    assert async_to_sync(is_quiet)(layer, channel)
    async_to_sync(layer.send)("jobs", {"type": "test.message"})
    assert async_to_sync(take)(layer, "jobs") == {"type": "test.message"}
    with pytest.raises(TypeError):
        async_to_sync(layer.send)("not valid", {"type": "test.message"})


def test_a_layer_goes_on_in_the_next_event_loop(alone: Make) -> None:
    layer, other = alone(), alone()

    async def send_and_take() -> Any:
        channel = await layer.new_channel()
        async with anyio.create_task_group() as tasks:

            async def send() -> None:
                while True:
                    await other.send(channel, {"type": "test.message"})
                    await anyio.sleep(0.02)

            tasks.start_soon(send)
            received = await take(layer, channel)
            tasks.cancel_scope.cancel()
        return received

    for _ in range(2):
        assert anyio.run(send_and_take) == {"type": "test.message"}


async def test_calls_from_other_threads_reach_the_consumers_of_a_running_loop(make: Make) -> None:
    layer = make()
    channel = await layer.new_channel()
    await layer.group_add("group", channel)
    send = async_to_sync(layer.group_send)
    thread = threading.Thread(target=send, args=("group", {"type": "test.message", "number": 1}))
    thread.start()
    assert (await take(layer, channel))["number"] == 1
    await until(lambda: not thread.is_alive())  # its call ends in this loop, which must not wait


async def test_a_server_that_begins_after_a_call_takes_the_layer_over(make: Make) -> None:
    layer = make()
    calling = threading.Thread(
        target=async_to_sync(layer.group_send), args=("group", {"type": "test.message"})
    )
    calling.start()
    with anyio.fail_after(PATIENCE):
        while calling.is_alive():  # noqa: ASYNC110
            await anyio.sleep(0.01)
    channel = await layer.new_channel()
    async with anyio.create_task_group() as tasks:
        received: list[Any] = []

        async def read() -> None:
            received.append(await take(layer, channel))

        tasks.start_soon(read)
        await anyio.wait_all_tasks_blocked()
        assert layer._home is asyncio.get_running_loop()
        await layer.group_add("group", channel)
        await layer.group_send("group", {"type": "test.message"})
    assert received == [{"type": "test.message"}]


async def test_a_consumer_and_a_call_that_waits_read_at_the_same_time(make: Make) -> None:
    layer = make()
    received: list[Any] = []
    names: list[str] = []

    def wait_elsewhere() -> None:
        names.append(async_to_sync(layer.new_channel)())
        received.append(async_to_sync(take)(layer, names[0]))

    thread = threading.Thread(target=wait_elsewhere)
    thread.start()
    await until(lambda: names and layer.hub.is_read)
    channel = await layer.new_channel()
    await layer.send(channel, {"type": "test.message", "number": 1})
    assert (await take(layer, channel))["number"] == 1  # over the loop that the call waits in
    assert await is_quiet(layer, channel)
    await layer.send(names[0], {"type": "test.message", "number": 2})
    await until(lambda: received)
    assert received[0]["number"] == 2
    thread.join(PATIENCE)
