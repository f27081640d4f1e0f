"""How a thread calls a function in another thread's event loop, which may end meanwhile.

When an event loop of asyncio's is closed, it forgets the calls that were scheduled and have not
run yet, and reports that to nobody. A thread that uses anyio's functions then waits forever for
a result. The functions here wait for a tenth of a second at a time, and look in between whether
the loop is closed. Trio needs no such look: it runs what was scheduled, or raises that it has
ended.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future, wait
from contextvars import Context, copy_context
from functools import partial
from inspect import CORO_CREATED, getcoroutinestate
from typing import Any, TypeVar

import anyio

__all__ = [
    "LOOK_AFTER",
    "await_in_asyncio",
    "call_in_asyncio",
    "context_in_asyncio",
    "context_in_thread",
    "unless_cancelled",
]

LOOK_AFTER = 0.1  # seconds; nobody waits longer than that for a closed loop, and a look is cheap

T = TypeVar("T")


def call_in_asyncio(loop: asyncio.AbstractEventLoop, job: Callable[[], T]) -> T:
    """Run a plain function in a loop, and wait for its result in this other thread.

    Raises:
        anyio.RunFinishedError: the loop has ended without running it.
    """
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(job())
        except BaseException as error:
            future.set_exception(error)
            if not isinstance(error, Exception):
                raise

    try:
        loop.call_soon_threadsafe(run, context=context_in_asyncio())
    except RuntimeError as error:  # it was closed a moment ago
        raise anyio.RunFinishedError from error
    return _result(future, loop)


def await_in_asyncio(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, T]) -> T:
    """Await a coroutine in a loop, and wait for its result in this other thread.

    Raises:
        anyio.RunFinishedError: the loop has ended, before or meanwhile.
    """
    try:
        submit = partial(asyncio.run_coroutine_threadsafe, coroutine, loop)
        try:
            future = context_in_asyncio().run(submit)
        except RuntimeError as error:  # it was closed a moment ago
            raise anyio.RunFinishedError from error
        return _result(future, loop)
    finally:
        if getcoroutinestate(coroutine) == CORO_CREATED:
            coroutine.close()  # it was never begun, and Python would warn of that


def _result(future: Future[T], loop: asyncio.AbstractEventLoop) -> T:
    """Wait for the result of a call in a loop, until the loop is closed."""
    while not wait((future,), LOOK_AFTER).done:
        if loop.is_closed() and not future.done():
            raise anyio.RunFinishedError
    if future.cancelled():  # asyncio cancels all tasks before it closes a loop
        raise anyio.RunFinishedError
    return future.result()


def context_in_asyncio() -> Context:
    """A copy of the caller's context, for code that asyncio runs; the caller may be a trio task."""
    return _context_named("asyncio")


def context_in_thread() -> Context:
    """A copy of the caller's context, for a thread in which no event loop runs."""
    return _context_named(None)


def _context_named(library: str | None) -> Context:
    context = copy_context()
    # Where sniffio is installed, anyio asks it which library runs, and it answers from a context
    # variable. A copied context would give the caller's answer.
    sniffio = sys.modules.get("sniffio")
    if sniffio is not None:
        context.run(sniffio.current_async_library_cvar.set, library)
    return context


async def unless_cancelled(job: Callable[[], Awaitable[T]]) -> T:
    """Await a job, and raise `anyio.RunFinishedError` if it is cancelled.

    For jobs that only the end of their loop can cancel.
    """
    try:
        return await job()
    except anyio.get_cancelled_exc_class() as error:
        raise anyio.RunFinishedError from error
