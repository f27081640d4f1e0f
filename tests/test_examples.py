"""Every example works as its docstring says, on a real server with a real client."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin

from tests.servers import ROOT, Server

pytestmark = pytest.mark.slow

EMBEDDED = {
    "embed_django": "application",
    "embed_fastapi": "app",
    "embed_litestar": "app",
    "embed_quart": "application",
    "embed_starlette": "app",
}
WAIT = 10  # seconds until a frame that is on its way counts as lost


@pytest.fixture(params=sorted(EMBEDDED))
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    name: str = request.param
    with Server("uvicorn-websockets-sansio", f"examples.{name}:{EMBEDDED[name]}") as server:
        yield server


def test_every_embedding_example_is_tested() -> None:
    found = {path.stem for path in Path(ROOT, "examples").glob("embed_*.py")}
    assert found == set(EMBEDDED)


def test_both_views_reach_the_socket(server: Server) -> None:
    with connect(f"{server.ws}/notifications/42/") as socket:
        assert httpx.post(f"{server.http}/users/42/shipped").status_code == 202
        assert socket.recv(WAIT) == "Your order is on its way."
        assert httpx.post(f"{server.http}/users/42/paid").status_code == 202
        assert socket.recv(WAIT) == "Your payment has arrived."


def test_nobody_else_is_told(server: Server) -> None:
    with (
        connect(f"{server.ws}/notifications/42/") as other,
        connect(f"{server.ws}/notifications/7/") as socket,
    ):
        for user in 7, 42:
            httpx.post(f"{server.http}/users/{user}/shipped").raise_for_status()
            httpx.post(f"{server.http}/users/{user}/paid").raise_for_status()
        for reader in socket, other:
            assert reader.recv(WAIT) == "Your order is on its way."
            assert reader.recv(WAIT) == "Your payment has arrived."
            # What came in order before the pong is all there was.
            reader.send("ping")
            assert reader.recv(WAIT) == "pong"


def test_a_room_that_is_no_number_is_refused(server: Server) -> None:
    with pytest.raises(InvalidStatus) as refused, connect(f"{server.ws}/notifications/x/"):
        pass
    assert refused.value.response.status_code == 404


def test_a_page_of_another_site_is_refused(server: Server) -> None:
    elsewhere = Origin("http://evil.example")
    with (
        pytest.raises(InvalidStatus) as refused,
        connect(f"{server.ws}/notifications/42/", origin=elsewhere),
    ):
        pass
    assert refused.value.response.status_code == 403


def test_the_server_stops_with_a_socket_open(server: Server) -> None:
    with connect(f"{server.ws}/notifications/42/"):
        exit = server.stop()
    assert exit.seconds < 5
    assert "Traceback" not in exit.output


def test_the_quickstart_of_the_readme_ships_to_its_own_pages_alone() -> None:
    with Server("uvicorn-websockets-sansio", "examples.quickstart:app") as server:
        room = f"{server.ws}/notifications/42/"
        with connect(room) as socket:
            assert httpx.post(f"{server.http}/ship/42").json() == {"reached": 1}
            assert socket.recv(WAIT) == "Your order has shipped"
        with (
            pytest.raises(InvalidStatus) as refused,
            connect(room, origin=Origin("http://e.example")),
        ):
            pass
        assert refused.value.response.status_code == 403
