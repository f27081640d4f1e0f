"""Every example of a login lets in who is logged in, and nobody else, on a real server."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

from tests.servers import ROOT, Server

pytestmark = pytest.mark.slow

LOGINS = {
    "login_django": "application",
    "login_fastapi_dependency": "app",
    "login_litestar": "app",
    "login_quart": "application",
    "login_starlette": "app",
}
LOGGING_OUT = ["login_django", "login_starlette"]
WAIT = 10  # seconds until a frame that is on its way counts as lost
REFUSED = {401, 403}


def serving(name: str) -> Server:
    return Server("uvicorn-websockets-sansio", f"examples.{name}:{LOGINS[name]}")


@pytest.fixture(params=sorted(LOGINS))
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with serving(request.param) as server:
        yield server


def log_in(server: Server, user: int) -> dict[str, str]:
    answer = httpx.post(f"{server.http}/login/{user}")
    assert answer.is_success
    (cookie,) = answer.cookies.items()
    return {"Cookie": "=".join(cookie)}


def watch(
    server: Server, user: int, headers: dict[str, str], origin: str | None = None
) -> ClientConnection:
    url = f"{server.ws}/notifications/{user}/"
    shown = None if origin is None else Origin(origin)
    return connect(url, additional_headers=headers, origin=shown)


def refusal(server: Server, user: int, headers: dict[str, str], origin: str | None = None) -> int:
    with pytest.raises(InvalidStatus) as refused, watch(server, user, headers, origin):
        pass
    return refused.value.response.status_code


def test_every_example_of_a_login_is_tested() -> None:
    found = {path.stem for path in Path(ROOT, "examples").glob("login_*.py")}
    assert found == {*LOGINS, "login_fastapi"}  # which has tests of its own


def test_a_user_hears_their_own_room_and_nobody_elses(server: Server) -> None:
    headers = log_in(server, 42)
    for origin in None, server.http:
        with watch(server, 42, headers, origin) as socket:
            socket.send("ping")
            assert socket.recv(WAIT) == "pong"
    assert refusal(server, 7, headers) == 403
    with watch(server, 7, log_in(server, 7)) as socket:
        socket.send("ping")
        assert socket.recv(WAIT) == "pong"
    assert headers["Cookie"].partition("=")[2] not in server.output
    assert "Traceback" not in server.output


def test_who_is_not_logged_in_is_refused(server: Server) -> None:
    name, _, value = log_in(server, 42)["Cookie"].partition("=")
    assert refusal(server, 42, {}) in REFUSED
    for cookie in "", "x", value[:-4] + "AAAA", "x" * 5000, f"{value}; {name}=x":
        assert refusal(server, 42, {"Cookie": f"{name}={cookie}"}) in REFUSED
    assert "Traceback" not in server.output


def test_a_page_of_another_site_is_refused(server: Server) -> None:
    headers = log_in(server, 42)
    for origin in "http://evil.example", "null":
        assert refusal(server, 42, headers, origin) == 403


@pytest.mark.parametrize("name", LOGGING_OUT)
def test_who_logs_out_hears_no_more(name: str) -> None:
    with serving(name) as server:
        headers = log_in(server, 42)
        with watch(server, 42, headers) as socket:
            assert httpx.post(f"{server.http}/logout", headers=headers).is_success
            with pytest.raises(ConnectionClosed) as ended:
                socket.recv(WAIT)
        assert ended.value.rcvd is not None
        assert ended.value.rcvd.code in (4401, 4403)
        if name == "login_django":  # Starlette's session is in the cookie, and lives there on
            assert refusal(server, 42, headers) == 401
