"""The garbage collector of a server leaves alone what lives as long as the server."""

import gc
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from asgi_notify.cli.collecting import YOUNG, CollectsLess
from asgi_notify.types import Event, Receive, Scope, Send
from tests.cli.serving import Serve

pytestmark = pytest.mark.anyio

REPORTS = """
import gc

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    body = f"{gc.get_freeze_count() > 0} {gc.get_threshold()[0]}".encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})
"""


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    """Nothing is set aside when a test begins; the collector is as it was after each."""
    threshold = gc.get_threshold()
    gc.unfreeze()
    yield
    gc.set_threshold(*threshold)
    gc.enable()
    gc.freeze()  # see tests/conftest.py


async def nothing(*args: object) -> Event:
    raise AssertionError("this is not asked")


async def start(app: CollectsLess) -> None:
    async def receive() -> Event:
        return {"type": "lifespan.startup"}

    async def send(event: Event) -> None:
        assert event == {"type": "lifespan.startup.complete"}

    await app({"type": "lifespan"}, receive, send)


async def lives(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await receive()
        assert gc.get_freeze_count() == 0
        await send({"type": "lifespan.startup.complete"})


async def test_what_lives_at_the_start_is_set_aside_once() -> None:
    app = CollectsLess(lives)
    await start(app)
    count = gc.get_freeze_count()
    assert count > 0
    assert gc.get_threshold()[0] == YOUNG
    kept = [[number] for number in range(1000)]
    for _ in range(2):
        await app({"type": "http"}, nothing, nothing)  # type: ignore[arg-type]
    assert gc.get_freeze_count() <= count
    assert len(kept) == 1000


async def test_an_application_without_lifespan_has_started_when_the_first_client_comes() -> None:
    await CollectsLess(lives)({"type": "websocket"}, nothing, nothing)  # type: ignore[arg-type]
    assert gc.get_freeze_count() > 0


async def test_who_has_turned_the_collector_off_is_left_alone() -> None:
    gc.disable()
    await start(CollectsLess(lives))
    assert gc.get_freeze_count() == 0


@pytest.mark.parametrize("young", [0, YOUNG + 1])
async def test_no_threshold_is_lowered_and_none_is_set_that_was_off(young: int) -> None:
    gc.set_threshold(young, 7, 8)
    await start(CollectsLess(lives))
    assert gc.get_threshold() == (young, 7, 8)


@pytest.mark.slow
@pytest.mark.parametrize("setting", ["", "1", "0"])
def test_serve_tunes_the_collector_unless_it_is_told_not_to(setting: str, tmp_path: Path) -> None:
    (tmp_path / "reports.py").write_text(REPORTS)
    env = {"ASGI_NOTIFY_GC_TUNING": setting}
    with Serve("serve", "reports:app", env=env, cwd=tmp_path) as server:
        is_frozen, young = httpx.get(server.http).text.split()
    expected = ("False", False) if setting == "0" else ("True", True)
    assert (is_frozen, int(young) == YOUNG) == expected
