"""Tasks that live from the opening of a layer to its closing, whoever opened it.

A layer may be opened by its first use, deep inside somebody's request. No task group that
is at hand there may own what must outlive the request. So one task of the event loop's own
hosts a task group, in which all others live.
"""

import logging
from collections.abc import Awaitable, Callable
from contextvars import Context
from typing import Any, TypeVarTuple

import anyio
from anyio.abc import TaskGroup
from anyio.lowlevel import current_token

__all__ = ["Background"]

logger = logging.getLogger("asgi_notify.layers")

Ts = TypeVarTuple("Ts")


class Background:
    """Tasks in one event loop, from `open` to `close`.

    Where the loop ends without a `close`, they are cancelled as all tasks of the loop are.
    """

    def __init__(self) -> None:
        self._tasks: TaskGroup | None = None
        self._over = anyio.Event()
        self._task: Any = None  # asyncio keeps only weak references to its tasks

    async def open(self) -> None:
        """Begin to host tasks, in the event loop that runs."""
        ready = anyio.Event()
        loop: Any = current_token().native_token  # a trio token or an asyncio loop
        if hasattr(loop, "create_task"):
            self._task = loop.create_task(self._host(ready), context=Context())
        else:
            from trio.lowlevel import spawn_system_task

            spawn_system_task(self._host, ready, context=Context())
        await ready.wait()

    def start(self, func: Callable[[*Ts], Awaitable[object]], *args: *Ts) -> None:
        """Run an async function beside the others; what it raises is logged, and ends it alone."""
        assert self._tasks is not None
        self._tasks.start_soon(self._run, func, args)

    async def close(self) -> None:
        """Cancel what still runs, and wait for its end."""
        if self._tasks is None:
            return
        self._tasks.cancel_scope.cancel()
        await self._over.wait()

    async def _host(self, ready: anyio.Event) -> None:
        try:
            async with anyio.create_task_group() as self._tasks:
                ready.set()
                await anyio.sleep_forever()
        finally:
            self._tasks = None
            self._over.set()

    async def _run(self, func: Callable[..., Awaitable[object]], args: tuple[object, ...]) -> None:
        try:
            await func(*args)
        except Exception:
            logger.exception("a task of the channel layer failed")
