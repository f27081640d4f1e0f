"""What a subscriber gets, and how a client reads the frames that bring it."""

import json
import math
from typing import Any, Literal, NamedTuple

from ..exceptions import ClientError
from ..positions import Position

__all__ = [
    "Frame",
    "Gap",
    "Notification",
    "Status",
    "is_repeated",
    "printable",
    "read_frame",
    "seconds_of",
    "text_of",
]

Frame = dict[str, Any]
"""One JSON object of the protocol, from either side."""


class Notification(NamedTuple):
    """A notification, as the server sent it."""

    group: str
    id: str | None
    """Its position: pass it as ``since`` to go on behind it. None where no history is kept."""
    data: Any
    """Whatever was published; JSON."""
    user: str | None = None
    """The id of the user whose client has published it. None: the server did, or a client
    that is not logged in."""


class Gap(NamedTuple):
    """Notifications of a group are missing here, and cannot be had any more."""

    group: str
    reason: str
    """``full`` (this client read too slowly), ``expired`` (they waited too long),
    ``unrecovered`` (the connection was lost and the history does not reach back), or
    ``unreadable`` (one came that the server, or this client, cannot read)."""
    lost: int | None
    """How many are missing; None where nobody knows."""


class Status(NamedTuple):
    """How a client's connection is."""

    state: Literal["connecting", "open", "waiting", "closed"]
    reason: str | None = None
    """Why it is not open: what happened, in words."""
    retry_in: float | None = None
    """Seconds until the next attempt, where it waits for one."""


def read_frame(text: str | bytes) -> Frame | None:
    """A frame of the server's, or None for what is none, or cannot be read.

    Python reads some 960 lists and objects inside each other, and no more.
    """
    try:
        frame = json.loads(text)
    except (ValueError, RecursionError):
        return None
    is_frame = isinstance(frame, dict) and isinstance(frame.get("type"), str)
    return frame if is_frame else None


def seconds_of(frame: Frame, key: str) -> float | None:
    """A number of seconds that a frame names; None where it names none that can be waited."""
    value = frame.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        seconds = float(value)
    except OverflowError:  # a whole number of 400 digits
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


def text_of(frame: Frame, key: str) -> str:
    """A text that a frame has under a key; empty where it has none there.

    Never anything else made a text: of what is nested deeply, Python cannot make one.
    """
    value = frame.get(key)
    return value if isinstance(value, str) else ""


def printable(text: str) -> str:
    """A server's text as one line of a log can hold it, at most 200 characters of it.

    Line ends would begin lines of their own, and no file can take half a character.
    """
    return repr(text[:200])[1:-1]


def is_repeated(id: str | None, position: str | None) -> bool:
    """Whether one who stands at a position has had the notification with this id.

    Positions that cannot be compared, such as those of two histories, are never
    taken for a repeat.
    """
    if id is None:  # of a group without a history
        return False
    try:
        new, seen = Position.parse(id), Position.parse(position)
    except ClientError:
        return id == position
    return new.epoch == seen.epoch and new.offset <= seen.offset
