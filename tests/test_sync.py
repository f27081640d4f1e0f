"""How threads and event loops call each other, in every place that a publisher may stand in."""

import asyncio
import contextvars
import gc
import os
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, TypeVar

import anyio
import anyio.lowlevel
import anyio.to_thread
import asgiref.sync
import pytest

from asgi_notify import sync
from asgi_notify.exceptions import ConfigurationError, InvalidMessage, MisuseError
from asgi_notify.layers import InMemoryChannelLayer
from asgi_notify.sync import LoopRef, async_to_sync, handler_limiter, running_loop
from tests.loops import other_loop

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).resolve().parent.parent
T = TypeVar("T")

colour: contextvars.ContextVar[str] = contextvars.ContextVar("colour", default="none")


async def add(first: int, *, second: int) -> int:
    await anyio.lowlevel.checkpoint()
    return first + second


async def see_colour() -> str:
    return colour.get()


async def thread_of_loop() -> int:
    return threading.get_ident()


async def fail() -> None:
    raise LookupError("lost")


async def in_plain_thread(func: Callable[[], T]) -> T:
    """Call a function in a thread that no event loop knows of, and wait for it."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(func())
        except BaseException as error:
            future.set_exception(error)

    def start() -> T:
        thread = threading.Thread(target=run)
        thread.start()
        thread.join(10)
        return future.result(timeout=0)

    return await anyio.to_thread.run_sync(start)


async def in_worker_thread(func: Callable[[], T]) -> T:
    return await anyio.to_thread.run_sync(func)


@pytest.fixture(params=[in_worker_thread, in_plain_thread])
def in_thread(request: pytest.FixtureRequest) -> Any:
    """Where a synchronous caller stands: in a thread of the loop's, or in a strange one."""
    return request.param


# A caller in a thread.


async def test_arguments_go_in_and_the_result_comes_out(in_thread: Any) -> None:
    assert await in_thread(lambda: async_to_sync(add)(1, second=2)) == 3


async def test_an_exception_is_carried_over(in_thread: Any) -> None:
    with pytest.raises(LookupError, match="lost"):
        await in_thread(async_to_sync(fail))


async def test_context_variables_of_the_caller_are_seen(in_thread: Any) -> None:
    def caller() -> str:
        colour.set("blue")
        return async_to_sync(see_colour)()

    assert await in_thread(caller) == "blue"
    assert colour.get() == "none"


async def test_a_worker_thread_calls_its_own_loop() -> None:
    there = await in_worker_thread(async_to_sync(thread_of_loop))
    assert there == threading.get_ident()


async def test_strange_threads_share_one_loop() -> None:
    first = await in_plain_thread(async_to_sync(thread_of_loop))
    second = await in_plain_thread(async_to_sync(thread_of_loop))
    assert first == second != threading.get_ident()


async def test_no_call_makes_a_thread_of_its_own(in_thread: Any) -> None:
    def calls(count: int) -> int:
        for _ in range(count):
            async_to_sync(add)(1, second=2)
        return threading.active_count()

    first = await in_thread(partial(calls, 1))
    assert await in_thread(partial(calls, 200)) <= first


async def test_the_function_keeps_its_name() -> None:
    assert async_to_sync(see_colour).__name__ == "see_colour"


async def test_inside_a_running_loop_the_error_says_what_to_write() -> None:
    layer = InMemoryChannelLayer()
    with pytest.raises(MisuseError, match=r"write `await .*group_send\(\.\.\.\)` here"):
        async_to_sync(layer.group_send)("room", {"type": "x"})
    with pytest.raises(MisuseError, match=r"await .*partial"):
        async_to_sync(partial(add, 1))(second=2)


async def test_a_coroutine_instead_of_a_function_is_refused_without_a_warning() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(MisuseError, match=r"async_to_sync\(layer\.group_send\)\('user_42'"):
            async_to_sync(see_colour())  # type: ignore[arg-type]  # the mistake under test
        gc.collect()
    assert caught == []


async def test_what_cannot_be_called_is_refused() -> None:
    with pytest.raises(MisuseError, match="takes the async function itself"):
        async_to_sync(3)  # type: ignore[arg-type]  # the mistake under test


async def test_a_plain_function_is_refused_by_name(in_thread: Any) -> None:
    with pytest.raises(MisuseError, match="str is not async"):
        await in_thread(async_to_sync(str))  # type: ignore[arg-type]  # the mistake under test


async def test_the_thread_of_a_cancelled_handler_ends_at_its_next_call() -> None:
    begun, cancelled = threading.Event(), threading.Event()
    steps: list[str] = []

    def handler() -> None:
        begun.set()
        assert cancelled.wait(10)
        steps.append("before")
        async_to_sync(see_colour)()
        steps.append("after")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(anyio.to_thread.run_sync, handler)
        await anyio.to_thread.run_sync(begun.wait, 10)
        tasks.cancel_scope.cancel()
        cancelled.set()
    assert steps == ["before"]


# FIELD 6: publishing from wherever one stands.


class Member:
    """A consumer of a layer in the loop of the test, that notes the threads it is woken in."""

    def __init__(self, layer: InMemoryChannelLayer) -> None:
        self.layer = layer
        self.got: list[object] = []
        self.enough = anyio.Event()

    async def read(self, count: int) -> None:
        mailbox = await self.layer.attach()
        await self.layer.group_add("room", mailbox.channel)
        try:
            while len(self.got) < count:
                entry = mailbox.pop()
                if entry is None:
                    await mailbox.wait()
                else:
                    self.got.append((entry.message["n"], threading.get_ident()))
        finally:
            self.layer.detach(mailbox)


def publish(layer: InMemoryChannelLayer, count: int) -> list[int]:
    send = async_to_sync(layer.group_send)
    return [send("room", {"type": "number", "n": n}).reached for n in range(count)]


def publish_by_asgiref(layer: InMemoryChannelLayer, count: int) -> list[int]:
    send = asgiref.sync.async_to_sync(layer.group_send)
    return [send("room", {"type": "number", "n": n}).reached for n in range(count)]


async def in_asgiref_thread(func: Callable[[], T]) -> T:
    return await asgiref.sync.sync_to_async(func, thread_sensitive=False)()


async def in_sensitive_thread(func: Callable[[], T]) -> T:
    return await asgiref.sync.sync_to_async(func, thread_sensitive=True)()


Place = Callable[[Callable[[], list[int]]], Any]


@pytest.mark.parametrize("publisher", [publish, publish_by_asgiref])
@pytest.mark.parametrize(
    ("place", "anyio_backend"),
    [
        *product([in_worker_thread, in_plain_thread], ["asyncio", "trio"]),
        *product([in_asgiref_thread, in_sensitive_thread], ["asyncio"]),  # as asgiref does
    ],
)
async def test_any_thread_reaches_the_consumers_in_their_own_thread(
    place: Place, publisher: Callable[[InMemoryChannelLayer, int], list[int]]
) -> None:
    layer = InMemoryChannelLayer()
    member = Member(layer)
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(member.read, 10)
            await anyio.wait_all_tasks_blocked()
            reached = await place(partial(publisher, layer, 10))
    assert reached == [1] * 10
    assert member.got == [(n, threading.get_ident()) for n in range(10)]


async def test_threads_at_once_lose_nothing_and_each_keeps_its_order(in_thread: Any) -> None:
    layer = InMemoryChannelLayer(capacity=1000)
    got: list[tuple[int, int]] = []

    def publish_as(who: int) -> int:
        send = async_to_sync(layer.group_send)
        return sum(send("room", {"type": "x", "n": (who, n)}).reached for n in range(50))

    mailbox = await layer.attach()
    await layer.group_add("room", mailbox.channel)
    results: list[int] = []

    async def publisher(who: int) -> None:
        results.append(await in_thread(partial(publish_as, who)))

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            for who in range(4):
                tasks.start_soon(publisher, who)
    while (entry := mailbox.pop()) is not None:
        got.append(entry.message["n"])
    layer.detach(mailbox)
    assert results == [50] * 4
    for who in range(4):
        assert [n for owner, n in got if owner == who] == list(range(50))


async def test_the_sender_in_a_thread_gets_its_own_error(in_thread: Any) -> None:
    layer = InMemoryChannelLayer(debug=True)
    with pytest.raises(InvalidMessage, match=r"message\['data'\] is a object"):
        await in_thread(
            lambda: async_to_sync(layer.group_send)("room", {"type": "x", "data": object()})
        )


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Takes this process for a forked child, until the test ends."""
    for name in ("_portal", "_portal_lock", "_process", "_forked_in"):
        monkeypatch.setattr(sync, name, getattr(sync, name))
    return sync._forget_parent


async def test_what_a_forked_process_inherited_counts_as_over(forked: Callable[[], None]) -> None:
    ref = LoopRef()
    other = await in_plain_thread(async_to_sync(thread_of_loop))
    forked()
    assert not ref.is_here
    assert ref.is_over
    with pytest.raises(anyio.RunFinishedError):
        await ref.call(int)
    assert LoopRef().is_here
    assert await in_plain_thread(async_to_sync(thread_of_loop)) != other
    assert sync._portal is not None
    await in_worker_thread(partial(sync._portal.call, sync._portal.stop))


async def test_a_thread_that_was_forked_belongs_to_no_loop(forked: Callable[[], None]) -> None:
    def handler() -> int:
        forked()
        there = async_to_sync(thread_of_loop)()
        assert sync._portal is not None
        sync._portal.call(sync._portal.stop)
        return there

    assert await in_worker_thread(handler) != threading.get_ident()


async def test_the_loop_of_a_process_ends_with_it(
    forked: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    at_exit: list[Callable[[], object]] = []
    monkeypatch.setattr("atexit.register", lambda func, *args: at_exit.append(partial(func, *args)))
    forked()
    before = threading.active_count()
    ref = await in_plain_thread(async_to_sync(make_home))
    assert not ref.is_over
    [stop] = at_exit
    await in_worker_thread(stop)
    assert ref.is_over
    assert threading.active_count() <= before + 1, "anyio keeps the worker thread"
    forked()
    await in_worker_thread(stop)


# Homes.


async def make_home() -> LoopRef:
    return LoopRef()


async def test_a_home_runs_what_another_thread_asks_for() -> None:
    ref = LoopRef()
    assert ref.is_here
    assert await in_plain_thread(lambda: ref.is_here) is False
    assert await in_plain_thread(lambda: ref.wait_for(thread_of_loop)) == threading.get_ident()
    with pytest.raises(MisuseError, match=r"write `await add\(\.\.\.\)` here"):
        ref.wait_for(add, 1, second=2)


async def test_homes_are_equal_when_their_loop_is() -> None:
    assert LoopRef() == LoopRef()
    assert hash(LoopRef()) == hash(LoopRef())
    assert LoopRef() != object()
    async with other_loop() as call:
        assert await call(LoopRef) != LoopRef()


@pytest.mark.parametrize("other", ["asyncio", "trio"])
async def test_a_home_is_called_from_another_loop(other: str) -> None:
    ref = LoopRef()

    async with other_loop(other) as call:
        assert await call(ref.call, threading.get_ident) == threading.get_ident()


@pytest.mark.parametrize("other", ["asyncio", "trio"])
async def test_a_home_is_over_when_its_loop_has_ended(other: str) -> None:
    async with other_loop(other) as call:
        ref = await call(LoopRef)
        assert not ref.is_over
        assert not await call(lambda: ref.is_over)
    assert ref.is_over
    with pytest.raises(anyio.RunFinishedError):
        await ref.call(int)
    assert not LoopRef().is_over


@pytest.mark.parametrize("other", ["asyncio", "trio"])
async def test_whether_a_loop_is_over_is_known_while_it_is_busy(other: str) -> None:
    ref = LoopRef()

    async def ask() -> bool:
        return ref.is_over

    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(partial(anyio.run, ask, backend=other))
        # This blocks the loop of the test on purpose, as a synchronous test client does.
        assert answer.result(timeout=5) is False


def test_a_home_is_over_in_the_same_thread_once_another_loop_runs() -> None:
    async def is_over(ref: LoopRef) -> bool:
        return ref.is_over

    for first in ("asyncio", "trio"):
        for second in ("asyncio", "trio"):
            ref = anyio.run(make_home, backend=first)
            assert ref.is_over
            assert anyio.run(is_over, ref, backend=second)


async def test_a_running_loop_is_noticed() -> None:
    assert running_loop()
    assert await anyio.to_thread.run_sync(running_loop) is False


# A loop that ends while threads wait for it.


def hammer(ref: LoopRef, gone: list[str]) -> None:
    """Ask a loop for something again and again, until it says that it has ended."""

    async def call() -> int:
        return await ref.call(int)

    while True:
        try:
            ref.wait_for(anyio.lowlevel.checkpoint)
            anyio.run(call)
        except anyio.RunFinishedError:
            gone.append("told")
            return


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_no_thread_waits_for_a_loop_that_has_ended(backend: str) -> None:
    homes: list[LoopRef] = []
    gone: list[str] = []
    threads: list[threading.Thread] = []

    async def life() -> None:
        homes.append(LoopRef())
        for _ in range(3):
            thread = threading.Thread(target=hammer, args=(homes[-1], gone), daemon=True)
            threads.append(thread)
            thread.start()
        await anyio.sleep(0.005)

    for _ in range(20):
        anyio.run(life, backend=backend)
    for thread in threads:
        thread.join(10)
    assert gone == ["told"] * 60


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_what_waits_in_a_loop_when_it_ends_is_told_so(backend: str) -> None:
    waiting = threading.Event()

    async def never() -> None:
        waiting.set()
        await anyio.sleep_forever()

    async def life() -> None:
        ref = LoopRef()
        results.append(pool.submit(lambda: ref.wait_for(never)))
        while not waiting.is_set():
            await anyio.lowlevel.checkpoint()

    results: list[Future[None]] = []
    with ThreadPoolExecutor(1) as pool:
        anyio.run(life, backend=backend)
        with pytest.raises(anyio.RunFinishedError):
            results[0].result(timeout=10)


def test_a_loop_that_was_closed_with_all_its_tasks_is_waited_for_no_more() -> None:
    loop = asyncio.new_event_loop()
    ref = loop.run_until_complete(make_home())

    async def call_int() -> int:
        return await ref.call(int)

    with ThreadPoolExecutor(2) as pool:
        results: list[Future[Any]] = [
            pool.submit(lambda: ref.wait_for(anyio.lowlevel.checkpoint)),
            pool.submit(lambda: anyio.run(call_int)),
        ]
        time.sleep(0.01)  # so that they most likely wait; the result is the same where not
        loop.close()
        for result in results:
            with pytest.raises(anyio.RunFinishedError):
                result.result(timeout=10)


def test_a_loop_that_stands_still_is_not_waited_for_in_its_own_thread() -> None:
    loop = asyncio.new_event_loop()
    ref = loop.run_until_complete(make_home())

    async def call() -> int:
        return await ref.call(int)

    with pytest.raises(anyio.RunFinishedError):
        ref.wait_for(anyio.lowlevel.checkpoint)
    with pytest.raises(anyio.RunFinishedError):
        anyio.run(call)
    loop.close()


async def test_what_is_called_sees_the_callers_context() -> None:
    ref = LoopRef()

    def caller() -> str:
        colour.set("blue")
        return ref.wait_for(see_colour)

    assert await in_plain_thread(caller) == "blue"


@pytest.mark.parametrize("other", ["asyncio", "trio"])
async def test_a_context_of_another_loop_is_no_hindrance(other: str) -> None:
    ref = LoopRef()

    async def context() -> contextvars.Context:
        return contextvars.copy_context()

    foreign = await in_plain_thread(lambda: anyio.run(context, backend=other))
    there = await in_plain_thread(lambda: foreign.run(lambda: ref.wait_for(make_home)))
    assert there == ref


async def test_an_error_in_a_home_is_raised_where_it_is_called_from() -> None:
    ref = LoopRef()

    def fails() -> None:
        raise LookupError("lost")

    with pytest.raises(LookupError, match="lost"):
        await in_plain_thread(lambda: ref.wait_for(fail))
    async with other_loop() as call:
        with pytest.raises(LookupError, match="lost"):
            await call(ref.call, fails)


# The threads of synchronous handlers.


async def test_forty_handlers_may_run_at_once_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("ASGI_NOTIFY_HANDLER_THREADS", raising=False)
    assert handler_limiter().total_tokens == 40
    assert handler_limiter() is handler_limiter()
    assert handler_limiter() is not anyio.to_thread.current_default_thread_limiter()
    handler_limiter().total_tokens = 2
    assert handler_limiter().total_tokens == 2


async def test_each_loop_has_a_limiter_of_its_own() -> None:
    here = handler_limiter()
    async with other_loop() as call:
        assert await call(handler_limiter) is not here


async def test_the_environment_says_how_many_handlers_run_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ASGI_NOTIFY_HANDLER_THREADS", "7")
    assert handler_limiter().total_tokens == 7


async def test_a_number_of_threads_that_is_none_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ASGI_NOTIFY_HANDLER_THREADS", "many")
    with pytest.raises(ConfigurationError, match="ASGI_NOTIFY_HANDLER_THREADS"):
        handler_limiter()


# Processes without an event loop.


def run_script(source: str, timeout: float = 20) -> list[str]:
    """Run a script in a process of its own; return the lines that it prints."""
    result = subprocess.run(
        # Python 3.12 warns of any fork beside threads; whether it goes well is tested here.
        [sys.executable, "-W", "error", "-W", "ignore:This process", "-c", textwrap.dedent(source)],
        capture_output=True, text=True, timeout=timeout, cwd=ROOT, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return result.stdout.split()


def test_all_calls_of_a_script_share_one_loop_and_one_thread() -> None:
    assert run_script("""
        import threading
        from asgi_notify.sync import LoopRef, async_to_sync

        async def where():
            return LoopRef(), threading.get_ident()

        assert threading.active_count() == 1
        calls = [async_to_sync(where)() for _ in range(100)]
        print(len(set(calls)), threading.active_count())
    """) == ["1", "2"]  # fmt: skip


def test_a_script_that_published_ends_at_once() -> None:
    before = time.monotonic()
    run_script("""
        from asgi_notify import async_to_sync, get_channel_layer
        for _ in range(100):
            async_to_sync(get_channel_layer().group_send)("room", {"type": "x"})
    """)
    assert time.monotonic() - before < 10


def test_a_script_ends_though_a_thread_of_it_waits_for_ever() -> None:
    assert run_script("""
        import threading, time
        from asgi_notify import async_to_sync, get_channel_layer

        receive = async_to_sync(get_channel_layer().receive)
        threading.Thread(target=receive, args=("work",), daemon=True).start()
        async_to_sync(get_channel_layer().send)("other", {"type": "x"})
        time.sleep(0.1)
        print("end")
    """) == ["end"]  # fmt: skip


def test_a_loop_that_a_script_runs_itself_is_no_hindrance() -> None:
    assert run_script("""
        import asyncio
        from asgi_notify import InMemoryChannelLayer, async_to_sync

        layer = InMemoryChannelLayer()
        async_to_sync(layer.send)("work", {"type": "x", "n": 1})
        print(asyncio.run(layer.receive("work"))["n"])
        async_to_sync(layer.send)("work", {"type": "x", "n": 2})
        print(async_to_sync(layer.receive)("work")["n"])
    """) == ["1", "2"]  # fmt: skip


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")


@needs_fork
def test_a_forked_child_has_a_loop_of_its_own_and_ends() -> None:
    assert run_script("""
        import os, sys, threading
        from asgi_notify.sync import async_to_sync

        async def add(first, second):
            return first + second

        assert async_to_sync(add)(1, 2) == 3
        child = os.fork()
        if not child:
            print(async_to_sync(add)(2, 3), flush=True)
            sys.exit(7)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), async_to_sync(add)(3, 4))
    """) == ["5", "7", "7"]  # fmt: skip


@needs_fork
def test_a_forked_child_that_calls_nothing_ends() -> None:
    assert run_script("""
        import os
        from asgi_notify.sync import async_to_sync

        async def nothing():
            pass

        async_to_sync(nothing)()
        child = os.fork()
        if child:
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """) == ["0"]  # fmt: skip


@needs_fork
def test_a_process_forked_by_a_handlers_thread_has_a_loop_of_its_own() -> None:
    assert run_script("""
        import multiprocessing, sys
        import anyio, anyio.to_thread
        from asgi_notify.sync import async_to_sync

        async def add(first, second):
            return first + second

        def work():
            print(async_to_sync(add)(1, 2), flush=True)

        def handler():
            process = multiprocessing.get_context("fork").Process(target=work)
            process.start()
            process.join(10)
            print(process.exitcode, flush=True)
            process.kill()

        anyio.run(anyio.to_thread.run_sync, handler)
    """) == ["3", "0"]  # fmt: skip


@needs_fork
def test_a_forked_child_does_not_wait_for_its_parents_consumers() -> None:
    assert run_script("""
        import multiprocessing
        import anyio, anyio.from_thread
        from asgi_notify import InMemoryChannelLayer, async_to_sync

        layer = InMemoryChannelLayer()

        async def join():
            mailbox = await layer.attach()
            await layer.group_add("room", mailbox.channel)

        def publish():
            sent = async_to_sync(layer.group_send)("room", {"type": "x"})
            print(sent.reached, flush=True)

        with anyio.from_thread.start_blocking_portal() as portal:
            portal.call(join)
            publish()
            process = multiprocessing.get_context("fork").Process(target=publish)
            process.start()
            process.join(10)
            print(process.exitcode)
            process.kill()
    """) == ["1", "0", "0"]  # fmt: skip
