"""The text that is published: when that was, and padding up to its size."""

import time

__all__ = ["STAMP_DIGITS", "stamped"]

STAMP_DIGITS = 20  # as many as 2 ** 64 has


def stamped(size: int) -> str:
    """A text of so many characters that begins with the present time, in nanoseconds.

    The clock is CLOCK_MONOTONIC, which all processes of a Linux machine share.
    """
    return f"{time.monotonic_ns():0{STAMP_DIGITS}d}".ljust(size, "x")
