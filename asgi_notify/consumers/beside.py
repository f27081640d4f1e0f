"""The tasks beside the one that handles a connection: its reader, and the consumer's own.

They live no longer than the connection. Whoever leaves the ``async with`` cancels those that
have not ended, and waits for their end::

    async with tasks_beside() as beside:
        beside.read(reader)              one task; it mostly ends by itself, with the client
        beside.start_soon(func)          any number; hardly any consumer has one

A task group of anyio does all of that, and is the plain way. But to make one and to start a task
in it takes some 50 us, mostly for the cancel scopes of the group and of the task. That was a fifth
of what it cost to open a connection. A task of asyncio without a group takes 3 us. So on asyncio
the reader is such a task, and a scope is made only for a task of the consumer's own, whose code
may rely on anyio's rule that whatever is cancelled stays cancelled until it has ended.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Any, Self

import anyio

from ..exceptions import MisuseError

__all__ = ["Beside", "tasks_beside"]

Func = Callable[..., Coroutine[Any, Any, None]]

PATIENCE = 0.1  # seconds until a reader that went on after its cancellation is cancelled again


class Beside(ABC):
    """The tasks that one task has beside itself; it leaves their ``async with`` last."""

    __slots__ = ()

    @abstractmethod
    def read(self, reader: Func) -> None:
        """Start the reader; called once at most."""

    @abstractmethod
    def stop_reading(self) -> None:
        """Cancel the reader; it has ended once the loop has had a turn.

        On asyncio it is cancelled as that cancels tasks: a shield of anyio's, in a ``receive``
        that has one, does not keep the cancellation away.
        """

    @abstractmethod
    def start_soon(self, func: Func, *args: object) -> None:
        """Start a task of the consumer's own, which raises nothing.

        Raises:
            MisuseError: the connection has ended.
        """

    async def __aenter__(self) -> Self:
        return self

    @abstractmethod
    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Cancel what has not ended, and wait until it has."""


def tasks_beside() -> Beside:
    """What the running task may have beside itself."""
    try:
        is_asyncio = asyncio.current_task() is not None  # there is none where trio runs as a guest
    except RuntimeError:
        is_asyncio = False
    return _Tasks() if is_asyncio else _Group()


class _Group(Beside):
    """The plain way: a task group."""

    __slots__ = ("_has_ended", "_reading", "_tasks")

    def __init__(self) -> None:
        self._reading = anyio.CancelScope()
        self._has_ended = False

    async def __aenter__(self) -> Self:
        self._tasks = await anyio.create_task_group().__aenter__()
        return self

    def read(self, reader: Func) -> None:
        self._tasks.start_soon(self._read, reader)

    async def _read(self, reader: Func) -> None:
        with self._reading:
            await reader()

    def stop_reading(self) -> None:
        self._reading.cancel()

    def start_soon(self, func: Func, *args: object) -> None:
        _require_going_on(not self._has_ended)
        self._tasks.start_soon(func, *args)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._has_ended = True
        self._tasks.cancel_scope.cancel()
        await self._tasks.__aexit__(kind, error, traceback)


class _Tasks(Beside):
    """The way on asyncio: tasks without a group."""

    __slots__ = ("_has_ended", "_own", "_reader")

    def __init__(self) -> None:
        self._reader: asyncio.Task[None] | None = None
        self._own: dict[asyncio.Task[None], anyio.CancelScope] | None = None
        self._has_ended = False

    def read(self, reader: Func) -> None:
        self._reader = asyncio.get_running_loop().create_task(reader())

    def stop_reading(self) -> None:
        if self._reader is not None:
            self._reader.cancel()

    def start_soon(self, func: Func, *args: object) -> None:
        _require_going_on(not self._has_ended)
        scope = anyio.CancelScope()
        if self._own is None:
            self._own = {}
        task = asyncio.get_running_loop().create_task(_run_in(scope, func, args))
        self._own[task] = scope
        task.add_done_callback(self._own.pop)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._has_ended = True
        if self._own or not (self._reader is None or self._reader.done()):
            await self._end()

    async def _end(self) -> None:
        own = self._own or {}
        for scope in own.values():
            scope.cancel()
        cancelled: asyncio.CancelledError | None = None
        with anyio.CancelScope(shield=True):
            while left := [task for task in (self._reader, *own) if task and not task.done()]:
                if self._reader in left:
                    self.stop_reading()
                try:
                    await asyncio.wait(left, timeout=PATIENCE)
                except asyncio.CancelledError as error:  # of a server, which no shield keeps away
                    cancelled = error
        if cancelled is not None:
            raise cancelled


async def _run_in(
    scope: anyio.CancelScope, func: Callable[..., Awaitable[None]], args: Any
) -> None:
    with scope:
        await func(*args)


def _require_going_on(is_going_on: bool) -> None:
    if not is_going_on:
        raise MisuseError("the connection has ended: a task of its own would outlive it")
