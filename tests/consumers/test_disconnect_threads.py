"""The disconnect handler of a synchronous consumer runs, however many threads are taken."""

import asyncio
import threading
from collections.abc import Iterator

import anyio
import pytest

from asgi_notify import (
    EventRouter,
    InMemoryChannelLayer,
    SyncConsumer,
    WebsocketConsumer,
    async_to_sync,
    handler_limiter,
    route,
)
from asgi_notify.consumers.lane import disconnect_lane
from asgi_notify.events.message import AsyncMessage, SyncMessage
from asgi_notify.sync import disconnect_limiter
from tests.consumers.harness import CONNECT, Wire, assert_nothing_left, left, text
from tests.consumers.streams import until

pytestmark = pytest.mark.anyio

PATIENCE = 10  # seconds until something that should happen counts as never happening


class Sync(WebsocketConsumer):
    """Waits at the gate in its handlers, where it is told to."""

    disconnect_timeout = 0.02

    def __init__(self, gate: threading.Event, log: list[str], where: str = "") -> None:
        super().__init__()
        self.gate, self.log, self.where = gate, log, where

    def stop(self, where: str) -> None:
        if where == self.where:
            assert self.gate.wait(PATIENCE)
        self.log.append(where)

    def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        self.stop("receive")

    def disconnect(self, code: int) -> None:
        self.stop("disconnect")


@pytest.fixture(params=["1", "0"], ids=["lane", "plain"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the threads are those of the sync lane, where the loop allows it."""
    monkeypatch.setenv("ASGI_NOTIFY_SYNC_LANE", request.param)


def tasks_waiting() -> int:
    """How many disconnect handlers wait for a thread."""
    lane = disconnect_lane()
    return lane.waiting if lane else disconnect_limiter().statistics().tasks_waiting


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    gate = threading.Event()
    yield gate
    gate.set()


async def test_blocked_handlers_keep_no_disconnect_from_running(
    gate: threading.Event, layer: InMemoryChannelLayer
) -> None:
    log: list[str] = []
    handler_limiter().total_tokens = 2
    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as tasks:
            wires = [Wire(CONNECT) for _ in range(5)]
            for wire in wires:
                tasks.start_soon(wire.run, Sync(gate, log, "receive"))
            await until(lambda: all(wire.sent for wire in wires))
            for wire in wires[:2]:
                wire.tell(text("a"))
            await until(lambda: handler_limiter().available_tokens == 0)
            for wire in wires[2:]:
                wire.tell(left())
            await until(lambda: log == ["disconnect"] * 3)
            assert handler_limiter().available_tokens == 0
            gate.set()
            for wire in wires[:2]:
                wire.tell(left())
    assert sorted(log) == ["disconnect"] * 5 + ["receive"] * 2
    assert_nothing_left(layer)


async def test_a_disconnect_waits_for_its_thread_longer_than_it_may_take(
    gate: threading.Event, layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    class Patient(Sync):
        disconnect_timeout = PATIENCE

    log: list[str] = []
    disconnect_limiter().total_tokens = 1
    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(Wire(CONNECT, left()).run, Patient(gate, log, "disconnect"))
            await until(lambda: disconnect_limiter().available_tokens == 0)
            tasks.start_soon(Wire(CONNECT, left()).run, Sync(gate, log))
            await until(lambda: tasks_waiting() == 1)
            await anyio.sleep(Sync.disconnect_timeout * 2)
            assert log == []
            gate.set()
    assert log == ["disconnect"] * 2
    assert [record for record in caplog.records if "cut off" in record.getMessage()] == []
    assert_nothing_left(layer)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # where servers cancel tasks of their own
async def test_a_disconnect_that_waits_for_its_thread_outlives_the_cancellation_of_a_server(
    gate: threading.Event, layer: InMemoryChannelLayer
) -> None:
    log: list[str] = []
    disconnect_limiter().total_tokens = 1
    with anyio.fail_after(PATIENCE):
        busy = asyncio.create_task(Wire(CONNECT, left()).run(Sync(gate, log, "disconnect")))
        await until(lambda: disconnect_limiter().available_tokens == 0)
        waiting = asyncio.create_task(Wire(CONNECT, left()).run(Sync(gate, log)))
        await until(lambda: tasks_waiting() == 1)
        waiting.cancel()
        await anyio.wait_all_tasks_blocked()
        gate.set()
        await asyncio.wait([busy, waiting])
    assert log == ["disconnect"] * 2
    assert_nothing_left(layer)


async def test_what_a_disconnect_waits_for_is_cut_off_in_time(
    layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    class Hangs(WebsocketConsumer):
        disconnect_timeout = 0.02

        def disconnect(self, code: int) -> None:
            async_to_sync(anyio.sleep_forever)()

    with anyio.fail_after(PATIENCE):
        await Wire(CONNECT, left()).run(Hangs())
    [record] = caplog.records
    assert "websocket.disconnect was cut off after 0.02 s" in record.getMessage()


async def test_a_plain_function_behind_an_event_router_gets_its_thread_too(
    gate: threading.Event, layer: InMemoryChannelLayer
) -> None:
    log: list[str] = []

    def receive(message: SyncMessage) -> None:
        assert gate.wait(PATIENCE)

    def disconnect(message: SyncMessage) -> None:
        log.append("disconnect")

    async def connect(message: AsyncMessage) -> None:
        """Accepted."""

    app = EventRouter(
        [
            route("websocket.connect", connect),
            route("websocket.receive", receive),
            route("websocket.disconnect", disconnect),
        ]
    )
    handler_limiter().total_tokens = 1
    busy, leaving = Wire(CONNECT), Wire(CONNECT)
    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as tasks:
            for wire in busy, leaving:
                tasks.start_soon(wire.run, app)
                await until(lambda wire=wire: bool(wire.sent))  # type: ignore[misc]
            busy.tell(text("a"))
            await until(lambda: handler_limiter().available_tokens == 0)
            leaving.tell(left())
            await until(lambda: log == ["disconnect"])
            gate.set()
            busy.tell(left())
    assert log == ["disconnect"] * 2


async def test_there_are_as_many_threads_for_the_end_as_for_all_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ASGI_NOTIFY_HANDLER_THREADS", "3")
    assert disconnect_limiter().total_tokens == handler_limiter().total_tokens == 3
    assert disconnect_limiter() is disconnect_limiter() is not handler_limiter()


async def test_a_consumer_without_a_disconnect_handler_ends(layer: InMemoryChannelLayer) -> None:
    class Bare(SyncConsumer):
        def websocket_connect(self, event: object) -> None:
            self.send({"type": "websocket.close"})

    with anyio.fail_after(PATIENCE):
        await Wire(CONNECT).run(Bare())
    assert_nothing_left(layer)
