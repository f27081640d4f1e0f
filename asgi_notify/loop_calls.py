"""How one thread has the event loop of another do something, though that loop may end meanwhile.

When a loop of asyncio's is closed, it forgets the calls that were scheduled and have not
run, and nobody learns of it: anyio's functions then wait for ever for a result that never
comes. The functions here look every tenth of a second whether the loop still lives. Trio
needs no such look: it either runs what was scheduled or raises that it has ended.
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

LOOK_AFTER = 0.1  # seconds; a loop that ends keeps nobody waiting longer, and it is cheap to look

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
    """Await something in a loop, and wait for its result in this other thread.

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
            coroutine.close()  # nobody will ever begin it


def _result(future: Future[T], loop: asyncio.AbstractEventLoop) -> T:
    """Wait for what a loop was asked to do, while it lives."""
    while not wait((future,), LOOK_AFTER).done:
        if loop.is_closed() and not future.done():
            raise anyio.RunFinishedError
    if future.cancelled():  # asyncio cancels all tasks before it closes a loop
        raise anyio.RunFinishedError
    return future.result()


def context_in_asyncio() -> Context:
    """A copy of the caller's context, which may come from a task of trio's, for use in asyncio."""
    return _context_named("asyncio")


def context_in_thread() -> Context:
    """A copy of the caller's context, for a thread in which no event loop runs."""
    return _context_named(None)


def _context_named(library: str | None) -> Context:
    context = copy_context()
    # Anyio asks it, where it is installed, which library runs, and does the same.
    sniffio = sys.modules.get("sniffio")
    if sniffio is not None:
        context.run(sniffio.current_async_library_cvar.set, library)
    return context


async def unless_cancelled(job: Callable[[], Awaitable[T]]) -> T:
    """Run a job that nobody cancels but a loop that ends, and say that it was that."""
    try:
        return await job()
    except anyio.get_cancelled_exc_class() as error:
        raise anyio.RunFinishedError from error
