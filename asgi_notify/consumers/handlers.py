"""Which method of a consumer handles a message, and what its methods may return."""

import logging
from collections.abc import Awaitable
from functools import lru_cache
from typing import TypeVar

from ..exceptions import Forbidden, MisuseError
from ..names import handler_name
from ..types import Message

__all__ = ["awaitable", "blamed", "find_handler", "is_helper", "require_yes"]

logger = logging.getLogger("asgi_notify.consumers")

T = TypeVar("T")

# What the handlers of bare events call, in the classes that have it.
_CALLED = {
    "websocket_connect": "connect",
    "websocket_receive": "receive",
    "websocket_disconnect": "disconnect",
    "http_request": "handle",
    "http_disconnect": "disconnect",
}


def find_handler(cls: type, message: Message) -> str | None:
    """The name of the method for a message; where there is none, the log says so.

    A class names in ``helpers`` the methods that no message reaches.

    Raises:
        InvalidMessage: the message has no usable type.
    """
    name = handler_name(message)
    is_own = is_helper(cls, name)
    # getattr alone would find what classes have and instances have not: "mro", "register".
    is_there = any(name in vars(base) for base in cls.__mro__)
    if not is_own and is_there and callable(getattr(cls, name)):
        return name
    if not name.endswith("_disconnect"):
        _log_unhandled(cls, message["type"], name, is_own)
    return None


def is_helper(cls: type, name: str) -> bool:
    """Whether a method is for a consumer's own use, so that no message may reach it."""
    return any(name in vars(base).get("helpers", ()) for base in cls.__mro__)


@lru_cache(maxsize=256)  # once for each class and type, so that a flood logs one line
def _log_unhandled(cls: type, kind: str, name: str, is_own: bool) -> None:
    reason = "is for the consumer's own use" if is_own else "does not exist"
    logger.warning(
        "a message of type %r was passed over: %s.%s %s; name the type after a handler",
        kind, cls.__qualname__, name, reason,
    )  # fmt: skip


def blamed(cls: type, name: str) -> str:
    """The method to change where a handler returned what it may not.

    That is the one which the handler calls, such as ``connect`` of
    ``websocket_connect``, where a subclass wrote that one and not the handler.
    """
    called = _CALLED.get(name, name)
    for base in cls.__mro__:
        if name in vars(base):
            return name
        if called in vars(base):
            return called
    return name


def awaitable(consumer: object, method: str, result: Awaitable[T]) -> Awaitable[T]:
    """What a method of an asynchronous consumer has returned, to be awaited.

    Raises:
        MisuseError: it cannot be awaited, since the method is a plain function.
    """
    if not isinstance(result, Awaitable):
        raise MisuseError(
            f"{type(consumer).__qualname__}.{method}() returned {result!r}, which cannot be "
            f"awaited: write `async def {method}`"
        )
    return result


def require_yes(consumer: object, method: str, answer: object) -> None:
    """Refuse the client, unless a method that was asked about it has returned None or True.

    Raises:
        Forbidden: it has returned anything else.
    """
    if answer is None or answer is True:
        return
    if answer is not False:
        logger.warning(
            "a client was refused, since %s.%s() returned %r: return True or None to let one "
            "in, False or an error to refuse it",
            type(consumer).__qualname__, method, answer,
        )  # fmt: skip
    raise Forbidden("this is not allowed")
