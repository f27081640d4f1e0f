"""How a position is spelled, and that nothing else is taken for one."""

import json
import pickle
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_notify.exceptions import ClientError
from asgi_notify.positions import MAX_OFFSET, Position, new_epoch

epochs = st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=8, max_size=8)
offsets = st.integers(0, MAX_OFFSET)


@given(epoch=epochs, offset=offsets)
def test_a_position_is_read_as_it_is_written(epoch: str, offset: int) -> None:
    position = Position(epoch, offset)
    assert str(position) == f"{position}" == f"{epoch}-{offset}"
    assert Position.parse(str(position)) == position
    assert type(Position.parse(str(position))) is Position


near = st.text("ab09-. ٣\n", max_size=20) | st.from_regex(r"[a-z0-9]{7,9}-[0-9]{1,18}\n?")


@given(text=near | st.text())
def test_only_what_a_position_is_written_as_is_read(text: str) -> None:
    try:
        position = Position.parse(text)
    except ClientError:
        return
    assert str(position) == text
    assert 0 <= position.offset <= MAX_OFFSET


@pytest.mark.parametrize(
    "value",
    [
        "", "-", "5", "abcdefgh", "abcdefgh-", "abcdefg-1", "abcdefghi-1", "Abcdefgh-1",
        "abcdefgh-01", "abcdefgh-00", "abcdefgh--1", "abcdefgh-+1", "abcdefgh-1.0", "abcdefgh-1e3",
        "abcdefgh-1_0", "abcdefgh-٣", "äbcdefgh-1", " abcdefgh-1", "abcdefgh-1 ", "abcdefgh-1\n",
        "abcd-fgh-1", f"abcdefgh-{MAX_OFFSET + 1}", "abcdefgh-" + "9" * 5000,
        None, 5, 1.5, True, b"abcdefgh-1", ["abcdefgh-1"], {},
    ],
    ids=lambda value: ascii(value)[:20],
)  # fmt: skip
def test_anything_else_is_refused_with_the_way_out(value: object) -> None:
    with pytest.raises(ClientError, match="send the id of the last notification") as caught:
        Position.parse(value)
    assert caught.value.http_status == 400
    # RFC 6455 5.5: what a close frame has room for, besides its code.
    assert len(str(caught.value).encode()) <= 123


def test_the_largest_offset_is_one_that_javascript_counts_to() -> None:
    assert float(MAX_OFFSET) + 1 != float(MAX_OFFSET)
    assert float(MAX_OFFSET + 1) + 1 == float(MAX_OFFSET + 1)
    assert Position.parse(f"abcdefgh-{MAX_OFFSET}").offset == MAX_OFFSET


def test_a_position_travels() -> None:
    position = Position("abcdefgh", 5)
    assert pickle.loads(pickle.dumps(position)) == position
    assert json.loads(json.dumps(str(position))) == "abcdefgh-5"


def test_epochs_are_new() -> None:
    made = {new_epoch() for _ in range(1000)}
    assert len(made) == 1000
    assert all(re.fullmatch("[a-z0-9]{8}", epoch) for epoch in made)
    assert Position.parse(str(Position(made.pop(), 0))).offset == 0
