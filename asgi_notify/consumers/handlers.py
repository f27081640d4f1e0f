"""Which method of a consumer handles a message."""

import logging
from functools import lru_cache

from ..names import handler_name
from ..types import Message

__all__ = ["find_handler"]

logger = logging.getLogger("asgi_notify.consumers")


def find_handler(cls: type, message: Message) -> str | None:
    """The name of the method for a message; where there is none, the log says so.

    A class names in ``helpers`` the methods that no message reaches.

    Raises:
        InvalidMessage: the message has no usable type.
    """
    name = handler_name(message)
    is_helper = any(name in vars(base).get("helpers", ()) for base in cls.__mro__)
    # getattr alone would find what classes have and instances have not: "mro", "register".
    is_there = any(name in vars(base) for base in cls.__mro__)
    if not is_helper and is_there and callable(getattr(cls, name)):
        return name
    if not name.endswith("_disconnect"):
        _log_unhandled(cls, message["type"], name, is_helper)
    return None


@lru_cache(maxsize=256)  # once for each class and type, so that a flood logs one line
def _log_unhandled(cls: type, kind: str, name: str, is_helper: bool) -> None:
    reason = "is for the consumer's own use" if is_helper else "does not exist"
    logger.warning(
        "a message of type %r was passed over: %s.%s %s; name the type after a handler",
        kind, cls.__qualname__, name, reason,
    )  # fmt: skip
