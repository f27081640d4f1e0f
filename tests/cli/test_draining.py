"""How connections end at once when the server's process is told to stop."""

import os
import signal
from collections.abc import Callable, Iterator
from types import FrameType

import anyio
import pytest

from asgi_notify import (
    AsyncConsumer,
    ChannelNameRouter,
    InMemoryChannelLayer,
    Message,
    NotificationConsumer,
    SameOriginValidator,
    URLRouter,
    WithWorker,
    channel_layers,
    path,
)
from asgi_notify.cli.draining import DrainsOnSignal
from asgi_notify.routing import ProtocolTypeRouter
from asgi_notify.testing import ApplicationCommunicator, WebsocketCommunicator
from asgi_notify.types import ASGIApp

SIGNALS = [signal.SIGINT, signal.SIGTERM]


@pytest.fixture
def anyio_backend() -> str:
    """The server it belongs to runs on asyncio alone."""
    return "asyncio"


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The signals that came to the handlers which a server has installed."""
    numbers: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        numbers.append(number)

    before = {number: signal.signal(number, handle) for number in SIGNALS}
    monkeypatch.setattr(channel_layers, "_layers", {"default": InMemoryChannelLayer()})
    yield numbers
    for number, handler in before.items():
        signal.signal(number, handler)


def application() -> DrainsOnSignal:
    rooms = URLRouter([path("notifications/<int:room_name>/", NotificationConsumer)])
    return DrainsOnSignal(ProtocolTypeRouter({"websocket": rooms}))


@pytest.mark.anyio
@pytest.mark.parametrize("number", SIGNALS)
async def test_a_signal_closes_the_connections_and_reaches_the_server(
    told: list[int], number: int
) -> None:
    app = application()
    async with ApplicationCommunicator(app, {"type": "lifespan"}) as life:
        await life.send_input({"type": "lifespan.startup"})
        assert await life.receive_output() == {"type": "lifespan.startup.complete"}
        async with WebsocketCommunicator(app, "/notifications/42/") as client:
            assert await client.connect() == (True, None)
            os.kill(os.getpid(), number)
            assert (await client.receive_output())["code"] == 1012
        assert told == [number]
        async with WebsocketCommunicator(app, "/notifications/42/") as late:
            assert await late.connect() == (False, 1012)
        await life.send_input({"type": "lifespan.shutdown"})
        assert await life.receive_output() == {"type": "lifespan.shutdown.complete"}
        await life.wait()


@pytest.mark.anyio
@pytest.mark.parametrize("wrap", [lambda app: app, SameOriginValidator], ids=["bare", "wrapped"])
async def test_what_a_worker_runs_ends_before_the_connections_which_hear_of_it(
    told: list[int], wrap: Callable[[ASGIApp], ASGIApp]
) -> None:
    begun, go = anyio.Event(), anyio.Event()

    class Job(AsyncConsumer):
        async def job_run(self, message: Message) -> None:
            begun.set()
            await go.wait()
            news = {"type": "send.notification", "data": "done"}
            await self.channel_layer.group_send("user_42", news)

    rooms = URLRouter([path("notifications/<int:room_name>/", NotificationConsumer)])
    site = ProtocolTypeRouter({"websocket": rooms, "channel": ChannelNameRouter({"jobs": Job})})
    app = DrainsOnSignal(wrap(WithWorker(site)))
    layer = channel_layers["default"]
    async with ApplicationCommunicator(app, {"type": "lifespan"}) as life:
        await life.send_input({"type": "lifespan.startup"})
        await life.receive_output()
        headers = [(b"host", b"a"), (b"origin", b"http://a")]
        async with WebsocketCommunicator(app, "/notifications/42/", headers) as client:
            assert await client.connect() == (True, None)
            await layer.send("jobs", {"type": "job.run"})
            await begun.wait()
            os.kill(os.getpid(), signal.SIGTERM)
            await anyio.wait_all_tasks_blocked()
            await layer.send("jobs", {"type": "too.late"})
            async with WebsocketCommunicator(app, "/notifications/42/", headers) as late:
                assert await late.connect() == (False, 1012)
            go.set()
            assert await client.receive_from() == "done"
            assert (await client.receive_output())["code"] == 1012
        await life.send_input({"type": "lifespan.shutdown"})
        assert await life.receive_output() == {"type": "lifespan.shutdown.complete"}
        await life.wait()


@pytest.mark.anyio
async def test_without_a_signal_the_servers_handlers_come_back(told: list[int]) -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    async with ApplicationCommunicator(application(), {"type": "lifespan"}) as life:
        await life.send_input({"type": "lifespan.startup"})
        await life.receive_output()
        assert [signal.getsignal(number) for number in SIGNALS] != before
        await life.send_input({"type": "lifespan.shutdown"})
        await life.wait()
    assert [signal.getsignal(number) for number in SIGNALS] == before
    assert told == []
