"""`async_to_sync`, calls into another thread's event loop, and the limits of handler threads.

A thread that calls an async function can be in one of four places, and each has its own way::

    in a handler that a thread of a lane runs       the handler's `Job` has it awaited
    in any other thread that anyio has started      anyio.from_thread.run, in the waiting loop
    in a thread that knows a loop (`LoopRef`)       `loop_calls`, which notice the loop's end
    in a script or any other thread                 the loop of `process_portal`

In a thread in which an event loop runs, all of them refuse to wait, since that would block it.
"""

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

EXIT_TIMEOUT = 1.0  # seconds that calls of daemon threads get to finish when the process exits

P = ParamSpec("P")
T = TypeVar("T")


class LoopRef:
    """A reference to one event loop, for use in any thread.

    An asyncio loop has ended only when it is closed. One that was stopped may run again, so
    threads wait for it.
    """

    __slots__ = ("_loop", "_process", "_thread", "_token")

    def __init__(self) -> None:
        """Refer to the event loop that runs now in this thread."""
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
        # This is asked at every send, so it has to be fast. It takes some 100 ns. To ask asyncio
        # for the running loop takes three times that before Python 3.12, and anyio ten times.
        is_in_thread = get_ident() == self._thread and self._process is _process
        return is_in_thread and (self._loop is None or self._loop.is_running())

    @property
    def is_over(self) -> bool:
        """Whether the loop has ended, or belongs to the process that this one was forked from.

        In the loop's own thread, it counts as ended when it is not running. Never waits, so that
        it can be asked while the loop is busy.
        """
        if self._process is not _process:
            return True
        if get_ident() == self._thread:
            if self._loop is not None:  # asked at every send; LoopRef() takes 5 us
                return not self._loop.is_running()
            return not running_loop() or LoopRef() != self
        if self._loop is not None:
            return self._loop.is_closed()
        token: Any = self._token.native_token
        try:
            token.run_sync_soon(int)  # does nothing; trio refuses it if the loop has ended
        except RuntimeError:  # of which trio's own error is one
            return True
        return False

    def start(self, func: Callable[[], Coroutine[Any, Any, object]]) -> None:
        """Start an async function in the loop without waiting for it; it must not raise."""
        loop: Any = self._token.native_token
        if hasattr(loop, "call_soon_threadsafe"):
            loop.call_soon_threadsafe(_start_task, loop, func)
        else:
            from trio.lowlevel import spawn_system_task

            loop.run_sync_soon(spawn_system_task, func)

    async def call(self, func: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a plain function in the loop's thread, and wait for its result.

        A worker thread does the waiting, so that the caller's own loop is not blocked while the
        other one is busy.

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
            MisuseError: an event loop runs in this thread, and would be blocked.
            anyio.RunFinishedError: the loop has ended, before the call or during it.
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
    # Anyio raises NoEventLoopError, a RuntimeError. Where the thread runs in a context copied from
    # a loop, anyio asks that loop's library, which raises a plain RuntimeError.
    except RuntimeError:
        return False
    return True


def failure_of(
    error: Exception | asyncio.CancelledError | SystemExit | KeyboardInterrupt,
) -> Exception:
    """Turn an error that would end more than its handler into one that ends just that.

    An ordinary error is returned as it is. Two kinds are replaced:

    - ``SystemExit`` and ``KeyboardInterrupt``, by which a handler would end the process.
    - ``CancelledError``, if the handler has awaited a task that was cancelled, and the running
      task was not cancelled itself.

    Raises:
        CancelledError: the one given, if the running task itself is cancelled.
    """
    if isinstance(error, Exception):
        return error
    if isinstance(error, SystemExit | KeyboardInterrupt):
        ending = RuntimeError(f"a handler raised {error!r}, which does not end a server")
        ending.__cause__ = error
        return ending
    task = asyncio.current_task()
    # A task that waits for a thread is shielded. So a scope around it may be cancelled, and the
    # error come from the thread, while the task itself was not cancelled. Then anyio gives -inf
    # as the effective deadline.
    if task is None or task.cancelling() or anyio.current_effective_deadline() == -inf:
        raise error
    failure = RuntimeError("something that it awaited was cancelled")
    failure.__cause__ = error
    return failure


def async_to_sync(func: Callable[P, Awaitable[T]]) -> Callable[P, T]:
    """Make a function that calls an async one and waits for its result.

    It works in a synchronous handler, in any other thread of a server, and in a process without
    an event loop (a script, a task queue's worker). There, one loop in a thread of its own
    serves all calls of the process, so that connections opened in one call are still open in
    the next. The function sees the context variables of its caller.

    Raises:
        MisuseError: it was called inside a running event loop, which waiting would block, or
            it was given something that is not an async function.
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
            return cast(T, handler_thread.call(job, in_place=_is_of_layer(func)))
        if _in_worker_thread():
            return anyio.from_thread.run(job)
        return process_portal().call(job)

    return waiting


def _is_of_layer(func: Callable[..., object]) -> bool:
    """Whether it is a method of one of this library's own layers."""
    owner = type(getattr(func, "__self__", None))
    return owner.__module__.startswith(f"{__package__}.layers.")


class _HandlerThread(local):
    """What a thread knows of the handler that it runs; each thread has values of its own.

    Attributes:
        call: has an async function run by the task that waits for the handler, and returns its
            result; see `Job.call`. None in a thread that runs no handler of a lane.
    """

    call: Callable[..., Any] | None = None


handler_thread = _HandlerThread()


def _in_worker_thread() -> bool:
    """Whether anyio has started this thread for a loop, which waits for it."""
    # A process may be forked by such a thread. The child's only thread then has the parent's
    # thread-local values, which name a loop that the child does not have.
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
    """The loop for callers that have none: one in a process, started by the first call."""
    global _portal
    with _portal_lock:
        if _portal is None:
            ready: Future[BlockingPortal] = Future()
            # In an empty context: the caller's may hold what belongs to another event loop.
            work = partial(Context().run, anyio.run, _serve, ready)
            # Not by anyio.from_thread.start_blocking_portal: when a forked child exits, that
            # would wait for a thread that only the parent has.
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
    """End the loop of `process_portal`. Calls of daemon threads may still run in it."""
    if process is _process:
        portal.call(portal.stop)
        thread.join(EXIT_TIMEOUT)


_process = object()  # stands for this process; a forked child makes another one
_forked_in = 0  # the first thread of this process, if it was forked; else 0, which is no thread


def _forget_parent() -> None:
    global _portal, _portal_lock, _process, _forked_in
    _portal, _portal_lock = None, Lock()
    _process, _forked_in = object(), get_ident()
    handler_thread.call = None  # where a handler forked, its loop is the parent's


if hasattr(os, "register_at_fork"):  # pragma: no branch  # Windows has no fork
    # A forked child has a copy of the parent's memory, but not its threads and their loops.
    os.register_at_fork(after_in_child=_forget_parent)


_limiter: RunVar[anyio.CapacityLimiter] = RunVar("asgi_notify_handler_limiter")
_disconnect_limiter: RunVar[anyio.CapacityLimiter] = RunVar("asgi_notify_disconnect_limiter")


def handler_limiter() -> anyio.CapacityLimiter:
    """The limit of threads in which the running loop's synchronous handlers run.

    It is not anyio's own limiter, so that slow handlers do not delay what else the server does
    in threads, nor the other way round. It begins at ``ASGI_NOTIFY_HANDLER_THREADS`` (40)
    threads; set ``total_tokens`` to change it.
    """
    return _limiter_in(_limiter)


def disconnect_limiter() -> anyio.CapacityLimiter:
    """The limit of threads in which the running loop's disconnect events are handled.

    They are threads of their own, as many as `handler_limiter` begins with, so that a connection
    can end even if all other handlers are stuck. There is a limit because all clients may leave
    at once, and each handler may open a database connection.
    """
    return _limiter_in(_disconnect_limiter)


def _limiter_in(place: RunVar[anyio.CapacityLimiter]) -> anyio.CapacityLimiter:
    limiter = place.get(None)
    if limiter is None:
        limiter = anyio.CapacityLimiter(Settings.of_process().handler_threads)
        place.set(limiter)
    return limiter
