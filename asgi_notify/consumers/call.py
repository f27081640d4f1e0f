"""What a handler in a thread of the sync lane calls with `async_to_sync`, and how it is awaited.

The connection's own task awaits it. So a function that does not have to wait, as most of a
layer's, costs no task of its own. It runs in a copy of the handler's context, and where a
server cancels the task, what it awaits is cancelled only as far as its scopes let that through.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from math import inf
from types import coroutine
from typing import Any

import anyio

from ..loop_calls import context_in_asyncio

__all__ = ["Call", "Cancel", "Func"]

Func = Callable[[], Coroutine[Any, Any, Any]]
Cancel = Callable[[asyncio.CancelledError], None]


class Call:
    """An async function that a handler waits for, and what becomes of it."""

    __slots__ = ("_context", "_error", "_func", "_result", "done")

    def __init__(self, func: Func) -> None:
        self._func = func
        self._context = context_in_asyncio()
        self._result: Any = None
        self._error: BaseException | None = asyncio.CancelledError()  # unless it ends
        self.done = threading.Lock()
        self.done.acquire()

    async def run(self, cancel: Cancel) -> None:
        """Await it, in the loop; what it raises is for the handler.

        Args:
            cancel: what to do where a server cancels the task that runs this.
        """
        try:
            self._result = await _in_context(self._context, self._func(), cancel)
            self._error = None
        except (Exception, SystemExit) as error:
            self._error = error
        except asyncio.CancelledError as error:
            self._error = asyncio.CancelledError(*error.args)  # that one is the task's own
            if _is_cancelled_by_scope():
                raise
        finally:
            self.done.release()

    def result(self) -> Any:
        """What it has returned.

        Raises:
            BaseException: what it has raised.
        """
        if self._error is None:
            return self._result
        try:
            raise self._error
        finally:
            self._error = None  # it refers to this frame by now


@coroutine
def _in_context(
    context: Context, awaiting: Coroutine[Any, Any, Any], cancel: Cancel
) -> Generator[Any, Any, Any]:
    """Await something in a context of its own, and keep a server's cancellation away from it.

    A server cancels the connection's task, but the shielded scopes of what is awaited are to
    hold. So the handler's scope is cancelled instead, which cancels what is not shielded.
    """
    step: Callable[[Any], Any] = awaiting.send
    value: Any = None
    while True:
        try:
            awaited = context.run(step, value)
        except StopIteration as end:
            return end.value
        step, value = awaiting.send, None
        try:
            yield from _patiently(awaited, cancel)
        except BaseException as error:
            step, value = awaiting.throw, error


def _patiently(awaited: Any, cancel: Cancel) -> Generator[Any, Any, None]:
    """Wait for what a coroutine awaits, until it is there or a scope is cancelled."""
    while not asyncio.isfuture(awaited) or not awaited.done():
        try:
            if not asyncio.isfuture(awaited):
                yield awaited
                return
            yield from _end_of(awaited)
        except asyncio.CancelledError as error:
            if not _is_cancelled_by_scope():
                cancel(error)
            elif not asyncio.isfuture(awaited) or not awaited.cancel(*error.args):
                raise


def _end_of(future: "asyncio.Future[Any]") -> Generator[Any, Any, None]:
    """Wait for a future with another one, so that the task which waits does not cancel it."""
    future._asyncio_future_blocking = False
    end = future.get_loop().create_future()

    def tell(_: object) -> None:
        if not end.done():
            end.set_result(None)

    future.add_done_callback(tell)
    yield from end


def _is_cancelled_by_scope() -> bool:
    return anyio.current_effective_deadline() == -inf
