"""Which messages were published already, so that a publisher may try again without harm."""

import re
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

from ..exceptions import InvalidName
from .options import positive, whole

__all__ = ["MAX_KEYS", "WINDOW", "Publications", "require_key"]

WINDOW = 300.0  # seconds; longer than publishers try again, and Centrifugo's default
MAX_KEYS = 100_000  # about 30 MB

STEPS = 2  # keys that one call lets go of

R = TypeVar("R")

_KEY = re.compile(r"[!-~]{1,200}")


def require_key(key: object) -> str:
    """Return the key of a message, or raise `InvalidName`."""
    if isinstance(key, str) and _KEY.fullmatch(key):
        return key
    raise InvalidName(
        f"{key!r} is no idempotency key: use 1 to 200 visible ASCII characters, such as a UUID"
    )


class Publications(Generic[R]):
    """What became of the messages that were published with a key, by group and key.

    A key is known from its first `remember` on until ``window`` seconds later,
    and not a moment longer. It goes earlier only when there are more than
    ``max_keys``: then the oldest goes, and is counted. Every call costs the
    same however many keys there are: each lets go of at most `STEPS` that are
    over, which is more than it may add.

    Args:
        window: for how long a key is known, in seconds.
        max_keys: how many keys are known at once, of all groups together.
        clock: returns the time in seconds.

    Attributes:
        evicted: how many keys went before their time.

    Raises:
        ConfigurationError: one of these makes no sense.
    """

    def __init__(
        self,
        window: float = WINDOW,
        max_keys: int = MAX_KEYS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.evicted = 0
        self._window = positive("idempotency_window", window)
        self._max_keys = whole("max_keys", max_keys)
        self._clock = clock
        self._known: OrderedDict[tuple[str, str], tuple[float, R]] = OrderedDict()

    def __len__(self) -> int:
        """How many keys are in memory."""
        return len(self._known)

    def first(self, group: str, key: str) -> R | None:
        """What became of the message that was published first, or None if there was none."""
        now = self._clock()
        self._expire(now)
        expires_at, result = self._known.get((group, key), (now, None))
        return result if expires_at > now else None

    def remember(self, group: str, key: str, result: R) -> None:
        """Note what became of a message; a second time this replaces the result alone.

        So a message can be noted before it is known whom it reached, and again
        when it is: the window is that of the first time.
        """
        now = self._clock()
        self._expire(now)
        expires_at, _ = self._known.get((group, key), (now, None))
        if expires_at <= now:
            self._known.pop((group, key), None)  # to stand last in the row again
            expires_at = now + self._window
            if len(self._known) >= self._max_keys:
                self._known.popitem(last=False)
                self.evicted += 1
        self._known[group, key] = expires_at, result

    def clear(self) -> None:
        """Forget all keys."""
        self._known.clear()

    def _expire(self, now: float) -> None:
        # All are known equally long, so the first in the row is the first to go.
        for _ in range(STEPS):
            if not self._known or next(iter(self._known.values()))[0] > now:
                return
            self._known.popitem(last=False)
