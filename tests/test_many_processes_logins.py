"""Logins over several real server processes on one real Redis: ended everywhere, used once."""

import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import anyio
import httpx
import pytest
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as dial
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from asgi_notify.auth import SignedTokens, revoke_token, revoke_user
from asgi_notify.layers.valkey_layer import ValkeyChannelLayer
from asgi_notify.protocol import PROTOCOL
from tests.servers import Server
from tests.valkey_servers import TESTED, ValkeyServer, program

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

APP = "asgi_notify.app:application"
OPTIONS = "timeout=3&probe_interval=0.2&check_interval=1"
KEY = "k" * 32
tokens = SignedTokens(KEY)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # of the clients; the servers have one of their own


@pytest.fixture(params=TESTED)
def redis(request: pytest.FixtureRequest) -> Iterator[ValkeyServer]:
    with ValkeyServer(program(request.param)) as running:
        yield running


@pytest.fixture
def pair(redis: ValkeyServer) -> Iterator[tuple[Server, Server]]:
    env = {"ASGI_NOTIFY_LAYER": f"{redis.url}?{OPTIONS}", "ASGI_NOTIFY_TOKEN_KEYS": KEY}
    with (
        Server("uvicorn-bounded", APP, env=env) as one,
        Server("uvicorn-bounded", APP, env=env) as other,
    ):
        yield one, other


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


@asynccontextmanager
async def sockets(token: str, *servers: Server) -> AsyncIterator[list[ClientConnection]]:
    """A socket in the lobby of each of these, which watches nothing."""
    async with AsyncExitStack() as stack:
        found = []
        for server in servers:
            client = dial(
                f"{server.ws}/notifications/",
                additional_headers=bearer(token),
                subprotocols=[Subprotocol(PROTOCOL)],
                proxy=None,
            )
            found.append(await stack.enter_async_context(client))
            assert json.loads(await found[-1].recv())["type"] == "welcome"
        yield found


async def code_of(socket: ClientConnection) -> int | None:
    with anyio.fail_after(10):
        try:
            while True:
                await socket.recv()
        except ConnectionClosed:
            return socket.close_code


async def answer_to(server: Server, token: str) -> int:
    """101, or the status that the connection is refused with."""
    try:
        async with sockets(token, server):
            return 101
    except InvalidStatus as error:
        return error.response.status_code


@asynccontextmanager
async def own_layer(redis: ValkeyServer) -> AsyncIterator[ValkeyChannelLayer]:
    """That of a process which serves nobody, such as a site's login."""
    async with ValkeyChannelLayer(f"{redis.url}?{OPTIONS}") as layer:
        yield layer


@pytest.mark.parametrize("by", ["user", "token"])
async def test_a_revocation_ends_and_refuses_on_every_process(
    by: str, pair: tuple[Server, Server], redis: ValkeyServer
) -> None:
    token = tokens.sign(7)
    token_id = tokens.verify(token).token_id
    answers: list[httpx.Response] = []
    ended = anyio.Event()

    async def poll(server: Server) -> None:
        async with httpx.AsyncClient(trust_env=False, timeout=30) as http:
            target = f"{server.http}/notifications/7/?timeout=20"
            answers.append(await http.get(target, headers=bearer(token)))

    async def stream(server: Server) -> None:
        async with httpx.AsyncClient(trust_env=False, timeout=30) as http:
            headers = {**bearer(token), "accept": "text/event-stream"}
            async with http.stream("GET", f"{server.http}/notifications/7/", headers=headers) as s:
                assert s.status_code == 200
                async for _ in s.aiter_bytes():
                    begun.set()
        ended.set()

    begun = anyio.Event()
    async with (
        own_layer(redis) as layer,
        sockets(token, *pair, *pair) as of_ann,
        sockets(tokens.sign(8), *pair) as of_bob,
    ):
        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(poll, pair[0])
                tasks.start_soon(stream, pair[1])
                await begun.wait()
                while len(await layer.group_channels("user_7")) < 2:  # noqa: ASYNC110
                    await anyio.sleep(0.05)
                if by == "user":
                    await revoke_user(layer, 7, seconds=3600)
                else:
                    await revoke_token(layer, token_id, until=time.time() + 3600)
                assert [await code_of(socket) for socket in of_ann] == [4401] * 4
                await ended.wait()
        assert [answer.status_code for answer in answers] == [401]
        for server in pair:
            assert await answer_to(server, token) == 401
            assert await answer_to(server, tokens.sign(7)) == 101
        for socket in of_bob:
            await socket.send('{"type": "ping"}')
            assert json.loads(await socket.recv())["type"] == "pong"


async def test_nobody_slips_through_who_connects_while_it_happens(
    pair: tuple[Server, Server], redis: ValkeyServer
) -> None:
    """Many come all the time; once the revocation is done, none of them may be left."""
    token = tokens.sign(7)
    revoked, codes = anyio.Event(), set[int | None]()

    async def come(server: Server) -> None:
        while not revoked.is_set():
            try:
                async with sockets(token, server) as [socket]:
                    codes.add(await code_of(socket))
            except InvalidStatus as error:
                codes.add(error.response.status_code)
            except ConnectionClosed as error:
                codes.add(error.rcvd.code if error.rcvd else None)

    async with own_layer(redis) as layer:
        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                for _ in range(10):
                    for server in pair:
                        tasks.start_soon(come, server)
                    await anyio.sleep(0.01)
                await revoke_user(layer, 7, seconds=3600)
                revoked.set()
    assert codes <= {4401, 401}
    assert 4401 in codes


async def test_a_ticket_is_used_once_by_whichever_process_comes_first(
    pair: tuple[Server, Server],
) -> None:
    async def status(ticket: str, server: Server, statuses: list[int]) -> None:
        target = f"{server.http}/notifications/7/?timeout=0&ticket={ticket}"
        statuses.append((await http.get(target)).status_code)

    async with httpx.AsyncClient(trust_env=False, timeout=30) as http:
        for _ in range(5):
            headers: Any = bearer(tokens.sign(7))
            answer = await http.post(f"{pair[0].http}/tickets", headers=headers)
            assert answer.status_code == 200, answer.text
            statuses: list[int] = []
            async with anyio.create_task_group() as tasks:
                for server in pair * 4:
                    tasks.start_soon(status, answer.json()["ticket"], server, statuses)
            assert sorted(statuses) == [200] + [401] * 7
