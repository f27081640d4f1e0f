"""A worker inside a server: when it begins and ends, whatever the application knows of lifespan."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from asgi_notify import (
    AsyncConsumer,
    ChannelNameRouter,
    ConfigurationError,
    InMemoryChannelLayer,
    Message,
    ProtocolTypeRouter,
    Receive,
    Scope,
    Send,
    URLRouter,
    WithWorker,
    channel_layers,
    path,
)
from asgi_notify.testing import ApplicationCommunicator, HttpCommunicator

pytestmark = pytest.mark.anyio

STARTUP, SHUTDOWN = {"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}


@pytest.fixture
def layer(monkeypatch: pytest.MonkeyPatch) -> InMemoryChannelLayer:
    layer = InMemoryChannelLayer()
    monkeypatch.setattr(channel_layers, "_layers", {"default": layer})
    return layer


@asynccontextmanager
async def served(app: WithWorker) -> AsyncIterator[ApplicationCommunicator]:
    """The application is started up before the block and shut down after it."""
    async with ApplicationCommunicator(app, {"type": "lifespan"}) as server:
        await server.send_input(STARTUP)
        assert await server.receive_output() == {"type": "lifespan.startup.complete"}
        yield server
        await server.send_input(SHUTDOWN)
        assert await server.receive_output() == {"type": "lifespan.shutdown.complete"}
        await server.wait()


class Site:
    """An application that writes down, in order, what happens to it.

    Args:
        lifespan: how its startup and shutdown go.
    """

    def __init__(self, lifespan: Any = None) -> None:
        self.seen: list[str] = []
        self.lifespan = lifespan or self.live
        self.is_slow = False
        self.handled = anyio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take whatever comes."""
        if scope["type"] == "lifespan":
            await self.lifespan(receive, send)
            return
        assert scope["type"] == "channel"
        self.handled.set()
        if self.is_slow:
            await anyio.wait_all_tasks_blocked()
        self.seen.append((await receive())["type"])

    async def live(self, receive: Receive, send: Send) -> None:
        """Start up and shut down as the specification has it."""
        for phase in "startup", "shutdown":
            self.seen.append((await receive())["type"])
            await send({"type": f"lifespan.{phase}.complete"})


async def test_it_begins_after_the_startup_and_ends_before_the_shutdown(
    layer: InMemoryChannelLayer,
) -> None:
    site = Site()
    site.is_slow = True
    await layer.send("jobs", {"type": "job.run"})
    async with served(WithWorker(site, ["jobs"])):
        await site.handled.wait()
    assert site.seen == ["lifespan.startup", "job.run", "lifespan.shutdown"]


async def test_it_can_be_served_again(layer: InMemoryChannelLayer) -> None:
    site = Site()
    app = WithWorker(site, ["jobs"])
    for _ in range(2):
        site.handled = anyio.Event()
        async with served(app):
            await layer.send("jobs", {"type": "job.run"})
            await site.handled.wait()
    assert site.seen == ["lifespan.startup", "job.run", "lifespan.shutdown"] * 2


async def test_a_router_that_opens_the_layers_keeps_them_open_until_the_worker_has_ended(
    layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[str] = []
    begun = anyio.Event()

    class Jobs(AsyncConsumer):
        async def job_run(self, message: Message) -> None:
            begun.set()
            await anyio.wait_all_tasks_blocked()
            seen.append("done")

    app = WithWorker(ProtocolTypeRouter({"channel": ChannelNameRouter({"jobs": Jobs})}))
    assert app.channels == ("jobs",)
    async with served(app):
        await layer.send("jobs", {"type": "job.run"})
        await begun.wait()
    assert seen == ["done"]
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []


async def raises(receive: Receive, send: Send) -> None:
    """Not know the protocol, as an application that asserts that it is asked for HTTP."""
    raise AssertionError("no http")


async def raises_once_asked(receive: Receive, send: Send) -> None:
    """Not know the event."""
    await receive()
    raise AssertionError("no request")


async def returns(receive: Receive, send: Send) -> None:
    """Ignore it."""


async def returns_early(receive: Receive, send: Send) -> None:
    """Know only the startup."""
    await receive()
    await send({"type": "lifespan.startup.complete"})


@pytest.mark.parametrize("lifespan", [raises, raises_once_asked, returns, returns_early])
async def test_an_application_that_does_not_know_all_of_lifespan_gets_its_worker_all_the_same(
    layer: InMemoryChannelLayer, lifespan: Any
) -> None:
    site = Site(lifespan)
    async with served(WithWorker(site, ["jobs"])):
        await layer.send("jobs", {"type": "job.run"})
        await site.handled.wait()
    assert site.seen == ["job.run"]


async def test_where_the_startup_fails_the_server_is_told_and_no_message_is_taken(
    layer: InMemoryChannelLayer,
) -> None:
    async def fail(receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})
        raise OSError("no database")

    site = Site(fail)
    await layer.send("jobs", {"type": "job.run"})
    async with ApplicationCommunicator(WithWorker(site, ["jobs"]), {"type": "lifespan"}) as server:
        await server.send_input(STARTUP)
        failed = await server.receive_output()
        assert failed == {"type": "lifespan.startup.failed", "message": "no database"}
        with pytest.raises(OSError, match="no database"):
            await server.wait()
    assert site.seen == []


async def test_an_application_that_fails_while_it_is_up_ends_its_worker_in_order(
    layer: InMemoryChannelLayer,
) -> None:
    async def fail(receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await site.handled.wait()
        raise OSError("no database")

    site = Site(fail)
    site.is_slow = True
    await layer.send("jobs", {"type": "job.run"})
    async with ApplicationCommunicator(WithWorker(site, ["jobs"]), {"type": "lifespan"}) as server:
        await server.send_input(STARTUP)
        with pytest.raises(OSError, match="no database"):
            await server.wait()
    assert site.seen == ["job.run"]


async def test_a_worker_that_fails_is_logged_and_the_server_goes_on(
    layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(InMemoryChannelLayer):
        async def receive(self, channel: str) -> Message:
            asked.set()
            raise ConnectionError("the layer's server is gone")

    asked = anyio.Event()
    site = Site()
    async with served(WithWorker(site, ["jobs"], layer=Broken())):
        await asked.wait()
        await anyio.wait_all_tasks_blocked()
    assert site.seen == ["lifespan.startup", "lifespan.shutdown"]
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert record.getMessage() == "the worker failed; its channels are read no more"
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], ConnectionError)


async def test_connections_go_to_the_application_as_they_come() -> None:
    async def page(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": scope["path"].encode()})

    site = ProtocolTypeRouter(
        {
            "http": URLRouter([path("page", page)]),
            "channel": ChannelNameRouter({"jobs": page}),
        }
    )
    client = HttpCommunicator(WithWorker(site), "GET", "/page")
    assert (await client.get_response())["body"] == b"/page"


def test_a_channel_that_is_not_routed_is_an_error_when_it_is_made() -> None:
    with pytest.raises(ConfigurationError, match="does not route the channel mail"):
        WithWorker(ChannelNameRouter({"jobs": Site()}), ["mail"])
