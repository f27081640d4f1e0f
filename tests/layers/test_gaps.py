"""The contract of losses: counted by reason and group, and told in their place to who asks."""

import anyio
import pytest

from asgi_notify.exceptions import ChannelFull
from asgi_notify.layers import BaseChannelLayer, History, Mailbox, Sent, entries
from asgi_notify.layers.entries import OTHERS
from asgi_notify.types import Message

from .conftest import Attach, MakeLayer
from .tools import Clock, drops, losses, number, numbers, publish, read, told, waiting

pytestmark = pytest.mark.anyio


def gap(group: str, reason: str, lost: int) -> Message:
    return {"type": "group.gap", "group": group, "reason": reason, "lost": lost}


async def full(attach: Attach, layer: BaseChannelLayer, *sent: int) -> Mailbox:
    mailbox = await attach(layer, "room", tell_gaps=True)
    for n in sent:
        await layer.group_send("room", number(n))
    return mailbox


async def test_drop_newest_tells_the_loss_behind_what_it_kept(
    make_layer: MakeLayer, attach: Attach
) -> None:
    layer = await make_layer(capacity=2, overflow="drop_newest")
    mailbox = await full(attach, layer, 1, 2, 3, 4, 5)
    assert await read(mailbox) == number(1)
    assert await layer.group_send("room", number(6)) == Sent(1, 0)
    assert told(waiting(mailbox)) == [2, ("room", "full", 3), 6]


async def test_drop_oldest_tells_the_loss_before_what_it_kept(
    make_layer: MakeLayer, attach: Attach
) -> None:
    layer = await make_layer(capacity=2, overflow="drop_oldest")
    mailbox = await full(attach, layer, 1, 2, 3, 4, 5)
    assert waiting(mailbox) == [gap("room", "full", 3), number(4), number(5)]


async def test_disconnect_tells_by_its_close_alone(make_layer: MakeLayer, attach: Attach) -> None:
    layer = await make_layer(capacity=2)
    mailbox = await full(attach, layer, 1, 2, 3)
    with pytest.raises(ChannelFull):
        mailbox.pop()
    assert losses(layer) == {("full", "room"): 1, ("closed", "room"): 2}


async def test_what_expired_unread_is_told_in_its_place(
    make_layer: MakeLayer, attach: Attach, clock: Clock
) -> None:
    layer = await make_layer(expiry=5)
    mailbox = await full(attach, layer, 1, 2)
    clock.move(3)
    await layer.group_send("room", number(3))
    clock.move(3)
    await layer.group_send("room", number(4))
    assert told(waiting(mailbox)) == [("room", "expired", 2), 3, 4]
    assert losses(layer) == {("expired", "room"): 2}


async def test_a_reader_that_waits_too_long_is_told_even_if_nothing_is_left(
    make_layer: MakeLayer, attach: Attach, clock: Clock
) -> None:
    layer = await make_layer(expiry=5)
    mailbox = await full(attach, layer, 1)
    clock.move(5)
    assert waiting(mailbox) == [gap("room", "expired", 1)]
    assert waiting(mailbox) == []


async def test_losses_that_follow_each_other_are_one_for_each_group_and_reason(
    make_layer: MakeLayer, attach: Attach, clock: Clock
) -> None:
    layer = await make_layer(capacity=4, expiry=5, overflow="drop_newest")
    mailbox = await attach(layer, "a", "b", tell_gaps=True)
    for n in range(1, 9):
        await layer.group_send("ab"[n % 2], number(n))
    clock.move(3)
    assert mailbox.pop() is not None
    await layer.group_send("a", number(9))
    await layer.group_send("b", number(10))
    clock.move(3)
    assert told(waiting(mailbox)) == [
        ("a", "expired", 2),
        ("b", "expired", 1),
        ("b", "full", 2),
        ("a", "full", 2),
        9,
        ("b", "full", 1),
    ]


async def between_gaps(
    make_layer: MakeLayer, attach: Attach, capacity: int
) -> tuple[BaseChannelLayer, Mailbox]:
    """A mailbox where each message that waits stands before a gap, and the first behind one too."""
    layer = await make_layer(capacity=capacity, expiry=5, overflow="drop_newest")
    mailbox = await full(attach, layer, *range(capacity + 1))
    for n in range(10, 10 + capacity):
        assert await read(mailbox) == number(n - 10)
        await layer.group_send("room", number(n))
        await layer.group_send("room", number(-1))
    return layer, mailbox


async def test_gaps_that_come_together_when_what_stood_between_expires_are_one(
    make_layer: MakeLayer, attach: Attach, clock: Clock
) -> None:
    _, mailbox = await between_gaps(make_layer, attach, 2)
    clock.move(6)
    assert told(waiting(mailbox)) == [
        ("room", "full", 1),
        ("room", "expired", 2),
        ("room", "full", 2),
    ]


async def test_the_same_where_the_next_message_finds_them_expired(
    make_layer: MakeLayer, attach: Attach, clock: Clock
) -> None:
    layer, mailbox = await between_gaps(make_layer, attach, 2)
    clock.move(6)
    await layer.group_send("room", number(20))
    assert told(waiting(mailbox)) == [("room", "full", 3), ("room", "expired", 2), 20]


async def test_a_gap_takes_no_room_and_is_not_lost_itself(
    make_layer: MakeLayer, attach: Attach, clock: Clock
) -> None:
    layer = await make_layer(capacity=1, expiry=5, overflow="drop_oldest")
    mailbox = await full(attach, layer, *range(10))
    clock.move(1000)
    for n in range(10, 14):
        await layer.group_send("room", number(n))
    assert told(waiting(mailbox)) == [("room", "full", 12), ("room", "expired", 1), 13]


async def test_who_does_not_ask_is_told_nothing(make_layer: MakeLayer, attach: Attach) -> None:
    layer = await make_layer(capacity=2, overflow="drop_newest")
    mailbox = await attach(layer, "room")
    for n in range(5):
        await layer.group_send("room", number(n))
    assert numbers(waiting(mailbox)) == [0, 1]


async def test_a_message_to_one_channel_is_lost_to_no_group(
    make_layer: MakeLayer, attach: Attach
) -> None:
    layer = await make_layer(capacity=1, overflow="drop_oldest")
    mailbox = await attach(layer, "room", tell_gaps=True)
    await layer.send(mailbox.channel, number(1))
    await layer.group_send("room", number(2))
    assert told(waiting(mailbox)) == [2]
    assert drops(layer) == {"full": 1}
    assert losses(layer) == {}


async def test_a_flood_leaves_a_mailbox_no_more_gaps_than_groups(
    make_layer: MakeLayer, attach: Attach
) -> None:
    layer = await make_layer(capacity=2, overflow="drop_newest")
    groups = [f"room.{n}" for n in range(10)]
    mailbox = await attach(layer, *groups, tell_gaps=True)
    for n in range(1000):
        await layer.group_send(groups[n % 10], number(n))
    messages = waiting(mailbox)
    assert len(messages) == 2 + 10
    assert sum(message.get("lost", 0) for message in messages) == 998


async def test_events_of_the_client_stay_where_they_came(
    make_layer: MakeLayer, attach: Attach
) -> None:
    layer = await make_layer(capacity=1, overflow="drop_oldest")
    mailbox = await attach(layer, "room", tell_gaps=True)
    await mailbox.put_event({"type": "client", "n": -1})
    await layer.group_send("room", number(1))
    await mailbox.put_event({"type": "client", "n": -2})
    await layer.group_send("room", number(2))
    await layer.group_send("room", number(3))
    assert told(waiting(mailbox)) == [-1, ("room", "full", 1), -2, ("room", "full", 1), 3]


async def test_a_resume_takes_back_what_was_told_and_not_read_yet(
    make_layer: MakeLayer, attach: Attach
) -> None:
    layer = await make_layer(capacity=2, overflow="drop_oldest", history={"room": History()})
    mailbox = await attach(layer, "room", "other", tell_gaps=True)
    first, *_ = await publish(layer, "room", 1, 2, 3, 4)
    await layer.group_send("other", number(10))
    await layer.group_send("other", number(11))
    await layer.group_send("other", number(12))
    assert (await layer.group_add("room", mailbox.channel, since=first)).recovered
    assert told(waiting(mailbox)) == [("other", "full", 1), 11, 12, 1, 2, 3, 4]


async def test_a_prompt_reader_has_nothing_to_be_told_of(
    make_layer: MakeLayer, attach: Attach
) -> None:
    layer = await make_layer(capacity=3)
    mailbox = await attach(layer, "room", tell_gaps=True)
    got: list[object] = []

    async def reader() -> None:
        while len(got) < 50:
            got.extend(told([await read(mailbox)]))

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(reader)
            await anyio.wait_all_tasks_blocked()
            for n in range(50):
                tasks.start_soon(layer.group_send, "room", number(n))
    assert sorted(map(str, got)) == sorted(map(str, range(50)))
    assert not drops(layer)


async def test_losses_of_very_many_groups_are_counted_together(
    make_layer: MakeLayer, attach: Attach, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entries, "MAX_COUNTED", 20)
    layer = await make_layer(capacity=1, overflow="drop_newest")
    groups = [f"room.{n}" for n in range(20 + 5)]
    await attach(layer, "first", *groups)
    for group in ("first", *groups, "room.0"):
        await layer.group_send(group, number(1))
    counted = losses(layer)
    assert len(counted) == 20 + 1
    assert counted["full", OTHERS] == 5
    assert counted["full", "room.0"] == 2
    assert sum(counted.values()) == drops(layer)["full"] == 20 + 6


async def test_what_tells_who_is_there_is_no_gap_when_it_is_lost(
    make_layer: MakeLayer, attach: Attach
) -> None:
    layer = await make_layer(capacity=1, overflow="drop_newest")
    mailbox = await full(attach, layer, 1)
    assert await layer.group_send("room", {"type": "presence.join", "group": "room"}) == Sent(0, 1)
    assert told(waiting(mailbox)) == [1]
    assert losses(layer)["full", "room"] == 1
