"""What ``asgi-notify serve`` logs: uvicorn's lines and this package's, without repetitions."""

import copy
import logging
import re
from typing import Any

from ..legible import legible

__all__ = ["OncePerEvent", "Unsaid", "logging_config"]

# uvicorn and websockets write these beside a line that says more of the same.
_REPEATS = frozenset({"connection open", "connection rejected (%d %s)"})

# uvicorn#3138: its websockets-sansio takes each denial response for a mistake.
_FALSE_ALARM = "ASGI callable returned without completing handshake."

_ACCEPTED = '%s - "WebSocket %s" [accepted]'  # uvicorn's own line
_ENDED = "connection closed"  # of websockets, which names neither client nor path


class OncePerEvent(logging.Filter):
    """Passes one line for each WebSocket that is accepted, and one when it ends.

    The default application consists of this package's consumers, whose lines have
    the channel, by which the two are found together. Any other application may
    hold WebSockets that no consumer handles, so there uvicorn's lines are kept.

    Args:
        is_default: whether it is the default application.
    """

    def __init__(self, is_default: bool) -> None:
        super().__init__()
        self._dropped = _REPEATS | {_FALSE_ALARM}
        if is_default:
            self._dropped |= {_ACCEPTED, _ENDED}
        else:
            self._dropped |= {"accepted %s from %s"}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a line is written; it is known by its text before the values are put in."""
        return record.msg not in self._dropped


# A ticket or a token is as good as a password while it lasts, and a query is no secret place.
_SECRET = re.compile(
    r"([?&;][^=&;\s]*(?:ticket|token|key|secret|password)[^=&;\s]*=)[^&;\s]*", re.IGNORECASE
)

MOST = 500  # characters of a request's target in a line


class Unsaid(logging.Filter):
    """Leaves out of uvicorn's lines what is nobody's business: credentials in a query.

    Besides, it keeps each line short and legible, and drops those of requests that the limits
    have refused, of which `Limited` tells in one line for many.

    Args:
        is_default: whether it is the default application, which has limits.
    """

    def __init__(self, is_default: bool) -> None:
        super().__init__()
        self._is_default = is_default

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a line is written; what it says of a request may be changed."""
        args = record.args
        if not isinstance(args, tuple) or not record.name.startswith("uvicorn"):
            return True
        record.args = tuple(
            legible(_SECRET.sub(r"\1***", each), MOST) if isinstance(each, str) else each
            for each in args
        )
        is_access = isinstance(record.msg, str) and record.msg.startswith('%s - "')
        return not (self._is_default and is_access and args and args[-1] == 429)


def logging_config(level: str, *, is_default: bool) -> dict[str, Any]:
    """The configuration for ``logging.config``; it can be pickled for the server's processes."""
    from uvicorn.config import LOGGING_CONFIG

    config: dict[str, Any] = copy.deepcopy(LOGGING_CONFIG)
    for formatter in config["formatters"].values():
        formatter["fmt"] = f"%(asctime)s {formatter['fmt']}"
    config["loggers"]["asgi_notify"] = {
        "handlers": ["default"], "level": level.upper(), "propagate": False,
    }  # fmt: skip
    config["filters"] = {
        "once": {"()": f"{__name__}.{OncePerEvent.__name__}", "is_default": is_default},
        "unsaid": {"()": f"{__name__}.{Unsaid.__name__}", "is_default": is_default},
    }
    # On the handler: a logger's filters do not see what its children pass up.
    config["handlers"]["default"]["filters"] = ["once", "unsaid"]
    config["handlers"]["access"]["filters"] = ["unsaid"]
    return config
