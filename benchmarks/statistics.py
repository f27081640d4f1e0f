"""From many figures to the few that are quoted."""

import math
from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

__all__ = ["Spread", "quantile", "spread"]


class Spread(NamedTuple):
    """The middle of several rounds' figures, and how far apart they are."""

    median: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread | None:
    """The spread of the values; None where there is none."""
    known = [value for value in values if not math.isnan(value)]
    return Spread(median(known), min(known), max(known)) if known else None


def quantile(ordered: Sequence[float], share: float) -> float:
    """The smallest of the values that this share of them does not exceed; NaN of none.

    Args:
        ordered: the values, in rising order.
        share: from 0 to 1.
    """
    if not ordered:
        return math.nan
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
