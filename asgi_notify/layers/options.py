"""How the options of a layer are checked, and chosen by the name of a channel or a group."""

import fnmatch
import re
from collections.abc import Mapping
from typing import Generic, TypeVar

from ..exceptions import ConfigurationError

__all__ = ["PatternMap", "positive", "whole"]

N = TypeVar("N", int, float)
T = TypeVar("T")


class PatternMap(Generic[T]):
    """Something for each name: the first glob or compiled pattern that matches counts.

    Args:
        choices: what there is, by glob (``"user_*"``, for the whole name) or by
            compiled pattern (for the beginning of the name, unless it says more).
    """

    def __init__(self, choices: Mapping[str | re.Pattern[str], T]) -> None:
        self.choices = [(_pattern(name), choice) for name, choice in choices.items()]

    def get(self, name: str) -> T | None:
        """What counts for this name, or None where nothing matches."""
        for pattern, choice in self.choices:
            if pattern.match(name):
                return choice
        return None


def positive(name: str, value: N) -> N:
    """Return an option's value, or raise `ConfigurationError` if it is not above 0."""
    if isinstance(value, int | float) and value > 0:
        return value
    raise ConfigurationError(f"{name} is a number above 0, not {value!r}")


def whole(name: str, value: int) -> int:
    """Return an option's value, or raise `ConfigurationError` if it is not 1, 2, 3, ..."""
    if isinstance(value, int) and value > 0:
        return value
    raise ConfigurationError(f"{name} is a whole number above 0, not {value!r}")


def _pattern(name: str | re.Pattern[str]) -> re.Pattern[str]:
    return name if isinstance(name, re.Pattern) else re.compile(fnmatch.translate(name))
