"""What counts: how many there are of something now, and how fast they come."""

from collections import OrderedDict
from collections.abc import Callable
from math import inf

from ..exceptions import Overloaded, TooManyRequests

__all__ = ["Meter", "Rate", "Rates", "Tally"]

ADDRESSES = 10_000  # whose rates are known at once, which takes some 2 MB
WAIT = 5.0  # seconds after which one who finds no place may ask again


class Tally:
    """How many of something there are now for each key, and at most.

    It holds a key only while its count is above 0, so that it is no larger than what is counted.

    Args:
        most: for each key; None is no limit.
        sentence: what one too many is told.
        error: what is raised for one too many.

    Attributes:
        refused: how often one was too many.
    """

    __slots__ = ("_counts", "_error", "_most", "_sentence", "refused")

    def __init__(
        self,
        most: int | None,
        sentence: str,
        error: type[TooManyRequests | Overloaded] = TooManyRequests,
    ) -> None:
        self._counts: dict[str, int] = {}
        self._most = inf if most is None else most
        self._sentence = sentence
        self._error = error
        self.refused = 0

    def __len__(self) -> int:
        return len(self._counts)

    def of(self, key: str) -> int:
        """How many there are for this key."""
        return self._counts.get(key, 0)

    def add(self, key: str) -> None:
        """Count one more.

        Raises:
            TooManyRequests: there are as many as may be; this one was not counted.
            Overloaded: the same, where that is what one too many is told.
        """
        count = self._counts.get(key, 0)
        if count >= self._most:
            self.refused += 1
            raise self._error(self._sentence, retry_after=WAIT)
        self._counts[key] = count + 1

    def take_away(self, key: str, count: int = 1) -> None:
        """Count so many less."""
        left = self._counts[key] - count
        if left:
            self._counts[key] = left
        else:
            del self._counts[key]


class Rate:
    """How fast something may come: a token bucket, told in seconds.

    What comes uses up time: at 50 a second each takes 20 ms. `Meter` and `Rates` remember until
    when the time is used up; where that is more than ``burst`` seconds from now, it came too fast.

    Args:
        per_second: how many may come.
        burst: in seconds.
        sentence: what is told to one that was too fast.
        clock: returns the time in seconds.

    Attributes:
        refused: how often one was too fast.
    """

    __slots__ = ("burst", "clock", "refused", "sentence", "step")

    def __init__(
        self, per_second: float, burst: float, sentence: str, clock: Callable[[], float]
    ) -> None:
        self.step = 1 / per_second
        self.burst = max(burst, 1.001 * self.step)  # or not even one could come, by rounding
        self.sentence = sentence
        self.clock = clock
        self.refused = 0

    def too_fast(self, over: float) -> TooManyRequests:
        """What is raised for one that came so many seconds too early."""
        self.refused += 1
        return TooManyRequests(self.sentence, retry_after=over)


class Meter:
    """How much of a rate one connection has used.

    One that has used up the burst is to be warned. One that goes on, and uses as much again, is
    too fast: so an honest client has heard of it before its connection ends.
    """

    __slots__ = ("_is_warned", "_rate", "_until")

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self._until = -inf
        self._is_warned = False

    def spend(self, amount: float = 1) -> bool:
        """Use so much of it, and return whether the client is to be warned now.

        Raises:
            TooManyRequests: the client was warned, and went on.
        """
        rate = self._rate
        now = rate.clock()
        self._until = max(self._until, now) + amount * rate.step
        over = self._until - now - rate.burst
        if over <= 0:
            if self._is_warned and over < -rate.burst / 2:  # it has calmed down
                self._is_warned = False
            return False
        if over > rate.burst and self._is_warned:
            raise rate.too_fast(over)
        was_warned, self._is_warned = self._is_warned, True
        return not was_warned


class Rates:
    """How much of a rate each address has used, in a table that nobody can fill.

    In a full table the address that has been silent for the longest time is forgotten, and
    begins anew when it comes back. Who has so many addresses could have used another one.

    Args:
        rate: of each address.
        size: of the table, in addresses.
    """

    __slots__ = ("_size", "_until", "rate")

    def __init__(self, rate: Rate, size: int = ADDRESSES) -> None:
        self.rate = rate
        self._size = size
        self._until: OrderedDict[str, float] = OrderedDict()

    @classmethod
    def of(cls, rate: Rate | None) -> "Rates | None":
        """Those of a rate; None where there is none."""
        return None if rate is None else cls(rate)

    @staticmethod
    def rate_of(rates: "Rates | None") -> Rate | None:
        """The rate of those, if there are any."""
        return None if rates is None else rates.rate

    def __len__(self) -> int:
        return len(self._until)

    def spend(self, address: str) -> None:
        """Let one come.

        Raises:
            TooManyRequests: it is too fast; this one uses nothing, so that it may come later.
        """
        rate = self.rate
        now = rate.clock()
        until = max(self._until.get(address, now), now) + rate.step
        if until - now > rate.burst:
            self._until.move_to_end(address)  # who goes on trying is not forgotten
            raise rate.too_fast(until - now - rate.burst)
        self._keep(address, until)

    def owe(self, address: str, amount: float) -> None:
        """Use so much of it, be it too much: what came cannot be undone."""
        until = max(self._until.get(address, -inf), self.rate.clock())
        self._keep(address, until + amount * self.rate.step)

    def require(self, address: str) -> None:
        """Let one pass that has not used up the burst.

        Raises:
            TooManyRequests: it has.
        """
        over = self._until.get(address, -inf) - self.rate.clock() - self.rate.burst
        if over > 0:
            raise self.rate.too_fast(over)

    def _keep(self, address: str, until: float) -> None:
        self._until[address] = until
        self._until.move_to_end(address)
        if len(self._until) > self._size:
            self._until.popitem(last=False)
