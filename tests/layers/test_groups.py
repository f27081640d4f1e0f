"""The contract of groups: who is in one gets each of its messages once, in order, and nobody else.

Also what a consumer's full mailbox does, and how a layer is closed under its consumers.
"""

import anyio
import pytest
from anyio.lowlevel import checkpoint

from asgi_notify.exceptions import (
    ChannelFull,
    ConfigurationError,
    InvalidName,
    LayerClosed,
)
from asgi_notify.layers import BaseChannelLayer, Mailbox, Overflow, Sent
from asgi_notify.types import Message

from .conftest import Attach, MakeLayer
from .tools import DAY, Clock, drops, read, waiting

pytestmark = pytest.mark.anyio


def number(n: int) -> Message:
    return {"type": "number", "n": n}


def numbers(messages: list[Message]) -> list[int]:
    return [message["n"] for message in messages]


async def test_a_group_message_reaches_each_member_once(
    layer: BaseChannelLayer, attach: Attach
) -> None:
    first, second = await attach(layer, "room"), await attach(layer, "room", "room", "other")
    outsider = await attach(layer, "elsewhere")
    assert await layer.group_send("room", number(1)) == Sent(reached=2, dropped=0)
    assert numbers(waiting(first)) == numbers(waiting(second)) == [1]
    assert waiting(outsider) == []


async def test_a_channel_that_is_only_read_can_be_a_member(layer: BaseChannelLayer) -> None:
    channel = await layer.new_channel()
    await layer.group_add("room", channel)
    await layer.group_send("room", number(1))
    with anyio.fail_after(20):
        assert await layer.receive(channel) == number(1)
    assert (await layer.group_send("room", number(2))).reached == 1


async def test_who_left_a_group_gets_no_more_of_it(layer: BaseChannelLayer, attach: Attach) -> None:
    mailbox = await attach(layer, "room", "other")
    await layer.group_discard("room", mailbox.channel)
    await layer.group_discard("room", mailbox.channel)
    await layer.group_discard("never", mailbox.channel)
    await layer.group_discard("room", "nobody")
    assert (await layer.group_send("room", number(1))).reached == 0
    assert (await layer.group_send("other", number(2))).reached == 1
    assert numbers(waiting(mailbox)) == [2]


async def test_a_detached_channel_has_left_all_its_groups(layer: BaseChannelLayer) -> None:
    mailbox = await layer.attach()
    for group in ("a", "b", "c"):
        await layer.group_add(group, mailbox.channel)
    layer.detach(mailbox)
    layer.detach(mailbox)
    for group in ("a", "b", "c"):
        assert await layer.group_send(group, number(1)) == Sent(0, 0)
    assert mailbox.groups == set()


async def test_a_channel_that_was_detached_joins_no_group_any_more(
    layer: BaseChannelLayer,
) -> None:
    mailbox = await layer.attach()
    layer.detach(mailbox)
    await layer.group_add("room", mailbox.channel)
    assert await layer.group_send("room", number(1)) == Sent(0, 0)


async def test_unread_messages_of_a_consumer_that_left_are_counted_once(
    layer: BaseChannelLayer,
) -> None:
    mailbox = await layer.attach()
    await layer.send(mailbox.channel, number(1))
    layer.detach(mailbox)
    layer.detach(mailbox)
    assert drops(layer) == {"left": 1}


async def test_a_send_to_an_empty_group_reaches_nobody(layer: BaseChannelLayer) -> None:
    assert await layer.group_send("nobody", number(1)) == Sent(reached=0, dropped=0)


@pytest.mark.parametrize("group", ["g" * 101, "", "line\n", "café", "a b", "a!b", 7, None])
async def test_no_method_takes_a_name_that_no_group_can_have(
    layer: BaseChannelLayer, group: str
) -> None:
    with pytest.raises(InvalidName):
        await layer.group_add(group, "work")
    with pytest.raises(InvalidName):
        await layer.group_discard(group, "work")
    with pytest.raises(InvalidName):
        await layer.group_send(group, number(1))


async def test_a_group_name_of_a_hundred_characters_is_taken(
    layer: BaseChannelLayer, attach: Attach
) -> None:
    await attach(layer, "g" * 100)
    assert (await layer.group_send("g" * 100, number(1))).reached == 1


# FIELD 16: order.


async def test_one_publishers_messages_keep_their_order_in_every_mailbox(
    layer: BaseChannelLayer, attach: Attach
) -> None:
    mailboxes = [await attach(layer, "room") for _ in range(5)]
    got: list[list[int]] = [[] for _ in mailboxes]

    async def reader(mailbox: Mailbox, seen: list[int]) -> None:
        while len(seen) < 500:
            seen.append((await read(mailbox))["n"])

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            for mailbox, seen in zip(mailboxes, got, strict=True):
                tasks.start_soon(reader, mailbox, seen)
            await anyio.wait_all_tasks_blocked()
            for n in range(500):
                await layer.group_send("room", number(n))
    assert got == [list(range(500))] * 5


async def test_a_member_that_joins_late_gets_what_is_sent_from_then_on(
    layer: BaseChannelLayer, attach: Attach
) -> None:
    early = await attach(layer, "room")
    await layer.group_send("room", number(1))
    lagging = await attach(layer, "room")
    await layer.group_send("room", number(2))
    assert (numbers(waiting(early)), numbers(waiting(lagging))) == ([1, 2], [2])


# FIELD 5: membership.


async def test_a_membership_never_expires_under_a_live_consumer(
    layer: BaseChannelLayer, attach: Attach, clock: Clock
) -> None:
    mailbox = await attach(layer, "room")
    await layer.group_add("room", "work")
    for day in range(30):
        clock.move(DAY)
        assert (await layer.group_send("room", number(day))).reached == 2
        assert numbers(waiting(mailbox)) == [day]


async def test_an_expired_unread_message_takes_no_channel_out_of_its_groups(
    layer: BaseChannelLayer, attach: Attach, clock: Clock
) -> None:
    mailbox = await attach(layer, "one", "two")
    await layer.send(mailbox.channel, number(1))
    clock.move(61)
    assert waiting(mailbox) == []
    for n, group in enumerate(("one", "two")):
        assert (await layer.group_send(group, number(n))).reached == 1
    assert numbers(waiting(mailbox)) == [0, 1]


# FIELD 15: what a send costs.


async def test_a_send_touches_the_members_of_its_own_group_alone(
    layer: BaseChannelLayer, attach: Attach, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    offered: list[object] = []
    offer = Mailbox.offer

    def counted(mailbox: Mailbox, entry: object) -> bool | None:
        offered.append(entry)
        return offer(mailbox, entry)  # type: ignore[arg-type]  # passed on as it came

    for n in range(300):
        await attach(layer, f"other.{n}", "others")
        await layer.send(f"channel.{n}", number(n))
    for _ in range(3):
        await attach(layer, "room")
    monkeypatch.setattr(Mailbox, "offer", counted)
    before = clock.asked
    await layer.group_send("room", number(1))
    assert len(offered) == 3
    assert len(set(map(id, offered))) == 1, "all members share one entry"
    if not layer.is_shared:  # the engine has its own
        assert clock.asked - before == 1


# FIELD 1 and 2: full mailboxes.


async def test_a_slow_mailbox_takes_no_room_from_its_neighbour(
    make_layer: MakeLayer, attach: Attach
) -> None:
    layer = await make_layer(capacity=5, overflow="drop_newest")
    slow, other = await attach(layer, "room"), await attach(layer, "room")
    for n in range(100):
        sent = await layer.group_send("room", number(n))
        assert sent == Sent(reached=2 if n < 5 else 1, dropped=0 if n < 5 else 1)
        assert numbers(waiting(other)) == [n]
    await layer.send(other.channel, number(100))
    assert numbers(waiting(other)) == [100]
    assert numbers(waiting(slow)) == [0, 1, 2, 3, 4]


async def test_a_dropped_message_is_counted_each_time_and_logged_once(
    make_layer: MakeLayer, attach: Attach, caplog: pytest.LogCaptureFixture
) -> None:
    layer = await make_layer(capacity=100, overflow="drop_newest")
    first, second = await attach(layer, "room"), await attach(layer, "room")
    results = [await layer.group_send("room", number(n)) for n in range(300)]
    assert sum(sent.dropped for sent in results) == 400
    assert drops(layer) == {"full": 400}
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2
    for mailbox in (first, second):
        assert sum(mailbox.channel in line and "full" in line for line in lines) == 1
        assert numbers(waiting(mailbox)) == list(range(100))


async def test_drop_oldest_keeps_the_newest(make_layer: MakeLayer, attach: Attach) -> None:
    layer = await make_layer(capacity=3, overflow="drop_oldest")
    mailbox = await attach(layer, "room")
    for n in range(5):
        assert await layer.group_send("room", number(n)) == Sent(1, 0)
    await layer.send(mailbox.channel, number(5))
    assert numbers(waiting(mailbox)) == [3, 4, 5]
    assert drops(layer) == {"full": 3}


async def test_drop_oldest_keeps_what_the_client_sent(
    make_layer: MakeLayer, attach: Attach
) -> None:
    layer = await make_layer(capacity=2, overflow="drop_oldest")
    mailbox = await attach(layer, "room")
    await mailbox.put_event({"type": "client", "n": -1})
    for n in range(5):
        await layer.group_send("room", number(n))
    assert numbers(waiting(mailbox)) == [-1, 3, 4]


async def test_drop_newest_keeps_the_oldest(make_layer: MakeLayer, attach: Attach) -> None:
    layer = await make_layer(capacity=3)
    mailbox = await attach(layer, "room", overflow="drop_newest")
    sent = [await layer.group_send("room", number(n)) for n in range(5)]
    assert [result.reached for result in sent] == [1, 1, 1, 0, 0]
    with pytest.raises(ChannelFull):
        await layer.send(mailbox.channel, number(5))
    assert numbers(waiting(mailbox)) == [0, 1, 2]


async def test_disconnect_closes_the_slow_consumers_mailbox_alone(
    make_layer: MakeLayer, attach: Attach
) -> None:
    layer = await make_layer(capacity=3)
    slow, other = await attach(layer, "room"), await attach(layer, "room")
    told: list[str] = []
    slow.on_close = lambda: told.append("closed")
    for n in range(5):
        await layer.group_send("room", number(n))
        assert numbers(waiting(other)) == [n]
    assert isinstance(slow.error, ChannelFull)
    assert slow.error.close_code == 1013
    assert slow.channel in str(slow.error)
    assert told == ["closed"]
    with pytest.raises(ChannelFull):
        slow.pop()
    assert drops(layer) == {"full": 1, "closed": 4}
    assert other.error is None


async def test_a_closed_mailbox_counts_what_its_client_sent_for_nothing(
    make_layer: MakeLayer,
) -> None:
    layer = await make_layer(capacity=1)
    mailbox = await layer.attach()
    await mailbox.put_event({"type": "client"})
    await layer.send(mailbox.channel, number(1))
    with pytest.raises(ChannelFull, match=r"no more than 1 "):
        await layer.send(mailbox.channel, number(2))
    layer.detach(mailbox)
    assert drops(layer) == {"full": 1, "closed": 1}


async def test_expired_messages_leave_room_in_a_consumers_mailbox(
    make_layer: MakeLayer, attach: Attach, clock: Clock
) -> None:
    layer = await make_layer(capacity=2, expiry=5)
    mailbox = await attach(layer, "room")
    await layer.group_send("room", number(1))
    await layer.group_send("room", number(2))
    clock.move(6)
    assert await layer.group_send("room", number(3)) == Sent(1, 0)
    assert numbers(waiting(mailbox)) == [3]
    assert drops(layer) == {"expired": 2}


async def test_an_overflow_policy_that_there_is_not_is_refused(
    make_layer: MakeLayer, layer: BaseChannelLayer
) -> None:
    typo: Overflow = "drop_oldset"  # type: ignore[assignment]  # the mistake under test
    with pytest.raises(ConfigurationError, match="disconnect, drop_oldest, drop_newest"):
        await make_layer(overflow=typo)
    with pytest.raises(ConfigurationError, match="disconnect, drop_oldest, drop_newest"):
        await layer.attach(overflow=typo)


async def test_concurrent_sends_lose_nothing_for_a_prompt_reader(
    layer: BaseChannelLayer, attach: Attach
) -> None:
    mailbox = await attach(layer, "room")
    got: list[int] = []
    results: list[Sent] = []

    async def reader() -> None:
        while len(got) < 300:
            got.append((await read(mailbox))["n"])

    async def publish(n: int) -> None:
        results.append(await layer.group_send("room", number(n)))

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(reader)
            await anyio.wait_all_tasks_blocked()
            for n in range(300):
                tasks.start_soon(publish, n)
    assert sorted(got) == list(range(300))
    assert results == [Sent(1, 0)] * 300
    assert not drops(layer)


async def test_a_burst_reaches_a_waiting_consumer_whole_and_in_order(
    make_layer: MakeLayer, attach: Attach
) -> None:
    layer = await make_layer(capacity=10)
    prompt, never = await attach(layer, "room"), await attach(layer, overflow="drop_newest")
    await layer.group_add("room", never.channel)
    got: list[int] = []

    async def reader() -> None:
        while len(got) < 95:
            got.append((await read(prompt))["n"])

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(reader)
            await anyio.wait_all_tasks_blocked()
            for n in range(95):
                assert (await layer.group_send("room", number(n))).reached == 1 + (n < 10)
    assert got == list(range(95))
    assert numbers(waiting(never)) == list(range(10))


# Flushing and closing.


async def test_flush_empties_groups_and_mailboxes_and_sends_consumers_away(
    layer: BaseChannelLayer, attach: Attach
) -> None:
    mailbox = await attach(layer, "room")
    told: list[int] = []
    mailbox.on_close = lambda: told.append(1)
    await layer.group_add("room", "work")
    await layer.group_send("room", number(1))
    await layer.flush()
    assert await layer.group_send("room", number(2)) == Sent(0, 0)
    assert told == [1]
    with pytest.raises(LayerClosed, match="flushed; come back") as caught:
        mailbox.pop()
    assert caught.value.close_code == 1012
    with pytest.raises(LayerClosed, match="flushed"):
        await layer.send(mailbox.channel, number(3))
    assert drops(layer) == {"closed": 1}, "what was forgotten is not lost"


async def test_a_flushed_layer_is_used_on_at_once(layer: BaseChannelLayer, attach: Attach) -> None:
    await attach(layer, "room")
    await layer.flush()
    mailbox = await attach(layer, "room")
    assert (await layer.group_send("room", number(1))).reached == 1
    assert numbers(waiting(mailbox)) == [1]


async def test_flush_leaves_a_detach_nothing_to_trip_over(layer: BaseChannelLayer) -> None:
    mailbox = await layer.attach()
    await layer.group_add("room", mailbox.channel)
    await layer.flush()
    layer.detach(mailbox)
    assert (await layer.group_send("room", number(1))).reached == 0


async def test_close_tells_the_consumers_and_waits_for_them(layer: BaseChannelLayer) -> None:
    mailbox = await layer.attach()
    steps: list[str] = []
    ready = anyio.Event()

    async def consumer() -> None:
        with pytest.raises(LayerClosed) as caught:
            await read(mailbox)
        assert caught.value.close_code == 1012
        steps.append("told")
        await ready.wait()
        steps.append("left")
        layer.detach(mailbox)

    async def close() -> None:
        await layer.close()
        steps.append("closed")

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(consumer)
            await anyio.wait_all_tasks_blocked()
            tasks.start_soon(close)
            await anyio.wait_all_tasks_blocked()
            assert steps == ["told"]
            with pytest.raises(LayerClosed, match="come back"):
                await layer.attach()
            ready.set()
    assert steps == ["told", "left", "closed"]


async def test_a_closed_layer_can_be_used_again(layer: BaseChannelLayer, attach: Attach) -> None:
    await layer.group_add("room", "work")
    await layer.close()
    await layer.close()
    assert (await layer.group_send("room", number(1))).reached == 0
    async with layer:
        mailbox = await attach(layer, "room")
        assert (await layer.group_send("room", number(2))).reached == 1
        assert numbers(waiting(mailbox)) == [2]
        layer.detach(mailbox)


async def test_a_send_to_a_consumer_that_is_shut_down_says_so(layer: BaseChannelLayer) -> None:
    mailbox = await layer.attach()
    await layer.group_add("room", mailbox.channel)
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(layer.close)
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(LayerClosed):
                await layer.send(mailbox.channel, number(1))
            assert await layer.group_send("room", number(1)) == Sent(reached=0, dropped=1)
            layer.detach(mailbox)


async def test_two_who_close_at_once_both_wait_for_the_consumers(
    layer: BaseChannelLayer,
) -> None:
    mailbox = await layer.attach()
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(layer.close)
            tasks.start_soon(layer.close)
            await anyio.wait_all_tasks_blocked()
            layer.detach(mailbox)


async def test_a_close_that_was_cancelled_leaves_the_layer_usable(
    layer: BaseChannelLayer, attach: Attach
) -> None:
    slow = await layer.attach()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await layer.close()
    layer.detach(slow)
    mailbox = await attach(layer, "room")
    assert (await layer.group_send("room", number(1))).reached == 1
    assert mailbox.unread == 1


async def test_a_consumer_that_never_ends_does_not_hold_up_the_close(
    layer: BaseChannelLayer, attach: Attach, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asgi_notify.layers.local.DRAIN_TIMEOUT", 0.05)
    mailbox = await attach(layer)
    with anyio.fail_after(20):
        await layer.close()
    assert isinstance(mailbox.error, LayerClosed)
    await attach(layer, "room")


async def test_joins_and_leaves_in_the_middle_of_sends_are_safe(
    layer: BaseChannelLayer,
) -> None:
    async def come_and_go() -> None:
        for _ in range(20):
            mailbox = await layer.attach()
            await layer.group_add("room", mailbox.channel)
            await checkpoint()
            layer.detach(mailbox)

    async def publish() -> None:
        for n in range(20):
            await layer.group_send("room", number(n))
            await checkpoint()

    async with anyio.create_task_group() as tasks:
        for _ in range(10):
            tasks.start_soon(come_and_go)
            tasks.start_soon(publish)
    assert await layer.group_send("room", number(0)) == Sent(0, 0)
