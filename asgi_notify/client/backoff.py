"""How long a client waits before it tries again."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from ..exceptions import ConfigurationError

__all__ = ["Backoff"]


@dataclass(frozen=True)
class Backoff:
    """Waits that grow from one failed attempt to the next, each of a random length.

    The wait before attempt ``n``, counted from 0, lies anywhere between nothing
    and ``base * factor ** n``. So the clients of a server that restarts do not
    all come back in the same moment.

    Args:
        base: the longest first wait, in seconds.
        factor: how much longer each next wait may be.
        max: seconds that no wait exceeds.

    Raises:
        ConfigurationError: the waits would not grow, or be negative.
    """

    base: float = 0.5
    factor: float = 2.0
    max: float = 30.0

    def __post_init__(self) -> None:
        if not (0 <= self.base <= self.max and self.factor >= 1):
            raise ConfigurationError(f"{self} makes no sense: use 0 <= base <= max and factor >= 1")

    def delay(self, attempt: int, draw: Callable[[], float] = random.random) -> float:
        """Seconds to wait before an attempt.

        Args:
            attempt: how many have failed since all was well.
            draw: gives a number from 0 to 1.
        """
        try:
            longest = min(self.max, self.base * self.factor**attempt)
        except OverflowError:
            longest = self.max
        return draw() * longest
