"""Values that a message may hold, and that arrive as they were sent."""

from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from uuid import UUID

__all__ = ["VALUES"]

EAST = timezone(timedelta(hours=5, minutes=30))

VALUES = [
    None,
    True,
    "",
    "ünï 🙂 \x00",
    "half of a pair: \ud800",
    0,
    -1,
    -(2**63),
    2**64 - 1,
    2**64,
    10**30,
    1.5,
    -0.0,
    b"",
    bytes(range(256)),
    datetime(2026, 11, 20, 12, 30, 1, 5),
    datetime(2026, 11, 20, 12, 30, tzinfo=EAST),
    date(2026, 11, 20),
    time(23, 59, 59, 999999),
    time(1, 2, tzinfo=EAST),
    timedelta(days=-1, seconds=5, microseconds=7),
    timedelta.max,
    Decimal("1.10"),
    Decimal("Infinity"),
    UUID("12345678-1234-5678-1234-567812345678"),
    [],
    {},
    (),
    (1, (2.5, [3, (b"x",)])),
    [1, [b"x", {"a": None}]],
    {"a": {"b": (1, date(2026, 1, 1))}, "": 1},
    {"\udfff": {"\ud800": 10**30}},
]
