"""Calling a plain function later, in an event loop that nobody waits in for it."""

from collections.abc import Callable
from contextvars import Context
from threading import Timer
from typing import Any

from anyio.lowlevel import current_token

__all__ = ["Alarm"]


class Alarm:
    """Calls a function in the event loop that it was made in, once for each time it is set.

    No task waits for it, so there is none to own or to be left behind: a loop
    that ends first never calls it. Where a loop has no timers of its own, as
    trio's, a thread counts the seconds.

    Args:
        ring: what is called.
    """

    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring = ring
        self._loop: Any = current_token().native_token  # a trio token or an asyncio loop
        self._timer: Any = None

    def set(self, seconds: float) -> None:
        """Have the function called so many seconds from now."""
        if hasattr(self._loop, "call_later"):
            self._timer = self._loop.call_later(seconds, self._ring, context=Context())
            return
        self._timer = Timer(seconds, _ring_in, (self._loop, self._ring))
        self._timer.daemon = True  # the process may end without waiting for it
        self._timer.start()

    def cancel(self) -> None:
        """Call nothing any more, in the loop or after its end."""
        self._timer.cancel()


def _ring_in(loop: Any, ring: Callable[[], None]) -> None:
    try:
        loop.run_sync_soon(ring)
    except RuntimeError:  # trio's own error for a loop that has ended is one
        return
