"""Fixtures of the command line's tests: a runner, and an environment that stays as it was."""

import os
import sys
from collections.abc import Callable
from typing import Any

import pytest
import uvicorn
from click.testing import CliRunner, Result

from asgi_notify.cli.commands import command

Run = Callable[..., Result]


@pytest.fixture(autouse=True)
def environ(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment of the test alone, with none of the package's variables."""
    clean = {name: text for name, text in os.environ.items() if not name.startswith("ASGI_NOTIFY")}
    monkeypatch.setattr(os, "environ", clean)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return clean


@pytest.fixture
def run() -> Run:
    """Runs the command line with these arguments, in this process."""

    def run(*args: str, input: bytes | None = None) -> Result:
        return CliRunner().invoke(command, args, input, prog_name="asgi-notify")

    return run


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What uvicorn was told to serve, once it was; no port is asked for."""
    told: dict[str, Any] = {}

    def run(app: str, **options: Any) -> None:
        told.update(options, app=app)

    monkeypatch.setattr(uvicorn, "run", run)
    monkeypatch.setattr("asgi_notify.cli.serve.check_address", lambda host, port: None)
    return told
