"""The core needs anyio and nothing else: it runs where nothing else can be imported."""

import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent

NOTIFY = """
import anyio
from asgi_notify import NotificationConsumer, URLRouter, get_channel_layer, path
from asgi_notify.testing import WebsocketCommunicator

async def main():
    app = URLRouter([path("notifications/<int:room_name>/", NotificationConsumer())])
    socket = WebsocketCommunicator(app, "/notifications/7/")
    assert await socket.connect() == (True, None)
    message = {"type": "send.notification", "data": "hello"}
    await get_channel_layer().group_send("user_7", message)
    print(await socket.receive_from())
    await socket.disconnect()

anyio.run(main)
"""

IMPORT_ALL = """
import importlib, pkgutil, asgi_notify
for module in pkgutil.walk_packages(asgi_notify.__path__, "asgi_notify."):
    needing = (
        "asgi_notify.auth.django",
        "asgi_notify.auth.jwks",
        "asgi_notify.auth.jwt",
        "asgi_notify.cli",
        "asgi_notify.__main__",
        "asgi_notify.django_channels",
        "asgi_notify.gathering",
        "asgi_notify.streaming",
        "asgi_notify.uvicorn",
        "asgi_notify.layers.deliveries",
        "asgi_notify.layers.joining",
        "asgi_notify.layers.link",
        "asgi_notify.layers.packing",
        "asgi_notify.layers.patience",
        "asgi_notify.layers.sealing",
        "asgi_notify.layers.shared",
        "asgi_notify.layers.valkey",
    )
    if not module.name.startswith(needing):
        importlib.import_module(module.name)
        print(module.name)
"""

COMMAND_LINE = """
import runpy
runpy.run_module("asgi_notify", run_name="__main__")
"""


def required_by(name: str) -> Iterator[str]:
    """An installed distribution, and all that it requires on this Python."""
    yield name
    for line in distribution(name).requires or ():
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield from required_by(requirement.name)


def top_level(name: str) -> Iterator[Path]:
    """The packages and single modules that a distribution installed."""
    dist = distribution(name)
    for first in {file.parts[0] for file in dist.files or ()}:
        if re.fullmatch(r"\w+(\.py)?", first) and first != "__pycache__":
            yield Path(str(dist.locate_file(first)))


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder to import from, with this package, anyio, and what anyio requires."""
    folder = tmp_path_factory.mktemp("packages")
    (folder / "asgi_notify").symlink_to(ROOT / "asgi_notify")
    for name in set(required_by("anyio")):
        for source in top_level(name):
            (folder / source.name).symlink_to(source)
    return folder


def run(packages: Path, script: str) -> subprocess.CompletedProcess[str]:
    """Run a script that can import the standard library and these packages alone."""
    code = f"import sys; sys.path.append({str(packages)!r})\n{script}"
    command = [sys.executable, "-I", "-S", "-B", "-W", "error", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("name", ["uvicorn", "click", "trio", "pytest"])
def test_nothing_else_is_there(packages: Path, name: str) -> None:
    assert f"No module named '{name}'" in run(packages, f"import {name}").stderr


def test_a_notification_arrives_with_anyio_alone(packages: Path) -> None:
    result = run(packages, NOTIFY)
    assert (result.stdout, result.stderr) == ("hello\n", "")


def test_every_module_without_an_extra_imports_with_anyio_alone(packages: Path) -> None:
    result = run(packages, IMPORT_ALL)
    assert result.stderr == ""
    assert "asgi_notify.app" in result.stdout.split()


def test_the_command_line_says_what_it_needs(packages: Path) -> None:
    result = run(packages, COMMAND_LINE)
    assert result.returncode == 1
    assert result.stderr.endswith("pip install 'asgi-notify[server]'\n")


@pytest.mark.parametrize(
    ("module", "extra"),
    [
        ("layers.valkey", "valkey"),
        ("layers.shared", "valkey"),
        ("layers.sealing", "encryption"),
        ("auth.jwt", "auth"),
    ],
)
def test_a_module_says_what_it_needs(packages: Path, module: str, extra: str) -> None:
    result = run(packages, f"import asgi_notify.{module}")
    assert result.returncode == 1
    assert result.stderr.endswith(f"pip install 'asgi-notify[{extra}]'\n")
