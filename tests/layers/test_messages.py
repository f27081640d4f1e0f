"""The contract of messages: which ones are taken, and that nobody changes them on their way."""

import json
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import pytest

from asgi_notify.codec import FrozenMessage
from asgi_notify.exceptions import ConfigurationError, InvalidMessage
from asgi_notify.layers import BaseChannelLayer
from asgi_notify.types import Message

from .conftest import Attach, MakeLayer
from .tools import read, waiting
from .values import VALUES

pytestmark = pytest.mark.anyio

BAD = [
    {},
    {"data": 1},
    {"type": ""},
    {"type": None},
    {"type": 7},
    {"type": "_private"},
    {"type": ".private"},
    {"type": "_"},
    ["type"],
    "type",
    b"type",
    None,
]


@pytest.mark.parametrize("message", BAD, ids=repr)
async def test_a_message_without_a_usable_type_is_refused_at_the_sender(
    layer: BaseChannelLayer, attach: Attach, message: Any
) -> None:
    mailbox = await attach(layer, "room")
    with pytest.raises(InvalidMessage):
        await layer.send(mailbox.channel, message)
    with pytest.raises(InvalidMessage):
        await layer.group_send("room", message)
    with pytest.raises(InvalidMessage):
        await layer.group_send("nobody", message)
    assert waiting(mailbox) == []


async def test_any_mapping_can_be_a_message(layer: BaseChannelLayer, attach: Attach) -> None:
    mailbox = await attach(layer, "room")
    await layer.group_send("room", MappingProxyType({"type": "x", "n": 1}))
    received = await read(mailbox)
    assert received == {"type": "x", "n": 1}
    await layer.group_send("room", received)
    assert await read(mailbox) == received


async def test_the_senders_later_change_is_not_seen(
    layer: BaseChannelLayer, attach: Attach
) -> None:
    mailbox = await attach(layer, "room")
    message = {"type": "x", "n": 1}
    await layer.group_send("room", message)
    await layer.send(mailbox.channel, message)
    message["n"] = 2
    del message["type"]
    assert waiting(mailbox) == [{"type": "x", "n": 1}] * 2


async def test_all_members_share_one_message(layer: BaseChannelLayer, attach: Attach) -> None:
    first, second = await attach(layer, "room"), await attach(layer, "room")
    await layer.group_send("room", {"type": "x"})
    assert await read(first) is await read(second)


CHANGES: list[Callable[[dict[str, Any]], object]] = [
    lambda message: message.__setitem__("n", 2),
    lambda message: message.__delitem__("n"),
    lambda message: message.__ior__({"n": 2}),
    lambda message: message.clear(),
    lambda message: message.pop("n"),
    lambda message: message.popitem(),
    lambda message: message.setdefault("m", 2),
    lambda message: message.update(n=2),
]


@pytest.mark.parametrize("change", CHANGES)
async def test_a_received_message_cannot_be_changed(
    layer: BaseChannelLayer, attach: Attach, change: Callable[[object], object]
) -> None:
    mailbox = await attach(layer, "room")
    await layer.group_send("room", {"type": "x", "n": 1})
    message = await read(mailbox)
    with pytest.raises(TypeError, match=r"change a copy: dict\(message\)"):
        change(message)
    assert message == {"type": "x", "n": 1}


async def test_a_copy_of_a_received_message_can_be_changed(
    layer: BaseChannelLayer, attach: Attach
) -> None:
    mailbox = await attach(layer, "room")
    await layer.group_send("room", {"type": "x", "n": [1]})
    message = await read(mailbox)
    assert isinstance(message, FrozenMessage)
    for made in (dict(message), message.copy(), {**message}, message | {}):
        made["n"] = 2
        assert made == {"type": "x", "n": 2}
    assert message == {"type": "x", "n": [1]}
    assert json.loads(json.dumps(message)) == message


# What may be in a message.


@pytest.mark.parametrize("value", VALUES, ids=ascii)
async def test_what_is_received_is_what_was_sent(
    layer: BaseChannelLayer, attach: Attach, value: object
) -> None:
    mailbox = await attach(layer, "room")
    message = {"type": "x", "data": value}
    await layer.group_send("room", message)
    await layer.send(mailbox.channel, message)
    await layer.send("work", message)
    # Of equal values the spelling differs, as of True and 1, or of (1,) and [1].
    assert [repr(received) for received in waiting(mailbox)] == [repr(message)] * 2
    assert repr(await layer.receive("work")) == repr(message)


async def test_what_a_channel_says_of_itself_is_listed_as_it_was_said(
    layer: BaseChannelLayer, attach: Attach
) -> None:
    mailbox = await attach(layer)
    info = {"seen": VALUES}
    await layer.group_add("room", mailbox.channel, info=info)
    assert repr(await layer.presence("room")) == repr({mailbox.channel: info})


# FIELD 30: what cannot be encoded.


async def test_under_debug_the_sender_learns_that_a_message_cannot_travel(
    make_layer: MakeLayer, attach: Attach
) -> None:
    layer = await make_layer(debug=True)
    mailbox = await attach(layer, "room")
    bad: Message = {"type": "x", "data": {"users": [object()]}}
    with pytest.raises(InvalidMessage, match=r"message\['data'\]\['users'\]\[0\] is a object"):
        await layer.group_send("room", bad)
    with pytest.raises(InvalidMessage):
        await layer.send(mailbox.channel, bad)
    assert waiting(mailbox) == []
    await layer.group_send("room", {"type": "x", "data": b"\x00"})
    assert (await read(mailbox))["data"] == b"\x00"


# What a layer is made of.


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"capacity": 0}, "capacity is a number above 0, not 0"),
        ({"capacity": -1}, "capacity is a number above 0"),
        ({"capacity": "9"}, "capacity is a number above 0, not '9'"),
        ({"expiry": 0}, "expiry is a number above 0"),
        ({"expiry": float("nan")}, "expiry is a number above 0, not nan"),
        ({"channel_capacity": {"a.*": 0}}, r"channel_capacity\['a\.\*'\] is a number above 0"),
        ({"overflow": "block"}, "overflow is one of disconnect, drop_oldest, drop_newest"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused_by_name(
    engine: type[BaseChannelLayer], options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        engine(**options)
