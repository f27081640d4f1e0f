"""What a message may hold, and that it comes back as it was."""

import copy
import enum
import json
import pickle
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from types import MappingProxyType
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_notify.codec import FrozenMessage, decode, encode, stamped
from asgi_notify.exceptions import InvalidMessage
from asgi_notify.positions import Position

EAST = timezone(timedelta(hours=5, minutes=30))

VALUES = [
    None,
    True,
    "",
    "ünï 🙂 \x00 \ud800",
    -1,
    10**30,
    1.5,
    b"",
    bytes(range(256)),
    datetime(2026, 11, 20, 12, 30, 1, 5),
    datetime(2026, 11, 20, 12, 30, tzinfo=EAST),
    date(2026, 11, 20),
    time(23, 59, 59, 999999),
    time(1, 2, tzinfo=EAST),
    timedelta(days=-1, seconds=5, microseconds=7),
    timedelta.max,
    Decimal("1.10"),
    Decimal("Infinity"),
    UUID("12345678-1234-5678-1234-567812345678"),
    [],
    {},
    [1, [b"x", {"a": None}]],
    {"~": 1},
    {"~": ["bytes", "eA=="]},
    {"~": {"~": b"x"}, "a": 1},
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_value_comes_back_as_it_was(value: object) -> None:
    message = {"type": "x", "data": value}
    decoded = decode(encode(message))
    assert decoded == message
    assert type(decoded["data"]) is type(value)
    assert isinstance(decoded, FrozenMessage)


plain = st.one_of(
    st.none(), st.booleans(), st.integers(), st.text(), st.binary(), st.datetimes(), st.dates(),
    st.times(), st.timedeltas(), st.uuids(), st.decimals(allow_nan=False),
    st.floats(allow_nan=False, allow_infinity=False),
)  # fmt: skip
keys = st.text() | st.just("~")
nested = st.recursive(
    plain, lambda inner: st.lists(inner) | st.dictionaries(keys, inner), max_leaves=10
)


@given(data=st.dictionaries(keys, nested))
def test_whatever_can_be_sent_comes_back_as_it_was(data: dict[str, Any]) -> None:
    assert decode(encode(data)) == data


def test_a_message_travels_as_json() -> None:
    message = {"type": "x", "n": [1, "a", None]}
    assert json.loads(encode(message)) == message


def test_a_tuple_arrives_as_a_list() -> None:
    assert decode(encode({"type": "x", "data": (1, (2,))}))["data"] == [1, [2]]


def test_any_mapping_arrives_as_a_dict() -> None:
    inner: Mapping[str, int] = MappingProxyType({"a": 1})
    assert decode(encode(MappingProxyType({"type": "x", "data": inner})))["data"] == {"a": 1}


def test_an_enumeration_of_text_or_numbers_arrives_as_its_value() -> None:
    class Colour(enum.StrEnum):
        RED = "red"

    class Level(enum.IntEnum):
        HIGH = 3

    data = decode(encode({"type": "x", "data": [Colour.RED, Level.HIGH, {Colour.RED: 1}]}))["data"]
    assert data == ["red", 3, {"red": 1}]
    assert [type(item) for item in data] == [str, int, dict]


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (object(), r"message\['data'\] is a object, which cannot travel between processes"),
        ([0, {"a": {1, 2}}], r"message\['data'\]\[1\]\['a'\] is a set.*; send text"),
        ({1: "a"}, r"message\['data'\] has the key 1; keys are text: use str\(key\)"),
        (bytearray(b"x"), "is a bytearray"),
        (1j, "is a complex"),
        (enum.Enum("Colour", "RED"), "cannot travel"),
        (float("nan"), "the message cannot be encoded: .*JSON"),
        (float("inf"), "the message cannot be encoded: .*JSON"),
        (10**5000, "the message cannot be encoded: "),
    ],
    ids=lambda value: str(value)[:20] if isinstance(value, str) else type(value).__name__,
)
def test_what_cannot_travel_is_named_with_its_place(value: object, sentence: str) -> None:
    with pytest.raises(InvalidMessage, match=sentence):
        encode({"type": "x", "data": value})


def test_a_message_that_holds_itself_is_refused() -> None:
    data: list[object] = []
    data.append(data)
    with pytest.raises(InvalidMessage, match=r"cannot be encoded: .*recursion"):
        encode({"type": "x", "data": data})


@pytest.mark.parametrize(
    "change",
    [
        lambda message: message.__setitem__("n", 2),
        lambda message: message.__ior__({"n": 2}),
        lambda message: message.pop("n"),
        lambda message: message.update(n=2),
    ],
)
def test_a_decoded_message_is_read_only(change: Callable[[Any], object]) -> None:
    message = decode(encode({"type": "x", "n": 1}))
    with pytest.raises(TypeError, match=r"change a copy: dict\(message\)"):
        change(message)
    assert message == {"type": "x", "n": 1}


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda message: pickle.loads(pickle.dumps(message))]
)
def test_a_message_that_is_copied_whole_stays_read_only(copied: Callable[[Any], Any]) -> None:
    message = FrozenMessage({"type": "x", "n": [1]})
    twin = copied(message)
    assert twin == message
    assert isinstance(twin, FrozenMessage)
    assert twin is not message


def test_a_message_that_was_not_stamped_has_no_group_and_no_position() -> None:
    for message in (FrozenMessage({"type": "x"}), decode(encode({"type": "x"}))):
        assert message.group is None
        assert message.position is None


def test_a_stamped_message_is_a_copy_that_knows_where_it_stands() -> None:
    original = {"type": "x", "n": [1]}
    message = stamped(original, "room", Position("abcdefgh", 5))
    assert isinstance(message, FrozenMessage)
    assert message == original
    assert dict(message) is not original
    assert message.group == "room"
    assert message.position == Position("abcdefgh", 5)
    assert stamped(original, "room").position is None
    assert json.loads(encode(message)) == original  # the stamp is no part of it


@pytest.mark.parametrize("message", [FrozenMessage({"n": 1}), stamped({"n": 1}, "room")])
@pytest.mark.parametrize("name", ["group", "position", "other"])
def test_what_a_message_knows_of_itself_is_read_only(message: FrozenMessage, name: str) -> None:
    with pytest.raises(TypeError, match="cannot be changed"):
        setattr(message, name, "x")
    with pytest.raises(TypeError, match="cannot be changed"):
        delattr(message, name)
    assert message.position is None


@pytest.mark.parametrize("position", [None, Position("abcdefgh", 5)])
@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda message: pickle.loads(pickle.dumps(message))]
)
def test_a_copy_of_a_stamped_message_keeps_the_stamp(
    copied: Callable[[Any], Any], position: Position | None
) -> None:
    message = stamped({"type": "x", "n": [1]}, "room", position)
    twin = copied(message)
    assert twin == message
    assert twin is not message
    assert (twin.group, twin.position) == ("room", position)
    with pytest.raises(TypeError, match="cannot be changed"):
        twin["n"] = 2
