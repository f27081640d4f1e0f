"""How the filters of one route are held against a message: regular expressions, key by key."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Number
from typing import Any, NamedTuple

from ..exceptions import RouteError
from ..types import Message

__all__ = ["Filtered", "Filters", "channel_of"]


def channel_of(message: Message) -> str | None:
    """The name that a message is routed by: its ``"channel"``, else its ``"type"``."""
    channel = message.get("channel", message.get("type"))
    return channel if isinstance(channel, str) else None


class Filtered(NamedTuple):
    """What filters found in a message.

    Attributes:
        kwargs: the named groups that took part.
        rest: each key that was filtered, with what is left of its value after the match.
    """

    kwargs: dict[str, str]
    rest: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Filters:
    """Regular expressions by key, all of which have to match."""

    patterns: Mapping[str, re.Pattern[str]]

    @classmethod
    def compile(cls, filters: Mapping[str, object], place: str) -> "Filters":
        """Make filters of what a route was given.

        Args:
            filters: expressions by key, as text or compiled.
            place: the route, for the error.

        Raises:
            RouteError: one is no regular expression, or two capture the same name.
        """
        patterns = {key: _compile(key, regex, place) for key, regex in filters.items()}
        captured: dict[str, str] = {}
        for key, pattern in patterns.items():
            for name in pattern.groupindex:
                if name in captured:
                    raise RouteError(
                        f"{place}: the filters {captured[name]!r} and {key!r} both capture "
                        f"{name!r}; rename one"
                    )
                captured[name] = key
        return cls(patterns)

    def match(self, message: Message) -> Filtered | None:
        """Hold every filter against the message; None if one does not match.

        An expression matches at the start of a value, and need not reach its
        end. Text is taken as it is, bytes as Latin-1, a number as `str` writes
        it. Nothing else matches, a key that is not there neither.
        """
        result = Filtered({}, {})
        for key, pattern in self.patterns.items():
            value = message.get(key)
            text = _as_text(value)
            found = None if text is None else pattern.match(text)
            if text is None or found is None:
                return None
            named = found.groupdict().items()
            result.kwargs.update((name, part) for name, part in named if part is not None)
            # One character is one byte in Latin-1, so bytes are cut at the same place.
            result.rest[key] = (value if isinstance(value, bytes) else text)[found.end() :]
        return result


def _as_text(value: object) -> str | None:
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode("latin-1")
    return str(value) if isinstance(value, Number) else None


def _compile(key: str, regex: object, place: str) -> re.Pattern[str]:
    text = regex.pattern if isinstance(regex, re.Pattern) else regex
    if not isinstance(text, str):
        raise RouteError(
            f"{place}: the filter {key}={regex!r} is no regular expression; "
            f'write one as text, such as {key}=r"^/chat/$"'
        )
    try:
        return re.compile(regex)  # type: ignore[call-overload,no-any-return]  # text either way
    except (re.error, OverflowError, RecursionError) as error:
        raise RouteError(
            f"{place}: the filter {key}={regex!r} is no regular expression: {error}{_hint(error)}"
        ) from error


def _hint(error: Exception) -> str:
    said = str(error)
    if "?P" in said:
        return '; a group that captures is written "(?P<name>[^/]+)"'
    return "; rename one of the two" if said.startswith("redefinition") else ""
