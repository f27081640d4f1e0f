"""Synchronous consumers: in threads, side by side, but each connection's handlers in a row."""

import threading
from typing import Any, ClassVar

import anyio
import anyio.to_thread
import pytest

from asgi_notify import (
    InMemoryChannelLayer,
    Message,
    MisuseError,
    SyncConsumer,
    WebsocketConsumer,
    async_to_sync,
    handler_limiter,
)
from asgi_notify.testing import ApplicationCommunicator, WebsocketCommunicator
from asgi_notify.types import Event
from tests.consumers.harness import CONNECT, Wire, assert_nothing_left, connected, left, text

pytestmark = pytest.mark.anyio

PATIENCE = 10  # seconds until threads that should meet count as kept apart


@pytest.fixture(params=["1", "0"], ids=["lane", "plain"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the threads are those of the sync lane, where the loop allows it."""
    monkeypatch.setenv("ASGI_NOTIFY_SYNC_LANE", request.param)


class Meets(WebsocketConsumer):
    """Its handler ends only when another one has come as far."""

    def __init__(self, barrier: threading.Barrier) -> None:
        super().__init__()
        self.barrier = barrier

    def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        self.barrier.wait(PATIENCE)
        self.send("met")


async def test_the_handlers_of_two_connections_run_at_the_same_time(
    layer: InMemoryChannelLayer,
) -> None:
    app = Meets.as_asgi(barrier=threading.Barrier(2))
    async with connected(app) as one, connected(app) as other:
        for client in one, other:
            await client.send_to("a")
        for client in one, other:
            assert await client.receive_from(PATIENCE) == "met"


class Counts(WebsocketConsumer):
    """Counts how many handlers run at once."""

    lock = threading.Lock()
    running = 0
    most = 0
    wanted = 1  # how many have to run at once before the first of them ends
    met: ClassVar[threading.Event]
    threads: ClassVar[set[int]]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.met, cls.threads = threading.Event(), set()

    def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        kind = type(self)
        with self.lock:
            kind.running += 1
            kind.most = max(kind.most, kind.running)
            kind.threads.add(threading.get_ident())
            if kind.running == kind.wanted:
                kind.met.set()
        assert kind.met.wait(PATIENCE)
        # Gives the others every chance to come in between.
        async_to_sync(anyio.wait_all_tasks_blocked)()
        with self.lock:
            kind.running -= 1
        self.send("done")


async def test_no_more_handlers_run_at_once_than_the_limiter_has_threads(
    layer: InMemoryChannelLayer,
) -> None:
    class Limited(Counts):
        wanted = 2

    limiter = handler_limiter()
    before, limiter.total_tokens = limiter.total_tokens, 2
    try:
        wires = [Wire(CONNECT, text("a"), text("b")) for _ in range(5)]
        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as tasks:
                for wire in wires:
                    tasks.start_soon(wire.run, Limited())
                while sum(len(wire.texts) for wire in wires) < 10:
                    await anyio.wait_all_tasks_blocked()
                for wire in wires:
                    wire.tell(left())
    finally:
        limiter.total_tokens = before
    assert Limited.most == 2
    assert threading.get_ident() not in Limited.threads


async def test_the_handlers_of_one_connection_never_overlap(layer: InMemoryChannelLayer) -> None:
    class Lonely(Counts):
        groups = ("all",)

        def note(self, message: Message) -> None:
            self.receive()

    async with connected(Lonely) as client:
        for _ in range(5):
            await client.send_to("a")
            await layer.group_send("all", {"type": "note"})
        for _ in range(10):
            assert await client.receive_from(PATIENCE) == "done"
    assert Lonely.most == 1


async def test_slow_handlers_leave_the_servers_other_threads_alone(
    layer: InMemoryChannelLayer,
) -> None:
    assert handler_limiter() is not anyio.to_thread.current_default_thread_limiter()
    assert handler_limiter().total_tokens == 40


async def test_an_async_handler_is_refused_with_the_way_out(
    layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    class Confused(WebsocketConsumer):
        async def receive(  # type: ignore[override]
            self, text_data: str | None = None, bytes_data: bytes | None = None
        ) -> None:
            raise AssertionError("never awaited")

    async with connected(Confused) as client:
        await client.send_to("a")
        assert (await client.receive_output())["code"] == 1011
    [record] = caplog.records
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], MisuseError)
    assert "handler of websocket.receive is async" in str(record.exc_info[1])


async def test_a_plain_sync_consumer_sends_bare_events(layer: InMemoryChannelLayer) -> None:
    class Plain(SyncConsumer):
        def websocket_connect(self, event: Event) -> None:
            self.send({"type": "websocket.accept"})
            self.send({"type": "websocket.send", "text": "hello"})

    async with connected(Plain) as client:
        assert await client.receive_from() == "hello"


async def test_a_thread_of_the_handlers_own_may_send(layer: InMemoryChannelLayer) -> None:
    class Starts(WebsocketConsumer):
        def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
            worker = threading.Thread(target=self.send, args=["from a thread"])
            worker.start()
            worker.join(PATIENCE)

    async with connected(Starts) as client:
        await client.send_to("a")
        assert await client.receive_from() == "from a thread"


async def test_a_send_after_the_end_is_quiet_also_from_a_thread(
    layer: InMemoryChannelLayer,
) -> None:
    consumers: list[WebsocketConsumer] = []

    class Kept(WebsocketConsumer):
        def connect(self) -> None:
            consumers.append(self)
            self.accept()

        def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
            self.close(4000)
            self.send("late")

    async with connected(Kept) as client:
        await client.send_to("a")
        assert (await client.receive_output())["code"] == 4000
        await client.wait()
        await anyio.to_thread.run_sync(consumers[0].send, "much too late")
        assert await client.receive_nothing(0.01)


def test_a_send_after_the_end_of_the_loop_is_quiet() -> None:
    consumers: list[WebsocketConsumer] = []

    class Kept(WebsocketConsumer):
        def connect(self) -> None:
            consumers.append(self)

    app = Kept.as_asgi(channel_layer=InMemoryChannelLayer())
    anyio.run(Wire(CONNECT, left()).run, app)
    consumers[0].send("hello?")


async def test_a_send_in_the_event_loop_is_refused_with_the_way_out(
    layer: InMemoryChannelLayer,
) -> None:
    consumers: list[WebsocketConsumer] = []

    class Kept(WebsocketConsumer):
        def connect(self) -> None:
            consumers.append(self)
            self.accept()

    async with connected(Kept):
        with pytest.raises(MisuseError, match="would block the event loop"):
            consumers[0].send("hello")


@pytest.mark.parametrize("grace", [60.0, 0.01])
async def test_a_thread_that_is_busy_when_the_client_leaves_is_waited_for(
    grace: float, layer: InMemoryChannelLayer
) -> None:
    log, begun, gate = list[str](), threading.Event(), threading.Event()

    class Busy(WebsocketConsumer):
        groups = ("all",)
        leave_grace = grace

        def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
            begun.set()
            assert gate.wait(PATIENCE)
            log.append("finished")

        def disconnect(self, code: int) -> None:
            log.append(f"disconnect {code}")

    wire = Wire(CONNECT, text("a"))
    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wire.run, Busy())
            await anyio.to_thread.run_sync(begun.wait, PATIENCE)
            wire.tell(left())
            await anyio.sleep(0.03)  # until the shorter grace is over
            assert log == []
            gate.set()
    assert log == ["finished", "disconnect 1001"]
    assert_nothing_left(layer, "all")


async def test_a_handler_that_sends_for_ever_ends_when_it_is_cancelled(
    layer: InMemoryChannelLayer,
) -> None:
    ends, begun = list[int](), threading.Event()

    class Endless(WebsocketConsumer):
        groups = ("all",)

        def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
            while True:
                self.send("more")
                begun.set()

        def disconnect(self, code: int) -> None:
            ends.append(code)

    wire = Wire(CONNECT, text("a"))
    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wire.run, Endless())
            await anyio.to_thread.run_sync(begun.wait, PATIENCE)
            await layer.close()
    assert ends == [1012]


async def test_a_send_that_comes_a_moment_after_its_cancellation_does_not_wait(
    layer: InMemoryChannelLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As if the cancellation came between the thread's look at it and its send.
    monkeypatch.setattr("anyio.from_thread.check_cancelled", lambda: None)
    ends, begun, gate = list[int](), threading.Event(), threading.Event()

    class Lagging(WebsocketConsumer):
        groups = ("all",)

        def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
            begun.set()
            assert gate.wait(PATIENCE)
            self.send("late")

        def disconnect(self, code: int) -> None:
            ends.append(code)

    async def no_reader(event: Event) -> None:
        if event["type"] == "websocket.send":
            await anyio.sleep_forever()

    wire = Wire(CONNECT, text("a"))
    wire.on_send = no_reader
    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wire.run, Lagging())
            await anyio.to_thread.run_sync(begun.wait, PATIENCE)
            tasks.start_soon(layer.close)
            await anyio.wait_all_tasks_blocked()
            gate.set()
    assert ends == [1012]


async def test_another_protocol_gets_the_error_of_a_thread_as_it_was_raised(
    layer: InMemoryChannelLayer,
) -> None:
    class Worker(SyncConsumer):
        def job_run(self, event: Event) -> None:
            raise LookupError("no such job")

    client = ApplicationCommunicator(Worker, {"type": "telegram"})
    await client.send_input({"type": "job.run"})
    with pytest.raises(LookupError, match="no such job"):
        await client.wait()


async def test_channels_layer_calls_work_in_a_handler(layer: InMemoryChannelLayer) -> None:
    class Chat(WebsocketConsumer):
        def connect(self) -> None:
            async_to_sync(self.channel_layer.group_add)("room", self.channel_name)
            self.accept()

        def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
            message: dict[str, Any] = {"type": "chat.message", "text": text_data}
            async_to_sync(self.channel_layer.group_send)("room", message)

        def disconnect(self, code: int) -> None:
            async_to_sync(self.channel_layer.group_discard)("room", self.channel_name)

        def chat_message(self, message: Message) -> None:
            self.send(message["text"])

    async with connected(Chat) as client, connected(Chat) as other:
        await client.send_to("hello")
        for reader in client, other:
            assert await reader.receive_from() == "hello"
    assert_nothing_left(layer, "room")


async def test_the_threads_see_the_prototype_state_of_their_own_connection(
    layer: InMemoryChannelLayer,
) -> None:
    class Collects(WebsocketConsumer):
        def __init__(self) -> None:
            super().__init__()
            self.seen: list[str] = []

        def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
            self.seen.append(text_data or "")
            self.send(",".join(self.seen))

    prototype = Collects()
    for name in "one", "other":
        async with WebsocketCommunicator(prototype, "/") as client:
            await client.connect()
            await client.send_to(name)
            assert await client.receive_from() == name
