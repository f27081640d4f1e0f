"""How what expires is ended in time: one alarm for all of an event loop.

A task or a timer for each connection would cost more than all else that its login costs. So they
stand in a row, the one that expires first in front, and one alarm rings for that one.
"""

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from itertools import count
from time import monotonic
from typing import Protocol

from anyio.lowlevel import RunVar

from ..layers.alarm import Alarm

__all__ = ["Expiries", "Expiring", "expiries_of"]

LONGEST = 600.0  # seconds between two looks, since a clock may be set
SLACK = 100  # entries of the row that may be of no use, beside as many as are


class Expiring(Protocol):
    """Something that ends at a time."""

    def expire(self) -> None:
        """End: the time has come. Never waits or fails."""


class Expiries:
    """Ends what expires, in one event loop.

    Args:
        clock: seconds since 1970.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._due: dict[Expiring, float] = {}
        # What is due when, and a number, so that no two are compared. An entry that says
        # something else than `_due` does is of no use any more.
        self._row: list[tuple[float, int, Expiring]] = []
        self._numbers = count()
        self._alarm = Alarm(self._look)
        self._rings_at: float | None = None  # on the clock of `monotonic`

    def __len__(self) -> int:
        """How many are still to end."""
        return len(self._due)

    def watch(self, one: Expiring, expires_at: float) -> None:
        """End this at a time, in seconds since 1970, rather than at one that was said before."""
        self._due[one] = expires_at
        heappush(self._row, (expires_at, next(self._numbers), one))
        self._tidy()
        self._set_alarm()

    def forget(self, one: Expiring) -> None:
        """End this no more."""
        if self._due.pop(one, None) is not None:
            self._tidy()
            self._set_alarm()

    def _tidy(self) -> None:
        """Let go of what is of no use, once it is most of the row: each costs a constant part."""
        if len(self._row) > 2 * len(self._due) + SLACK or not self._due:
            self._row = [entry for entry in self._row if self._due.get(entry[2]) == entry[0]]
            heapify(self._row)

    def _set_alarm(self) -> None:
        if not self._row:
            if self._rings_at is not None:
                self._alarm.cancel()  # on trio it is a thread, which would outlive the loop
                self._rings_at = None
            return
        # Told in seconds that pass, as the alarm is: somebody may have set the clock meanwhile.
        seconds = min(max(0.0, self._row[0][0] - self._clock()), LONGEST)
        rings_at = monotonic() + seconds
        if self._rings_at is not None:
            if self._rings_at <= rings_at:
                return
            self._alarm.cancel()
        self._rings_at = rings_at
        self._alarm.set(seconds)

    def _look(self) -> None:
        self._rings_at = None
        now = self._clock()
        while self._row and self._row[0][0] <= now:
            at, _, one = heappop(self._row)
            if self._due.get(one) == at:
                del self._due[one]
                one.expire()
        self._set_alarm()


_of_loop: RunVar[dict[Callable[[], float], Expiries]] = RunVar("asgi_notify_expiries")


def expiries_of(clock: Callable[[], float]) -> Expiries:
    """The running event loop's, by this clock."""
    try:
        found = _of_loop.get()
    except LookupError:
        found = {}
        _of_loop.set(found)
    if clock not in found:
        found[clock] = Expiries(clock)
    return found[clock]
