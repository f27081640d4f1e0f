"""A handler cannot tell whether it is run by a step or by its task; nor can those around it.

Each test runs on every loop that steps are made on, and on the plain path too.
"""

import asyncio
import contextlib
import logging
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextvars import ContextVar
from math import inf
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from asgi_notify import (
    AsyncWebsocketConsumer,
    ConfigurationError,
    InMemoryChannelLayer,
    Message,
    StopConsumer,
    WebsocketConsumer,
)
from asgi_notify.consumers import stepping
from asgi_notify.consumers.stepping import STEPS, TURN
from tests.consumers.harness import CONNECT, Wire, assert_nothing_left, left, text

pytestmark = pytest.mark.anyio

Call = Callable[["Doer"], Any]

name: ContextVar[str] = ContextVar("name", default="nobody")


# The loops.


def eager_loop() -> asyncio.AbstractEventLoop:
    """One whose tasks begin where they are made."""
    loop = asyncio.new_event_loop()
    loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined,unused-ignore]
    return loop


def has_uvloop() -> bool:
    try:
        import uvloop  # noqa: F401
    except ImportError:
        return False
    return True


OPTIONS: dict[str, dict[str, Any]] = {
    "asyncio": {},
    "debug": {"debug": True},
    "eager": {"loop_factory": eager_loop},
    "plain": {},
    "uvloop": {"use_uvloop": True},
}


STEPPING_WAYS = [
    "asyncio",
    "debug",
    *(["eager"] if sys.version_info >= (3, 12) else []),  # what older ones do not have
    pytest.param("uvloop", marks=pytest.mark.skipif(not has_uvloop(), reason="no uvloop")),
]


@pytest.fixture(params=[*STEPPING_WAYS, "plain"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How handlers are run: by steps on one of the loops, or on the plain path."""
    monkeypatch.setenv("ASGI_NOTIFY_STEPPING", "0" if request.param == "plain" else "1")
    return str(request.param)


@pytest.fixture
def anyio_backend(way: str) -> tuple[str, dict[str, Any]]:
    return "asyncio", OPTIONS[way]


@pytest.fixture
def by_steps(way: str) -> bool:
    return way != "plain"


def in_step() -> bool:
    """Whether the running code is in a step: its task is the current one, and sleeps."""
    waiter = getattr(asyncio.current_task(), "_fut_waiter", None)
    return isinstance(waiter, stepping._Sleep)


# The consumer.


class Doer(AsyncWebsocketConsumer):
    """Does what the message brings: a function of the consumer."""

    groups = ("all",)

    def __init__(self, life: "Life") -> None:
        super().__init__()
        self.life = life

    async def connect(self) -> None:
        self.life.consumer = self
        await self.accept()

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        self.life.log.append(f"text {text_data}")

    def do(self, message: Message) -> Any:
        return message["call"](self)

    async def disconnect(self, code: int) -> None:
        self.life.log.append(f"disconnect {code}")


class Life:
    """One connection, and the task of its own that it runs in.

    Attributes:
        log: what the consumer has done.
        name: what the context said when the application had ended.
    """

    def __init__(self, app: type[Doer]) -> None:
        self.consumer: Doer | None = None
        self.number = 0
        self.log: list[str] = []
        self.name = ""
        self.wire = Wire(CONNECT)
        self.task = asyncio.create_task(self._run(app.as_asgi(life=self)))

    async def _run(self, app: Doer) -> None:
        name.set("consumer")
        try:
            await self.wire.run(app)
        finally:
            self.name = name.get()

    @property
    def is_idle(self) -> bool:
        """Whether it is open, and its task waits."""
        waiter = getattr(self.task, "_fut_waiter", None)
        return bool(self.wire.sent) and waiter is not None and not waiter.done()


async def until(condition: Callable[[], object]) -> None:
    with anyio.fail_after(20):
        while not condition():
            await checkpoint()


@contextlib.asynccontextmanager
async def alive(count: int = 1, app: type[Doer] = Doer) -> AsyncIterator[list[Life]]:
    """Idle connections, which end with the block; not one of them fails."""
    lives = [Life(app) for _ in range(count)]
    await until(lambda: all(life.is_idle for life in lives))
    try:
        yield lives
    finally:
        for life in lives:
            life.wire.tell(left())
        with anyio.fail_after(20):
            await asyncio.wait([life.task for life in lives])
    errors = [life.task.exception() for life in lives if not life.task.cancelled()]
    assert [error for error in errors if isinstance(error, Exception)] == []


def do(call: Call) -> Message:
    return {"type": "do", "call": call}


def note(what: str) -> Message:
    async def call(consumer: Doer) -> None:
        consumer.life.log.append(what)

    return do(call)


async def test_an_idle_consumer_is_served_by_a_step(
    layer: InMemoryChannelLayer, by_steps: bool
) -> None:
    steps: list[bool] = []

    async def call(consumer: Doer) -> None:
        steps.append(in_step())
        await checkpoint()
        steps.append(in_step())

    async with alive():
        await layer.group_send("all", do(call))
        await until(lambda: len(steps) == 2)
    assert steps == [by_steps, False]  # what has to wait is the task's own


# Whose context.


async def test_handlers_run_in_the_consumers_own_context(
    layer: InMemoryChannelLayer, by_steps: bool
) -> None:
    seen: list[str] = []

    async def first(consumer: Doer) -> None:
        seen.append(name.get())
        name.set("first")

    async def second(consumer: Doer) -> None:
        seen.append(name.get())
        token = name.set("second")
        await checkpoint()
        seen.append(name.get())
        name.reset(token)  # ValueError in any other context
        name.set("second, later")

    async def third(consumer: Doer) -> None:
        assert in_step() == by_steps
        seen.append(name.get())
        name.set("third")

    name.set("sender")
    async with alive() as [life]:
        for call in (first, second, third):
            await layer.group_send("all", do(call))
            await until(lambda: life.is_idle)
    assert seen == ["consumer", "first", "second", "second, later"]
    assert life.name == "third"  # whoever runs the application sees it
    assert name.get() == "sender"


async def test_contexts_of_consumers_are_apart(layer: InMemoryChannelLayer) -> None:
    seen: list[str] = []

    async def call(consumer: Doer) -> None:
        seen.append(name.get())
        name.set(consumer.channel_name)

    async with alive(3) as lives:
        for _ in range(2):
            await layer.group_send("all", do(call))
        await until(lambda: len(seen) == 6)
        channels = sorted(life.consumer.channel_name for life in lives if life.consumer)
    assert sorted(seen) == sorted(["consumer"] * 3 + channels)


# Whose task.


async def test_the_current_task_is_the_connections(layer: InMemoryChannelLayer) -> None:
    seen: list[tuple[Any, int]] = []

    async def call(consumer: Doer) -> None:
        for _ in range(2):
            seen.append((asyncio.current_task(), anyio.get_current_task().id))
            await checkpoint()

    async with alive() as [life]:
        await layer.group_send("all", do(call))
        await until(lambda: len(seen) == 2)
    assert seen == [(life.task, id(life.task))] * 2


async def test_there_is_no_current_task_between_the_steps(layer: InMemoryChannelLayer) -> None:
    seen: list[Any] = []

    async def call(consumer: Doer) -> None:
        asyncio.get_running_loop().call_soon(lambda: seen.append(asyncio.current_task()))

    async with alive(2):
        await layer.group_send("all", do(call))
        await until(lambda: len(seen) == 2)
    assert seen == [None, None]


async def test_a_task_begun_in_a_handler_gets_the_handlers_context(
    layer: InMemoryChannelLayer,
) -> None:
    seen: list[Any] = []

    async def look() -> None:
        seen.extend((name.get(), asyncio.current_task()))

    async def call(consumer: Doer) -> None:
        name.set("handler")
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(look())
        seen.append(task)

    async with alive():
        await layer.group_send("all", do(call))
        await until(lambda: len(seen) == 3)
    assert seen[0] == "handler"
    assert seen[1] is seen[2]


# Scopes and timeouts.


@contextlib.asynccontextmanager
async def scope_of(kind: str, seconds: float) -> AsyncIterator[None]:
    if kind == "move_on_after":
        with anyio.move_on_after(seconds) as scope:
            yield
        if scope.cancelled_caught:
            raise TimeoutError
    elif kind == "fail_after":
        with anyio.fail_after(seconds):
            yield
    elif kind == "timeout":
        async with asyncio.timeout(seconds):
            yield
    elif kind == "anyio group":
        with anyio.fail_after(seconds):
            async with anyio.create_task_group() as group:
                group.start_soon(checkpoint)
                yield
    else:
        async with asyncio.timeout(seconds), asyncio.TaskGroup() as tasks:
            tasks.create_task(checkpoint())
            yield


KINDS = ["move_on_after", "fail_after", "timeout", "anyio group", "TaskGroup"]


def assert_no_scope_is_left() -> None:
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    assert anyio.current_effective_deadline() == inf


@pytest.mark.parametrize("waits", [0, 1, 3])
@pytest.mark.parametrize("kind", KINDS)
async def test_a_scope_in_a_handler_ends_with_it(
    layer: InMemoryChannelLayer, kind: str, waits: int
) -> None:
    ended: list[bool] = []

    async def call(consumer: Doer) -> None:
        async with scope_of(kind, 60):
            for _ in range(waits):
                await checkpoint()
            if kind in ("move_on_after", "fail_after", "anyio group"):
                assert anyio.current_effective_deadline() < inf
        assert_no_scope_is_left()
        ended.append(True)

    async with alive() as [life]:
        for _ in range(2):
            await layer.group_send("all", do(call))
        await until(lambda: len(ended) == 2)
        await layer.group_send("all", note("after"))
        await until(lambda: life.log)
    assert life.log == ["after", "disconnect 1001"]


@pytest.mark.parametrize("seconds", [0, 0.001])
@pytest.mark.parametrize("kind", KINDS)
async def test_a_timeout_in_a_handler_fires(
    layer: InMemoryChannelLayer, kind: str, seconds: float
) -> None:
    ended: list[str] = []

    async def call(consumer: Doer) -> None:
        try:
            async with scope_of(kind, seconds):
                await anyio.sleep_forever()
        except TimeoutError:
            ended.append("timed out")
        assert_no_scope_is_left()

    async with alive() as [life]:
        await layer.group_send("all", do(call))
        await until(lambda: ended)
        await layer.group_send("all", note("after"))
        await until(lambda: life.log)
    assert ended == ["timed out"]
    assert life.log == ["after", "disconnect 1001"]


async def test_a_timeout_that_fires_before_the_task_goes_on_is_its_scopes(
    layer: InMemoryChannelLayer,
) -> None:
    ended: list[str] = []

    async def call(consumer: Doer) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(None) as timeout:
                loop.call_soon(timeout.reschedule, 0)
                loop.call_soon(lambda: loop.call_soon(ended.append, "a turn later"))
                await anyio.sleep_forever()
        except TimeoutError:
            ended.append("timed out")
        with anyio.CancelScope() as scope:
            loop.call_soon(scope.cancel)
            await anyio.sleep_forever()
        ended.append(f"cancelled {scope.cancelled_caught}")
        assert_no_scope_is_left()

    async with alive():
        await layer.group_send("all", do(call))
        await until(lambda: len(ended) == 3)
    assert sorted(ended) == ["a turn later", "cancelled True", "timed out"]


async def test_a_scope_cancelled_by_its_own_handler_ends_at_the_next_await(
    layer: InMemoryChannelLayer,
) -> None:
    ended: list[bool] = []

    async def call(consumer: Doer) -> None:
        with anyio.CancelScope() as scope:  # noqa: ASYNC100
            scope.cancel()
        ended.append(scope.cancelled_caught)
        with anyio.CancelScope() as scope:
            scope.cancel()
            await anyio.sleep_forever()
        ended.append(scope.cancelled_caught)
        assert_no_scope_is_left()

    async with alive() as [life]:
        await layer.group_send("all", do(call))
        await until(lambda: len(ended) == 2)
        await layer.group_send("all", note("after"))
        await until(lambda: life.log)
    assert ended == [False, True]


@pytest.mark.parametrize("kind", ["anyio", "asyncio"])
async def test_a_group_in_a_handler_ends_with_the_error_of_its_task(
    layer: InMemoryChannelLayer, kind: str
) -> None:
    errors: list[BaseException] = []

    async def fail() -> None:
        raise LookupError("in a task")

    async def call(consumer: Doer) -> None:
        try:
            if kind == "anyio":
                async with anyio.create_task_group() as group:
                    group.start_soon(fail)
                    await anyio.sleep_forever()
            else:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(fail())
                    await anyio.sleep_forever()
        except ExceptionGroup as group_of_errors:
            errors.extend(group_of_errors.exceptions)
        assert_no_scope_is_left()

    async with alive():
        await layer.group_send("all", do(call))
        await until(lambda: errors)
    assert [type(error) for error in errors] == [LookupError]


# Cancelled between its step and the turn of its task.


def cancel_next(life: Life) -> None:
    """Cancel the connection's task when the running handler has had to wait, at once."""
    asyncio.get_running_loop().call_soon(life.task.cancel, "why")


async def cancelled_in(layer: InMemoryChannelLayer, wait: Callable[[], Awaitable[Any]]) -> Life:
    async def call(consumer: Doer) -> None:
        cancel_next(consumer.life)
        try:
            await wait()
            consumer.life.log.append("went on")
        except asyncio.CancelledError as error:
            consumer.life.log.append(f"cancelled {error.args}")
            raise

    async with alive() as [life]:
        await layer.group_send("all", do(call))
        await layer.group_send("all", note("never"))
        await until(life.task.done)
    assert life.task.cancelled()
    assert_nothing_left(layer, "all")
    return life


async def test_a_handler_cancelled_before_its_task_goes_on_is_told_where_it_waits(
    layer: InMemoryChannelLayer,
) -> None:
    for wait in (asyncio.Event().wait, checkpoint, anyio.sleep_forever):
        life = await cancelled_in(layer, wait)
        assert life.log == ["cancelled ('why',)", "disconnect 1012"], wait


async def test_what_it_awaits_is_cancelled_with_it(layer: InMemoryChannelLayer) -> None:
    future = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(asyncio.Event().wait())

    async def wait_for_future() -> None:
        await future

    async def wait_for_task() -> None:
        await task

    await cancelled_in(layer, wait_for_future)
    await cancelled_in(layer, wait_for_task)
    assert future.cancelled()
    assert task.cancelled()


async def test_what_is_shielded_is_not_cancelled_with_it(layer: InMemoryChannelLayer) -> None:
    future = asyncio.get_running_loop().create_future()

    async def wait() -> None:
        await asyncio.shield(future)

    life = await cancelled_in(layer, wait)
    assert life.log[0].startswith("cancelled")
    assert not future.done()


async def test_a_handler_whose_wait_is_over_is_cancelled_all_the_same(
    layer: InMemoryChannelLayer,
) -> None:
    loop = asyncio.get_running_loop()

    async def call(consumer: Doer) -> None:
        future = loop.create_future()
        loop.call_soon(future.set_result, None)
        cancel_next(consumer.life)
        try:
            await future
        except asyncio.CancelledError:
            consumer.life.log.append("cancelled")
            raise

    async with alive() as [life]:
        await layer.group_send("all", do(call))
        await until(life.task.done)
    assert life.log == ["cancelled", "disconnect 1012"]


async def test_a_handler_may_clean_up_and_even_go_on(layer: InMemoryChannelLayer) -> None:
    async def call(consumer: Doer) -> None:
        cancel_next(consumer.life)
        try:
            await anyio.sleep_forever()
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            consumer.life.log.append("cleaned up")
            with contextlib.suppress(asyncio.CancelledError):
                cancel_next(consumer.life)
                await asyncio.Event().wait()
            consumer.life.task.uncancel()
            consumer.life.task.uncancel()

    async with alive() as [life]:
        await layer.group_send("all", do(call))
        await layer.group_send("all", note("after"))
        await until(lambda: "after" in life.log)
    assert life.log == ["cleaned up", "after", "disconnect 1001"]


async def test_a_scope_around_the_connection_reaches_a_handler_at_each_turn(
    layer: InMemoryChannelLayer,
) -> None:
    for turns in range(5):
        wire = Wire(CONNECT)
        begun = anyio.Event()
        log: list[str] = []

        class Waits(AsyncWebsocketConsumer):
            groups = ("waiting",)

            async def do(self, message: Message) -> None:
                begun.set()  # noqa: B023
                try:
                    await anyio.sleep_forever()
                finally:
                    log.append("cancelled")  # noqa: B023

            async def disconnect(self, code: int) -> None:
                await checkpoint()
                log.append("disconnect")  # noqa: B023

        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(wire.run, Waits())
                await until(lambda: wire.sent)  # noqa: B023
                await layer.group_send("waiting", {"type": "do"})
                for _ in range(turns):
                    await checkpoint()
                tasks.cancel_scope.cancel()
        assert log == (["cancelled"] if begun.is_set() else []) + ["disconnect"]
        assert_nothing_left(layer, "waiting")


# Who awaits what: the same future, from several handlers.


@pytest.mark.parametrize("what", ["future", "task"])
async def test_several_handlers_may_await_the_same(layer: InMemoryChannelLayer, what: str) -> None:
    answer = asyncio.get_running_loop().create_future()
    shared = asyncio.ensure_future(answer) if what == "future" else asyncio.create_task(get(answer))
    got: list[int] = []

    async def call(consumer: Doer) -> None:
        got.append(await shared)

    async with alive(STEPS + 4) as lives:
        await layer.group_send("all", do(call))
        for _ in range(10):
            await checkpoint()
        answer.set_result(42)
        await until(lambda: len(got) == len(lives) or any(life.task.done() for life in lives))
    assert got == [42] * (STEPS + 4)


async def get(answer: "asyncio.Future[int]") -> int:
    return await answer


# Whose errors.


def failures(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.levelno >= logging.ERROR]


async def fails(consumer: Doer) -> None:
    raise LookupError("a mistake")


async def fails_later(consumer: Doer) -> None:
    await checkpoint()
    raise LookupError("a mistake")


def fails_at_once(consumer: Doer) -> None:
    raise LookupError("a mistake")


def stops_iteration(consumer: Doer) -> None:
    raise StopIteration("from a plain function")


async def awaits_the_cancelled(consumer: Doer) -> None:
    raise asyncio.CancelledError  # as of something that it awaited


@pytest.mark.parametrize(
    "call", [fails, fails_later, fails_at_once, stops_iteration, awaits_the_cancelled]
)
async def test_an_error_is_the_consumers_and_not_the_senders(
    layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture, call: Call
) -> None:
    async with alive(2) as [first, second]:
        assert first.consumer is not None
        await layer.group_add("one", first.consumer.channel_name)
        assert (await layer.group_send("one", do(call))).reached == 1
        await layer.group_send("one", note("never"))
        await layer.group_send("all", note("goes on"))
        await until(lambda: first.wire.close and second.log)
        with anyio.fail_after(20):
            await asyncio.wait([first.task])
    assert first.wire.close is not None
    assert first.wire.close["code"] == 1011
    assert first.log == ["disconnect 1011"]
    assert second.log == ["goes on", "disconnect 1001"]
    assert len(failures(caplog)) == 1
    assert "do failed" in failures(caplog)[0]


async def test_an_error_is_logged_even_where_its_task_is_cancelled_in_the_same_turn(
    layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    async def call(consumer: Doer) -> None:
        cancel_next(consumer.life)
        raise LookupError("a mistake")

    async with alive() as [life]:
        await layer.group_send("all", do(call))
        await until(life.task.done)
    assert [line for line in failures(caplog) if "do failed" in line]
    assert len(failures(caplog)) == 1
    assert life.log in (["disconnect 1011"], ["disconnect 1012"])


async def test_stop_consumer_in_a_step_ends_the_connection_quietly(
    layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    async def call(consumer: Doer) -> None:
        raise StopConsumer

    async with alive() as [life]:
        await layer.group_send("all", do(call))
        await until(life.task.done)
    assert life.log == ["disconnect 1000"]
    assert failures(caplog) == []


class Fatal(BaseException):
    """As a KeyboardInterrupt, which would end the loop of the test, too."""


@pytest.mark.parametrize("later", [False, True])
async def test_an_error_that_is_no_exception_goes_to_whoever_runs_the_application(
    layer: InMemoryChannelLayer, later: bool
) -> None:
    async def call(consumer: Doer) -> None:
        if later:
            await checkpoint()
        raise Fatal

    failing = Life(Doer)
    async with alive() as [life]:
        await until(lambda: failing.is_idle)
        await layer.group_send("all", do(call))
        await until(lambda: failing.task.done() and life.task.done())
        for ended in (failing, life):
            assert ended.log == ["disconnect 1006"]
            assert isinstance(ended.task.exception(), Fatal)


# No nesting, and one order.


async def test_a_handler_that_sends_runs_no_other_handler_inside(
    layer: InMemoryChannelLayer,
) -> None:
    log: list[str] = []
    running = 0

    async def inner(consumer: Doer) -> None:
        nonlocal running
        assert running == 0
        log.append(f"inner {consumer.life.number}")

    async def outer(consumer: Doer) -> None:
        nonlocal running
        assert running == 0
        running += 1
        number = consumer.life.number
        log.append(f"begin {number}")
        sent = await consumer.channel_layer.group_send("all", do(inner))
        assert sent.reached == 3
        log.append(f"end {number}")
        running -= 1

    async with alive(3) as lives:
        for number, life in enumerate(lives):
            life.number = number
        await layer.group_send("all", do(outer))
        await until(lambda: len(log) == 3 * 2 + 3 * 3)
    for number in range(3):
        begun = log.index(f"begin {number}")
        assert log[begun + 1] == f"end {number}"
        assert log.count(f"inner {number}") == 3
        assert begun < log.index(f"inner {number}")


@pytest.mark.parametrize("waits", [False, True])
async def test_messages_are_handled_in_the_order_they_came(
    layer: InMemoryChannelLayer, waits: bool
) -> None:
    gate = asyncio.Event()

    def numbered(number: int) -> Message:
        async def call(consumer: Doer) -> None:
            consumer.life.log.append(f"begin {number}")
            if waits and number == 2:
                await gate.wait()
            if number == 1:
                await consumer.send(text_data="one")
                await consumer.channel_layer.group_send("all", note("its own"))
            consumer.life.log.append(f"end {number}")

        return do(call)

    async with alive() as [life]:
        for number in range(4):
            await layer.group_send("all", numbered(number))
        for number in range(4, 6):
            await checkpoint()
            await checkpoint()
            await checkpoint()
            await layer.group_send("all", numbered(number))
        gate.set()
        await until(lambda: "end 5" in life.log)
    sent = [line for line in life.log if line.startswith("begin")]
    ended = [line for line in life.log if line.startswith("end")]
    assert sent == [f"begin {number}" for number in range(6)]
    assert ended == [f"end {number}" for number in range(6)]
    own = life.log.index("its own")
    assert life.log[own - 1 : own + 2] == ["end 3", "its own", "begin 4"]


async def test_nothing_is_handled_while_a_handler_waits(layer: InMemoryChannelLayer) -> None:
    gate = asyncio.Event()

    async def call(consumer: Doer) -> None:
        await gate.wait()
        consumer.life.log.append("waited")

    async with alive() as [life]:
        await layer.group_send("all", do(call))
        await anyio.wait_all_tasks_blocked()
        life.wire.tell(text("from the client"))
        await layer.group_send("all", note("behind"))
        await anyio.wait_all_tasks_blocked()
        assert life.log == []
        gate.set()
        await until(lambda: len(life.log) == 3)
    assert life.log[0] == "waited"
    assert sorted(life.log[1:3]) == ["behind", "text from the client"]


async def test_the_clients_events_are_served_by_steps_too(
    layer: InMemoryChannelLayer, by_steps: bool
) -> None:
    steps: list[bool] = []

    class Notes(Doer):
        async def receive(
            self, text_data: str | None = None, bytes_data: bytes | None = None
        ) -> None:
            steps.append(in_step())

    async with alive(app=Notes) as [life]:
        life.wire.tell(text("hello"))
        await until(lambda: steps)
    assert steps == [by_steps]


# The loop is for everybody.


class Ticker:
    """Counts the turns of the loop, and what was handled in each."""

    def __init__(self, handled: list[Any]) -> None:
        self.handled = handled
        self.before = 0
        self.per_turn: list[int] = []
        self._loop = asyncio.get_running_loop()
        self._handle = self._loop.call_soon(self._tick)

    def _tick(self) -> None:
        self.per_turn.append(len(self.handled) - self.before)
        self.before = len(self.handled)
        self._handle = self._loop.call_soon(self._tick)

    def stop(self) -> None:
        self._handle.cancel()


async def test_a_turn_of_the_loop_makes_a_few_steps(
    layer: InMemoryChannelLayer, by_steps: bool
) -> None:
    handled: list[Doer] = []

    async def call(consumer: Doer) -> None:
        handled.append(consumer)

    count = 2 * STEPS + 3
    async with alive(count):
        ticker = Ticker(handled)
        await layer.group_send("all", do(call))
        assert handled == []  # the sender goes on first
        await until(lambda: len(handled) == count)
        await checkpoint()
        ticker.stop()
    if by_steps:
        assert [number for number in ticker.per_turn if number] == [STEPS, STEPS, 3]
    assert len(set(handled)) == count


async def test_a_flood_lets_others_have_their_turn(layer: InMemoryChannelLayer) -> None:
    handled: list[int] = []
    is_over = False

    async def again(consumer: Doer) -> None:
        handled.append(1)
        if not is_over:
            await consumer.channel_layer.send(consumer.channel_name, do(again))

    async with alive():
        ticker = Ticker(handled)
        await layer.group_send("all", do(again))
        await until(lambda: len(handled) > 5 * TURN)
        is_over = True
        ticker.stop()
    assert max(ticker.per_turn) <= TURN + 1


async def test_who_waits_for_all_tasks_to_be_blocked_waits_for_steps(
    layer: InMemoryChannelLayer,
) -> None:
    async with alive(3 * STEPS) as lives:
        await layer.group_send("all", note("done"))
        await anyio.wait_all_tasks_blocked()
        assert [life.log for life in lives] == [["done"]] * len(lives)


# Whoever is cancelled between a message and its step.


async def test_a_sender_that_is_cancelled_has_sent(layer: InMemoryChannelLayer) -> None:
    async def send() -> None:
        await layer.group_send("all", note("sent"))
        await anyio.sleep_forever()

    async with alive(STEPS + 1) as lives:
        sender = asyncio.create_task(send())
        await until(lambda: getattr(sender, "_fut_waiter", None))
        sender.cancel()
        await asyncio.wait([sender])
        await until(lambda: all(life.log for life in lives))
    assert sender.cancelled()


async def test_a_handler_may_cancel_its_sender(layer: InMemoryChannelLayer) -> None:
    async def send() -> None:
        await layer.group_send("all", do(call))
        await anyio.sleep_forever()

    async def call(consumer: Doer) -> None:
        sender.cancel()
        consumer.life.log.append("cancelled the sender")

    async with alive() as [life]:
        sender = asyncio.create_task(send())
        await until(sender.done)
    assert sender.cancelled()
    assert life.log == ["cancelled the sender", "disconnect 1001"]


async def test_a_consumer_that_is_cancelled_before_its_step_handles_no_more(
    layer: InMemoryChannelLayer,
) -> None:
    async with alive(3) as lives:
        await layer.group_send("all", note("message"))
        lives[1].task.cancel()
        await until(lives[1].task.done)
        await until(lambda: lives[0].log and lives[2].log)
    assert lives[1].task.cancelled()
    assert lives[1].log == ["disconnect 1012"]
    assert lives[0].log == lives[2].log == ["message", "disconnect 1001"]
    assert_nothing_left(layer, "all")


async def test_a_handler_may_cancel_another_consumer_whose_step_is_due(
    layer: InMemoryChannelLayer,
) -> None:
    async with alive(2) as lives:

        async def call(consumer: Doer) -> None:
            consumer.life.log.append("first")
            next(life for life in lives if life is not consumer.life).task.cancel()

        await layer.group_send("all", do(call))
        await until(lambda: any(life.task.done() for life in lives))
    assert sorted(life.log[0] for life in lives) == ["disconnect 1012", "first"]


@pytest.mark.parametrize("waits", [False, True])
async def test_a_handler_may_cancel_its_own_task(layer: InMemoryChannelLayer, waits: bool) -> None:
    async def call(consumer: Doer) -> None:
        consumer.life.task.cancel("why")
        try:
            if waits:
                await asyncio.Event().wait()
            consumer.life.log.append("ended")
        except asyncio.CancelledError as error:
            consumer.life.log.append(f"cancelled {error.args}")
            raise

    async with alive() as [life]:
        await layer.group_send("all", do(call))
        await until(life.task.done)
    assert life.task.cancelled()
    assert life.log == ["cancelled ('why',)" if waits else "ended", "disconnect 1012"]


# What a handler may be.


async def test_a_handler_may_be_no_coroutine_function(layer: InMemoryChannelLayer) -> None:
    class Later:
        def __await__(self) -> Iterator[None]:
            yield
            log.append("awaited")

    loop = asyncio.get_running_loop()
    log: list[str] = []
    future = loop.create_future()
    loop.call_soon(future.set_result, None)

    def later(consumer: Doer) -> Later:
        return Later()

    def future_of(consumer: Doer) -> "asyncio.Future[None]":
        return future

    async with alive() as [life]:
        for call in (later, future_of):
            await layer.group_send("all", do(call))
        await layer.group_send("all", note("after"))
        await until(lambda: life.log)
    assert log == ["awaited"]
    assert life.log == ["after", "disconnect 1001"]


# Loops that end.


def test_a_loop_may_end_with_steps_to_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ASGI_NOTIFY_STEPPING", raising=False)
    code = """
import asyncio, os
from asgi_notify import AsyncWebsocketConsumer, InMemoryChannelLayer
from tests.consumers.harness import CONNECT, Wire

layer, handled = InMemoryChannelLayer(), []

class Notes(AsyncWebsocketConsumer):
    groups = ("all",)
    async def do(self, message):
        handled.append(message["what"])

async def live(count, turns):
    wires = [Wire(CONNECT) for _ in range(count)]
    app = Notes.as_asgi(channel_layer=layer)
    tasks = [asyncio.create_task(wire.run(app)) for wire in wires]
    while not all(wire.sent for wire in wires):
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    sent = await layer.group_send("all", {"type": "do", "what": turns})
    assert sent.reached == count, sent
    for _ in range(turns):
        await asyncio.sleep(0)
    return tasks

loop = asyncio.new_event_loop()
left_behind = loop.run_until_complete(live(100, 0))
loop.close()
assert 0 < len(handled) < 100, handled
handled.clear()
asyncio.run(live(3, 2))
assert handled == [2, 2, 2], handled
print("end", flush=True)
os._exit(0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert done.stdout == "end\n", done.stderr
    assert done.stderr == ""


@pytest.mark.parametrize("way", STEPPING_WAYS, indirect=True)
async def test_what_breaks_off_the_steps_breaks_off_one_turn(
    monkeypatch: pytest.MonkeyPatch, layer: InMemoryChannelLayer
) -> None:
    loop = asyncio.get_running_loop()
    errors: list[str] = []
    loop.set_exception_handler(lambda loop, context: errors.append(repr(context["exception"])))
    async with alive(3) as lives:
        make = stepping._Sleep.step

        def break_off(sleep: Any) -> None:
            monkeypatch.setattr(stepping._Sleep, "step", make)
            make(sleep)
            raise RuntimeError("a signal handler's")

        monkeypatch.setattr(stepping._Sleep, "step", break_off)
        await layer.group_send("all", note("done"))
        await until(lambda: all(life.log for life in lives))
    assert errors == ['RuntimeError("a signal handler\'s")']


# Where no steps are made.


@pytest.mark.parametrize("anyio_backend", ["trio"], indirect=False)
async def test_on_trio_the_task_does_it_all(
    layer: InMemoryChannelLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = await run_watched(layer, monkeypatch)
    assert seen == ["handled"]


@pytest.mark.parametrize("setting", ["0", "1", ""])
async def test_a_setting_turns_steps_off(
    layer: InMemoryChannelLayer, monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    monkeypatch.setenv("ASGI_NOTIFY_STEPPING", setting)
    seen = await run_watched(layer, monkeypatch)
    assert seen == (["handled"] if setting == "0" else ["sleep", "handled"])


async def test_steps_begin_and_end_the_handlers_of_synchronous_consumers(
    layer: InMemoryChannelLayer, monkeypatch: pytest.MonkeyPatch, by_steps: bool
) -> None:
    monkeypatch.delenv("ASGI_NOTIFY_SYNC_LANE", raising=False)
    seen = await run_watched(layer, monkeypatch, is_sync=True)
    assert seen == (["sleep", "handled"] if by_steps else ["handled"])


async def run_watched(
    layer: InMemoryChannelLayer, monkeypatch: pytest.MonkeyPatch, *, is_sync: bool = False
) -> list[str]:
    """Have one message handled, and return whether a task slept for steps first."""
    seen: list[str] = []
    sleep = stepping._sleep

    async def watched(*args: Any) -> None:
        if not seen:
            seen.append("sleep")
        await sleep(*args)

    monkeypatch.setattr(stepping, "_sleep", watched)

    class Watched(AsyncWebsocketConsumer):
        groups = ("all",)

        async def do(self, message: Message) -> None:
            seen.append("handled")

    class WatchedSync(WebsocketConsumer):
        groups = ("all",)

        def do(self, message: Message) -> None:
            seen.append("handled")

    wire = Wire(CONNECT)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wire.run, WatchedSync() if is_sync else Watched())
        await until(lambda: wire.sent)
        (mailbox,) = layer.hub.attached
        # It sleeps. A thread may still be at the end of `connect` when the accept is sent.
        await until(lambda: mailbox._reader is not None and mailbox.is_empty)
        await layer.group_send("all", {"type": "do"})
        await until(lambda: "handled" in seen)
        wire.tell(left())
    return seen


async def test_a_bad_setting_is_refused(
    layer: InMemoryChannelLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASGI_NOTIFY_STEPPING", "yes")
    with pytest.raises(ConfigurationError) as caught:
        await Wire(CONNECT).run(AsyncWebsocketConsumer())
    assert str(caught.value) == "ASGI_NOTIFY_STEPPING is 1 (on) or 0 (off), not 'yes'"
    assert_nothing_left(layer)
