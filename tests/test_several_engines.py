"""Several real servers side by side, among which the groups are spread: what one that is added,
or killed, means to clients of real server processes."""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass, field

import anyio
import httpx
import pytest
from anyio.to_thread import run_sync

from asgi_notify.client import Backoff, Gap, Status, Subscription, connect
from asgi_notify.layers.valkey import engine_from_url
from tests.servers import HOST, Server
from tests.valkey_servers import ValkeyServer, program

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

SOON = Backoff(base=0.02, max=0.1)
OPTIONS = "history=user_*&timeout=1.5&probe_interval=0.25&check_interval=1"
ROOMS = range(1, 31)


@pytest.fixture
def engines() -> Iterator[list[ValkeyServer]]:
    with ExitStack() as stack:
        yield [stack.enter_context(ValkeyServer(program("redis-server"))) for _ in range(3)]


def url_of(engines: Sequence[ValkeyServer]) -> str:
    return f"valkey://{','.join(f'{HOST}:{engine.port}' for engine in engines)}/0?{OPTIONS}"


def homes(engines: Sequence[ValkeyServer]) -> dict[str, str]:
    """Where each group lives."""
    engine = engine_from_url(url_of(engines), frozenset({"history", "check_interval"}))
    return {f"user_{room}": engine.part_of(f"user_{room}") for room in ROOMS}


def serving(engines: Sequence[ValkeyServer]) -> Server:
    env = {"ASGI_NOTIFY_LAYER": url_of(engines)}
    return Server("uvicorn-bounded", "asgi_notify.app:application", env=env)


async def publish(server: Server, number: int) -> set[str]:
    """Send a number to every room, and return the groups of those where that was refused."""
    refused: set[str] = set()

    async def send(room: int) -> None:
        answer = await http.post(f"/notifications/{room}/", json={"data": number})
        if answer.status_code == 503:
            refused.add(f"user_{room}")
        else:
            assert answer.status_code == 202, answer.text

    async with (
        httpx.AsyncClient(base_url=server.http, trust_env=False) as http,
        anyio.create_task_group() as tasks,
    ):
        for room in ROOMS:
            tasks.start_soon(send, room)
    return refused


@dataclass
class Watching:
    """A client of all rooms, over one connection."""

    subscriptions: dict[str, Subscription] = field(default_factory=dict)
    gaps: set[str] = field(default_factory=set)
    states: list[str] = field(default_factory=list)

    async def get(self, number: int, groups: set[str], *earlier: int) -> None:
        """Take the next message of each of these groups, which is this one.

        Args:
            number: the message.
            groups: of which it is to come.
            earlier: messages that may come before it.
        """
        with anyio.fail_after(20):
            for group in groups:
                while (came := (await anext(self.subscriptions[group])).data) != number:
                    assert came in earlier

    @property
    def positions(self) -> dict[str, str]:
        return {group: str(one.position) for group, one in self.subscriptions.items()}


@asynccontextmanager
async def watching(
    server: Server, since: Mapping[str, str] | None = None
) -> AsyncIterator[Watching]:
    found = Watching()

    def note(gap: Gap) -> None:
        found.gaps.add(gap.group)

    def record(status: Status) -> None:
        found.states.append(status.state)

    async with AsyncExitStack() as stack:
        url = f"{server.ws}/notifications/"
        client = await stack.enter_async_context(connect(url, backoff=SOON, on_status=record))
        for room in ROOMS:
            group = f"user_{room}"
            position = None if since is None else since[group]
            subscription = client.subscribe(group, since=position, on_gap=note)
            found.subscriptions[group] = await stack.enter_async_context(subscription)
        yield found


async def test_a_server_that_is_added_moves_few_groups_and_tells_their_clients(
    engines: list[ValkeyServer],
) -> None:
    before, after = homes(engines[:2]), homes(engines)
    moved = {group for group in before if before[group] != after[group]}
    assert 3 <= len(moved) <= 18  # a third of 30
    assert {after[group] for group in moved} == {f"valkey://{HOST}:{engines[2].port}/0"}
    with serving(engines[:2]) as old:
        async with watching(old) as client:
            assert await publish(old, 1) == set()
            await client.get(1, set(before))
            positions = client.positions
        assert await publish(old, 2) == set()  # while nobody is there
    with serving(engines) as new:
        async with watching(new, since=positions) as client:
            stayed = set(before) - moved
            await client.get(2, stayed)
            assert await publish(new, 3) == set()
            await client.get(3, stayed | moved)  # 2 is behind the gap that they were told of
            assert client.gaps == moved


async def test_one_of_three_that_is_killed_is_missed_by_its_own_groups_alone(
    engines: list[ValkeyServer],
) -> None:
    living = homes(engines)
    lost = {group for group, home in living.items() if str(engines[1].port) in home}
    assert 3 <= len(lost) <= 20
    with serving(engines) as one, serving(engines) as other:
        async with watching(other) as client:
            assert await publish(one, 1) == set()
            await client.get(1, set(living))
            await run_sync(engines[1].kill)
            assert await publish(one, 2) == lost
            await client.get(2, set(living) - lost)
            await run_sync(engines[1].start)  # with nothing of what it knew
            with anyio.fail_after(20):
                while True:
                    if not await publish(one, 3):
                        break
                    await anyio.sleep(0.2)
            # Who is told of a gap asks again from where it stood, so the gap may include 3.
            waiting = lost
            with anyio.fail_after(20):
                while waiting:
                    assert await publish(one, 4) == set()
                    with anyio.move_on_after(0.5):
                        for group in set(waiting):
                            await client.get(4, {group}, 3)
                            waiting = waiting - {group}
            await client.get(4, set(living) - lost, 3)
            assert client.gaps == lost
            assert client.states.count("open") == 1  # and nobody was closed
