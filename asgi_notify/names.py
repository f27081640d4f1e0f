"""Which names channels, groups and message types may have."""

import re
from collections.abc import Mapping
from functools import lru_cache

from .exceptions import InvalidMessage, InvalidName

__all__ = ["MAX_NAME_LENGTH", "handler_name", "require_channel_name", "require_group_name"]

MAX_NAME_LENGTH = 100  # characters; Channels' documentation

# Channels' documentation, "Channel layers": ASCII letters, digits, hyphens,
# underscores and periods. A channel of one process has one "!" before its own part.
_GROUP = re.compile(r"[a-zA-Z0-9\-_.]+")
_CHANNEL = re.compile(r"[a-zA-Z0-9\-_.]+(![a-zA-Z0-9\-_.]*)?")


def require_group_name(name: object) -> str:
    """Return the name of a group, or raise `InvalidName`."""
    if (
        isinstance(name, str)
        and len(name) <= MAX_NAME_LENGTH
        # Fast path: an identifier such as user_42 is recognised at a fifth of the pattern's cost.
        and ((name.isidentifier() and name.isascii()) or _GROUP.fullmatch(name))
    ):
        return name
    raise _unusable("group", name)


def require_channel_name(name: object) -> str:
    """Return the name of a channel, or raise `InvalidName`."""
    if isinstance(name, str) and len(name) <= MAX_NAME_LENGTH and _CHANNEL.fullmatch(name):
        return name
    raise _unusable("channel", name)


def _unusable(noun: str, name: object) -> InvalidName:
    return InvalidName(
        f"{name!r} cannot name a {noun}: use 1 to {MAX_NAME_LENGTH} ASCII letters, digits, "
        "hyphens, underscores and periods"
    )


def handler_name(message: object) -> str:
    """The name of the method that handles a message: its type, with ``_`` for ``.``.

    Raises:
        InvalidMessage: it is no mapping, has no ``"type"``, or one that could
            reach a private method.
    """
    # A dict is one, too; but a class that is abstract is slow to ask, and `dict | Mapping` would
    # be made anew at each call.
    if not isinstance(message, dict) and not isinstance(message, Mapping):
        raise InvalidMessage(
            f"a message is a mapping with a 'type', such as {{'type': 'chat.message'}}, "
            f"not {type(message).__name__}"
        )
    kind = message.get("type")
    if not isinstance(kind, str) or not kind:
        raise InvalidMessage(
            "the message has no 'type'; add one that names its handler, such as 'chat.message'"
        )
    return _method_name(kind)


@lru_cache(maxsize=1024)
def _method_name(kind: str) -> str:
    name = kind.replace(".", "_")
    if name.startswith("_"):
        raise InvalidMessage(
            f"message type {kind!r} starts with an underscore or a period, "
            "which names private methods; start it with a letter"
        )
    return name
