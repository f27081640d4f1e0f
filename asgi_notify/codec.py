"""How a message becomes bytes and back, and why it is read-only in between.

What can travel between processes, a client can be given as well: `plain` spells it
in JSON, one way, in the form that other programs expect.
"""

import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, NoReturn
from uuid import UUID

from .exceptions import InvalidMessage
from .positions import Position
from .types import Message

__all__ = ["FrozenMessage", "decode", "encode", "plain", "stamped"]


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
_set_position = vars(_Stamped)["position"].__set__


def stamped(message: Message, group: str, position: Position | None = None) -> FrozenMessage:
    """A read-only copy, one level deep, that knows its group and its position there."""
    copy = _Stamped(message)
    _set_group(copy, group)
    _set_position(copy, position)
    return copy


# A value that JSON lacks travels as {"~": [kind, text]}; a mapping of the
# message's own that looks like one is wrapped the same way, so nothing is confused.
_MARK = "~"
_SPELL: dict[type, tuple[str, Callable[[Any], Any]]] = {
    bytes: ("bytes", lambda value: b64encode(value).decode()),
    datetime: ("datetime", datetime.isoformat),
    date: ("date", date.isoformat),
    time: ("time", time.isoformat),
    timedelta: ("timedelta", lambda value: [value.days, value.seconds, value.microseconds]),
    Decimal: ("decimal", str),
    UUID: ("uuid", str),
}
_READ: dict[str, Callable[[Any], Any]] = {
    "bytes": b64decode,
    "datetime": datetime.fromisoformat,
    "date": date.fromisoformat,
    "time": time.fromisoformat,
    "timedelta": lambda parts: timedelta(*parts),
    "decimal": Decimal,
    "uuid": UUID,
    "mapping": dict,
}


def encode(message: Message) -> bytes:
    """The message as JSON in UTF-8.

    Takes what JSON takes (tuples become lists), and bytes, dates, times, time
    differences, decimals and UUIDs, all of which `decode` gives back. A
    dataclass comes back as a dict of its fields.

    Raises:
        InvalidMessage: it holds anything else; the sentence says where.
    """
    try:
        return json.dumps(_plain(message, "message"), allow_nan=False).encode()
    except (ValueError, RecursionError) as error:
        if isinstance(error, InvalidMessage):
            raise
        raise InvalidMessage(f"the message cannot be encoded: {error}") from error


def decode(data: bytes) -> FrozenMessage:
    """The message that `encode` made these bytes of."""
    return FrozenMessage(json.loads(data, object_hook=_restore))


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


def _plain(value: object, place: str) -> object:
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, list | tuple):
        return [_plain(item, f"{place}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, Mapping):
        return _plain_mapping(value, place)
    if type(value) in _SPELL:
        kind, spell = _SPELL[type(value)]
        return {_MARK: [kind, spell(value)]}
    if _is_dataclass(value):
        return _plain_mapping(_fields(value), place)
    raise InvalidMessage(
        f"{place} is a {type(value).__name__}, which cannot travel between processes; "
        "send text, numbers, bytes, dates, UUIDs, dataclasses, lists or dicts of these"
    )


def _plain_mapping(value: Mapping[Any, object], place: str) -> object:
    plain: dict[str, object] = {}
    for key, item in value.items():
        if not isinstance(key, str):
            raise InvalidMessage(f"{place} has the key {key!r}; keys are text: use str(key)")
        plain[key] = _plain(item, f"{place}[{key!r}]")
    if _MARK in plain:
        return {_MARK: ["mapping", list(plain.items())]}
    return plain


def _restore(pairs: dict[str, Any]) -> Any:
    if _MARK not in pairs:
        return pairs
    kind, spelled = pairs[_MARK]
    return _READ[kind](spelled)
