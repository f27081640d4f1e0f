"""How many examples the property tests try.

The variable ``EXAMPLES`` says how many times as many as usual. Up to as many as usual they are
the same ones in each run, so that a run fails for what was changed and not for what was drawn;
beyond that, as ``make explore`` has it, they are new ones each time.
"""

import os

import hypothesis

__all__ = ["examples", "load_profile"]

_TIMES = float(os.environ.get("EXAMPLES") or 1)


def examples(usual: int) -> int:
    """The number of examples of a test that usually tries so many."""
    return max(1, round(usual * _TIMES))


def load_profile(has_seed: bool) -> None:
    """Set the defaults of all property tests; where a seed is given it draws the examples."""
    hypothesis.settings.register_profile(
        "tests",
        max_examples=examples(100),
        derandomize=_TIMES <= 1 and not has_seed,
        deadline=None,  # an example that a busy machine runs slowly is no failure
    )
    hypothesis.settings.load_profile("tests")
