"""Tasks: one that belongs to an object instead of a block of code, and several at a time.

Who opens an engine is not who closes it, and a task group may not be left in another
task than it was entered in. So the task is started where the loop keeps its own: with
`asyncio.create_task`, or as a system task of trio.
"""

import asyncio
import logging
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from contextvars import Context
from functools import partial
from typing import Any, TypeVar

import anyio

__all__ = ["Background", "Tasks", "at_a_time", "calls_here"]

T = TypeVar("T")

AT_A_TIME = 32  # calls of one row that are on their way together

logger = logging.getLogger("asgi_notify.layers")


class Background:
    """Runs a function until it ends or is closed.

    Create it in the event loop that is to run it. What the function raises is logged.
    """

    def __init__(self, function: Callable[[], Awaitable[None]], name: str) -> None:
        self._function = function
        self._name = name
        self._scope = anyio.CancelScope()
        self._ended = anyio.Event()
        # An empty context: nothing of the request that happened to open the engine stays.
        if _runs_trio():
            import trio

            trio.lowlevel.spawn_system_task(self._run, name=name, context=Context())
        else:
            loop = asyncio.get_running_loop()
            self._task = loop.create_task(self._run(), name=name, context=Context())

    async def aclose(self) -> None:
        """Cancel the function, and wait until it has ended."""
        self._scope.cancel()
        with anyio.CancelScope(shield=True):
            await self._ended.wait()

    async def _run(self) -> None:
        try:
            with self._scope:
                await self._function()
        except Exception:
            logger.exception("%s ended", self._name)
        finally:
            self._ended.set()


class Tasks:
    """A task group that lives in the background, into which anything may put a task.

    A task group has to be left in the task that entered it, and whoever closes the object that
    the tasks work for is often another task than the one that opened it.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._life: Background | None = None
        self._starting: deque[Callable[[], Awaitable[object]]] = deque()
        self._started = anyio.Event()

    async def open(self) -> None:
        """Begin to run what is started."""
        alive = anyio.Event()
        self._life = Background(partial(self._live, alive), self._name)
        await alive.wait()

    def start(self, func: Callable[[], Awaitable[object]]) -> None:
        """Run an async function in a task; what it raises is logged.

        It is cancelled by `aclose`. This only queues the function, and the background starts the
        task: an engine may call it from a callback of the event loop, in no task, where no task
        can be started.
        """
        self._starting.append(func)
        self._started.set()

    async def aclose(self) -> None:
        """Cancel all tasks, and wait until they have ended."""
        if self._life is not None:
            await self._life.aclose()

    async def _live(self, alive: anyio.Event) -> None:
        async with anyio.create_task_group() as tasks:
            alive.set()
            while True:
                await self._started.wait()
                self._started = anyio.Event()
                while self._starting:
                    tasks.start_soon(self._run_one, self._starting.popleft())

    async def _run_one(self, func: Callable[[], Awaitable[object]]) -> None:
        try:
            await func()
        except Exception:
            logger.exception("a task of the channel layer failed")


async def at_a_time(call: Callable[[T], Awaitable[object]], items: Iterable[T]) -> None:
    """Call a function with each of these, a few at a time.

    Raises:
        Exception: the first that one of the calls raised; the others are cancelled.
    """
    row = iter(items)
    errors: list[Exception] = []

    async def work() -> None:
        try:
            for item in row:
                await call(item)
        except Exception as error:
            errors.append(error)
            tasks.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks:
        for _ in range(AT_A_TIME):
            tasks.start_soon(work)
    if errors:
        raise errors[0]


def calls_here() -> Callable[..., Any]:
    """A function that calls another one in the event loop that runs now, from any thread.

    ``call(function, *args)`` returns at once. Calls are made in the order of asking.
    """
    if _runs_trio():
        import trio

        return trio.lowlevel.current_trio_token().run_sync_soon
    return asyncio.get_running_loop().call_soon_threadsafe


def _runs_trio() -> bool:
    if "trio" not in sys.modules:
        return False
    import trio

    return trio.lowlevel.in_trio_run()
