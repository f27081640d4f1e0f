"""The client and the real application, with the connection cut and the server taken away."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import anyio
import httpx
import pytest
from anyio.to_thread import run_sync

from asgi_notify import Forbidden
from asgi_notify.client import Backoff, Gap, Subscription, connect
from tests.client.proxy import open_proxy
from tests.servers import Server

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

SOON = Backoff(base=0.02, max=0.1)
APP = "asgi_notify.app:application"
KIND = "uvicorn-websockets-sansio"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server(KIND, APP) as server:
        yield server


class Publisher:
    """Publishes numbers to one room, from 1 on."""

    def __init__(self, http: httpx.AsyncClient, room: int) -> None:
        self.group = f"user_{room}"
        self.number = 0
        self._http = http
        self._room = room

    async def publish(self, count: int = 1, padding: int = 0) -> None:
        for _ in range(count):
            self.number += 1
            data = [self.number, "x" * padding]
            answer = await self._http.post(f"/notifications/{self._room}/", json={"data": data})
            assert answer.status_code == 202


@asynccontextmanager
async def publisher(server: Server, room: int) -> AsyncIterator[Publisher]:
    async with httpx.AsyncClient(base_url=server.http, trust_env=False) as http:
        with anyio.fail_after(30):
            yield Publisher(http, room)


async def numbers(notifications: Subscription, count: int) -> list[int]:
    return [(await anext(notifications)).data[0] for _ in range(count)]


def room_of(backend: str, room: int) -> int:
    """Rooms of its own for each test: histories outlive them."""
    return room + (1000 if backend == "trio" else 0)


def gapless(gap: Gap) -> None:
    raise AssertionError(f"nothing was to be missing: {gap}")


async def test_what_is_published_during_a_cut_comes_once_and_in_order(
    server: Server, anyio_backend: str
) -> None:
    async with (
        publisher(server, room_of(anyio_backend, 1)) as source,
        open_proxy(server.port) as proxy,
        connect(proxy.url, backoff=SOON) as client,
        client.subscribe(source.group, on_gap=gapless) as notifications,
    ):
        await source.publish(2)
        assert await numbers(notifications, 2) == [1, 2]
        proxy.target = 0
        await proxy.cut()
        await source.publish(3)
        proxy.target = server.port
        await source.publish(1)
        assert await numbers(notifications, 4) == [3, 4, 5, 6]


async def test_one_that_had_received_nothing_resumes_too(
    server: Server, anyio_backend: str
) -> None:
    async with (
        publisher(server, room_of(anyio_backend, 2)) as source,
        open_proxy(server.port) as proxy,
        connect(proxy.url, backoff=SOON) as client,
        client.subscribe(source.group, on_gap=gapless) as notifications,
    ):
        proxy.target = 0
        await proxy.cut()
        await source.publish(1)
        proxy.target = server.port
        assert await numbers(notifications, 1) == [1]


async def test_cut_again_and_again_under_load_nothing_is_missing_or_repeated(
    server: Server, anyio_backend: str
) -> None:
    received: list[int] = []
    async with (
        publisher(server, room_of(anyio_backend, 3)) as source,
        open_proxy(server.port) as proxy,
        connect(proxy.url, backoff=SOON) as client,
        client.subscribe(source.group, on_gap=gapless) as notifications,
        anyio.create_task_group() as tasks,
    ):
        for _ in range(15):
            tasks.start_soon(source.publish, 40)  # never more than the history keeps
            for _ in range(4):
                await proxy.cut()
                received += await numbers(notifications, 10)
        assert received == list(range(1, source.number + 1))


async def test_readers_who_join_with_a_past_while_others_read_have_all_in_order(
    server: Server, anyio_backend: str
) -> None:
    async with (
        publisher(server, room_of(anyio_backend, 4)) as source,
        connect(f"{server.ws}/notifications/") as client,
        client.subscribe(source.group, on_gap=gapless) as first,
        anyio.create_task_group() as tasks,
    ):
        start = first.position
        tasks.start_soon(source.publish, 90)  # all of it fits in the history
        assert await numbers(first, 10) == list(range(1, 11))
        for _ in range(5):
            async with client.subscribe(source.group, start, on_gap=gapless) as other:
                assert await numbers(other, 20) == list(range(1, 21))
        assert await numbers(first, 80) == list(range(11, 91))


async def test_a_restart_that_lost_the_history_is_a_gap(server: Server, anyio_backend: str) -> None:
    room = room_of(anyio_backend, 5)
    gaps: list[Gap] = []
    with Server(KIND, APP) as before:
        async with (
            publisher(before, room) as source,
            open_proxy(before.port) as proxy,
            connect(proxy.url, backoff=SOON) as client,
            client.subscribe(source.group, on_gap=gaps.append) as notifications,
        ):
            await source.publish(2)
            assert await numbers(notifications, 2) == [1, 2]
            proxy.target = server.port
            await run_sync(before.stop)
            async with client.subscribe("user_0"):
                pass  # it is back, since this was answered after what was asked before
            async with publisher(server, room) as after:
                await after.publish(1)
            assert await numbers(notifications, 1) == [1]
    assert gaps == [Gap(f"user_{room}", "unrecovered", None)]


async def test_a_layer_that_was_flushed_is_a_gap(anyio_backend: str) -> None:
    gaps: list[Gap] = []
    with Server(KIND, "tests.apps.flushed:app") as flushed:
        url = f"ws://127.0.0.1:{flushed.port}/notifications/"
        async with (
            publisher(flushed, 1) as source,
            connect(url, backoff=SOON) as client,
            client.subscribe(source.group, on_gap=gaps.append) as notifications,
        ):
            await source.publish(2)
            assert await numbers(notifications, 2) == [1, 2]
            async with httpx.AsyncClient(base_url=flushed.http, trust_env=False) as http:
                assert (await http.post("/flush")).status_code == 204
            async with client.subscribe("user_0"):
                pass  # it is back, since this was answered after what was asked before
            await source.publish(1)
            assert await numbers(notifications, 1) == [3]
    assert gaps == [Gap("user_1", "unrecovered", None)]


async def test_in_a_room_of_its_own_a_client_resumes_as_well(
    server: Server, anyio_backend: str
) -> None:
    room = room_of(anyio_backend, 6)
    async with (
        publisher(server, room) as source,
        open_proxy(server.port) as proxy,
        connect(f"{proxy.url}{room}/", backoff=SOON) as client,
        client.subscribe(source.group, on_gap=gapless) as notifications,
    ):
        await source.publish(1)
        proxy.target = 0
        await proxy.cut()
        await source.publish(2)
        proxy.target = server.port
        assert await numbers(notifications, 3) == [1, 2, 3]
        with pytest.raises(Forbidden, match="cannot be followed"):
            async with client.subscribe("user_999999"):
                pass


async def test_who_reads_too_slowly_for_the_server_is_told_what_is_missing(
    server: Server, anyio_backend: str
) -> None:
    received: list[int | Gap] = []
    told = anyio.Event()

    def on_gap(gap: Gap) -> None:
        received.append(gap)
        told.set()

    async with (
        publisher(server, room_of(anyio_backend, 7)) as source,
        connect(f"{server.ws}/notifications/", capacity=1, backoff=SOON) as client,
        client.subscribe(source.group, on_gap=on_gap) as notifications,
        anyio.create_task_group() as tasks,
    ):
        # More than the sockets' buffers and the server's mailbox hold, and then its history.
        await source.publish(400, padding=60_000)

        async def read() -> None:
            async for notification in notifications:
                received.append(notification.data[0])
                if notification.data[0] == source.number:
                    return

        tasks.start_soon(read)
        await told.wait()
        await source.publish(1)
    number, is_gap = 0, False
    for item in received:
        if isinstance(item, Gap):
            is_gap = True
            continue
        assert item > number if is_gap else item == number + 1, received
        number, is_gap = item, False
    assert number == source.number
