"""How threads and event loops call each other, and how many threads there are for handlers."""

import asyncio
import atexit
import inspect
import os
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from contextvars import Context
from functools import partial, wraps
from math import inf
from threading import Lock, Thread, get_ident, local
from typing import Any, ParamSpec, TypeVar, cast

import anyio
import anyio.from_thread
import anyio.to_thread
from anyio.from_thread import BlockingPortal
from anyio.lowlevel import RunVar, current_token

from .exceptions import MisuseError
from .loop_calls import await_in_asyncio, call_in_asyncio, unless_cancelled
from .settings import Settings

__all__ = [
    "LoopRef",
    "async_to_sync",
    "disconnect_limiter",
    "failure_of",
    "handler_limiter",
    "handler_thread",
    "process_portal",
]

EXIT_TIMEOUT = 1.0  # seconds that calls of daemon threads get to end when the process does

P = ParamSpec("P")
T = TypeVar("T")


class LoopRef:
    """One event loop, as other threads see it.

    A loop of asyncio's has ended when it is closed: one that only stopped may run on,
    and threads wait for it.
    """

    __slots__ = ("_loop", "_process", "_thread", "_token")

    def __init__(self) -> None:
        """The event loop that runs now in this thread."""
        self._token = current_token()
        self._thread = get_ident()
        self._process = _process
        native: Any = self._token.native_token  # a trio token or an asyncio loop
        self._loop = native if isinstance(native, asyncio.AbstractEventLoop) else None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LoopRef) and self._token.native_token is other._token.native_token

    def __hash__(self) -> int:
        return id(self._token.native_token)

    @property
    def is_here(self) -> bool:
        """Whether the caller is in the loop's own thread, and asyncio runs no other loop there."""
        # Asked at every send: this takes some 100 ns, to ask for the running loop three times
        # that before Python 3.12, and to ask anyio for it ten times.
        is_in_thread = get_ident() == self._thread and self._process is _process
        return is_in_thread and (self._loop is None or self._loop.is_running())

    @property
    def is_over(self) -> bool:
        """Whether the loop has ended, or was left behind in the process that this one forked from.

        In the loop's own thread, one that does not run just now counts as ended.
        Never waits: a loop may be busy for as long as the caller asks.
        """
        if self._process is not _process:
            return True
        if get_ident() == self._thread:
            return not running_loop() or LoopRef() != self
        if self._loop is not None:
            return self._loop.is_closed()
        token: Any = self._token.native_token
        try:
            token.run_sync_soon(int)
        except RuntimeError:  # of which trio's own error is one
            return True
        return False

    def start(self, func: Callable[[], Coroutine[Any, Any, object]]) -> None:
        """Begin to run an async function in the loop, and wait for nothing; it must not fail."""
        loop: Any = self._token.native_token
        if hasattr(loop, "call_soon_threadsafe"):
            loop.call_soon_threadsafe(_start_task, loop, func)
        else:
            from trio.lowlevel import spawn_system_task

            loop.run_sync_soon(spawn_system_task, func)

    async def call(self, func: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a plain function in the loop's thread, and wait for its result.

        The waiting is done by a worker thread, so that the caller's own loop
        goes on even while the other one is busy.

        Raises:
            anyio.RunFinishedError: the loop has ended without running it.
        """
        if self.is_over:
            raise anyio.RunFinishedError

        job = partial(func, *args, **kwargs)
        if self._loop is not None:
            return await anyio.to_thread.run_sync(call_in_asyncio, self._loop, job)
        there = partial(anyio.from_thread.run_sync, job, token=self._token)
        return await anyio.to_thread.run_sync(there)

    def wait_for(self, func: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run an async function in the loop, and wait for its result in this other thread.

        Raises:
            MisuseError: an event loop runs in this thread, which waiting would block.
            anyio.RunFinishedError: the loop has ended, before or meanwhile.
        """
        _refuse_running_loop(func)
        if self.is_over:
            raise anyio.RunFinishedError
        job = partial(_call, func, *args, **kwargs)
        if self._loop is not None:
            return await_in_asyncio(self._loop, job())
        return anyio.from_thread.run(unless_cancelled, job, token=self._token)


_started: set[Any] = set()  # asyncio keeps only weak references to its tasks


def _start_task(loop: Any, func: Callable[[], Coroutine[Any, Any, object]]) -> None:
    task = loop.create_task(func(), context=Context())
    _started.add(task)
    task.add_done_callback(_started.discard)


async def _call(func: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
    waiting = func(*args, **kwargs)
    if not inspect.isawaitable(waiting):
        name = _name(func)
        raise MisuseError(f"{name} is not async, so there is nothing to wait for: call {name}()")
    return await waiting


def _name(func: Callable[..., object]) -> str:
    return getattr(func, "__qualname__", None) or repr(func)


def _refuse_running_loop(func: Callable[..., object]) -> None:
    if running_loop():
        name = _name(func)
        raise MisuseError(
            f"waiting for {name} would block the event loop that runs in this thread; "
            f"write `await {name}(...)` here, in an async function"
        )


def running_loop() -> bool:
    """Whether an event loop runs in this thread."""
    try:
        current_token()
    except RuntimeError:  # anyio's own, or the loop's where a thread has the context of one
        return False
    return True


def failure_of(
    error: Exception | asyncio.CancelledError | SystemExit | KeyboardInterrupt,
) -> Exception:
    """The failure that a handler's error is, where it must not end more than the handler.

    That is where asyncio has cancelled a task that was awaited, not the running
    one, and where a handler would end the process, as ``sys.exit()`` does.

    Raises:
        CancelledError: the one given, where it is the running task that is cancelled.
    """
    if isinstance(error, Exception):
        return error
    if isinstance(error, SystemExit | KeyboardInterrupt):
        ending = RuntimeError(f"a handler raised {error!r}, which does not end a server")
        ending.__cause__ = error
        return ending
    task = asyncio.current_task()
    # A task that waits for a thread is shielded: it was not cancelled itself, though a scope
    # around it may have been. The effective deadline says so then.
    if task is None or task.cancelling() or anyio.current_effective_deadline() == -inf:
        raise error
    failure = RuntimeError("something that it awaited was cancelled")
    failure.__cause__ = error
    return failure


def async_to_sync(func: Callable[P, Awaitable[T]]) -> Callable[P, T]:
    """Make a function that calls an async one and waits for its result.

    It works in a synchronous handler, in any other thread of a server, and in
    a process without an event loop (a script, a task queue's worker), where one
    loop in a thread of its own serves all calls of the process, so that
    connections opened in it live on from call to call. Context variables of
    the caller are seen by the function.

    Raises:
        MisuseError: when called inside a running event loop, which waiting
            would block, or when given something that is not an async function.
    """
    if not callable(func):
        if inspect.iscoroutine(func):
            func.close()
        raise MisuseError(
            "async_to_sync takes the async function itself, and its arguments come after: "
            "async_to_sync(layer.group_send)('user_42', message)"
        )

    @wraps(func)
    def waiting(*args: P.args, **kwargs: P.kwargs) -> T:
        _refuse_running_loop(func)
        job = partial(_call, func, *args, **kwargs)
        if handler_thread.call is not None:
            return cast(T, handler_thread.call(job))
        if _in_worker_thread():
            return anyio.from_thread.run(job)
        return process_portal().call(job)

    return waiting


class _HandlerThread(local):
    """What is special about a thread while it runs a handler, seen from within it.

    Attributes:
        call: has a coroutine run by the task that waits for the handler, and returns its
            result; None in all other threads.
    """

    call: Callable[[Callable[[], Coroutine[Any, Any, Any]]], Any] | None = None


handler_thread = _HandlerThread()


def _in_worker_thread() -> bool:
    """Whether a loop waits for this thread, as for one that runs a handler."""
    if get_ident() == _forked_in:
        return False
    try:
        anyio.from_thread.check_cancelled()
    except anyio.NoEventLoopError:
        return False
    return True


_portal: BlockingPortal | None = None
_portal_lock = Lock()


def process_portal() -> BlockingPortal:
    """The loop for callers that have none: one a process, begun by the first."""
    global _portal
    with _portal_lock:
        if _portal is None:
            ready: Future[BlockingPortal] = Future()
            # In an empty context, since the caller's may be bound to another event loop.
            work = partial(Context().run, anyio.run, _serve, ready)
            # anyio has a context manager that starts such a loop. In a forked child it would
            # wait, when the process exits, for a thread that only the parent has.
            thread = Thread(target=work, name="asgi_notify", daemon=True)
            thread.start()
            _portal = ready.result()
            atexit.register(_stop, _portal, thread, _process)
        return _portal


async def _serve(ready: "Future[BlockingPortal]") -> None:
    async with BlockingPortal() as portal:
        ready.set_result(portal)
        await portal.sleep_until_stopped()


def _stop(portal: BlockingPortal, thread: Thread, process: object) -> None:
    """End the loop for callers that have none; daemon threads may still wait for a call."""
    if process is _process:
        portal.call(portal.stop)
        thread.join(EXIT_TIMEOUT)


_process = object()  # stands for this process; a forked one makes its own
_forked_in = 0  # the thread that this process began with, where it was forked


def _forget_parent() -> None:
    global _portal, _portal_lock, _process, _forked_in
    _portal, _portal_lock = None, Lock()
    _process, _forked_in = object(), get_ident()


if hasattr(os, "register_at_fork"):  # pragma: no branch  # Windows has no fork
    # A forked child has the parent's memory, but not its threads and their loops.
    os.register_at_fork(after_in_child=_forget_parent)


_limiter: RunVar[anyio.CapacityLimiter] = RunVar("asgi_notify_handler_limiter")
_disconnect_limiter: RunVar[anyio.CapacityLimiter] = RunVar("asgi_notify_disconnect_limiter")


def handler_limiter() -> anyio.CapacityLimiter:
    """What bounds the threads that synchronous handlers run in, for the running loop.

    Apart from anyio's own limiter, so that slow handlers do not hold up the
    server's other threads, nor they the handlers. It begins at
    ``ASGI_NOTIFY_HANDLER_THREADS`` (40) threads; set ``total_tokens`` to change it.
    """
    return _limiter_in(_limiter)


def disconnect_limiter() -> anyio.CapacityLimiter:
    """What bounds the threads in which disconnect events are handled, for the running loop.

    As many again as `handler_limiter` begins with, so that a connection ends
    however many handlers of others are stuck. There is a bound, since all
    clients may leave at once, and each handler may open a database connection.
    """
    return _limiter_in(_disconnect_limiter)


def _limiter_in(place: RunVar[anyio.CapacityLimiter]) -> anyio.CapacityLimiter:
    limiter = place.get(None)
    if limiter is None:
        limiter = anyio.CapacityLimiter(Settings.of_process().handler_threads)
        place.set(limiter)
    return limiter
