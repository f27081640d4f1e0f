"""How `async_to_sync` works in a handler that a thread of the sync lane runs.

A method of one of the library's own layers is awaited by the connection's own task, which waits
for the handler anyway. So no task is made for it: many of these methods never have to wait, and
a task would cost more than they do.

But the task belongs to the connection, and the method does not. Two things keep them apart:

- The method runs in a copy of the handler's context, so its context variables are those of
  the handler, and what it changes there is not seen anywhere else.
- A server may cancel the connection's task (`asyncio.Task.cancel`) while the method waits. In
  a task of its own it would not notice that. Here the cancellation is taken away from it, and
  the handler's cancel scope is cancelled instead. So what the method does in a shielded scope
  is done to its end, and the rest is cancelled.

Any other function may cancel the task that it runs in, as `asyncio.timeout` and
`asyncio.TaskGroup` do. Nobody could tell that from a server's cancellation of the connection. So
such a function gets a task of its own.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Generator
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
    """A call of an async function that a handler waits for, and its result.

    Args:
        func: the function.
        in_place: whether the connection's task awaits it, since it never cancels its own task.

    Attributes:
        done: a lock that the handler's thread waits for; released when there is a result.
    """

    __slots__ = ("_context", "_error", "_func", "_in_place", "_result", "done")

    def __init__(self, func: Func, *, in_place: bool) -> None:
        self._func = func
        self._in_place = in_place
        self._context = context_in_asyncio()
        self._result: Any = None
        self._error: BaseException | None = asyncio.CancelledError()  # until it has ended
        self.done = threading.Lock()
        self.done.acquire()

    async def run(self, cancel: Cancel) -> None:
        """Await the function, in the loop; what it raises is kept for the handler.

        Args:
            cancel: called if a server cancels the task that runs this.
        """
        try:
            if self._in_place:
                await self._await(_in_context(self._context, self._func(), cancel))
            else:
                await self._run_in_task(cancel)
        finally:
            self.done.release()

    async def _run_in_task(self, cancel: Cancel) -> None:
        try:
            async with anyio.create_task_group() as tasks:
                _ = self._context.run(tasks.start_soon, self._await, self._func())
        except asyncio.CancelledError as error:
            if _is_cancelled_by_scope():
                raise
            cancel(error)

    async def _await(self, awaiting: Awaitable[Any]) -> None:
        try:
            self._result = await awaiting
            self._error = None
        except (Exception, SystemExit) as error:
            self._error = error
        except asyncio.CancelledError as error:
            # Another error object for the handler's thread: this one goes on in the task.
            self._error = asyncio.CancelledError(*error.args)
            if _is_cancelled_by_scope():
                raise

    def result(self) -> Any:
        """What the function has returned; called in the handler's thread, after ``done``.

        Raises:
            BaseException: what the function has raised.
        """
        if self._error is None:
            return self._result
        try:
            raise self._error
        finally:
            self._error = None  # its traceback refers to this frame: a cycle otherwise


@coroutine
def _in_context(
    context: Context, awaiting: Coroutine[Any, Any, Any], cancel: Cancel
) -> Generator[Any, Any, Any]:
    """Await a coroutine in another context, and keep a server's cancellation away from it.

    This does what ``await`` does: it runs the coroutine step by step, with ``send`` and
    ``throw``, and passes on to the task what the coroutine waits for. The difference is that
    each step runs in the given context, and that `_patiently` waits in between.

    Args:
        context: what the coroutine runs in.
        awaiting: the coroutine.
        cancel: called if a server cancels the task.
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
    """Wait for what a coroutine awaits, until it is there or a cancel scope is cancelled.

    A cancellation that no scope asked for is a server's. It is handed to ``cancel``, and the
    waiting goes on.
    """
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
    """Wait for a future by means of another one.

    A task that is cancelled cancels the future that it waits for. So the task waits for one that
    is set when the real one is done. Whether that is cancelled is decided by `_patiently`.
    """
    # The coroutine has marked it as awaited; see `_unmark` in `stepping`.
    future._asyncio_future_blocking = False
    end = future.get_loop().create_future()

    def tell(_: object) -> None:
        if not end.done():
            end.set_result(None)

    future.add_done_callback(tell)
    yield from end


def _is_cancelled_by_scope() -> bool:
    # anyio gives this deadline to code in a cancelled scope that no shield keeps away.
    return anyio.current_effective_deadline() == -inf
