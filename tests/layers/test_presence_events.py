"""The contract of presence: who is in a group, and who is told of those who come and go."""

import time
from typing import Any

import anyio
import pytest

from asgi_notify.exceptions import ConfigurationError, InvalidMessage, InvalidName
from asgi_notify.layers import BaseChannelLayer, History, InMemoryChannelLayer, Mailbox
from asgi_notify.types import Message

from .conftest import Attach, MakeLayer
from .tools import Clock, number, numbers, read, waiting

pytestmark = pytest.mark.anyio

ADA = {"name": "Ada"}


def joined(member: str, info: object = None, group: str = "room") -> Message:
    return {"type": "presence.join", "group": group, "member": member, "info": info}


def left(member: str, info: object = None, group: str = "room") -> Message:
    return {"type": "presence.leave", "group": group, "member": member, "info": info}


async def follow(layer: BaseChannelLayer, attach: Attach, group: str = "room") -> Mailbox:
    mailbox = await attach(layer)
    await layer.presence_follow(group, mailbox.channel)
    return mailbox


async def test_channels_that_say_who_they_are_are_listed(
    layer: BaseChannelLayer, attach: Attach
) -> None:
    one, two, three = [await attach(layer, "room") for _ in range(3)]
    await layer.group_add("room", one.channel, member="ada", info=ADA)
    await layer.group_add("room", two.channel, member="ada")
    assert await layer.presence("room") == {one.channel: ADA, two.channel: None}
    assert await layer.presence_count("room") == 1
    await layer.group_add("room", three.channel, info={})
    assert await layer.presence("room") == {one.channel: ADA, two.channel: None, three.channel: {}}
    assert await layer.presence_count("room") == 2
    assert await layer.presence("elsewhere") == {}
    assert await layer.presence_count("elsewhere") == 0


async def test_who_says_who_it_is_gets_messages_like_any_other(
    kept: BaseChannelLayer, attach: Attach
) -> None:
    start = (await kept.group_send("room", number(0))).position
    await kept.group_send("room", number(1))
    mailbox = await attach(kept)
    back = await kept.group_add("room", mailbox.channel, since=start, member="ada", info=ADA)
    assert (back.recovered, back.replayed) == (True, 1)
    await kept.group_send("room", number(2))
    assert numbers(waiting(mailbox)) == [1, 2]


async def test_who_leaves_is_listed_no_more(layer: BaseChannelLayer, attach: Attach) -> None:
    one, two, three = [await attach(layer) for _ in range(3)]
    for mailbox in (one, two, three):
        await layer.group_add("room", mailbox.channel, info=ADA)
    await layer.group_discard("room", one.channel)
    layer.detach(two)
    assert list(await layer.presence("room")) == [three.channel]


async def test_a_channel_that_was_detached_is_never_listed(layer: BaseChannelLayer) -> None:
    mailbox = await layer.attach()
    layer.detach(mailbox)
    await layer.group_add("room", mailbox.channel, info=ADA)
    assert await layer.presence("room") == {}
    assert await layer.presence_count("room") == 0


async def test_followers_are_told_who_comes_and_who_is_gone_for_good(
    make_layer: MakeLayer, attach: Attach, clock: Clock
) -> None:
    layer = await make_layer(presence_grace=5)
    watching = await follow(layer, attach)
    tab, other = await attach(layer), await attach(layer)
    await layer.group_add("room", tab.channel, member="ada", info=ADA)
    await layer.group_add("room", other.channel, member="ada", info=ADA)
    assert waiting(watching) == [joined("ada", ADA)]
    layer.detach(tab)
    layer.detach(other)
    clock.move(4)
    assert await layer.presence_count("room") == 1
    assert waiting(watching) == []
    clock.move(1)
    assert await layer.presence_count("room") == 0
    assert waiting(watching) == [left("ada", ADA)]


async def test_a_page_reload_is_told_to_nobody(
    make_layer: MakeLayer, attach: Attach, clock: Clock
) -> None:
    layer = await make_layer(presence_grace=5)
    before = await attach(layer)
    await layer.group_add("room", before.channel, member="ada")
    watching = await follow(layer, attach)
    layer.detach(before)
    clock.move(4)
    after = await attach(layer)
    await layer.group_add("room", after.channel, member="ada")
    clock.move(100)
    assert await layer.presence_count("room") == 1
    assert waiting(watching) == []


async def test_a_leave_is_told_in_time_when_nothing_else_happens(
    make_layer: MakeLayer, attach: Attach
) -> None:
    layer = await make_layer(presence_grace=0.05, clock=time.monotonic)
    watching = await follow(layer, attach)
    for n in range(2):
        mailbox = await attach(layer)
        await layer.group_add("room", mailbox.channel, member=f"ada.{n}")
        with anyio.fail_after(20):
            assert await read(watching) == joined(f"ada.{n}")
            layer.detach(mailbox)
            assert await read(watching) == left(f"ada.{n}")


async def test_many_who_leave_at_once_are_told_to_a_prompt_follower_without_loss(
    make_layer: MakeLayer, attach: Attach
) -> None:
    layer = await make_layer(capacity=5, presence_grace=0.05, clock=time.monotonic)
    watching = await follow(layer, attach)
    mailboxes = [await attach(layer) for _ in range(100)]
    seen: list[str] = []

    async def reader() -> None:
        while len(seen) < 200:
            seen.append((await read(watching))["type"])

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(reader)
            await anyio.wait_all_tasks_blocked()
            for mailbox in mailboxes:
                await layer.group_add("room", mailbox.channel, member=mailbox.channel)
            for mailbox in mailboxes:
                layer.detach(mailbox)
    assert seen == ["presence.join"] * 100 + ["presence.leave"] * 100


async def test_a_follower_is_told_of_its_own_group_alone_and_stops(
    layer: BaseChannelLayer, attach: Attach
) -> None:
    watching = await follow(layer, attach)
    one, two, three = [await attach(layer) for _ in range(3)]
    await layer.group_add("elsewhere", one.channel, member="ada")
    await layer.group_add("room", two.channel, member="bob")
    assert waiting(watching) == [joined("bob")]
    await layer.presence_unfollow("room", watching.channel)
    await layer.presence_unfollow("room", watching.channel)
    await layer.group_add("room", three.channel, member="eve")
    assert waiting(watching) == []


async def test_a_follower_is_no_member_and_leaves_with_its_consumer(
    layer: BaseChannelLayer, attach: Attach
) -> None:
    watching = await follow(layer, attach)
    assert (await layer.group_send("room", number(1))).reached == 0
    assert await layer.presence("room") == {}
    layer.detach(watching)
    mailbox = await attach(layer)
    await layer.group_add("room", mailbox.channel, member="ada")
    assert waiting(watching) == []


async def test_who_comes_and_goes_is_kept_in_no_history(
    make_layer: MakeLayer, attach: Attach
) -> None:
    layer = await make_layer(history={"*": History()})
    await follow(layer, attach)
    mailbox = await attach(layer)
    await layer.group_add("room", mailbox.channel, member="ada")
    assert (await layer.history("room")).messages == []


# What several processes know outlives the layer of one: test_shared.py.
@pytest.mark.parametrize("engine", [InMemoryChannelLayer], indirect=True)
@pytest.mark.parametrize("end", ["flush", "close"])
async def test_the_end_forgets_who_was_there_and_tells_nobody(
    make_layer: MakeLayer, attach: Attach, clock: Clock, end: str
) -> None:
    layer = await make_layer()
    mailbox = await layer.attach()
    await layer.group_add("room", mailbox.channel, member="ada")
    await layer.presence_follow("room", "work")
    layer.detach(mailbox)
    await getattr(layer, end)()
    assert await layer.presence_count("room") == 0
    watching = await follow(layer, attach)
    clock.move(100)
    assert await layer.presence_count("room") == 0
    assert waiting(watching) == []


@pytest.mark.parametrize("member", ["", 7, b"ada"])
async def test_what_can_be_no_member_is_refused_before_anything_is_done(
    layer: BaseChannelLayer, attach: Attach, member: Any
) -> None:
    mailbox = await attach(layer)
    with pytest.raises(InvalidName, match=r"cannot name a member: use text, such as str\(user.id"):
        await layer.group_add("room", mailbox.channel, member=member)
    with pytest.raises(InvalidMessage, match=r"info is a mapping, such as .* not str"):
        await layer.group_add("room", mailbox.channel, info="Ada")  # type: ignore[arg-type]
    assert (await layer.group_send("room", number(1))).reached == 0


async def test_under_debug_info_that_cannot_travel_is_refused(
    make_layer: MakeLayer, attach: Attach
) -> None:
    layer = await make_layer(debug=True)
    mailbox = await attach(layer)
    with pytest.raises(InvalidMessage, match="cannot travel between processes"):
        await layer.group_add("room", mailbox.channel, info={"user": object()})
    assert await layer.presence("room") == {}


async def test_no_method_takes_a_name_that_no_group_can_have(layer: BaseChannelLayer) -> None:
    for ask in (layer.presence, layer.presence_count):
        with pytest.raises(InvalidName):
            await ask("a!b")
    for do in (layer.presence_follow, layer.presence_unfollow):
        with pytest.raises(InvalidName):
            await do("a!b", "work")
        with pytest.raises(InvalidName):
            await do("room", "a b")


def test_a_grace_that_makes_no_sense_is_refused(engine: type[BaseChannelLayer]) -> None:
    make: Any = engine
    with pytest.raises(ConfigurationError, match="grace is a number of seconds"):
        make(presence_grace=-1)
