"""The client shows fresh tokens: at each connection, before a login expires, and if refused."""

import json
import logging
from collections.abc import Iterator
from typing import Any

import anyio
import httpx
import pytest

from asgi_notify import ConfigurationError, Unauthorized
from asgi_notify.auth import SignedTokens
from asgi_notify.client import Backoff, ServerUnavailable, connect
from tests.client.fake import Peer, fake_server
from tests.servers import Server

pytestmark = pytest.mark.anyio

SOON = Backoff(base=0.01, max=0.05)


class Tokens:
    """Gives "token 1", "token 2" and so on; what stands in `failing` is raised first."""

    def __init__(self, *failing: Exception | None) -> None:
        self.count = 0
        self.failing = list(failing)

    async def get(self) -> str | None:
        self.count += 1
        failure = self.failing.pop(0) if self.failing else None
        if failure is not None:
            raise failure
        return f"token{self.count}"


def shown(peer: Peer) -> str | None:
    return peer.request.headers.get("Authorization")


async def welcome(peer: Peer, **more: Any) -> None:
    await peer.accept()
    await peer.send(
        type="welcome", version=1, connection="c", ping_interval=25, pong_timeout=10, **more
    )


async def test_each_connection_shows_a_fresh_token_and_none_in_the_url() -> None:
    seen: list[str | None] = []

    async def script(peer: Peer) -> None:
        seen.append(shown(peer))
        assert "token" not in peer.request.path
        await peer.welcome()
        await peer.subscribe()
        if peer.number == 3:
            await peer.notify(None)
            await peer.ends()

    async with (
        fake_server(script) as server,
        connect(server.url, token=Tokens().get, backoff=SOON) as client,
        client.subscribe("user_42", on_gap=lambda gap: None) as notifications,
    ):
        await anext(notifications)
    assert seen == ["Bearer token1", "Bearer token2", "Bearer token3"]


def plain() -> str:
    return "plain"


async def late() -> str:
    return "plain"


@pytest.mark.parametrize("token", [plain, late, lambda: late()])
async def test_the_function_need_not_be_async(token: Any) -> None:
    async def script(peer: Peer) -> None:
        assert shown(peer) == "Bearer plain"
        await peer.welcome()
        await peer.ends()

    async with fake_server(script) as server, connect(server.url, token=token):
        pass


async def test_a_token_takes_the_place_of_a_header() -> None:
    async def script(peer: Peer) -> None:
        assert peer.request.headers.get_all("Authorization") == ["Bearer token1"]
        assert peer.request.headers["X-Other"] == "1"
        await peer.welcome()
        await peer.ends()

    headers = {"authorization": "Basic x", "X-Other": "1"}
    async with (
        fake_server(script) as server,
        connect(server.url, token=Tokens().get, headers=headers),
    ):
        pass


async def test_a_login_is_renewed_before_it_expires_again_and_again() -> None:
    renewed: list[str] = []
    enough = anyio.Event()

    async def script(peer: Peer) -> None:
        await welcome(peer, expires_in=0.1)
        for _ in range(3):
            frame = await peer.expect("auth")
            renewed.append(frame["token"])
            await peer.send(type="authenticated", user="7", expires_at=0, expires_in=0.1)
        enough.set()
        await peer.ends()

    async with fake_server(script) as server, connect(server.url, token=Tokens().get):
        await enough.wait()
    assert renewed == ["token2", "token3", "token4"]


async def test_a_login_without_an_end_is_not_renewed() -> None:
    tokens, begun = Tokens(), anyio.Event()

    async def script(peer: Peer) -> None:
        await peer.welcome()
        await peer.subscribe()
        begun.set()
        await peer.ends()

    async with (
        fake_server(script) as server,
        connect(server.url, token=tokens.get) as client,
        client.subscribe("user_42"),
    ):
        await begun.wait()
        await anyio.sleep(0.1)
    assert tokens.count == 1


async def test_a_renewal_that_failed_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    done = anyio.Event()

    async def script(peer: Peer) -> None:
        await welcome(peer, expires_in=0.05)
        assert (await peer.expect("auth"))["token"] == "token4"
        done.set()
        await peer.ends()

    tokens = Tokens(None, OSError("away"), OSError("away"))
    async with (
        fake_server(script) as server,
        connect(server.url, token=tokens.get, backoff=SOON),
    ):
        await done.wait()
    assert "the login was not renewed: there is no token: OSError: away" in caplog.text


async def test_a_function_that_fails_is_asked_again_later() -> None:
    async def script(peer: Peer) -> None:
        assert shown(peer) == "Bearer token3"
        await peer.welcome()
        await peer.subscribe()
        await peer.ends()

    tokens = Tokens(OSError("away"), OSError("away"))
    async with (
        fake_server(script) as server,
        connect(server.url, token=tokens.get, backoff=SOON, retry_first=True) as client,
        client.subscribe("user_42"),
    ):
        assert client.state == "open"
    with pytest.raises(ServerUnavailable, match="there is no token: OSError: away"):
        async with connect(server.url, token=Tokens(OSError("away")).get):
            pass


@pytest.mark.parametrize("way", ["close", "status"])
async def test_who_is_refused_asks_for_one_fresh_token_and_not_again_and_again(way: str) -> None:
    tokens = Tokens()

    async def script(peer: Peer) -> None:
        if peer.number == 1:
            await peer.welcome()
            await peer.subscribe()
        if way == "status" and peer.number > 1:
            await peer.refuse(401, json.dumps({"error": "no"}))
            return
        if peer.number > 1:
            await peer.accept()
        await peer.close(4401, "the credential has expired")

    async with fake_server(script) as server:
        async with connect(server.url, token=tokens.get, backoff=SOON) as client:
            with pytest.raises(Unauthorized):
                await anext(aiter(client.subscribe("user_42")))
        assert client.state == "closed"
        # The first was taken, and ended with 4401; the fresh one was refused, too.
        assert len(server.peers) == 2
    assert tokens.count == 2


async def test_a_fresh_token_that_is_taken_goes_on() -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        await peer.subscribe()
        if peer.number < 4:
            await peer.close(4401, "the credential has expired")
            return
        await peer.notify(None)
        await peer.ends()

    async with (
        fake_server(script) as server,
        connect(server.url, token=Tokens().get, backoff=SOON) as client,
    ):
        async with client.subscribe("user_42", on_gap=lambda gap: None) as notifications:
            await anext(notifications)
        assert len(server.peers) == 4


async def test_without_the_function_a_refusal_is_the_end() -> None:
    async def script(peer: Peer) -> None:
        await peer.refuse(401, json.dumps({"error": "no"}))

    async with fake_server(script) as server:
        with pytest.raises(Unauthorized, match=r"pass token=\.\.\."):
            async with connect(server.url):
                pass
        assert len(server.peers) == 1


async def test_where_nobody_is_logged_in_any_more_it_ends() -> None:
    left = ["token1"]

    def token() -> str | None:
        return left.pop() if left else None

    async def script(peer: Peer) -> None:
        await peer.welcome()
        await peer.subscribe()

    async with fake_server(script) as server:
        async with connect(server.url, token=token, backoff=SOON) as client:
            with pytest.raises(Unauthorized, match="nobody is logged in"):
                await anext(aiter(client.subscribe("user_42")))
        assert len(server.peers) == 1


async def test_what_is_no_token_is_an_error_of_the_program() -> None:
    def token() -> Any:
        return b"bytes"

    with pytest.raises(ConfigurationError, match="returns a str, or None, not a bytes"):
        async with connect("ws://127.0.0.1:9/", token=token):
            pass
    with pytest.raises(ConfigurationError, match="has a character it may not have") as caught:
        async with connect("ws://127.0.0.1:9/", token=lambda: "to\r\nken"):
            pass
    assert "ken" not in str(caught.value).removeprefix("the header")


async def test_no_token_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    async def script(peer: Peer) -> None:
        await welcome(peer, expires_in=0.01 if peer.number == 1 else 100)
        if peer.number > 1:
            await peer.ends()
            return
        await peer.expect("auth")
        await peer.send(type="error", code="unauthorized", message="no", ref=None)
        await peer.close(4401, "no")

    async with (
        fake_server(script) as server,
        connect(server.url, token=Tokens().get, backoff=SOON) as client,
    ):
        while len(server.peers) < 2:  # noqa: ASYNC110  # the client tells nobody
            await anyio.sleep(0.01)
        assert client.state != "closed"
    # The server of this test logs what it hears.
    said = [each.getMessage() for each in caplog.records if each.name != "websockets.server"]
    assert not any(f"token{number}" in "".join(said) for number in (1, 2, 3))


# Against the default application.

KEY = "k" * 32


@pytest.fixture
def server() -> Iterator[Server]:
    env = {"ASGI_NOTIFY_TOKEN_KEYS": KEY, "ASGI_NOTIFY_PUBLISH_KEY": "publish"}
    with Server("uvicorn-bounded", "asgi_notify.app:application", env=env) as running:
        yield running


@pytest.mark.parametrize("kind", ["token", "ticket"])
async def test_a_client_outlives_its_tokens(kind: str, server: Server) -> None:
    tokens, got = SignedTokens(KEY, max_age=2), list[object]()
    asked = 0

    async def fresh() -> str:
        nonlocal asked
        asked += 1
        token = tokens.sign(7)
        if kind == "token":
            return token
        answer = await http.post("/tickets", headers={"authorization": f"Bearer {token}"})
        ticket: str = answer.json()["ticket"]
        return ticket

    url = f"{server.ws}/notifications/"
    async with (
        httpx.AsyncClient(base_url=server.http, trust_env=False) as http,
        connect(url, token=fresh, backoff=SOON) as client,
        client.subscribe("user_7") as notifications,
    ):
        with anyio.fail_after(20):
            while asked < 3:
                headers = {"authorization": "Bearer publish"}
                body = {"data": len(got)}
                await http.post("/notifications/7/", json=body, headers=headers)
                got.append((await anext(notifications)).data)
                await anyio.sleep(0.1)
    assert got == list(range(len(got)))
    assert len(got) > 10
