"""A second event loop beside the one of a test."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
from anyio.from_thread import start_blocking_portal
from anyio.to_thread import run_sync

__all__ = ["other_loop"]

Call = Callable[..., Awaitable[Any]]


@asynccontextmanager
async def other_loop(backend: str = "asyncio") -> AsyncIterator[Call]:
    """Runs a loop in another thread; what is yielded calls a function in it.

    The loop of the test goes on meanwhile.
    """
    manager = start_blocking_portal(backend)
    portal = await run_sync(manager.__enter__)

    async def call(func: Callable[..., Any], *args: Any) -> Any:
        return await run_sync(partial(portal.call, func, *args))

    try:
        yield call
    finally:
        with anyio.CancelScope(shield=True):
            await run_sync(manager.__exit__, None, None, None)
