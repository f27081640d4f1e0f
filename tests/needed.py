"""Programs that some tests need and not every machine has."""

import os
import shutil
from typing import NoReturn

import pytest

__all__ = ["missing", "program"]


def program(*names: str, hint: str = "") -> str:
    """The path of the first of these programs that is here."""
    path = next(filter(None, map(shutil.which, names)), None)
    return path or missing(f"there is no {' or '.join(names)} on the PATH{hint and f': {hint}'}")


def missing(what: str) -> NoReturn:
    """Skip the test for want of this; fail where the variable ``REQUIRE`` is set.

    A machine that is meant to run everything must not say that all is well
    when it has left something out.
    """
    if os.environ.get("REQUIRE"):
        pytest.fail(f"REQUIRE is set, and {what}")
    pytest.skip(what)
