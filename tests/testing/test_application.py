"""What an `ApplicationCommunicator` promises, for each way an application can behave."""

import asyncio
import gc
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

import anyio
import pytest

from asgi_notify.testing import ApplicationCommunicator
from asgi_notify.types import ASGIApp, Event, Receive, Scope, Send

pytestmark = pytest.mark.anyio

Ask = Callable[[ApplicationCommunicator], Awaitable[object]]


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    while True:
        event = await receive()
        if event["type"] == "test.end":
            return
        await send({**event, "type": "test.echo"})


async def raises_at_once(scope: Scope, receive: Receive, send: Send) -> None:
    raise LookupError("at once")


async def raises_later(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "test.first"})
    raise LookupError("later")


async def never_answers(scope: Scope, receive: Receive, send: Send) -> None:
    while True:
        await receive()


async def sleeps(scope: Scope, receive: Receive, send: Send) -> None:
    await anyio.sleep_forever()


async def ends_silently(scope: Scope, receive: Receive, send: Send) -> None:
    return


async def says_and_ends(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "test.first"})
    await send({"type": "test.last"})


async def told(app: ASGIApp) -> ApplicationCommunicator:
    """A communicator whose app has been told one thing, and has done what it does then."""
    communicator = ApplicationCommunicator(app, {"type": "test"})
    await communicator.send_input({"type": "test.go"})
    await anyio.wait_all_tasks_blocked()
    return communicator


def send(communicator: ApplicationCommunicator) -> Awaitable[object]:
    return communicator.send_input({"type": "test.more"})


def receive(communicator: ApplicationCommunicator) -> Awaitable[object]:
    return communicator.receive_output(timeout=0.02)


def receive_nothing(communicator: ApplicationCommunicator) -> Awaitable[object]:
    return communicator.receive_nothing(timeout=0.02)


def wait(communicator: ApplicationCommunicator) -> Awaitable[object]:
    return communicator.wait(timeout=0.02)


FIRST = {"type": "test.first"}
ECHO = {"type": "test.echo"}

TRUTH: list[tuple[ASGIApp, Ask, object]] = [
    (echo, send, None),
    (echo, receive, ECHO),
    (echo, receive_nothing, False),
    (echo, wait, TimeoutError),
    (raises_at_once, send, LookupError),
    (raises_at_once, receive, LookupError),
    (raises_at_once, receive_nothing, LookupError),
    (raises_at_once, wait, LookupError),
    (raises_later, send, LookupError),
    (raises_later, receive, FIRST),
    (raises_later, receive_nothing, False),
    (raises_later, wait, LookupError),
    (never_answers, send, None),
    (never_answers, receive, TimeoutError),
    (never_answers, receive_nothing, True),
    (never_answers, wait, TimeoutError),
    (ends_silently, send, None),
    (ends_silently, receive, TimeoutError),
    (ends_silently, receive_nothing, True),
    (ends_silently, wait, None),
    (says_and_ends, send, None),
    (says_and_ends, receive, FIRST),
    (says_and_ends, receive_nothing, False),
    (says_and_ends, wait, None),
]


@pytest.mark.parametrize(
    ("app", "ask", "outcome"),
    [
        pytest.param(*row, id=f"{getattr(row[0], '__name__', '')}-{row[1].__name__}")
        for row in TRUTH
    ],
)
async def test_each_call_tells_what_the_app_did(app: ASGIApp, ask: Ask, outcome: object) -> None:
    communicator = await told(app)
    if isinstance(outcome, type) and issubclass(outcome, BaseException):
        with pytest.raises(outcome):
            await ask(communicator)
    else:
        assert await ask(communicator) == outcome
    communicator.stop(exceptions=False)


async def test_outputs_come_before_the_exception_that_followed_them() -> None:
    communicator = await told(raises_later)
    assert await communicator.receive_output() == FIRST
    for _ in range(2):
        with pytest.raises(LookupError, match="later"):
            await communicator.receive_output()


@pytest.mark.parametrize("ask", [receive, wait])
async def test_a_wait_that_times_out_leaves_the_app_alive(ask: Ask) -> None:
    communicator = ApplicationCommunicator(echo, {"type": "test"})
    with pytest.raises(TimeoutError, match=r"still runs and waits in receive\(\)"):
        await ask(communicator)
    await communicator.send_input({"type": "test.hello"})
    assert await communicator.receive_output() == ECHO
    await communicator.send_input({"type": "test.end"})
    await communicator.wait()


@pytest.mark.parametrize(
    ("app", "sentence"),
    [
        (sleeps, r"came within 0.02 s: .*is busy, 1 input\(s\) unread.*nothing\. It can be asked"),
        (ends_silently, r"no output will come: the application has ended.*sent was: nothing"),
    ],
)
async def test_an_output_that_does_not_come_is_explained(app: ASGIApp, sentence: str) -> None:
    communicator = await told(app)
    with pytest.raises(TimeoutError, match=sentence):
        await communicator.receive_output(timeout=0.02)


async def test_an_app_that_does_not_end_is_explained() -> None:
    communicator = await told(echo)
    with pytest.raises(TimeoutError, match=r"did not end within 0 s: .*sent was: test\.echo\. It"):
        await communicator.wait(timeout=0)


async def test_no_output_is_waited_for_from_an_app_that_has_ended() -> None:
    communicator = ApplicationCommunicator(ends_silently, {"type": "test"})
    with anyio.fail_after(20), pytest.raises(TimeoutError, match="has ended"):
        await communicator.receive_output(timeout=None)


async def test_a_cancelled_wait_loses_no_output() -> None:
    communicator = ApplicationCommunicator(echo, {"type": "test"})
    with anyio.move_on_after(0.01):
        await communicator.receive_output(timeout=None)
    for number in range(3):
        await communicator.send_input({"type": "test.hello", "number": number})
    with anyio.CancelScope() as scope:
        scope.cancel()
        await communicator.wait(timeout=None)
    received = [(await communicator.receive_output())["number"] for _ in range(3)]
    assert received == [0, 1, 2]
    communicator.stop()


async def test_the_scope_can_be_added_to_before_the_first_call() -> None:
    async def tells_user(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "test.user", "user": scope["user"]})

    communicator = ApplicationCommunicator(tells_user, {"type": "test"})
    communicator.scope["user"] = "ada"
    assert await communicator.receive_output() == {"type": "test.user", "user": "ada"}


async def test_context_variables_of_the_test_do_not_reach_the_app() -> None:
    leak: ContextVar[str] = ContextVar("leak", default="clean")
    leak.set("leaked")

    async def tells_context(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "test.context", "leak": leak.get()})

    communicator = ApplicationCommunicator(tells_context, {"type": "test"})
    assert (await communicator.receive_output())["leak"] == "clean"


async def test_stop_cancels_the_app_and_can_be_called_at_any_time() -> None:
    steps = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send({"type": "test.ready"})
            await receive()
        finally:
            steps.append("cleaned up")

    communicator = ApplicationCommunicator(app, {"type": "test"})
    communicator.stop()
    await communicator.receive_output()
    communicator.stop()
    communicator.stop()
    await communicator.wait()
    communicator.stop()
    assert steps == ["cleaned up"]


async def test_stop_raises_what_the_app_has_ended_with_unless_told_not_to() -> None:
    communicator = await told(raises_at_once)
    communicator.stop(exceptions=False)
    with pytest.raises(LookupError):
        communicator.stop()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_an_asyncio_app_can_wait_while_it_cleans_up() -> None:
    steps = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await receive()
        finally:
            await asyncio.sleep(0)
            steps.append("cleaned up")

    async with ApplicationCommunicator(app, {"type": "test"}) as communicator:
        assert await communicator.receive_nothing(timeout=0.01)
    assert steps == ["cleaned up"]


async def test_leaving_the_block_ends_the_app() -> None:
    async with ApplicationCommunicator(sleeps, {"type": "test"}) as communicator:
        assert await communicator.receive_nothing(timeout=0.01)
    await communicator.wait(timeout=0)


async def test_a_cancelled_block_still_waits_for_the_end_of_the_app() -> None:
    async def tidies(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.01)

    communicator = await told(tidies)
    with anyio.CancelScope() as scope:
        async with communicator:
            scope.cancel()
            await anyio.sleep_forever()
    await communicator.wait(timeout=0)


async def test_leaving_the_block_before_the_start_starts_nothing() -> None:
    async with ApplicationCommunicator(raises_at_once, {"type": "test"}):
        pass


async def test_leaving_the_block_raises_an_exception_that_no_call_has_raised() -> None:
    with pytest.raises(LookupError, match="later"):
        async with await told(raises_later):
            pass


async def test_leaving_the_block_does_not_raise_an_exception_twice() -> None:
    async with await told(raises_at_once) as communicator:
        with pytest.raises(LookupError):
            await communicator.wait()


async def test_an_error_of_the_test_is_not_hidden_by_one_of_the_app() -> None:
    with pytest.raises(ZeroDivisionError):
        async with await told(raises_later):
            raise ZeroDivisionError


async def test_leaving_the_block_tells_of_an_app_that_ignores_its_cancellation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("asgi_notify.testing.application._PATIENCE", 0.02)
    release = anyio.Event()

    async def stubborn(scope: Scope, receive: Receive, send: Send) -> None:
        with anyio.CancelScope(shield=True):
            while not release.is_set():
                try:
                    await release.wait()
                except asyncio.CancelledError:
                    continue

    communicator = await told(stubborn)
    with pytest.raises(TimeoutError, match="ignores its cancellation"):
        async with communicator:
            pass
    release.set()
    await communicator.wait()


async def test_a_dropped_communicator_cancels_its_app() -> None:
    ended = anyio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await receive()
        finally:
            ended.set()

    communicator = ApplicationCommunicator(app, {"type": "test"})
    assert await communicator.receive_nothing(timeout=0.01)
    del communicator
    gc.collect()
    with anyio.fail_after(20):
        await ended.wait()


async def test_an_app_that_refers_to_its_communicator_is_not_collected_half_way(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def start() -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            assert communicator.scope is scope

        communicator = ApplicationCommunicator(app, {"type": "test"})
        assert await communicator.receive_nothing(timeout=0.01)

    await start()
    gc.collect()
    await anyio.wait_all_tasks_blocked()
    assert caplog.records == []


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_stop_is_harmless_once_the_loop_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    def is_closed(*args: object) -> None:
        raise RuntimeError("Event loop is closed")

    with monkeypatch.context() as patch:
        patch.setattr(asyncio.get_running_loop(), "call_soon_threadsafe", is_closed)
        communicator = await told(sleeps)
    communicator.stop()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_loop_that_ends_leaves_nothing_behind(
    backend: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def abandon(app: ASGIApp) -> ApplicationCommunicator:
        communicator = ApplicationCommunicator(app, {"type": "test"})
        await communicator.send_input({"type": "test.go"})
        await anyio.wait_all_tasks_blocked()
        return communicator

    for app in (sleeps, raises_at_once, says_and_ends):
        communicator = anyio.run(abandon, app, backend=backend)
        communicator.stop(exceptions=False)
        del communicator
    gc.collect()
    assert caplog.records == []


async def test_any_exception_is_kept_for_the_test() -> None:
    async def leaves(scope: Scope, receive: Receive, send: Send) -> None:
        raise SystemExit(3)

    communicator = ApplicationCommunicator(leaves, {"type": "test"})
    with pytest.raises(SystemExit):
        await communicator.wait()


async def test_an_app_that_sends_without_end_is_held_back() -> None:
    async def floods(scope: Scope, receive: Receive, send: Send) -> None:
        for number in range(20_000):
            await send({"type": "test.number", "number": number})

    communicator = ApplicationCommunicator(floods, {"type": "test"})
    with pytest.raises(TimeoutError, match=r"still runs and waits in send\(\)"):
        await communicator.wait(timeout=0.1)
    for number in range(20_000):
        assert (await communicator.receive_output())["number"] == number
    await communicator.wait()


async def test_the_app_goes_on_after_a_send_until_it_waits() -> None:
    steps = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "test.ready"})
        steps.append("after the send")
        await receive()

    async with ApplicationCommunicator(app, {"type": "test"}) as communicator:
        await communicator.receive_output()
        assert steps == ["after the send"]


async def test_receive_nothing_waits_at_least_one_interval() -> None:
    async def speaks_up(scope: Scope, receive: Receive, send: Send) -> None:
        await anyio.sleep(0.02)
        await send({"type": "test.late"})

    async with ApplicationCommunicator(speaks_up, {"type": "test"}) as communicator:
        assert await communicator.receive_nothing(timeout=0)
        assert not await communicator.receive_nothing(timeout=0.001, interval=5)
        assert await communicator.receive_output() == {"type": "test.late"}


async def test_a_consumer_class_is_made_an_app() -> None:
    class Consumer:
        @classmethod
        def as_asgi(cls) -> ASGIApp:
            return says_and_ends

    communicator = ApplicationCommunicator(Consumer, {"type": "test"})
    await communicator.send_input({"type": "test.go"})
    assert await communicator.receive_output() == FIRST


@pytest.mark.parametrize(
    ("application", "scope", "sentence"),
    [
        (None, {"type": "test"}, "must be called with"),
        ("module:app", {"type": "test"}, "'module:app' cannot be"),
        (echo, "/path/", "must be a dict, such as"),
    ],
)
def test_what_cannot_run_is_refused_when_built(application: Any, scope: Any, sentence: str) -> None:
    with pytest.raises(TypeError, match=sentence):
        ApplicationCommunicator(application, scope)


@pytest.mark.parametrize("message", ["test.go", {}, {"type": 1}, None])
async def test_an_input_without_a_type_is_refused(message: Any) -> None:
    communicator = ApplicationCommunicator(echo, {"type": "test"})
    with pytest.raises(TypeError, match="an input is a dict with a 'type'"):
        await communicator.send_input(message)


async def test_a_callable_that_is_no_app_is_an_error_of_the_app() -> None:
    def no_app(scope: Scope, receive: Receive, send: Send) -> Event:
        return {}

    communicator = ApplicationCommunicator(no_app, {"type": "test"})  # type: ignore[arg-type]  # the point
    with pytest.raises(TypeError, match="await"):
        await communicator.receive_output()
