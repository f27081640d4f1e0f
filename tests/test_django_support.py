"""Beside a real Django: its database connections are closed in time, its settings are read."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
COUNTED = ["0"] * 6  # what each of the clients is answered


def python(*args: str, **env: str) -> str:
    """What a Python of its own prints, since Django is configured once in a process."""
    done = subprocess.run(
        [sys.executable, *args], cwd=ROOT, env=env, capture_output=True, text=True, timeout=60
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def serve(backend: str, file: Path, scenario: str, **options: Any) -> dict[str, Any]:
    printed = python(
        "-m", "tests.apps.django_orm", backend, str(file), json.dumps(options), scenario
    )
    found: dict[str, Any] = json.loads(printed)
    return found


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts open files as Linux has it")
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_synchronous_consumers_keep_no_connection_that_is_over_its_age(
    backend: str, tmp_path: Path
) -> None:
    found = serve(backend, tmp_path / "db", "parallel", CONN_MAX_AGE=0)
    assert found == {"answers": COUNTED, "open": 0}


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts open files as Linux has it")
def test_connections_that_may_live_on_do(tmp_path: Path) -> None:
    found = serve("asyncio", tmp_path / "db", "parallel", CONN_MAX_AGE=None)
    assert found["answers"] == COUNTED
    assert 0 < found["open"] <= len(COUNTED)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_connection_that_the_database_has_cut_fails_one_handler_and_not_all_after_it(
    backend: str, tmp_path: Path
) -> None:
    found = serve(backend, tmp_path / "db", "hang up", CONN_MAX_AGE=None)
    assert found == {"answers": ["0", "1011", "0"]}


def test_a_connection_that_is_checked_before_each_handler_fails_none(tmp_path: Path) -> None:
    options = {"CONN_MAX_AGE": None, "CONN_HEALTH_CHECKS": True}
    assert serve("asyncio", tmp_path / "db", "hang up", **options) == {"answers": ["0", "0", "0"]}


WITHOUT = """
import sys
{before}
from asgi_notify import WebsocketConsumer
from asgi_notify.testing import WebsocketCommunicator
import anyio

class Echo(WebsocketConsumer):
    def receive(self, text_data=None, bytes_data=None):
        self.send(text_data)

async def main():
    async with WebsocketCommunicator(Echo, "/") as client:
        await client.connect()
        await client.send_to("hello")
        print(await client.receive_from(20), "django" in sys.modules)

anyio.run(main)
"""


@pytest.mark.parametrize(
    ("before", "is_there"),
    [
        ("", False),
        ("import django.db", True),  # and not configured: then nothing can be asked of it
        ("sys.modules['django.db'] = type(sys)('django.db')", False),  # half imported, elsewhere
    ],
)
def test_without_a_configured_django_handlers_run_as_ever(before: str, is_there: bool) -> None:
    assert python("-c", WITHOUT.format(before=before)) == f"hello {is_there}\n"


ORIGINS = """
import sys
{before}
import anyio
from asgi_notify import AllowedHostsOriginValidator, AsyncWebsocketConsumer
from asgi_notify.testing import WebsocketCommunicator

app = AllowedHostsOriginValidator(AsyncWebsocketConsumer)

async def main():
    for origin in "https://example.com", "https://www.example.org", "http://localhost:8000":
        headers = [(b"origin", origin.encode())]
        async with WebsocketCommunicator(app, "/", headers, denial_response=True) as client:
            is_open, _ = await client.connect()
            print("yes" if is_open else client.denial.body.decode())

anyio.run(main)
"""
CONFIGURED = "from django.conf import settings; settings.configure({})"
REFUSED = '{{"error": "origin {!r} is not allowed; to let it in, name it in ALLOWED_HOSTS"}}'
NO_EXAMPLE = REFUSED.format("https://example.com")
NO_SUBDOMAIN = REFUSED.format("https://www.example.org")
NO_LOCALHOST = REFUSED.format("http://localhost:8000")


@pytest.mark.parametrize(
    ("settings", "answers"),
    [
        ("ALLOWED_HOSTS=['example.com']", ["yes", NO_SUBDOMAIN, NO_LOCALHOST]),
        ("ALLOWED_HOSTS=('.example.org',), DEBUG=True", [NO_EXAMPLE, "yes", NO_LOCALHOST]),
        ("ALLOWED_HOSTS=['*']", ["yes", "yes", "yes"]),
        ("DEBUG=True", [NO_EXAMPLE, NO_SUBDOMAIN, "yes"]),
        ("", [NO_EXAMPLE, NO_SUBDOMAIN, NO_LOCALHOST]),  # as of every request in production
    ],
)
def test_the_allowed_hosts_are_those_of_django(settings: str, answers: list[str]) -> None:
    printed = python("-c", ORIGINS.format(before=CONFIGURED.format(settings)))
    assert printed.splitlines() == answers


def test_settings_that_the_environment_names_are_loaded(tmp_path: Path) -> None:
    (tmp_path / "own_settings.py").write_text("ALLOWED_HOSTS = ['example.com']\n")
    before = f"sys.path.append({str(tmp_path)!r}); import django.conf"
    printed = python(
        "-c", ORIGINS.format(before=before), DJANGO_SETTINGS_MODULE="own_settings"
    )  # fmt: skip
    assert printed.splitlines() == ["yes", NO_SUBDOMAIN, NO_LOCALHOST]


def test_a_django_that_is_not_configured_names_no_hosts() -> None:
    code = ORIGINS.format(before="import django.conf")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert "ConfigurationError: name the hosts" in done.stderr
