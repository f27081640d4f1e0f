"""Connections whose clients have not sent a whole request: for how long, and how many, at once.

A server reads what comes, and waits for ever for what does not. So one who opens connections and
says nothing, or half of a request, takes a file descriptor and the memory of each.

All wait equally long. So the one that began first is always the first whose time is over, and one
timer of the event loop is enough for all of them.
"""

import logging
from asyncio import AbstractEventLoop, TimerHandle
from typing import Protocol
from weakref import WeakKeyDictionary

from .settings import Settings

__all__ = ["HalfOpen", "Waiting", "half_open_of"]

LOG_EVERY = 10.0  # seconds between two lines: an attack must not fill the disk
TICK = 0.01  # seconds; loops may call a little too early

logger = logging.getLogger("asgi_notify.limits")


class Waiting(Protocol):
    """A connection that waits for its client."""

    def expire(self) -> bool:
        """End it; or return False, since it is not the client's turn now."""


class HalfOpen:
    """The connections of one event loop that wait for the rest of a request.

    Args:
        loop: the event loop.
        timeout: seconds that each may wait; None is no limit.
        most: how many may wait; one more ends the one that has waited for the longest time,
            which is an attacker's rather than that of somebody who has just come.

    Attributes:
        ended: how many have been ended.
    """

    def __init__(self, loop: AbstractEventLoop, timeout: float | None, most: int | None) -> None:
        self.ended = 0
        self._loop = loop
        self._timeout = timeout
        self._most = most
        self._waiting: dict[Waiting, float] = {}  # when each began, in this order
        self._timer: TimerHandle | None = None
        self._untold = 0
        self._told_at: float | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, connection: Waiting) -> None:
        """Have it wait from now on; one that waits already goes on to."""
        if connection in self._waiting:
            return
        self._waiting[connection] = self._loop.time()
        if self._most is not None and len(self._waiting) > self._most:
            self._end(next(iter(self._waiting)))
        if self._timer is None and self._timeout is not None:
            self._timer = self._loop.call_later(self._timeout, self._look)

    def discard(self, connection: Waiting) -> None:
        """Have it wait no more, if it does."""
        self._waiting.pop(connection, None)

    def _look(self) -> None:
        """End those whose time is over, and look again when that of the next one is."""
        assert self._timeout is not None
        self._timer = None
        now = self._loop.time()
        while self._waiting:
            connection, began_at = next(iter(self._waiting.items()))
            left = began_at + self._timeout - now
            if left > TICK:
                self._timer = self._loop.call_later(left, self._look)
                return
            self._end(connection)

    def _end(self, connection: Waiting) -> None:
        del self._waiting[connection]
        if not connection.expire():
            self._waiting[connection] = self._loop.time()
            return
        self.ended += 1
        self._untold += 1
        now = self._loop.time()
        if self._told_at is None or now - self._told_at >= LOG_EVERY:
            logger.warning(
                "ended %d connections that had sent no whole request; %d more wait",
                self._untold, len(self._waiting),
            )  # fmt: skip
            self._untold, self._told_at = 0, now


_half_open: WeakKeyDictionary[AbstractEventLoop, HalfOpen] = WeakKeyDictionary()


def half_open_of(loop: AbstractEventLoop) -> HalfOpen:
    """Those of a loop; the settings are read when it has its first connection."""
    try:
        return _half_open[loop]
    except KeyError:
        limits = Settings.of_process().limits
        found = _half_open[loop] = HalfOpen(loop, limits.head_timeout, limits.half_open)
        return found
