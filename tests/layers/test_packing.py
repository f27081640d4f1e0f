"""What goes between processes as bytes comes back; what is no message harms nobody."""

import enum
import logging
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, time
from types import MappingProxyType
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import msgpack

from asgi_notify.codec import MAX_DEPTH, FrozenMessage, stamped
from asgi_notify.exceptions import InvalidMessage
from asgi_notify.layers.packing import INFO, TO_MEMBERS, TO_PROCESS, Packing

from .values import VALUES

T = TypeVar("T", datetime, time)


def there_and_back(message: Mapping[str, Any]) -> dict[str, Any]:
    packing = Packing(2**30)
    unpacked = packing.unpack(packing.pack(TO_MEMBERS, message, "room"), "room", TO_MEMBERS)
    assert unpacked is not None
    assert unpacked.what == TO_MEMBERS
    return unpacked.content


@pytest.mark.parametrize("value", VALUES, ids=ascii)
def test_a_value_comes_back_as_it_was(value: object) -> None:
    message = {"type": "x", "data": value}
    content = there_and_back(message)
    assert repr(content) == repr(message)  # so 1 is not taken for True, or 0.0 for -0.0
    assert there_and_back(stamped(message, "room")) == message


def unfolded(value: T) -> T:
    """Which of two equal hours it is, at the end of summer, is lost on the way."""
    return value.replace(fold=0)


halves = st.sampled_from(["\ud800", "a\udfff"])  # of surrogate pairs
plain = st.one_of(
    st.none(), st.booleans(), st.integers(), st.text(), halves, st.binary(), st.dates(),
    st.datetimes().map(unfolded), st.times().map(unfolded), st.timedeltas(), st.uuids(),
    st.decimals(allow_nan=False), st.floats(allow_nan=False, allow_infinity=False),
)  # fmt: skip
keys = st.text(max_size=5) | halves
nested = st.recursive(
    plain,
    lambda inner: st.lists(inner, max_size=5) | st.tuples(inner, inner)
    | st.dictionaries(keys, inner, max_size=5),
    max_leaves=10,
)  # fmt: skip


@given(data=st.dictionaries(keys, nested, max_size=3))
def test_whatever_can_be_sent_comes_back_as_it_was(data: dict[str, Any]) -> None:
    message = {**data, "type": "x"}
    assert repr(there_and_back(message)) == repr(message)


def test_a_message_travels_as_messagepack_behind_its_version() -> None:
    message = {"type": "x", "n": [1, "a", None, b"\x00"]}
    payload = Packing(1000).pack(TO_PROCESS, message, "room")
    assert payload[:2] == b"\x02p"
    assert msgpack.decode(payload[2:]) == message


def test_any_mapping_arrives_as_a_dict() -> None:
    inner: Mapping[str, object] = MappingProxyType({"a": OrderedDict(b=(1,))})
    data = there_and_back(MappingProxyType({"type": "x", "data": inner}))["data"]
    assert data == {"a": {"b": (1,)}}
    assert type(data["a"]) is dict


def test_a_dataclass_arrives_as_a_dict_of_its_fields() -> None:
    @dataclass
    class Order:
        number: int
        lines: list[object]

    data = there_and_back({"type": "x", "data": Order(7, [Order(8, [])])})["data"]
    assert data == {"number": 7, "lines": [{"number": 8, "lines": []}]}


def test_an_enumeration_of_text_or_numbers_arrives_as_its_value() -> None:
    class Colour(enum.StrEnum):
        RED = "red"

    class Level(enum.IntEnum):
        HIGH = 3

    sent = {"type": "x", "data": [Colour.RED, Level.HIGH, {Colour.RED: 1}]}
    data = there_and_back(sent)["data"]
    assert data == ["red", 3, {"red": 1}]
    assert [type(item) for item in (*data, *data[2])] == [str, int, dict, str]


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (object(), r"message\['data'\] is a object, which cannot travel between processes"),
        ([0, {"a": {1, 2}}], r"message\['data'\]\[1\]\['a'\] is a set.*; send text"),
        (([{"a": (object(),)}],), r"message\['data'\]\[0\]\[0\]\['a'\]\[0\] is a object"),
        ({1: "a"}, r"message\['data'\] has the key 1; keys are text: use str\(key\)"),
        ({"a": {b"b": 1}}, r"message\['data'\]\['a'\] has the key b'b'"),
        (bytearray(b"x"), "is a bytearray"),
        (1j, "is a complex"),
        (enum.Enum("Colour", "RED"), "cannot travel"),
        ([float("nan")], r"message\['data'\]\[0\] is nan, which clients cannot be told"),
        (float("-inf"), r"message\['data'\] is -inf"),
        (10**5000, r"message\['data'\] is a number too large to travel: .*4300 digits"),
    ],
    ids=lambda value: str(value)[:20] if isinstance(value, str) else type(value).__name__,
)
def test_what_cannot_travel_is_named_with_its_place(value: object, sentence: str) -> None:
    with pytest.raises(InvalidMessage, match=sentence):
        Packing(2**30).pack(TO_MEMBERS, {"type": "x", "data": value}, "room")


def deep(levels: int) -> dict[str, Any]:
    """A message of so many containers in one another, the message itself included."""
    data: list[object] = []
    for _ in range(levels - 2):
        data = [data]
    return {"type": "x", "data": data}


def test_a_message_is_as_deep_as_every_process_can_read() -> None:
    assert there_and_back(deep(MAX_DEPTH)) == deep(MAX_DEPTH)
    with pytest.raises(InvalidMessage, match=f"more than {MAX_DEPTH} lists or dicts in one"):
        there_and_back(deep(MAX_DEPTH + 1))


def test_a_message_that_holds_itself_is_refused() -> None:
    data: list[object] = []
    data.append(data)
    with pytest.raises(InvalidMessage, match="in one another"):
        there_and_back({"type": "x", "data": data})


def test_a_message_over_the_limit_is_refused_with_the_way_out() -> None:
    packing = Packing(100)
    size = len(packing.pack(TO_MEMBERS, {"type": "x", "data": b""}, "room")) - 1
    packing.pack(TO_MEMBERS, {"type": "x", "data": bytes(100 - size)}, "room")
    with pytest.raises(InvalidMessage, match=r"takes 101 bytes.*at most 100: send where the data"):
        packing.pack(TO_MEMBERS, {"type": "x", "data": bytes(101 - size)}, "room")


GARBAGE = [
    b"\x02",
    b"\x02m",
    b"\x02m\xc1",
    b"\x02m\x05",
    b"\x02m\x90",
    b"\x02m\x80",
    b"\x02m\x81\xa4type\x01",
    b"\x02m\x81\xa4type\xa1x\x00",
    b"\x02m\x81\xa4type\xa1\xff",
    b"\x02m\xdd\xff\xff\xff\xff",
    b"\x02m" + b"\x91" * 100_000,
    b"\x02x\x81\xa4type\xa1x",
    b"\x02i\x81\xa4type\xa1x",
    b"\x02m\x82\xa4type\xa1x\xa1a\xc7\x01\x63\x01",  # an unknown code
    b"\x02m\x82\xa4type\xa1x\xa1a\xc7\x02\x05\xa1y",  # no datetime
    b"\x02m\x82\xa4type\xa1x\x91\x80\x01",  # a key that cannot be one
]


@pytest.mark.parametrize("payload", GARBAGE, ids=lambda payload: repr(payload[:20]))
def test_what_is_no_message_is_nothing(payload: bytes, caplog: pytest.LogCaptureFixture) -> None:
    packing = Packing(1000)
    assert packing.unpack(payload, "room", TO_MEMBERS + TO_PROCESS) is None
    assert packing.refused == {"garbage": 1}
    assert "its bytes are no message" in caplog.text


def test_what_cannot_be_read_is_counted_and_logged_once_for_each_reason(
    caplog: pytest.LogCaptureFixture,
) -> None:
    packing = Packing(1000)
    for payload in (b"", b"\x01m{}", b"\x03m", b"\x02m", b"\x02m", b"\x02s" + bytes(80)):
        assert packing.unpack(payload, "room", TO_MEMBERS) is None
    assert packing.refused == {"version": 3, "garbage": 2, "key": 1}
    assert [record.levelno for record in caplog.records] == [logging.ERROR] * 3
    version, garbage, key = [record.getMessage() for record in caplog.records]
    assert version.startswith("a message of room cannot be read, and is lost: it is of another")
    assert "no other program" in garbage
    assert "encryption_keys" in key


@given(st.binary() | st.binary().map(b"\x02m".__add__) | st.binary().map(b"\x02i".__add__))
def test_any_bytes_are_read_without_an_error(payload: bytes) -> None:
    unpacked = Packing(1000).unpack(payload, "room", TO_MEMBERS + INFO)
    assert unpacked is None or isinstance(unpacked.content, dict)


def test_a_frozen_message_travels_like_any_other() -> None:
    assert there_and_back(FrozenMessage({"type": "x", "n": 1})) == {"type": "x", "n": 1}
