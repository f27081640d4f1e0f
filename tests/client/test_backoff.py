"""How long a client waits: longer each time, never the same for all, never beyond the longest."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_notify import ConfigurationError
from asgi_notify.client import Backoff
from tests.servers import ROOT


def test_the_longest_wait_grows_by_the_factor_up_to_the_maximum() -> None:
    backoff = Backoff(base=0.5, factor=2, max=3)
    assert [backoff.delay(attempt, lambda: 1.0) for attempt in range(5)] == [0.5, 1, 2, 3, 3]


@given(st.integers(0, 10**6), st.floats(0, 1))
def test_a_wait_lies_anywhere_between_nothing_and_the_longest(attempt: int, drawn: float) -> None:
    backoff = Backoff()
    longest = backoff.delay(attempt, lambda: 1.0)
    assert backoff.delay(attempt, lambda: drawn) == drawn * longest
    assert 0 < longest <= backoff.max


def test_the_defaults_are_those_of_the_documentation() -> None:
    said = (ROOT / "docs/client.md").read_text()
    assert "backoff=Backoff(base=0.5, factor=2, max=30)" in said
    assert Backoff() == Backoff(base=0.5, factor=2, max=30)


def test_without_a_number_it_draws_one() -> None:
    assert len({Backoff().delay(3) for _ in range(20)}) > 1


@pytest.mark.parametrize(
    "wrong", [{"base": -1.0}, {"base": 31.0}, {"factor": 0.5}, {"max": 0.1}, {"max": float("nan")}]
)
def test_waits_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match="factor >= 1"):
        Backoff(**wrong)
