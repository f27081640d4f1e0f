"""The hub by itself: nothing it holds outlives its use, and names tell whose a channel is."""

import re

import pytest

from asgi_notify.codec import FrozenMessage
from asgi_notify.exceptions import ChannelFull, InvalidName
from asgi_notify.layers.hub import SWEEP_AT, Hub

from .tools import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def hub(clock: Clock) -> Hub:
    return Hub(lambda channel: 2, 5, clock)


def message(n: int = 0) -> FrozenMessage:
    return FrozenMessage(type="number", n=n)


def is_empty(hub: Hub) -> bool:
    state = vars(hub)
    return not (state["_mailboxes"] or state["_groups"] or state["_attached"])


def test_a_new_name_belongs_to_this_process_alone(clock: Clock) -> None:
    first, second = (Hub(lambda channel: 2, 5, clock) for _ in range(2))
    names = {hub.new_name("specific") for hub in (first, second) for _ in range(10)}
    assert len(names) == 20
    assert all(re.fullmatch(r"specific\.[0-9a-f]{8}!\d+", name) for name in names)
    assert first.new_name("a.b..").startswith("a.b.")


def test_a_prefix_too_long_for_a_name_is_refused(hub: Hub) -> None:
    with pytest.raises(InvalidName):
        hub.new_name("p" * 95)


def test_a_hub_whose_channels_all_left_is_empty(hub: Hub) -> None:
    mailboxes = [hub.attach("specific", "disconnect") for _ in range(3)]
    for mailbox in mailboxes:
        hub.group_add("room", mailbox.channel)
        hub.group_add(f"of.{mailbox.channel.replace('!', '.')}", mailbox.channel)
    hub.deliver("room", message())
    assert hub.attached == frozenset(mailboxes)
    assert hub.is_read
    for mailbox in mailboxes:
        hub.detach(mailbox)
    assert is_empty(hub)
    assert not hub.is_read
    assert hub.drops == {"left": 3}


def test_a_plain_channel_goes_with_its_last_group(hub: Hub) -> None:
    hub.group_add("one", "work")
    hub.group_add("two", "work")
    hub.group_discard("one", "work")
    assert not is_empty(hub)
    hub.group_discard("two", "work")
    assert is_empty(hub)


def test_a_plain_channel_that_holds_messages_stays(hub: Hub) -> None:
    hub.group_add("one", "work")
    hub.send("work", message())
    hub.group_discard("one", "work")
    assert hub.mailbox("work").unread == 1


def test_a_consumers_mailbox_is_never_released(hub: Hub) -> None:
    mailbox = hub.attach("specific", "disconnect")
    hub.release(mailbox)
    assert hub.mailbox(mailbox.channel) is mailbox


def test_who_left_gets_nothing_and_leaves_nothing(hub: Hub) -> None:
    mailbox = hub.attach("specific", "disconnect")
    hub.detach(mailbox)
    assert hub.send(mailbox.channel, message()) == ()
    hub.group_add("room", mailbox.channel)
    assert is_empty(hub)
    assert hub.drops == {"left": 1}


def test_forgotten_messages_make_room_for_new_channels(hub: Hub, clock: Clock) -> None:
    for n in range(SWEEP_AT):
        hub.send(f"old.{n}", message())
    clock.move(6)
    hub.send("new", message())
    assert list(vars(hub)["_mailboxes"]) == ["new"]
    assert hub.drops == {"expired": SWEEP_AT}


def test_a_sweep_that_finds_nothing_is_not_repeated_for_each_channel(
    hub: Hub, clock: Clock
) -> None:
    for n in range(SWEEP_AT + 1):
        hub.send(f"old.{n}", message())
    before = clock.asked
    for n in range(SWEEP_AT // 2):
        hub.send(f"new.{n}", message())
    assert clock.asked - before == SWEEP_AT // 2, "once for each message, never for the old ones"


def test_a_full_channel_says_whose_capacity_it_is(hub: Hub) -> None:
    for n in range(2):
        assert hub.send("work", message(n)) == ()
    with pytest.raises(ChannelFull, match="work takes no more than 2 unread messages"):
        hub.send("work", message())


def test_clear_keeps_consumers_and_nothing_else(hub: Hub) -> None:
    mailbox = hub.attach("specific", "disconnect")
    hub.group_add("room", mailbox.channel)
    hub.group_add("room", "work")
    hub.clear()
    assert list(hub.members("room")) == []
    assert vars(hub)["_mailboxes"] == {mailbox.channel: mailbox}
    assert mailbox.groups == set()
    hub.detach(mailbox)
    assert is_empty(hub)
