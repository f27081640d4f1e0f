"""How options are checked, and chosen by name."""

import re
from math import nan
from typing import Any

import pytest

from asgi_notify.exceptions import ConfigurationError
from asgi_notify.layers.options import PatternMap, positive, whole


def test_the_first_that_matches_counts() -> None:
    chosen = PatternMap({"user_1": 1, "user_*": 2, re.compile("room_[0-9]"): 3, "room_*": 4})
    names = ["user_1", "user_12", "room_1", "room_12", "room_x", "other", "my_user_1"]
    assert [chosen.get(name) for name in names] == [1, 2, 3, 3, 4, None, None]


@pytest.mark.parametrize("value", [0, -1, nan, "1", None])
def test_what_is_not_above_0_is_refused(value: Any) -> None:
    for check in (positive, whole):
        with pytest.raises(ConfigurationError, match=r"size is a .*number above 0, not "):
            check("size", value)


def test_a_part_is_no_whole_number() -> None:
    assert positive("size", 1.5) == 1.5
    with pytest.raises(ConfigurationError, match=r"a whole number above 0, not 1\.5"):
        whole("size", 1.5)  # type: ignore[arg-type]  # as somebody without a type checker would
    assert whole("size", 2) == 2
