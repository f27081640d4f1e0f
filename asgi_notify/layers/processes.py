"""Whether an application runs in several processes of one server, of which each has a memory.

No server tells its application. But it calls it: further up the stack stands the function
that its worker process began with, and knows how many there are. That is the server's own
word, however it was told: by an option, a variable, a file of settings or a call. Where a
server is not known, or looks otherwise in another version, nothing is said.
"""

import logging
import sys
from collections.abc import Mapping, Sequence
from types import FrameType
from typing import Any

__all__ = ["server_processes", "warn_of_processes"]

logger = logging.getLogger("asgi_notify.layers")

# The module whose function a worker process is in, and where that has the number of workers: a
# local variable, and its attributes. In a process that reloads, or the only one of uvicorn's,
# no function of these modules runs; the others have the number 1 then.
_WORDS: Mapping[str, Sequence[str]] = {
    "uvicorn.supervisors.multiprocess": ("self", "config", "workers"),
    "gunicorn.arbiter": ("self", "num_workers"),
    "hypercorn.asyncio.run": ("config", "workers"),
    "hypercorn.trio.run": ("config", "workers"),
    "granian.server.common": ("self", "workers"),  # whose workers are forks
    "granian.server.mp": ("worker_id",),  # counted from 1, where they are not
}

_has_warned = False


def server_processes() -> tuple[str, int]:
    """The server whose worker this is, and how many it has at least; ``("", 1)`` if unknown."""
    found = ("", 1)
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        word = _WORDS.get(frame.f_globals.get("__name__", ""))
        if word is not None:
            count = _value(frame, word)
            if isinstance(count, int) and count > found[1]:
                found = frame.f_globals["__name__"].partition(".")[0], count
        frame = frame.f_back
    return found


def _value(frame: FrameType, word: Sequence[str]) -> Any:
    name, *attributes = word
    value = frame.f_locals.get(name)
    for attribute in attributes:
        value = getattr(value, attribute, None)
    return value


def warn_of_processes() -> None:
    """Say it, once, where a layer that lives in one process is used in several of one server."""
    global _has_warned
    if _has_warned:
        return
    server, count = server_processes()
    if count == 1:
        return
    _has_warned = True
    logger.warning(
        "%s runs this application in %d processes or more, and the layer memory:// lives in one: "
        "what is published in a process reaches only who is connected to that one. Name a server "
        "that they share, such as ASGI_NOTIFY_LAYER=valkey://127.0.0.1:6379, or run one process; "
        "`asgi-notify serve --workers %d` brings such a server along",
        server, count, count,
    )  # fmt: skip
