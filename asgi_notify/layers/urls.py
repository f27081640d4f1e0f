"""How the options of a layer are read out of the query of its URL."""

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from ..exceptions import ConfigurationError, InvalidChannelLayerError
from .history import History

__all__ = ["OPTIONS", "Options", "read_keys", "read_options"]

Options = Mapping[str, Callable[[str], object]]
"""What reads the value of an option, by its name; it raises ValueError or KeyError."""

_TRUE = {"1": True, "true": True, "0": False, "false": False}

OPTIONS: Options = {
    "capacity": int,
    "expiry": float,
    "overflow": str,
    "debug": lambda text: _TRUE[text.lower()],
    "history_size": int,
    "history_ttl": float,
    "idempotency_window": float,
    "presence_grace": float,
}
"""What every layer takes, besides ``history``."""


def read_options(
    name: str, query: str, known: Options, others: frozenset[str] = frozenset()
) -> dict[str, Any]:
    """The arguments of a layer that the query of its URL gives.

    Args:
        name: what an error calls the URL; without a password.
        query: the part behind the question mark.
        known: the options of the layer, besides ``history``, a glob of groups that have one
            and may be given several times.
        others: options that somebody else reads; they are passed over.

    Raises:
        InvalidChannelLayerError: an option is not known, or its value makes no sense.
    """
    options: dict[str, Any] = {}
    globs: list[str] = []
    for option, text in parse_qsl(query, keep_blank_values=True):
        if option == "history":
            globs.append(text)
        elif option in known:
            options[option] = _read(name, known[option], option, text)
        elif option not in others:
            there = ", ".join(sorted({"history", *known, *others}))
            raise InvalidChannelLayerError(f"{name}: no option {option!r}; there are {there}")
    try:
        if globs:
            options["history"] = _histories(globs, options)
        elif kept := [one for one in ("history_size", "history_ttl") if one in options]:
            raise ConfigurationError(
                f"{kept[0]} of which groups? add history=, such as history=user_*"
            )
    except ConfigurationError as error:
        raise InvalidChannelLayerError(f"{name}: {error}") from error
    return options


def read_keys(where: str) -> tuple[str, ...]:
    """The encryption keys at a place that a URL names, since a URL is seen by too many.

    Args:
        where: ``env:NAME``, a variable with keys between spaces or commas, or ``file:PATH``,
            a file with one in each line, where "#" begins a comment.

    Raises:
        InvalidChannelLayerError: there are none. The sentence shows no key.
    """
    kind, _, name = where.partition(":")
    if kind == "env" and re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", name):  # else it may be a key
        text = os.environ.get(name, "")
    elif kind == "file":
        try:
            text = Path(name).read_text()
        except OSError as error:
            raise InvalidChannelLayerError(f"{name} cannot be read: {error.strerror}") from error
    else:
        raise InvalidChannelLayerError(
            "encryption_keys names where the keys are: env:NAME or file:PATH"
        )
    keys = re.sub("#.*", "", text).replace(",", " ").split()
    if not keys:
        raise InvalidChannelLayerError(f"{name} holds no key")
    return tuple(keys)


def _histories(globs: list[str], options: dict[str, Any]) -> dict[str, History]:
    """What is kept of the groups of each glob; takes their size and time out of the options."""
    if "" in globs:
        raise ConfigurationError("history is a glob such as 'user_*', not ''")
    given = {name: options.pop(f"history_{name}", None) for name in ("size", "ttl")}
    history = History(**{name: value for name, value in given.items() if value is not None})
    return dict.fromkeys(globs, history)


def _read(name: str, read: Callable[[str], object], option: str, text: str) -> object:
    try:
        return read(text)
    except ConfigurationError:
        raise  # it says what is wrong, and shows no more of the text than it may
    except (ValueError, KeyError) as error:
        raise InvalidChannelLayerError(f"{name}: {text!r} is no value for {option}") from error
