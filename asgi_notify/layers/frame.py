"""What a publication looks like on its way: its position, if it has one, and its payload.

::

    0x00                            | payload      not kept
    0x01 | epoch (8) | offset (8)   | payload      kept; the offset as a big-endian integer

The first byte is the version: who meets another one knows that a newer release is
publishing, and does not take its bytes for something else.
"""

from typing import NamedTuple

from ..positions import Position

__all__ = ["Frame", "read_frame", "write_frame"]

PLAIN, PLACED = 0, 1
_EPOCH, _HEAD = 1 + 8, 1 + 8 + 8  # bytes up to the end of each


class Frame(NamedTuple):
    """A publication as it came."""

    payload: bytes
    position: Position | None


def write_frame(payload: bytes, position: Position | None = None) -> bytes:
    """Spell a publication; the scripts spell those with a position."""
    if position is None:
        return b"\x00" + payload
    return b"\x01" + position.epoch.encode() + position.offset.to_bytes(8, "big") + payload


def read_frame(frame: bytes) -> Frame | None:
    """Read a publication; None where it is of another version, or cut short."""
    if not frame:
        return None
    if frame[0] == PLAIN:
        return Frame(frame[1:], None)
    if frame[0] != PLACED or len(frame) < _HEAD:
        return None
    epoch = frame[1:_EPOCH].decode("ascii", "replace")
    return Frame(frame[_HEAD:], Position(epoch, int.from_bytes(frame[_EPOCH:_HEAD], "big")))
