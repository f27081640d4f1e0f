"""A notification reads the same whether msgspec is installed or not."""

import json
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import IntEnum, StrEnum
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_notify import jsontext
from asgi_notify.codec import FrozenMessage
from asgi_notify.jsontext import json_text

pytest.importorskip("msgspec")


def without_msgspec(value: object) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jsontext, "_quick", None)
        return json_text(value)


class Color(StrEnum):
    RED = "red"


class Level(IntEnum):
    HIGH = 3


@dataclass
class Point:
    x: int
    when: date


def test_most_data_is_spelled_by_msgspec(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsontext, "_spell", None)  # or this would be called
    data = {"title": "größe", "n": [1, 2.5, None, True], "nested": {"a": {}}}
    assert json_text(data) == ('{"title":"größe","n":[1,2.5,null,true],"nested":{"a":{}}}')


keys = st.text()
numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(keys, inner) | st.tuples(inner, inner),
)


@given(values)
def test_it_holds_the_same_with_and_without_msgspec(value: object) -> None:
    assert json.loads(json_text(value)) == json.loads(without_msgspec(value))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(keys, inner),
    )
)
def test_it_is_the_same_text_apart_from_exponents(value: object) -> None:
    assert json_text(value) == without_msgspec(value)


@pytest.mark.parametrize(
    "value",
    [
        1.5, 0.1, -0.0, 123456.789, 2**53, 2**64, -(2**70), "\u2028</script>\x7f\x00\b", b"\xff",
        "half of a pair: \ud83d", {"\ud83d": 1}, {1: 2, None: 3}, {True: 4}, (1, (2,)),
        FrozenMessage(type="x", data={"a": [1]}), Color.RED, Level.HIGH, {"c": Color.RED},
        {Color.RED: Level.HIGH}, date(2024, 2, 29), time(1, 2, 3), timedelta(hours=1.5),
        datetime(2024, 2, 29, 12, 0, 0, 5, tzinfo=UTC), Decimal("1.10"), UUID(int=7),
        Point(1, date(2024, 2, 29)), [[[[]]]], [*range(1000)],
    ],
)  # fmt: skip
def test_what_json_lacks_and_what_is_rare_reads_the_same(value: object) -> None:
    for nested in (value, {"data": value}, [value, "ä"]):
        text = json_text(nested)
        assert text == without_msgspec(nested)
        text.encode()


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ({1, 2}, TypeError),
        (float("nan"), ValueError),
        ([float("inf")], ValueError),
        ({"a": object()}, TypeError),
        ({(1,): 2}, TypeError),
    ],
)
def test_what_no_json_spells_fails_the_same(value: object, error: type[Exception]) -> None:
    for spell in (json_text, without_msgspec):
        with pytest.raises(error):
            spell(value)


def test_what_is_deep_or_holds_itself_fails_the_same() -> None:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    itself: list[object] = []
    itself.append(itself)
    for spell in (json_text, without_msgspec):
        with pytest.raises(RecursionError):
            spell(deep)
        with pytest.raises(ValueError, match="Circular"):
            spell(itself)
