"""What a message may hold, and why it is read-only on its way.

A message that leaves its process becomes bytes in MessagePack; `layers.packing` does that.
Which values may travel, and how those are spelled that MessagePack lacks, is decided here,
where no library is needed: so `memory://?debug=1` finds the same mistakes. What can travel
between processes, a client can be given as well: `plain` spells it in JSON, one way, in the
form that other programs expect.
"""

from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from math import isfinite
from typing import Any, NamedTuple, NoReturn, TypeAlias
from uuid import UUID

from .exceptions import InvalidMessage
from .positions import Position
from .types import Message

__all__ = [
    "FOREIGN",
    "Foreign",
    "FrozenMessage",
    "is_plain",
    "plain",
    "set_position",
    "spelled",
    "stamped",
]


class FrozenMessage(dict[str, Any]):
    """A message on its way: one object for all who receive it, so nobody may change it.

    Reading works as with any dict, and ``dict(message)`` is a copy to change.
    What is nested inside is shared too, but not guarded.
    """

    __slots__ = ()

    group: str | None = None
    """The group that it was sent to, or None for one to a single channel."""
    position: Position | None = None
    """Where it stands in the history of the group, or None where none is kept."""

    def _refuse(self, *args: object, **kwargs: object) -> NoReturn:
        raise TypeError(
            "a received message is shared by all who received it and cannot be changed; "
            "change a copy: dict(message)"
        )

    __setitem__ = __delitem__ = __ior__ = _refuse
    __setattr__ = __delattr__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> tuple[Callable[..., "FrozenMessage"], tuple[object, ...]]:
        return FrozenMessage, (dict(self),)


class _Stamped(FrozenMessage):
    """One that went to a group. Of its own class, so that the others pay for no stamp."""

    __slots__ = ("group", "position")

    def __reduce__(self) -> tuple[Callable[..., FrozenMessage], tuple[object, ...]]:
        return stamped, (dict(self), self.group, self.position)


# The slots themselves, since the class refuses to have its attributes set.
_set_group = vars(_Stamped)["group"].__set__
set_position: Callable[[FrozenMessage, Position | None], None] = vars(_Stamped)["position"].__set__
"""Give a `stamped` message its position: for whoever has stamped it, before anybody else has it."""


def stamped(message: Message, group: str, position: Position | None = None) -> FrozenMessage:
    """A read-only copy, one level deep, that knows its group and its position there."""
    copy = _Stamped(message)
    _set_group(copy, group)
    set_position(copy, position)
    return copy


MAX_DEPTH = 200  # containers in one another; the stack of whoever reads them has an end

_PLAIN = frozenset({str, int, bool, bytes, type(None)})


class Foreign:
    """A value that MessagePack lacks, spelled in values that it has.

    Attributes:
        code: its kind, one of `FOREIGN`.
        spelling: what the kind reads it from.
    """

    __slots__ = ("code", "spelling")

    def __init__(self, code: int, spelling: object) -> None:
        self.code = code
        self.spelling = spelling


class Kind(NamedTuple):
    """How a kind of values is spelled in those of MessagePack, and read from them."""

    of: type
    spell: Callable[[Any], object]
    read: Callable[[Any], object]


FOREIGN: Mapping[int, Kind] = {
    1: Kind(tuple, list, tuple),
    2: Kind(int, str, int),  # of more than 64 bits
    3: Kind(  # text with half of a surrogate pair, as JSON may bring it
        str,
        lambda text: text.encode(errors="surrogatepass"),
        lambda data: data.decode(errors="surrogatepass"),
    ),
    4: Kind(dict, list, dict),  # with such a text as a key; a list of pairs
    5: Kind(datetime, datetime.isoformat, datetime.fromisoformat),
    6: Kind(date, date.isoformat, date.fromisoformat),
    7: Kind(time, time.isoformat, time.fromisoformat),
    8: Kind(
        timedelta,
        lambda span: [span.days, span.seconds, span.microseconds],
        lambda parts: timedelta(*parts),
    ),
    9: Kind(Decimal, str, Decimal),
    10: Kind(UUID, lambda value: value.bytes, lambda data: UUID(bytes=data)),
}
"""The values that MessagePack lacks, by the code that they travel under.

The codes stand in histories and come from other processes: none is ever given to another
kind.
"""

_CODES = {kind.of: code for code, kind in FOREIGN.items()}
_AS_THEY_ARE = (bool, bytes, type(None))
_CONTAINERS = (dict, list, tuple, Mapping)
_VALUES = _CODES.keys() - {str, int, *_CONTAINERS}

_Place: TypeAlias = "tuple[_Place, str | int] | None"  # a container's, and the key in it


def is_plain(value: object, depth: int = MAX_DEPTH - 1) -> bool:
    """Whether MessagePack has all of a value, apart from some numbers and texts.

    A quick look that saves most messages the copy that `spelled` makes. What it takes for
    plain may still hold a number of more than 64 bits, or half of a surrogate pair.
    """
    # The classes of items are looked up here, since a call for each costs several times as much.
    if isinstance(value, dict):
        for key, item in value.items():
            if type(key) is not str:
                return False
            if type(item) not in _PLAIN and not (depth and is_plain(item, depth - 1)):
                return False
        return True
    if type(value) is list:
        for item in value:
            if type(item) not in _PLAIN and not (depth and is_plain(item, depth - 1)):
                return False
        return True
    return type(value) in _PLAIN or (type(value) is float and isfinite(value))


def spelled(message: Message) -> object:
    """The message in what MessagePack has, and `Foreign` for what it lacks.

    Takes text, finite numbers, booleans, None, bytes, lists, tuples, dates, times, time
    differences, decimals and UUIDs: all of them come back as they were. Of an enumeration
    of text or numbers, its value comes back, and of a dataclass a dict of its fields.

    Raises:
        InvalidMessage: it holds anything else; the sentence says where.
    """
    return _spelled(message, None, MAX_DEPTH)


def plain(value: object) -> object:
    """What JSON spells for a value that it lacks: to be the ``default`` of its encoders.

    ISO 8601 for a date, a time or both; seconds for a time difference; text for a
    decimal or a UUID; base64 for bytes; an object for a dataclass or any mapping.

    Raises:
        TypeError: it is anything else.
    """
    if isinstance(value, date | time):  # a datetime is a date
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Decimal | UUID):
        return str(value)
    if isinstance(value, bytes):
        return b64encode(value).decode()
    if isinstance(value, Mapping):
        return dict(value)
    if _is_dataclass(value):
        return _fields(value)
    raise TypeError(
        f"a {type(value).__name__} has no spelling in JSON; send text, numbers, dates, UUIDs, "
        "dataclasses, lists or dicts of these"
    )


def _is_dataclass(value: object) -> bool:
    return is_dataclass(value) and not isinstance(value, type)


def _fields(value: Any) -> dict[str, object]:
    return {field.name: getattr(value, field.name) for field in fields(value)}


def _spelled(value: object, place: _Place, depth: int) -> object:
    if type(value) in _AS_THEY_ARE:
        return value
    if isinstance(value, str):
        return _spelled_text(value)
    if isinstance(value, int):
        return _spelled_integer(int(value), place)
    if isinstance(value, float):
        if not isfinite(value):
            raise InvalidMessage(f"{_name(place)} is {value}, which clients cannot be told")
        return float(value)
    if type(value) in _VALUES:
        code = _CODES[type(value)]
        return Foreign(code, FOREIGN[code].spell(value))
    if _is_dataclass(value):
        value = _fields(value)
    if not isinstance(value, _CONTAINERS):
        raise InvalidMessage(
            f"{_name(place)} is a {type(value).__name__}, which cannot travel between processes; "
            "send text, numbers, bytes, dates, UUIDs, dataclasses, lists or dicts of these"
        )
    if not depth:
        raise InvalidMessage(
            f"the message holds more than {MAX_DEPTH} lists or dicts in one another"
        )
    if isinstance(value, Mapping):
        return _spelled_mapping(value, place, depth - 1)
    items = [_spelled(item, (place, at), depth - 1) for at, item in enumerate(value)]
    return items if isinstance(value, list) else Foreign(_CODES[tuple], items)


def _spelled_mapping(value: Mapping[Any, object], place: _Place, depth: int) -> object:
    pairs: list[tuple[Any, object]] = []
    for key, item in value.items():
        if not isinstance(key, str):
            raise InvalidMessage(f"{_name(place)} has the key {key!r}; keys are text: use str(key)")
        pairs.append((_spelled_text(key), _spelled(item, (place, key), depth)))
    if any(isinstance(key, Foreign) for key, _ in pairs):
        return Foreign(_CODES[dict], pairs)
    return dict(pairs)


def _spelled_text(value: str) -> object:
    value = str.__str__(value)  # of an enumeration its value
    try:
        value.encode()
    except UnicodeEncodeError:
        return Foreign(_CODES[str], FOREIGN[_CODES[str]].spell(value))
    return value


def _spelled_integer(value: int, place: _Place) -> object:
    if -(2**63) <= value < 2**64:
        return value
    try:
        return Foreign(_CODES[int], str(value))
    except ValueError as error:  # Python writes no more than some thousand digits
        raise InvalidMessage(f"{_name(place)} is a number too large to travel: {error}") from error


def _name(place: _Place) -> str:
    """Such as ``message['users'][0]``; spelled when it is needed, as that is seldom."""
    if place is None:
        return "message"
    parent, key = place
    return f"{_name(parent)}[{key!r}]"
