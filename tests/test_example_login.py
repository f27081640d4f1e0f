"""The example of a login: who is logged in hears of their own orders, and nobody else does."""

import json
import runpy
import time
from collections.abc import Iterator

import httpx
import jwt
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin, Subprotocol

from tests.servers import ROOT, Server

pytestmark = pytest.mark.slow

WAIT = 10  # seconds until a frame that is on its way counts as lost
EXAMPLE = ROOT / "examples/login_fastapi.py"
MOST = 25  # lines of the reader's own


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server("uvicorn-websockets-sansio", "examples.login_fastapi:app") as server:
        yield server


def cookie_of(server: Server, user: int) -> dict[str, str]:
    answer = httpx.post(f"{server.http}/login/{user}")
    assert answer.status_code == 204
    assert "httponly" in answer.headers["set-cookie"].lower()
    return {"Cookie": f"login={answer.cookies['login']}"}


def watch(server: Server, headers: dict[str, str], user: int) -> tuple[str, object]:
    """Ask for a user's room, and for nothing else; the type of the answer, and its code."""
    protocols = [Subprotocol("asgi-notify.v1")]
    url = f"{server.ws}/notifications/"
    with connect(url, additional_headers=headers, subprotocols=protocols) as socket:
        socket.recv(WAIT)  # the welcome
        socket.send(json.dumps({"type": "subscribe", "group": f"user_{user}", "ref": 1}))
        frame = json.loads(socket.recv(WAIT))
        return frame["type"], frame.get("code")


def test_it_is_short() -> None:
    lines = EXAMPLE.read_text().splitlines()
    own = [line for line in lines if line.strip() and not line.startswith(("import ", "from "))]
    assert len(own) <= MOST


def test_a_user_hears_of_their_own_orders_alone(server: Server) -> None:
    headers = cookie_of(server, 42)
    assert watch(server, headers, 42) == ("subscribed", None)
    assert watch(server, headers, 7) == ("error", "forbidden")
    url = f"{server.ws}/notifications/?group=user_42"
    with connect(url, additional_headers=headers) as socket:
        for user in 7, 42:
            assert httpx.post(f"{server.http}/ship/{user}").status_code == 200
        assert socket.recv(WAIT) == "Your order has shipped"
        socket.send("ping")
        assert socket.recv(WAIT) == "pong"  # so nobody else's came


def test_the_page_is_for_who_is_logged_in(server: Server) -> None:
    assert "user_42" in httpx.get(f"{server.http}/", headers=cookie_of(server, 42)).text
    assert "Log in" in httpx.get(f"{server.http}/").text


def test_who_is_not_logged_in_hears_nothing(server: Server) -> None:
    assert watch(server, {}, 42) == ("error", "unauthorized")
    with (
        pytest.raises(InvalidStatus) as refused,
        connect(f"{server.ws}/notifications/?group=user_42"),
    ):
        pass
    assert refused.value.response.status_code == 401


@pytest.mark.parametrize(
    "token",
    [
        "x",
        jwt.encode({"sub": "42", "exp": time.time() + 60}, "x" * 32),
        jwt.encode({"sub": "42", "exp": time.time() + 60}, "", "none"),
    ],
    ids=["nonsense", "forged", "none"],
)
def test_a_forged_login_is_nobodys(server: Server, token: str) -> None:
    headers = {"Cookie": f"login={token}"}
    assert "Log in" in httpx.get(f"{server.http}/", headers=headers).text
    assert watch(server, headers, 42) == ("error", "unauthorized")
    with (
        pytest.raises(InvalidStatus) as refused,
        connect(f"{server.ws}/notifications/?group=user_42", additional_headers=headers),
    ):
        pass
    assert refused.value.response.status_code == 401


def test_who_has_an_expired_login_logs_in_again(server: Server) -> None:
    secret = runpy.run_path(str(EXAMPLE))["SECRET"]
    expired = jwt.encode({"sub": "42", "exp": time.time() - 60}, secret)
    with httpx.Client(base_url=server.http) as browser:
        browser.cookies.set("login", expired, domain=httpx.URL(server.http).host, path="/")
        assert "Log in" in browser.get("/").text
        assert browser.post("/login/42").status_code == 204
        assert "user_42" in browser.get("/").text


def test_a_page_of_another_site_cannot_use_the_cookie(server: Server) -> None:
    headers = cookie_of(server, 42)
    with (
        pytest.raises(InvalidStatus) as refused,
        connect(
            f"{server.ws}/notifications/?group=user_42",
            additional_headers=headers,
            origin=Origin("https://evil.example"),
        ),
    ):
        pass
    assert refused.value.response.status_code == 403


def test_a_credential_stands_in_no_log(server: Server) -> None:
    headers = cookie_of(server, 42)
    watch(server, headers, 42)
    assert headers["Cookie"].removeprefix("login=") not in server.output
