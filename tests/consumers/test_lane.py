"""Handlers cannot tell whether they run in the sync lane; who counts threads and wake-ups can."""

import asyncio
import contextlib
import gc
import multiprocessing
import os
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextvars import ContextVar
from multiprocessing.connection import Connection
from typing import Any

import anyio
import anyio.from_thread
import pytest
from anyio.lowlevel import checkpoint

from asgi_notify import (
    InMemoryChannelLayer,
    Message,
    MisuseError,
    WebsocketConsumer,
    async_to_sync,
    handler_limiter,
)
from asgi_notify.consumers import lane as lanes
from asgi_notify.consumers.job import AHEAD
from asgi_notify.consumers.lane import disconnect_lane, handler_lane
from asgi_notify.types import Event
from tests.consumers.harness import CONNECT, Slow, Wire, assert_nothing_left, connected, left, text

pytestmark = pytest.mark.anyio

PATIENCE = 10  # seconds until something that should happen counts as never happening

name: ContextVar[str] = ContextVar("name", default="nobody")


def has_uvloop() -> bool:
    try:
        import uvloop  # noqa: F401
    except ImportError:
        return False
    return True


WAYS: dict[str, tuple[str, dict[str, Any], str, str]] = {
    # backend, its options, steps, lane
    "lane": ("asyncio", {}, "1", "1"),
    "lane without steps": ("asyncio", {}, "0", "1"),
    "lane in debug mode": ("asyncio", {"debug": True}, "1", "1"),
    "lane on uvloop": ("asyncio", {"use_uvloop": True}, "1", "1"),
    "plain": ("asyncio", {}, "1", "0"),
    "trio": ("trio", {}, "1", "1"),
}


@pytest.fixture(
    params=[
        pytest.param(way, marks=pytest.mark.skipif("uvloop" in way and not has_uvloop(), reason=""))
        for way in WAYS
    ]
)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How handlers are run."""
    _, _, steps, lane = WAYS[request.param]
    monkeypatch.setenv("ASGI_NOTIFY_STEPPING", steps)
    monkeypatch.setenv("ASGI_NOTIFY_SYNC_LANE", lane)
    return str(request.param)


@pytest.fixture
def anyio_backend(way: str) -> tuple[str, dict[str, Any]]:
    backend, options, _, _ = WAYS[way]
    return backend, options


only_lane = pytest.mark.parametrize("way", ["lane", "lane without steps"], indirect=True)


async def until(condition: Callable[[], object]) -> None:
    with anyio.fail_after(PATIENCE):
        while not condition():  # noqa: ASYNC110  # of threads, which tell nobody
            await anyio.sleep(0.001)


def lane_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if "asgi_notify handlers" in thread.name]


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    gate = threading.Event()
    yield gate
    gate.set()


class Doer(WebsocketConsumer):
    """Does what a message brings: a function of the consumer."""

    groups = ("all",)

    def do(self, message: Message) -> None:
        message["call"](self)


async def tell(layer: InMemoryChannelLayer, call: Callable[[Doer], object]) -> None:
    await layer.group_send("all", {"type": "do", "call": call})


# What handlers see.


async def test_the_setting_and_the_loop_decide(way: str) -> None:
    assert (handler_lane() is not None) == way.startswith("lane")
    assert handler_lane() is handler_lane()
    assert handler_lane() is not disconnect_lane() or handler_lane() is None


async def test_a_handler_sees_the_context_of_its_connection_and_leaves_it_as_it_was(
    layer: InMemoryChannelLayer,
) -> None:
    seen: list[str] = []

    async def see() -> str:
        seen.append(f"call {name.get()}")
        name.set("from the call")
        await checkpoint()
        return name.get()

    def look(consumer: Doer) -> None:
        seen.append(name.get())
        name.set("changed")
        assert async_to_sync(see)() == "from the call"
        seen.append(name.get())

    wire = Wire(CONNECT)

    async def run() -> None:
        name.set("connection")
        await wire.run(Doer())
        seen.append(f"after {name.get()}")

    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run)
            await until(lambda: wire.sent)
            for _ in range(2):
                await tell(layer, look)
            await until(lambda: len(seen) == 6)
            wire.tell(left())
    assert seen == [*["connection", "call changed", "changed"] * 2, "after connection"]


async def test_what_waits_in_a_call_may_use_all_of_the_loop(layer: InMemoryChannelLayer) -> None:
    async def work() -> str:
        await anyio.sleep(0.001)
        with anyio.move_on_after(0.001) as scope:
            await anyio.sleep_forever()
        assert scope.cancelled_caught
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(checkpoint)
        return "done"

    def call(consumer: Doer) -> None:
        consumer.send(async_to_sync(work)())
        # anyio's own functions for worker threads, too:
        anyio.from_thread.check_cancelled()
        consumer.send(anyio.from_thread.run(work))
        consumer.send(str(anyio.from_thread.run_sync(threading.get_ident) != threading.get_ident()))

    async with connected(Doer) as client:
        await tell(layer, call)
        for answer in "done", "done", "True":
            assert await client.receive_from(PATIENCE) == answer


async def time_out() -> str:
    try:
        async with asyncio.timeout(0.001):
            await asyncio.sleep(PATIENCE)
    except TimeoutError:
        return "fine"
    return "not cancelled"


async def fail_in_group() -> str:
    async def fail() -> None:
        await asyncio.sleep(0.001)
        raise LookupError

    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(fail())
            await asyncio.sleep(PATIENCE)
    except* LookupError:
        pass
    return "fine"


async def cancel_itself() -> str:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().call_later(0.001, task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await asyncio.sleep(PATIENCE)
    task.uncancel()
    return "fine"


@pytest.mark.parametrize("way", [way for way in WAYS if way != "trio"], indirect=True)
@pytest.mark.parametrize("work", [time_out, fail_in_group, cancel_itself])
async def test_a_call_that_cancels_its_task_does_not_cancel_the_connection(
    layer: InMemoryChannelLayer, work: Callable[[], Coroutine[Any, Any, str]]
) -> None:
    async with connected(Doer) as client:
        await tell(layer, lambda consumer: consumer.send(async_to_sync(work)()))
        assert await client.receive_from(PATIENCE) == "fine"
        await tell(layer, lambda consumer: consumer.send("and goes on"))
        assert await client.receive_from(PATIENCE) == "and goes on"


async def work_in_child() -> str:
    return "of the child"


def call_in_child(result: Connection) -> None:
    result.send(async_to_sync(work_in_child)())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no fork")
@pytest.mark.filterwarnings("ignore:This process")  # Python 3.12 warns of any fork beside threads
async def test_a_process_that_a_handler_forks_waits_for_no_loop_of_its_parent(
    layer: InMemoryChannelLayer,
) -> None:
    def fork(consumer: Doer) -> None:
        ours, theirs = multiprocessing.Pipe()
        process = multiprocessing.get_context("fork").Process(target=call_in_child, args=(theirs,))
        process.start()
        consumer.send(ours.recv() if ours.poll(PATIENCE) else "nothing")
        process.kill()
        process.join()

    async with connected(Doer) as client:
        await tell(layer, fork)
        assert await client.receive_from(2 * PATIENCE) == "of the child"


async def test_what_a_call_raises_is_raised_in_the_handler(
    layer: InMemoryChannelLayer, way: str
) -> None:
    is_asyncio = way != "trio"

    async def fail(error: BaseException) -> None:
        raise error

    def call(consumer: Doer) -> None:
        for error in LookupError("x"), KeyError("y"):
            with pytest.raises(type(error)) as caught:
                async_to_sync(fail)(error)
            assert caught.value is error
        if is_asyncio:  # nobody has asked for it: a task that was awaited may raise it
            with pytest.raises(asyncio.CancelledError):
                async_to_sync(fail)(asyncio.CancelledError())
        with pytest.raises(MisuseError, match="is not async"):
            async_to_sync(len)("abc")  # type: ignore[arg-type]
        consumer.send("fine")

    async with connected(Doer) as client:
        await tell(layer, call)
        assert await client.receive_from(PATIENCE) == "fine"


async def test_a_mistake_in_sending_is_raised_where_it_is_made(
    layer: InMemoryChannelLayer,
) -> None:
    class Early(WebsocketConsumer):
        def connect(self) -> None:
            with pytest.raises(MisuseError, match=r"call accept\(\) first"):
                self.send("too early")
            self.accept()
            with pytest.raises(MisuseError, match="it was accepted already"):
                self.accept()
            self.send("hello")
            self.close(4001)
            self.send("after the end")
            self.close(4002)

    wire = Wire(CONNECT)
    with anyio.fail_after(PATIENCE):
        await wire.run(Early())
    assert [event["type"] for event in wire.sent] == [
        "websocket.accept",
        "websocket.send",
        "websocket.close",
    ]
    assert wire.close is not None
    assert wire.close["code"] == 4001


async def test_an_event_that_the_server_refuses_is_told_once(
    layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    async def refuse(event: Event) -> None:
        if event.get("text") == "wrong":
            raise TypeError("no such text")

    wire = Wire(CONNECT)
    wire.on_send = refuse
    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wire.run, Doer())
            await until(lambda: wire.sent)
            await tell(layer, lambda consumer: consumer.send("wrong"))
            await until(lambda: wire.close)
            wire.tell(left())
    assert wire.close is not None
    assert wire.close["code"] == 1011
    [record] = [record for record in caplog.records if record.levelname == "ERROR"]
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], TypeError)


async def test_the_next_send_raises_what_the_server_said_of_the_one_before(
    layer: InMemoryChannelLayer, gate: threading.Event
) -> None:
    async def refuse(event: Event) -> None:
        if event.get("text") == "wrong":
            raise TypeError("no such text")

    def send(consumer: Doer) -> None:
        with pytest.raises(TypeError, match="no such text"):  # noqa: PT012
            consumer.send("wrong")
            async_to_sync(checkpoint)()  # by when it was sent
            consumer.send("next")
        consumer.send("last")

    wire = Wire(CONNECT)
    wire.on_send = refuse
    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wire.run, Doer())
            await until(lambda: wire.sent)
            await tell(layer, send)
            await until(lambda: wire.texts)
            wire.tell(left())
    assert wire.texts == ["last"]
    assert wire.close is None


async def test_sends_calls_and_other_threads_keep_their_order(layer: InMemoryChannelLayer) -> None:
    wire = Wire(CONNECT)

    async def note() -> None:
        wire.sent.append({"type": "websocket.send", "text": "called"})

    def act(consumer: Doer) -> None:
        for number in range(3):
            consumer.send(f"{number} a")
            async_to_sync(note)()
            consumer.send(f"{number} b")
            thread = threading.Thread(target=consumer.send, args=[f"{number} thread"])
            thread.start()
            thread.join(PATIENCE)

    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wire.run, Doer())
            await until(lambda: wire.sent)
            await tell(layer, act)
            await until(lambda: len(wire.texts) == 12)
            wire.tell(left())
    expected = [[f"{n} a", "called", f"{n} b", f"{n} thread"] for n in range(3)]
    assert wire.texts == [text for texts in expected for text in texts]


async def test_a_thread_of_a_handler_sends_behind_it_where_many_connections_wait_for_the_loop(
    layer: InMemoryChannelLayer,
) -> None:
    def act(consumer: Doer) -> None:
        consumer.send("handler")
        thread = threading.Thread(target=consumer.send, args=["thread"])
        thread.start()
        thread.join(PATIENCE)

    wires = [Wire(CONNECT) for _ in range(40)]

    async def busy(event: Event) -> None:
        for _ in range(3):  # so that the task has to be woken for what the handler sends
            await checkpoint()

    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as tasks:
            for wire in wires:
                tasks.start_soon(wire.run, Doer())
            await until(lambda: all(wire.sent for wire in wires))
            for wire in wires:
                wire.on_send = busy
            await tell(layer, act)
            await until(lambda: all(len(wire.texts) == 2 for wire in wires))
            for wire in wires:
                wire.tell(left())
    assert {tuple(wire.texts) for wire in wires} == {("handler", "thread")}


async def test_a_handler_waits_for_a_client_that_reads_nothing(
    layer: InMemoryChannelLayer,
) -> None:
    begun = -1

    def flood(consumer: Doer) -> None:
        nonlocal begun
        for number in range(1000):
            begun = number
            consumer.send(str(number))

    wire, slow = Wire(CONNECT), Slow()
    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wire.run, Doer())
            await until(lambda: wire.sent)
            wire.on_send = slow.hold
            await tell(layer, flood)
            await until(lambda: begun >= 0)
            await anyio.sleep(0.02)
            assert begun <= AHEAD + 1
            slow.let(3)
            await until(lambda: len(wire.texts) == 3)
            await anyio.sleep(0.02)
            assert begun <= AHEAD + 4
            slow.let(10_000)
            await until(lambda: len(wire.texts) == 1000)
            wire.tell(left())
    assert wire.texts == [str(number) for number in range(1000)]


async def test_a_dispatch_of_ones_own_bounds_its_handler(
    layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[str] = []

    class Bounded(Doer):
        async def dispatch(self, message: Message) -> None:
            with anyio.move_on_after(message.get("limit", PATIENCE)) as scope:
                await super().dispatch(message)
            if scope.cancelled_caught:
                seen.append("cut off")

    def hang(consumer: Doer) -> None:
        try:
            async_to_sync(anyio.sleep_forever)()
        finally:
            seen.append("left")

    async with connected(Bounded) as client:
        # Longer than any thread takes to begin: what has not begun is not begun any more.
        await layer.group_send("all", {"type": "do", "call": hang, "limit": 0.5})
        await until(lambda: len(seen) == 2)
        await tell(layer, lambda consumer: consumer.send("still here"))
        assert await client.receive_from(PATIENCE) == "still here"
    assert seen == ["left", "cut off"]
    # In debug mode asyncio itself complains of a machine that is busy.
    ours = [record for record in caplog.records if record.name.startswith("asgi_notify")]
    assert {record.levelname for record in ours} <= {"INFO"}


async def test_a_handler_that_still_waits_for_a_thread_is_not_begun_once_it_is_cancelled(
    layer: InMemoryChannelLayer, gate: threading.Event
) -> None:
    log: list[str] = []

    class Waits(WebsocketConsumer):
        leave_grace = 0.0

        def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
            log.append(text_data or "")
            assert gate.wait(PATIENCE)

        def disconnect(self, code: int) -> None:
            log.append("disconnect")

    handler_limiter().total_tokens = 1
    busy, waiting = Wire(CONNECT), Wire(CONNECT)
    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as tasks:
            for wire in busy, waiting:
                tasks.start_soon(wire.run, Waits())
                await until(lambda wire=wire: wire.sent)  # type: ignore[misc]
            busy.tell(text("busy"))
            await until(lambda: log)
            waiting.tell(text("waiting"))
            await until(lambda: waiting.received == 2)
            await anyio.sleep(0.005)
            waiting.tell(left())
            await until(lambda: len(log) == 2)
            gate.set()
            busy.tell(left())
    assert log == ["busy", "disconnect", "disconnect"]
    assert_nothing_left(layer)


# Threads and wake-ups.


@only_lane
async def test_many_handlers_wake_the_loop_a_few_times(
    layer: InMemoryChannelLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, woken = asyncio.get_running_loop(), 0
    wake = loop.call_soon_threadsafe

    def count(*args: Any, **kwargs: Any) -> Any:
        nonlocal woken
        woken += 1
        return wake(*args, **kwargs)

    monkeypatch.setattr(loop, "call_soon_threadsafe", count)
    wires = [Wire(CONNECT) for _ in range(200)]
    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as tasks:
            for wire in wires:
                tasks.start_soon(wire.run, Doer())
            await until(lambda: all(wire.sent for wire in wires))
            begun = woken
            for number in range(5):
                await tell(layer, lambda consumer: consumer.send("x"))
                await until(lambda n=number: all(len(w.texts) == n + 1 for w in wires))  # type: ignore[misc]
            # Some 5 to 40 for 1,000 handlers that send; the plain way takes 2,000.
            assert woken - begun <= 250
            for wire in wires:
                wire.tell(left())


@only_lane
async def test_a_call_that_does_not_wait_costs_no_task(
    layer: InMemoryChannelLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, made = asyncio.get_running_loop(), 0
    make = loop.create_task

    def count(*args: Any, **kwargs: Any) -> Any:
        nonlocal made
        made += 1
        return make(*args, **kwargs)

    def call(consumer: Doer) -> None:
        for number in range(10):
            async_to_sync(consumer.channel_layer.group_add)(f"g{number}", consumer.channel_name)
        consumer.send("done")

    async with connected(Doer) as client:
        monkeypatch.setattr(loop, "create_task", count)
        await tell(layer, call)
        assert await client.receive_from(PATIENCE) == "done"
    assert made <= 2  # of the test's own


async def test_handlers_that_block_keep_no_other_waiting(
    layer: InMemoryChannelLayer, gate: threading.Event
) -> None:
    def block(consumer: Doer) -> None:
        assert gate.wait(PATIENCE)

    busy = [Wire(CONNECT) for _ in range(30)]
    quick = Wire(CONNECT)
    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as tasks:
            for wire in busy:
                tasks.start_soon(wire.run, Doer())
            await until(lambda: all(wire.sent for wire in busy))
            await tell(layer, block)
            tasks.start_soon(wire_of_answers, quick)
            for number in range(20):
                quick.tell(text(str(number)))
                await until(lambda n=number: len(quick.texts) == n + 1)  # type: ignore[misc]
            assert not gate.is_set()
            gate.set()
            for wire in [*busy, quick]:
                wire.tell(left())


async def wire_of_answers(wire: Wire) -> None:
    class Answers(WebsocketConsumer):
        def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
            self.send(text_data)

    await wire.run(Answers())


@only_lane
async def test_threads_that_have_nothing_to_do_end(
    layer: InMemoryChannelLayer, monkeypatch: pytest.MonkeyPatch, gate: threading.Event
) -> None:
    monkeypatch.setattr(lanes, "IDLE", 0.01)
    wires = [Wire(CONNECT) for _ in range(5)]
    threads: set[str] = set()

    def block(consumer: Doer) -> None:
        threads.add(threading.current_thread().name)
        consumer.send("blocks")
        assert gate.wait(PATIENCE)

    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as tasks:
            for wire in wires:
                tasks.start_soon(wire.run, Doer())
            await until(lambda: all(wire.sent for wire in wires))
            await tell(layer, block)
            await until(lambda: all(wire.texts for wire in wires))
            mine = [thread for thread in lane_threads() if thread.name in threads]
            assert len(mine) >= 5
            gate.set()
            await until(lambda: not any(thread.is_alive() for thread in mine))
            # And others come when they are needed.
            await tell(layer, lambda consumer: consumer.send("again"))
            await until(lambda: all(len(wire.texts) == 2 for wire in wires))
            for wire in wires:
                wire.tell(left())


@only_lane
async def test_a_thread_that_is_called_as_its_time_is_over_is_called_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lanes, "GLANCE", lanes.IDLE)  # it looks once
    lane = handler_lane()
    assert lane is not None
    wake = lane._wake

    class Late:
        """The lock of a thread that is called when it has just given up waiting."""

        def __init__(self) -> None:
            self.calls = 0

        def acquire(self, timeout: float = -1) -> bool:
            if timeout >= 0:
                assert wake()
                return False
            assert self.calls == 1, "it waits for another call"
            self.calls -= 1
            return True

        def release(self) -> None:
            self.calls += 1

    worker = lanes._Worker()
    worker.called = late = Late()  # type: ignore[assignment]
    lane._awake.add(worker)
    assert lane._rest(worker)
    assert (lane._awake, lane._idle, late.calls) == ({worker}, [], 0)
    lane._awake.discard(worker)


@only_lane
async def test_a_thread_that_cannot_be_started_is_tried_again(
    layer: InMemoryChannelLayer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    start, refused = threading.Thread.start, 0

    def refuse(thread: threading.Thread) -> None:
        nonlocal refused
        if "asgi_notify handlers" in thread.name and refused < 3:
            refused += 1
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    async with connected(Doer) as client:
        await tell(layer, lambda consumer: consumer.send("done"))
        assert await client.receive_from(PATIENCE) == "done"
    assert refused == 3
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        "handlers wait, since no thread could be started: can't start new thread"
    ]
    await until(lambda: handler_limiter().borrowed_tokens == 0)


@only_lane
async def test_the_limiter_counts_the_handlers_that_run(
    layer: InMemoryChannelLayer, gate: threading.Event
) -> None:
    wires = [Wire(CONNECT) for _ in range(5)]

    def block(consumer: Doer) -> None:
        assert gate.wait(PATIENCE)
        consumer.send("done")

    limiter = handler_limiter()
    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as tasks:
            for wire in wires:
                tasks.start_soon(wire.run, Doer())
            await until(lambda: all(wire.sent for wire in wires))
            await until(lambda: limiter.borrowed_tokens == 0)
            await tell(layer, block)
            await until(lambda: limiter.borrowed_tokens == 5)
            gate.set()
            await until(lambda: all(wire.texts for wire in wires))
            await until(lambda: limiter.borrowed_tokens == 0)
            # Whoever else has them all is waited for.
            limiter.total_tokens = 1
            async with limiter:
                await tell(layer, lambda consumer: consumer.send("late"))
                await anyio.sleep(0.02)
                assert all(wire.texts == ["done"] for wire in wires)
            await until(lambda: all(wire.texts == ["done", "late"] for wire in wires))
            for wire in wires:
                wire.tell(left())


def alive(threads: list[threading.Thread]) -> list[threading.Thread]:
    for thread in threads:
        thread.join(PATIENCE)
    return [thread for thread in threads if thread.is_alive()]


@pytest.mark.parametrize("way", ["lane"], indirect=True)
def test_a_loop_that_ends_leaves_no_thread_and_no_handler(way: str) -> None:
    before = set(lane_threads())
    ends: list[int] = []

    class Counts(WebsocketConsumer):
        def disconnect(self, code: int) -> None:
            ends.append(code)

    async def main() -> None:
        wires = [Wire(CONNECT) for _ in range(5)]
        app = Counts.as_asgi(channel_layer=InMemoryChannelLayer())
        tasks = [asyncio.create_task(wire.run(app)) for wire in wires]
        await until(lambda: all(wire.sent for wire in wires))
        assert set(lane_threads()) - before
        del tasks  # asyncio.run() cancels them

    for number in range(1, 11):
        asyncio.run(main())
        assert len(ends) == 5 * number
        assert alive(list(set(lane_threads()) - before)) == []


@pytest.mark.parametrize("way", ["lane"], indirect=True)
def test_a_handler_whose_loop_was_closed_is_told(way: str) -> None:
    told: list[type[BaseException]] = []
    begun, ended = threading.Event(), threading.Event()

    class Calls(WebsocketConsumer):
        def connect(self) -> None:
            self.accept()
            begun.set()
            try:
                async_to_sync(anyio.sleep_forever)()
            except BaseException as error:
                told.append(type(error))
                raise
            finally:
                ended.set()

    async def main() -> None:
        wire = Wire(CONNECT)
        app = Calls.as_asgi(channel_layer=InMemoryChannelLayer())
        connections.append(asyncio.create_task(wire.run(app)))
        await until(begun.is_set)
        await asyncio.sleep(0.01)

    connections: list[asyncio.Task[None]] = []
    loop = asyncio.new_event_loop()
    loop.run_until_complete(main())
    loop.close()  # without a word to its tasks
    assert ended.wait(PATIENCE)
    assert told == [anyio.RunFinishedError]
    with contextlib.suppress(RuntimeError):
        connections[0].get_coro().close()
    connections.clear()
    gc.collect()
