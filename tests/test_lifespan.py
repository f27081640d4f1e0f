"""How startup and shutdown enter and exit a context, whatever goes wrong in between."""

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import anyio
import pytest
from anyio.lowlevel import checkpoint
from asgi_lifespan import LifespanManager

from asgi_notify.exceptions import LayerUnavailable
from asgi_notify.lifespan import serve_lifespan
from asgi_notify.types import ASGIApp, Event, Receive, Scope, Send

pytestmark = pytest.mark.anyio

Context = Callable[[], AbstractAsyncContextManager[object]]


class Server:
    """Stands where a server would, event by event."""

    def __init__(self, *events: str) -> None:
        self.events = list(events)
        self.sent: list[Event] = []
        self.waits = anyio.Event()

    async def receive(self) -> Event:
        if not self.events:
            self.waits.set()
            await anyio.sleep_forever()
        return {"type": self.events.pop(0)}

    async def send(self, event: Event) -> None:
        await checkpoint()
        self.sent.append(event)


class Steps:
    """A context that remembers how far it came."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator[None]:
        # With a task group, as layers have one: its scope must close in its place.
        async with anyio.create_task_group() as tasks:
            await self.step("enter")
            tasks.start_soon(anyio.sleep_forever)
            try:
                yield
            finally:
                await self.step("leave")
                tasks.cancel_scope.cancel()

    async def step(self, name: str) -> None:
        await checkpoint()
        self.seen.append(name)


BOTH = ["enter", "leave"]
STARTED = {"type": "lifespan.startup.complete"}


def serving(context: Context) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await serve_lifespan(receive, send, context())

    return app


async def test_startup_enters_and_shutdown_exits() -> None:
    steps = Steps()
    async with LifespanManager(serving(steps)):
        assert steps.seen == ["enter"]
    assert steps.seen == BOTH


async def test_completion_is_told_after_the_work_is_done() -> None:
    server, steps = Server("lifespan.startup", "lifespan.shutdown"), Steps()
    told: list[list[str]] = []

    async def send(event: Event) -> None:
        told.append([*steps.seen, event["type"]])

    await serve_lifespan(server.receive, send, steps())
    assert told == [
        ["enter", "lifespan.startup.complete"],
        ["enter", "leave", "lifespan.shutdown.complete"],
    ]


FAILS = OSError("no route to the engine")


@asynccontextmanager
async def fails_to_enter() -> AsyncIterator[None]:
    await checkpoint()
    raise FAILS
    yield


@asynccontextmanager
async def fails_to_exit() -> AsyncIterator[None]:
    yield
    await checkpoint()
    raise FAILS


@pytest.mark.parametrize(
    ("context", "phase", "before"),
    [(fails_to_enter, "startup", []), (fails_to_exit, "shutdown", [STARTED])],
)
async def test_a_failure_is_logged_once_told_and_raised(
    context: Context, phase: str, before: list[Event], caplog: pytest.LogCaptureFixture
) -> None:
    server = Server("lifespan.startup", "lifespan.shutdown")
    with pytest.raises(OSError, match="no route") as raised:
        await serve_lifespan(server.receive, server.send, context())
    assert raised.value is FAILS
    message = "OSError: no route to the engine"
    assert server.sent == [*before, {"type": f"lifespan.{phase}.failed", "message": message}]
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("asgi_notify.lifespan", logging.ERROR)
    assert record.getMessage() == f"failed during {phase}"
    assert record.exc_info is not None
    assert record.exc_info[1] is FAILS


async def test_a_layer_whose_server_is_away_is_told_in_one_line_without_a_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    @asynccontextmanager
    async def away() -> AsyncIterator[None]:
        await checkpoint()
        raise LayerUnavailable("valkey://127.0.0.1:6379/0: no answer")
        yield

    server = Server("lifespan.startup")
    with pytest.raises(LayerUnavailable):
        await serve_lifespan(server.receive, server.send, away())
    message = "LayerUnavailable: valkey://127.0.0.1:6379/0: no answer"
    assert server.sent == [{"type": "lifespan.startup.failed", "message": message}]
    (record,) = caplog.records
    assert record.exc_info is None
    assert record.getMessage() == "failed during startup: valkey://127.0.0.1:6379/0: no answer"


async def test_whoever_runs_the_app_in_process_sees_why_it_did_not_start() -> None:
    with pytest.raises((OSError, ExceptionGroup)) as raised:  # a group on trio
        async with LifespanManager(serving(fails_to_enter)):
            pass
    assert FAILS in getattr(raised.value, "exceptions", [raised.value])


async def test_a_task_of_the_context_that_fails_ends_the_service_and_is_raised(
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = Server("lifespan.startup")

    async def fail() -> None:
        await server.waits.wait()
        raise FAILS

    @asynccontextmanager
    async def context() -> AsyncIterator[None]:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(fail)
            yield

    with anyio.fail_after(20), pytest.raises(ExceptionGroup) as raised:
        await serve_lifespan(server.receive, server.send, context())
    assert raised.value.exceptions == (FAILS,)
    assert server.sent == [STARTED]
    assert [record.getMessage() for record in caplog.records] == ["failed during service"]


async def test_cancellation_after_startup_still_exits() -> None:
    server, steps = Server("lifespan.startup"), Steps()
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(serve_lifespan, server.receive, server.send, steps())
            await server.waits.wait()
            tasks.cancel_scope.cancel()
    assert steps.seen == BOTH
    assert server.sent == [STARTED]


async def test_cancellation_while_startup_is_told_still_exits() -> None:
    server, steps = Server("lifespan.startup"), Steps()

    async def send(event: Event) -> None:
        server.waits.set()
        await anyio.sleep_forever()

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(serve_lifespan, server.receive, send, steps())
            await server.waits.wait()
            tasks.cancel_scope.cancel()
    assert steps.seen == BOTH


async def test_cancellation_during_the_exit_lets_it_finish() -> None:
    leaving, may_leave = anyio.Event(), anyio.Event()
    server = Server("lifespan.startup", "lifespan.shutdown")

    @asynccontextmanager
    async def slow() -> AsyncIterator[None]:
        yield
        leaving.set()
        await may_leave.wait()
        await checkpoint()
        server.sent.append({"type": "left"})

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(serve_lifespan, server.receive, server.send, slow())
            await leaving.wait()
            tasks.cancel_scope.cancel()
            may_leave.set()
    assert server.sent == [STARTED, {"type": "left"}]


async def test_cancellation_during_startup_tells_nothing() -> None:
    server, entering = Server("lifespan.startup"), anyio.Event()

    @asynccontextmanager
    async def slow() -> AsyncIterator[None]:
        entering.set()
        await anyio.sleep_forever()
        yield

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(serve_lifespan, server.receive, server.send, slow())
            await entering.wait()
            tasks.cancel_scope.cancel()
    assert server.sent == []


async def test_an_exit_that_hangs_is_given_up_and_reported() -> None:
    server = Server("lifespan.startup", "lifespan.shutdown")

    @asynccontextmanager
    async def hangs() -> AsyncIterator[None]:
        yield
        await anyio.sleep_forever()

    with anyio.fail_after(20), pytest.raises(TimeoutError, match=r"longer than 0\.01 seconds"):
        await serve_lifespan(server.receive, server.send, hangs(), exit_timeout=0.01)
    assert server.sent[-1]["type"] == "lifespan.shutdown.failed"
    assert server.sent[-1]["message"] == "TimeoutError: the exit took longer than 0.01 seconds"


async def test_what_breaks_the_server_itself_exits_and_is_raised_as_it_is(
    caplog: pytest.LogCaptureFixture,
) -> None:
    left: list[str] = []

    @asynccontextmanager
    async def context() -> AsyncIterator[None]:
        try:
            yield
        finally:
            await checkpoint()
            left.append("left")

    async def send(event: Event) -> None:
        raise ConnectionError("the server is gone")

    with pytest.raises(ConnectionError, match="the server is gone"):
        await serve_lifespan(Server("lifespan.startup").receive, send, context())
    assert left == ["left"]
    assert caplog.records == []
