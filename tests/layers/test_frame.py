"""A publication on its way: what is written is read, and what is not understood is not guessed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_notify.layers.frame import read_frame, write_frame
from asgi_notify.positions import MAX_OFFSET, Position

POSITIONS = st.none() | st.builds(
    Position, st.from_regex(r"[a-z0-9]{8}", fullmatch=True), st.integers(0, MAX_OFFSET)
)


@given(payload=st.binary(), position=POSITIONS)
def test_what_is_written_is_read(payload: bytes, position: Position | None) -> None:
    assert read_frame(write_frame(payload, position)) == (payload, position)


@pytest.mark.parametrize("frame", [b"", b"\x02abc", b"\xff", b"\x01", b"\x01abcdefgh\x00\x00"])
def test_what_is_of_another_version_or_cut_short_is_nothing(frame: bytes) -> None:
    assert read_frame(frame) is None


@given(st.binary())
def test_any_bytes_are_read_without_an_error(frame: bytes) -> None:
    read_frame(frame)
