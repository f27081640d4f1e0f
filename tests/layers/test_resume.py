"""The contract of histories: who comes back gets what it missed, or learns that it cannot.

With no hole and no repeat, whatever is sent meanwhile, and however full a mailbox is.
"""

import anyio
import pytest
from anyio.lowlevel import checkpoint

from asgi_notify.codec import FrozenMessage
from asgi_notify.exceptions import ClientError, InvalidName
from asgi_notify.layers import (
    BaseChannelLayer,
    History,
    InMemoryChannelLayer,
    Joined,
    Mailbox,
    Replay,
    Sent,
)
from asgi_notify.positions import Position

from .conftest import Attach, MakeLayer
from .tools import Clock, drops, number, numbers, publish, read, told, waiting

pytestmark = pytest.mark.anyio


# Positions.


async def test_a_send_tells_where_the_message_stands(kept: BaseChannelLayer) -> None:
    first = await kept.group_send("room", number(1))
    second = await kept.group_send("room", number(2))
    assert first.position is not None
    assert first == Sent(0, 0, first.position)
    assert second.position == Position(first.position.epoch, first.position.offset + 1)
    assert (await kept.group_send("plain", number(1))).position is None


async def test_a_received_message_knows_its_group_and_position(
    kept: BaseChannelLayer, attach: Attach
) -> None:
    mailbox = await attach(kept, "room", "plain")
    sent = await kept.group_send("room", number(1))
    await kept.group_send("plain", number(2))
    await kept.send(mailbox.channel, number(3))
    told = []
    for message in waiting(mailbox):
        assert isinstance(message, FrozenMessage)
        told.append((message.group, message.position))
    assert told == [("room", sent.position), ("plain", None), (None, None)]


async def test_all_members_share_one_message_that_is_kept_too(
    kept: BaseChannelLayer, attach: Attach
) -> None:
    first, second = await attach(kept, "room"), await attach(kept, "room")
    await publish(kept, "room", 1)
    message = await read(first)
    assert message is await read(second)
    assert (await kept.history("room")).messages == [message]


async def test_every_member_sees_the_one_order_of_the_positions(
    make_layer: MakeLayer, attach: Attach
) -> None:
    # Many at once, to mailboxes smaller than the burst: no one's message overtakes another's.
    layer = await make_layer(capacity=5, history={"*": History(size=500)})
    mailboxes = [await attach(layer, "room") for _ in range(3)]
    got: list[list[int]] = [[] for _ in mailboxes]

    async def reader(which: int) -> None:
        while len(got[which]) < 100:
            message = await read(mailboxes[which])
            assert isinstance(message, FrozenMessage)
            assert message.position is not None
            got[which].append(message.position.offset)
            if len(got[which]) % (which + 2) == 0:
                await checkpoint()

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            for which in range(3):
                tasks.start_soon(reader, which)
            await anyio.wait_all_tasks_blocked()
            for n in range(100):
                tasks.start_soon(layer.group_send, "room", number(n))
    orders = [offsets for offsets in got if offsets == sorted(offsets)]
    assert len(orders) == 3


# Joining.


async def test_who_joins_learns_from_where_on_it_gets_everything(
    kept: BaseChannelLayer, attach: Attach
) -> None:
    mailbox = await attach(kept)
    joined = await kept.group_add("room", mailbox.channel)
    assert joined.position is not None
    assert joined == Joined(joined.position, None, 0)
    (first,) = await publish(kept, "room", 1)
    assert first == Position(joined.position.epoch, joined.position.offset + 1)
    again = await kept.group_add("room", mailbox.channel)
    assert again == joined, "the first message still waits, and follows"
    assert numbers(waiting(mailbox)) == [1], "a second time changes nothing"
    assert (await kept.group_add("room", mailbox.channel)).position == first


async def test_a_group_without_history_has_no_position_and_recovers_nothing(
    kept: BaseChannelLayer, attach: Attach
) -> None:
    mailbox = await attach(kept)
    assert await kept.group_add("plain", mailbox.channel) == Joined(None, None, 0)
    somewhere = Position("abcdefgh", 3)
    assert await kept.group_add("plain", mailbox.channel, since=somewhere) == Joined(None, False, 0)
    assert await kept.history("plain", since=somewhere) == Replay([], False, None)
    assert (await kept.group_send("plain", number(1))).reached == 1


async def test_who_comes_back_gets_what_it_missed_and_then_what_is_sent(
    kept: BaseChannelLayer, attach: Attach
) -> None:
    first, *_ = await publish(kept, "room", 1, 2, 3)
    mailbox = await attach(kept)
    assert await kept.group_add("room", mailbox.channel, since=first) == Joined(first, True, 2)
    await publish(kept, "room", 4)
    assert numbers(waiting(mailbox)) == [2, 3, 4]


async def test_a_position_may_come_as_the_text_that_a_client_has(
    kept: BaseChannelLayer, attach: Attach
) -> None:
    first, second = await publish(kept, "room", 1, 2)
    mailbox = await attach(kept)
    joined = await kept.group_add("room", mailbox.channel, since=str(first))
    assert joined == Joined(first, True, 1)
    assert (await kept.history("room", since=str(second))).messages == []


async def test_who_has_received_nothing_yet_can_come_back(
    kept: BaseChannelLayer, attach: Attach
) -> None:
    before = await attach(kept)
    start = (await kept.group_add("room", before.channel)).position
    kept.detach(before)
    await publish(kept, "room", 1, 2)
    after = await attach(kept)
    assert await kept.group_add("room", after.channel, since=start) == Joined(start, True, 2)
    assert numbers(waiting(after)) == [1, 2]


async def test_who_missed_nothing_is_recovered_with_nothing(
    kept: BaseChannelLayer, attach: Attach
) -> None:
    (last,) = await publish(kept, "room", 1)
    mailbox = await attach(kept)
    assert await kept.group_add("room", mailbox.channel, since=last) == Joined(last, True, 0)
    assert waiting(mailbox) == []


async def test_who_missed_too_much_is_told_and_goes_on_from_now(
    kept: BaseChannelLayer, attach: Attach
) -> None:
    first, *_, last = await publish(kept, "room", *range(1, 8))
    mailbox = await attach(kept)
    assert await kept.group_add("room", mailbox.channel, since=first) == Joined(last, False, 0)
    await publish(kept, "room", 8)
    assert numbers(waiting(mailbox)) == [8]


async def test_who_missed_what_has_expired_is_told(
    kept: BaseChannelLayer, attach: Attach, clock: Clock
) -> None:
    first, last = await publish(kept, "room", 1, 2)
    clock.move(10)
    mailbox = await attach(kept)
    assert await kept.group_add("room", mailbox.channel, since=first) == Joined(last, False, 0)
    assert await kept.group_add("room", mailbox.channel, since=last) == Joined(last, True, 0)


async def test_a_position_of_another_group_is_not_recovered(
    kept: BaseChannelLayer, attach: Attach
) -> None:
    [position] = await publish(kept, "room", 1)
    await publish(kept, "room.other", 1, 2)
    mailbox = await attach(kept)
    assert (await kept.group_add("room.other", mailbox.channel, since=position)).recovered is False
    # Nor is the beginning of a group that was never sent to that of another one.
    beginning = (await kept.group_add("room.quiet", mailbox.channel)).position
    assert (await kept.history("room.still", since=beginning)).recovered is False
    assert (await kept.history("room.quiet", since=beginning)).recovered is True


async def test_a_position_of_another_history_is_not_recovered(
    kept: BaseChannelLayer, attach: Attach
) -> None:
    (top,) = await publish(kept, "room", 1)
    mailbox = await attach(kept)
    for since in (Position("abcdefgh", 1), Position(top.epoch, 2)):
        assert await kept.group_add("room", mailbox.channel, since=since) == Joined(top, False, 0)


@pytest.mark.parametrize("since", ["", "7", "abcdefgh-01", "abcdefgh--1", "ABCDEFGH-1", "a" * 500])
async def test_what_is_no_position_is_refused_before_anything_is_done(
    kept: BaseChannelLayer, attach: Attach, since: str
) -> None:
    mailbox = await attach(kept)
    with pytest.raises(ClientError, match="is no position: send the id of the last"):
        await kept.group_add("room", mailbox.channel, since=since)
    with pytest.raises(ClientError, match="is no position"):
        await kept.history("room", since=since)
    assert (await kept.group_send("room", number(1))).reached == 0


async def test_the_history_outlives_the_last_subscriber(
    kept: BaseChannelLayer, attach: Attach, clock: Clock
) -> None:
    mailbox = await attach(kept, "room")
    (first,) = await publish(kept, "room", 1)
    kept.detach(mailbox)
    await publish(kept, "room", 2)
    clock.move(9)
    back = await attach(kept)
    assert await kept.group_add("room", back.channel, since=first) == Joined(first, True, 1)


async def test_a_channel_that_was_detached_gets_no_replay(kept: BaseChannelLayer) -> None:
    (first, top) = await publish(kept, "room", 1, 2)
    mailbox = await kept.attach()
    kept.detach(mailbox)
    assert await kept.group_add("room", mailbox.channel, since=first) == Joined(top, False, 0)
    assert await kept.group_add("room", mailbox.channel) == Joined(top, None, 0)
    assert waiting(mailbox) == []


async def test_a_channel_that_is_only_read_can_resume(kept: BaseChannelLayer) -> None:
    first, *_ = await publish(kept, "room", 1, 2, 3)
    channel = await kept.new_channel()
    await kept.group_add("room", channel, since=first)
    with anyio.fail_after(20):
        assert [(await kept.receive(channel))["n"] for _ in range(2)] == [2, 3]


async def test_a_replay_wakes_a_reader_that_waits(kept: BaseChannelLayer, attach: Attach) -> None:
    first, _ = await publish(kept, "room", 1, 2)
    mailbox = await attach(kept)
    got: list[int] = []

    async def reader() -> None:
        got.append((await read(mailbox))["n"])

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(reader)
            await anyio.wait_all_tasks_blocked()
            await kept.group_add("room", mailbox.channel, since=first)
    assert got == [2]


# Replays and what else waits in a mailbox.


async def test_a_replay_takes_no_room_of_what_is_sent_now(
    make_layer: MakeLayer, attach: Attach
) -> None:
    layer = await make_layer(capacity=2, overflow="drop_newest", history={"room": History(size=10)})
    first, *_ = await publish(layer, "room", *range(1, 9))
    mailbox = await attach(layer)
    await layer.send(mailbox.channel, number(-1))
    assert (await layer.group_add("room", mailbox.channel, since=first)).replayed == 7
    reached = [(await layer.group_send("room", number(n))).reached for n in (9, 10)]
    assert reached == [1, 0], "one of two places was taken before"
    assert numbers(waiting(mailbox)) == [-1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert drops(layer) == {"full": 1}


async def test_drop_oldest_leaves_a_replay_whole(make_layer: MakeLayer, attach: Attach) -> None:
    layer = await make_layer(capacity=2, overflow="drop_oldest", history={"room": History(10)})
    first, *_ = await publish(layer, "room", 1, 2, 3)
    mailbox = await attach(layer)
    await layer.group_add("room", mailbox.channel, since=first)
    await publish(layer, "room", 4, 5, 6)
    assert numbers(waiting(mailbox)) == [2, 3, 5, 6]


async def test_the_time_of_a_replayed_message_counts_from_the_replay(
    make_layer: MakeLayer, attach: Attach, clock: Clock
) -> None:
    layer = await make_layer(expiry=5, history={"room": History(ttl=100)})
    first, *_ = await publish(layer, "room", 1, 2)
    clock.move(50)
    mailbox = await attach(layer)
    await layer.group_add("room", mailbox.channel, since=first)
    clock.move(4)
    assert numbers(waiting(mailbox)) == [2]
    await layer.group_add("room", mailbox.channel, since=first)
    clock.move(5)
    assert waiting(mailbox) == []
    assert drops(layer) == {"expired": 1}


async def test_a_member_may_ask_again_and_gets_nothing_twice(
    kept: BaseChannelLayer, attach: Attach
) -> None:
    mailbox = await attach(kept, "room")
    first, *_ = await publish(kept, "room", 1, 2, 3)
    assert await read(mailbox) == number(1)
    await kept.send(mailbox.channel, number(-1))
    for _ in range(3):
        assert await kept.group_add("room", mailbox.channel, since=first) == Joined(first, True, 2)
    await publish(kept, "room", 4)
    assert numbers(waiting(mailbox)) == [-1, 2, 3, 4]


async def test_a_member_that_cannot_be_recovered_keeps_what_waits(
    kept: BaseChannelLayer, attach: Attach
) -> None:
    first, second, *_ = await publish(kept, "room", 1, 2)
    mailbox = await attach(kept, "room")
    await publish(kept, "room", *range(3, 9))
    joined = await kept.group_add("room", mailbox.channel, since=first)
    assert joined == Joined(second, False, 0), "behind the second all that waits follows"
    assert numbers(waiting(mailbox)) == list(range(3, 9))


async def test_a_replay_leaves_what_waits_of_other_groups(
    kept: BaseChannelLayer, attach: Attach
) -> None:
    first, *_ = await publish(kept, "room", 1)
    mailbox = await attach(kept, "room", "room.2")
    await publish(kept, "room", 2)
    await publish(kept, "room.2", 11, 12)
    await kept.group_add("room", mailbox.channel, since=first)
    assert numbers(waiting(mailbox)) == [11, 12, 2]


# What a member is owed: it asks from several places, in any order.


async def test_who_asks_from_a_later_place_still_gets_what_waits_of_an_earlier_replay(
    kept: BaseChannelLayer, attach: Attach
) -> None:
    first, _, third, _ = await publish(kept, "room", 1, 2, 3, 4)
    mailbox = await attach(kept)
    await kept.group_add("room", mailbox.channel, since=first)
    assert await kept.group_add("room", mailbox.channel, since=third) == Joined(first, True, 3)
    assert numbers(waiting(mailbox)) == [2, 3, 4]


async def test_who_asks_from_a_later_place_loses_nothing_that_only_the_mailbox_still_has(
    kept: BaseChannelLayer, attach: Attach
) -> None:
    mailbox = await attach(kept)
    start = (await kept.group_add("room", mailbox.channel)).position
    *_, fifth, _, top = await publish(kept, "room", *range(1, 8))  # the history has the last five
    for since in fifth, top:
        assert await kept.group_add("room", mailbox.channel, since=since) == Joined(start, True, 0)
    ahead = Position(top.epoch, 8)
    for since in ahead, Position("abcdefgh", 5):
        joined = await kept.group_add("room", mailbox.channel, since=since)
        assert joined == Joined(start, False, 0)
    assert numbers(waiting(mailbox)) == list(range(1, 8))


async def test_what_only_the_mailbox_still_has_is_recovered(
    kept: BaseChannelLayer, attach: Attach
) -> None:
    mailbox = await attach(kept)
    start = (await kept.group_add("room", mailbox.channel)).position
    first, *_ = await publish(kept, "room", *range(1, 8))
    assert await kept.group_add("room", mailbox.channel, since=first) == Joined(start, True, 0)
    assert numbers(waiting(mailbox)) == list(range(1, 8))


@pytest.mark.parametrize(("size", "got"), [(10, [1, 2, 3, 4, 5]), (2, [("room", "full", 3), 4, 5])])
async def test_a_gap_that_waits_is_owed_from_its_first_message_on(
    make_layer: MakeLayer, attach: Attach, size: int, got: list[object]
) -> None:
    layer = await make_layer(capacity=2, overflow="drop_oldest", history={"room": History(size)})
    mailbox = await attach(layer, tell_gaps=True)
    start = (await layer.group_add("room", mailbox.channel)).position
    *_, fourth, _ = await publish(layer, "room", 1, 2, 3, 4, 5)
    joined = await layer.group_add("room", mailbox.channel, since=fourth)
    assert joined == Joined(start, True, 5 if size == 10 else 0)
    assert told(waiting(mailbox)) == got


async def test_where_messages_were_told_lost_the_position_is_behind_them(
    make_layer: MakeLayer, attach: Attach
) -> None:
    layer = await make_layer(capacity=2, overflow="drop_oldest", history={"room": History(2)})
    mailbox = await attach(layer, tell_gaps=True)
    start = (await layer.group_add("room", mailbox.channel)).position
    *_, third, fourth, fifth = await publish(layer, "room", 1, 2, 3, 4, 5)
    assert told([await read(mailbox)]) == [("room", "full", 3)]
    assert await layer.group_add("room", mailbox.channel, since=start) == Joined(third, False, 0)
    assert told([await read(mailbox)]) == [4]
    assert await layer.group_add("room", mailbox.channel, since=start) == Joined(fourth, False, 0)
    assert told([await read(mailbox)]) == [5]
    assert await layer.group_add("room", mailbox.channel, since=start) == Joined(fifth, False, 0)


async def test_a_member_that_never_reads_and_asks_again_and_again_fills_no_memory(
    make_layer: MakeLayer, attach: Attach
) -> None:
    layer = await make_layer(capacity=3, overflow="drop_oldest", history={"room": History(size=4)})
    start = (await publish(layer, "room", 0))[0]
    mailbox = await attach(layer, "room", tell_gaps=True)
    for n in range(1, 100):
        (last,) = await publish(layer, "room", n)
        for since in start, Position(last.epoch, max(0, last.offset - 3)), last:
            await layer.group_add("room", mailbox.channel, since=since)
            assert mailbox.unread <= 4 + 3
    found = told(waiting(mailbox))
    assert len(found) < 12
    assert found[-1] == 99


async def test_what_waits_of_an_earlier_membership_is_not_taken_for_all_that_was_sent(
    kept: BaseChannelLayer, attach: Attach
) -> None:
    start, *_ = await publish(kept, "room", 0)
    mailbox = await attach(kept, "room")
    await publish(kept, "room", 1)
    await kept.group_discard("room", mailbox.channel)
    _, third = await publish(kept, "room", 2, 3)
    joined = await kept.group_add("room", mailbox.channel, since=third)
    assert joined == Joined(third, True, 0)
    assert await kept.group_add("room", mailbox.channel, since=start) == Joined(start, True, 3)
    assert numbers(waiting(mailbox)) == [1, 2, 3]


async def rejoined(layer: BaseChannelLayer, mailbox: Mailbox) -> tuple[list[Position], Position]:
    """Have five messages wait of a membership, and miss the sixth; return where they stand."""
    await layer.group_add("room", mailbox.channel)
    first = await publish(layer, "room", *range(1, 6))
    await layer.group_discard("room", mailbox.channel)
    [sixth] = await publish(layer, "room", 6)
    assert await layer.group_add("room", mailbox.channel) == Joined(sixth, None, 0)
    return first, sixth


@pytest.mark.parametrize("size", [4, 10])
async def test_what_waits_of_an_earlier_membership_is_owed_no_more_to_who_joins_again(
    make_layer: MakeLayer, attach: Attach, size: int
) -> None:
    layer = await make_layer(history={"room": History(size)})
    mailbox = await attach(layer)
    first, sixth = await rejoined(layer, mailbox)
    assert await layer.group_add("room", mailbox.channel) == Joined(sixth, None, 0)
    fifth = first[-1]
    assert await layer.group_add("room", mailbox.channel, since=fifth) == Joined(fifth, True, 1)
    assert numbers(waiting(mailbox)) == [6]


async def test_who_joins_again_is_owed_what_was_sent_since(
    make_layer: MakeLayer, attach: Attach
) -> None:
    layer = await make_layer(history={"room": History(4)})
    mailbox = await attach(layer)
    first, sixth = await rejoined(layer, mailbox)
    seventh, eighth = await publish(layer, "room", 7, 8)
    assert await layer.group_add("room", mailbox.channel) == Joined(sixth, None, 0)
    joined = await layer.group_add("room", mailbox.channel, since=first[0])
    assert joined == Joined(sixth, False, 0), "of 2 and 3 nothing is known any more"
    assert await layer.group_add("room", mailbox.channel, since=eighth) == Joined(sixth, True, 2)
    assert numbers(waiting(mailbox)) == [7, 8]
    assert await layer.group_add("room", mailbox.channel, since=seventh) == Joined(seventh, True, 1)


async def test_a_replay_makes_one_whole_of_two_memberships(
    make_layer: MakeLayer, attach: Attach
) -> None:
    layer = await make_layer(history={"room": History(10)})
    mailbox = await attach(layer)
    first, sixth = await rejoined(layer, mailbox)
    second = first[1]
    assert await layer.group_add("room", mailbox.channel, since=second) == Joined(second, True, 4)
    assert await layer.group_add("room", mailbox.channel, since=sixth) == Joined(second, True, 4)
    assert numbers(waiting(mailbox)) == [3, 4, 5, 6]


async def test_a_gap_of_an_earlier_membership_is_owed_no_more_either(
    make_layer: MakeLayer, attach: Attach
) -> None:
    layer = await make_layer(capacity=2, overflow="drop_oldest", history={"room": History(4)})
    mailbox = await attach(layer, tell_gaps=True)
    first, sixth = await rejoined(layer, mailbox)
    fifth = first[-1]
    [seventh] = await publish(layer, "room", 7)  # which makes one more of before a gap
    assert await layer.group_add("room", mailbox.channel) == Joined(sixth, None, 0)
    assert await layer.group_add("room", mailbox.channel, since=fifth) == Joined(fifth, True, 2)
    assert told(waiting(mailbox)) == [6, 7]
    assert await layer.group_add("room", mailbox.channel) == Joined(seventh, None, 0)


async def test_a_loss_after_joining_again_is_owed_though_one_of_before_waits_beside_it(
    make_layer: MakeLayer, attach: Attach
) -> None:
    layer = await make_layer(capacity=3, overflow="drop_newest", history={"room": History(1)})
    mailbox = await attach(layer, tell_gaps=True)
    first, sixth = await rejoined(layer, mailbox)
    *_, eighth = await publish(layer, "room", 7, 8)
    for since in first[0], sixth, eighth:
        joined = await layer.group_add("room", mailbox.channel, since=since)
        assert joined == Joined(sixth, since is eighth, 0)
    assert told(waiting(mailbox)) == [1, 2, 3, ("room", "full", 2), ("room", "full", 2)]
    assert mailbox.unread == 0


async def test_joining_again_and_again_fills_no_memory(
    make_layer: MakeLayer, attach: Attach
) -> None:
    layer = await make_layer(capacity=2, overflow="drop_newest", history={"room": History(4)})
    mailbox = await attach(layer, "room", "plain", tell_gaps=True)
    await publish(layer, "room", 1)
    await layer.group_send("plain", number(2))
    for n in range(3, 100):
        await publish(layer, "room", n)
        await layer.group_discard("room", mailbox.channel)
        await layer.group_add("room", mailbox.channel)
        assert mailbox.unread == 2
    assert len(mailbox._waiting()) == 4
    assert told(waiting(mailbox)) == [1, 2, ("room", "full", 97)]
    assert len(mailbox._waiting()) == 0


async def test_a_full_mailbox_whose_reader_is_slow_takes_the_replay(
    make_layer: MakeLayer, attach: Attach
) -> None:
    layer = await make_layer(capacity=2, history={"room": History(10)})
    mailbox = await attach(layer, "room", overflow="drop_newest", tell_gaps=True)
    first, *_ = await publish(layer, "room", 1, 2, 3, 4)
    await layer.group_add("room", mailbox.channel, since=first)
    assert numbers(waiting(mailbox)) == [1, 2, 3, 4], "with nothing to tell of what it lost"


# What is sent while somebody joins.


@pytest.mark.parametrize("turns", range(8))
async def test_nothing_is_missed_or_doubled_by_who_resumes_while_messages_come(
    make_layer: MakeLayer, attach: Attach, turns: int
) -> None:
    layer = await make_layer(capacity=3, history={"room": History(size=1000)})
    (start,) = await publish(layer, "room", 0)
    got: list[int] = []

    async def publisher() -> None:
        for n in range(1, 101):
            await layer.group_send("room", number(n))
            await checkpoint()

    async def client() -> None:
        mailbox, since = await attach(layer), start
        while not got or got[-1] < 100:
            for _ in range(turns):
                await checkpoint()
            joined = await layer.group_add("room", mailbox.channel, since=since)
            assert joined.recovered
            for _ in range(5):
                message = await read(mailbox)
                assert isinstance(message, FrozenMessage)
                assert message.position is not None
                since = message.position
                got.append(message["n"])
                if got[-1] == 100:
                    break
            layer.detach(mailbox)
            mailbox = await attach(layer)

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client)
            tasks.start_soon(publisher)
    assert got == list(range(1, 101))


# Asking for a history.


async def test_a_history_is_read_page_by_page(kept: BaseChannelLayer) -> None:
    _, first, *_, last = await publish(kept, "room", *range(1, 8))
    page = await kept.history("room", limit=2)
    assert (numbers(page.messages), page.recovered, page.position) == ([3, 4], True, last)
    page = await kept.history("room", since=first, limit=3)
    assert numbers(page.messages) == [3, 4, 5]
    page = await kept.history("room", since=str(page.messages[-1].position))
    assert numbers(page.messages) == [6, 7]


async def test_messages_for_whoever_is_there_now_are_never_replayed(
    kept: BaseChannelLayer, attach: Attach
) -> None:
    mailbox = await attach(kept, "room")
    sent = await kept.group_send("room", {"type": "connection.close"})
    assert sent == Sent(1, 0, None)
    assert len(waiting(mailbox)) == 1
    assert (await kept.history("room")).messages == []


async def test_a_history_of_what_can_be_no_group_is_refused(kept: BaseChannelLayer) -> None:
    with pytest.raises(InvalidName):
        await kept.history("a b")


# The end of a history.


@pytest.mark.parametrize("engine", [InMemoryChannelLayer], indirect=True)
@pytest.mark.parametrize("end", ["flush", "close"])
async def test_a_position_of_before_the_end_is_not_recovered(
    kept: BaseChannelLayer, attach: Attach, end: str
) -> None:
    (before,) = await publish(kept, "room", 1)
    await getattr(kept, end)()
    mailbox = await attach(kept)
    joined = await kept.group_add("room", mailbox.channel, since=before)
    assert (joined.recovered, joined.replayed) == (False, 0)
    assert joined.position is not None
    assert joined.position.epoch != before.epoch
    assert (await kept.history("room")).messages == []


@pytest.mark.parametrize("engine", [InMemoryChannelLayer], indirect=True)
async def test_too_many_groups_let_the_least_used_go_and_tell_its_clients(
    make_layer: MakeLayer, attach: Attach
) -> None:
    layer = await make_layer(history={"*": History()}, history_groups=2)
    (old,) = await publish(layer, "old", 1)
    await publish(layer, "newer", 1)
    await publish(layer, "newest", 1)
    mailbox = await attach(layer)
    assert (await layer.group_add("old", mailbox.channel, since=old)).recovered is False
    (again,) = await publish(layer, "old", 2)
    assert again.epoch != old.epoch
