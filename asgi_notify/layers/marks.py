"""Names that are remembered for a while: tickets that were used, users that were revoked."""

import re
import time
from collections.abc import Callable, Collection
from heapq import heappop, heappush, heapreplace
from math import inf

from ..exceptions import InvalidName, LayerUnavailable
from .options import whole

__all__ = ["MAX_MARKS", "Marks", "require_mark"]

MAX_MARKS = 100_000  # about 30 MB

RESERVE = 10  # one in so many is only for marks that do not leave room

STEPS = 2  # marks that one call lets go of; more than it may add

_NAME = re.compile(r"[!-~]{1,200}")


def require_mark(name: object) -> str:
    """Return the name of a mark, or raise `InvalidName`."""
    if isinstance(name, str) and _NAME.fullmatch(name):
        return name
    raise InvalidName(f"{name!r} cannot name a mark: use 1 to 200 visible ASCII characters")


class Marks:
    """Remembers names, each for its time, and the latest moment that each stands for.

    No mark goes before its time, not even where there is no room for another one: a ticket
    would be good a second time, and a revoked user be let in. So what is refused is the new
    one. Every call costs about the same however many marks there are.

    Args:
        max_marks: how many names are remembered at once.
        clock: returns the time in seconds.

    Raises:
        ConfigurationError: ``max_marks`` makes no sense.
    """

    def __init__(
        self, max_marks: int = MAX_MARKS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._max_marks = whole("max_marks", max_marks)
        self._clock = clock
        self._known: dict[str, tuple[float, float]] = {}  # until when, and its moment
        # Each name once, by the end of its time; an earlier one where it was prolonged since.
        self._row: list[tuple[float, str]] = []

    def __len__(self) -> int:
        """How many marks are in memory."""
        return len(self._known)

    def mark(self, name: str, seconds: float, at: float = inf, leave_room: bool = False) -> bool:
        """Remember a name for so long; return whether it was not remembered yet.

        Raises:
            LayerUnavailable: there is no room for another one.
        """
        now = self._clock()
        self._let_go(now)
        ends, latest = self._known.get(name, (now, at))
        if ends > now:
            self._known[name] = max(ends, now + seconds), max(latest, at)
            return False
        if name not in self._known:
            reserve = self._max_marks // RESERVE if leave_room else 0
            if len(self._known) >= self._max_marks - reserve:
                raise LayerUnavailable(
                    f"{len(self._known)} marks are remembered, and there is no room for another "
                    "one: a layer on a server has more"
                )
            heappush(self._row, (now + seconds, name))
        self._known[name] = now + seconds, at
        return True

    def is_marked(self, names: Collection[str], since: float = -inf) -> bool:
        """Whether one of these is remembered with a moment that is not earlier."""
        now = self._clock()
        self._let_go(now)
        found = (self._known.get(name, (now, since)) for name in names)
        return any(ends > now and at >= since for ends, at in found)

    def clear(self) -> None:
        """Forget all of them."""
        self._known.clear()
        self._row.clear()

    def _let_go(self, now: float) -> None:
        left = STEPS
        while left and self._row and self._row[0][0] <= now:
            name = self._row[0][1]
            ends = self._known[name][0]
            if ends > now:
                heapreplace(self._row, (ends, name))  # it was prolonged
            else:
                heappop(self._row)
                del self._known[name]
                left -= 1
