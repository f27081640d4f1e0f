"""Several real server processes on one real Redis: every client gets everything, wherever it is
connected and wherever it was published, also when the way between them breaks."""

import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import anyio
import httpx
import pytest
from anyio.to_thread import run_sync
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as dial
from websockets.exceptions import ConnectionClosed

from asgi_notify.client import Backoff, Subscription, connect
from tests.servers import Server
from tests.valkey_servers import SERVERS, ValkeyServer, program

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

SOON = Backoff(base=0.02, max=0.1)
APP = "asgi_notify.app:application"
OPTIONS = "history=user_*&history_size=1000&timeout=3&probe_interval=0.2&check_interval=1"


@pytest.fixture(params=SERVERS)
def redis(request: pytest.FixtureRequest) -> Iterator[ValkeyServer]:
    with ValkeyServer(program(request.param)) as running:
        yield running


@pytest.fixture
def pair(redis: ValkeyServer) -> Iterator[tuple[Server, Server]]:
    env = {"ASGI_NOTIFY_LAYER": f"{redis.url}?{OPTIONS}"}
    with (
        Server("uvicorn-bounded", APP, env=env) as one,
        Server("uvicorn-bounded", APP, env=env) as other,
    ):
        yield one, other


@asynccontextmanager
async def watching(*servers: Server) -> AsyncIterator[list[Subscription]]:
    async with AsyncExitStack() as stack:
        found = []
        for server in servers:
            url = server.http.replace("http", "ws") + "/notifications/"
            client = await stack.enter_async_context(connect(url, backoff=SOON))
            found.append(await stack.enter_async_context(client.subscribe("user_7")))
        yield found


async def publish(server: Server, *numbers: int) -> None:
    async with httpx.AsyncClient(base_url=server.http, trust_env=False) as http:
        for number in numbers:
            while True:
                headers = {"idempotency-key": str(number)}
                body = {"data": number}
                answer = await http.post("/notifications/7/", json=body, headers=headers)
                if answer.status_code == 202:
                    break
                assert answer.status_code == 503, answer.text
                await anyio.sleep(0.05)


async def take(notifications: Subscription, count: int) -> list[object]:
    with anyio.fail_after(30):
        return [(await anext(notifications)).data for _ in range(count)]


async def test_each_publication_reaches_the_clients_of_both_processes(
    pair: tuple[Server, Server],
) -> None:
    one, other = pair
    async with watching(one, other, one) as clients:
        await publish(one, *range(10))
        await publish(other, *range(10, 20))
        for notifications in clients:
            assert await take(notifications, 20) == list(range(20))


async def test_no_client_is_closed_and_nothing_lost_when_the_engines_connections_are_cut(
    pair: tuple[Server, Server], redis: ValkeyServer
) -> None:
    one, other = pair
    async with watching(one, other) as clients:
        await publish(one, *range(5))
        for start in (5, 10, 15):
            for kind in ("normal", "pubsub"):
                await run_sync(partial(redis.admin.client_kill_filter, _type=kind))
            await publish(other, *range(start, start + 5))
        for notifications in clients:
            assert await take(notifications, 20) == list(range(20))
    for server in pair:
        assert "1012" not in server.stop().output


async def test_clients_go_on_at_another_process_when_theirs_is_killed(
    pair: tuple[Server, Server],
) -> None:
    one, other = pair
    async with watching(one) as [before]:
        await publish(other, 0, 1, 2)
        assert await take(before, 3) == [0, 1, 2]
        position = before.position
    one.kill()
    await publish(other, 3, 4)
    url = other.http.replace("http", "ws") + "/notifications/"
    async with (
        connect(url, backoff=SOON) as client,
        client.subscribe("user_7", since=position) as after,
    ):
        assert await take(after, 2) == [3, 4]


LEASE, GRACE = 1.5, 0.5  # seconds
ATTENDED = f"{OPTIONS}&presence_lease={LEASE}&presence_grace={GRACE}"


@pytest.fixture
def attended(redis: ValkeyServer) -> Iterator[tuple[Server, Server]]:
    """Two processes whose clients are present, and which can be asked who is."""
    env = {"ASGI_NOTIFY_LAYER": f"{redis.url}?{ATTENDED}"}
    app = "tests.apps.attended:app"
    with (
        Server("uvicorn-bounded", app, env=env) as one,
        Server("uvicorn-bounded", app, env=env) as other,
    ):
        yield one, other


@asynccontextmanager
async def connected(server: Server, *users: int) -> AsyncIterator[list[ClientConnection]]:
    """A WebSocket for each of these users, by a client that never comes back by itself."""
    async with AsyncExitStack() as stack:
        found = []
        for user in users:
            url = f"{server.ws}/notifications/{user}/"
            found.append(await stack.enter_async_context(dial(url, proxy=None)))
        yield found


async def ask(server: Server, what: str, user: int) -> list[str]:
    async with httpx.AsyncClient(base_url=server.http, trust_env=False) as http:
        answer = await http.get(f"/{what}/{user}")
        assert answer.status_code == 200, answer.text
        found: list[str] = json.loads(answer.text)
        return found


async def until_there_are(server: Server, what: str, count: int) -> list[str]:
    with anyio.fail_after(20):
        while True:
            found = await ask(server, what, 7)
            if len(found) == count:
                return found
            await anyio.sleep(0.05)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # the client library's own
async def test_a_users_connections_are_listed_and_ended_from_any_process(
    attended: tuple[Server, Server],
) -> None:
    one, other = attended
    async with connected(one, 7, 7, 8) as [*theirs, neighbour], connected(other, 7) as [here]:
        for server in attended:
            assert len(await until_there_are(server, "connections", 3)) == 3
        await ask(other, "out", 7)
        for client in (*theirs, here):
            with anyio.fail_after(10), pytest.raises(ConnectionClosed) as caught:
                await client.recv()
            assert caught.value.rcvd is not None
            assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (4401, "signed out")
        assert await until_there_are(one, "connections", 0) == []
        assert len(await ask(other, "connections", 8)) == 1
        await (await neighbour.ping())  # it is answered: this one is still connected


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_the_members_of_a_killed_process_are_gone_within_their_lease(
    attended: tuple[Server, Server],
) -> None:
    one, other = attended
    async with connected(one, 7, 7), connected(other, 7):
        assert await until_there_are(one, "present", 3) == await ask(other, "present", 7)
        one.kill()
        killed = time.monotonic()
        assert len(await ask(other, "connections", 7)) == 1  # it answers for itself no more
        stayed = await until_there_are(other, "present", 1)
        assert time.monotonic() - killed < LEASE + GRACE + 3  # of a busy machine
        assert stayed == await ask(other, "connections", 7)
