"""One application that runs in the background of a test, on asyncio or trio."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from contextvars import Context
from functools import partial

import anyio

from ..types import ASGIApp, Event, Scope

__all__ = ["Background"]

Main = Callable[[AbstractContextManager[object]], Awaitable[None]]

_CAPACITY = 10_000  # unread outputs; stops an application that sends without end
_REMEMBERED = 5  # types of the last outputs, for error messages

# The event loop holds its tasks weakly; one that nobody holds can vanish half-way.
_tasks: set[asyncio.Task[None]] = set()


class Background:
    """A running application, with the queues of what it is told and what it has said.

    It runs in an empty context, as a server would start it: the context
    variables of the test stay the test's. An event put in or out never makes
    the one who puts it wait, so that the order of things is the same each time:
    an application goes on after its ``send`` until it waits for something.

    Args:
        application: the ASGI callable.
        scope: given to it as it is.
        answer: what a server would tell the application in return for this
            output, or None; the end of a connection, after a close.
    """

    def __init__(
        self, application: ASGIApp, scope: Scope, answer: Callable[[Event], Event | None]
    ) -> None:
        """Start the application."""
        self.error: BaseException | None = None
        self.has_ended = False
        self._application = application
        self._scope = scope
        self._answer = answer
        self._inputs: deque[Event] = deque()  # as many as the test sends
        self._outputs: deque[Event] = deque()
        self._sent: deque[str] = deque(maxlen=_REMEMBERED)
        self._waits_in = ""
        self._changed = anyio.Event()
        self._cancel = _spawn(self._run)

    @property
    def has_output(self) -> bool:
        """Whether the application has said something that was not taken yet."""
        return bool(self._outputs)

    def offer(self, event: Event) -> None:
        """Tell the application something."""
        self._inputs.append(event)
        self._notify()

    def take(self) -> Event:
        """The oldest output that was not taken yet."""
        event = self._outputs.popleft()
        self._notify()
        return event

    async def until(self, ready: Callable[[], bool], timeout: float | None) -> bool:
        """Wait at most ``timeout`` seconds; return whether ``ready()`` became true."""
        with anyio.move_on_after(timeout):
            while not ready():
                await self._changed.wait()
        return ready()

    def cancel(self) -> None:
        """Cancel the application; from any thread, at any time, as often as one likes."""
        # A loop that is over has ended its tasks already.
        with suppress(RuntimeError):
            self._cancel()

    def describe(self) -> str:
        """What the application is at, as the second half of an error message."""
        said = ", ".join(self._sent) or "nothing"
        if self.has_ended:
            return f"the application has ended; the last it sent was: {said}"
        doing = f"waits in {self._waits_in}" if self._waits_in else "is busy"
        unread = f", {len(self._inputs)} input(s) unread" if self._inputs else ""
        return f"the application still runs and {doing}{unread}; the last it sent was: {said}"

    async def _run(self, guard: AbstractContextManager[object]) -> None:
        try:
            with guard:
                await self._application(self._scope, self._receive, self._send)
        except anyio.get_cancelled_exc_class():
            raise
        except BaseException as error:  # kept for the test, which may expect any
            self.error = error
        finally:
            self.has_ended = True
            self._notify()

    async def _receive(self) -> Event:
        await self._wait_in("receive()", lambda: bool(self._inputs))
        event = self._inputs.popleft()
        self._notify()
        return event

    async def _send(self, event: Event) -> None:
        await self._wait_in("send()", lambda: len(self._outputs) < _CAPACITY)
        self._outputs.append(event)
        self._sent.append(str(event["type"]))
        if (answer := self._answer(event)) is not None:
            self._inputs.append(answer)
        self._notify()

    async def _wait_in(self, place: str, ready: Callable[[], bool]) -> None:
        while not ready():
            self._waits_in = place
            try:
                await self._changed.wait()
            finally:
                self._waits_in = ""

    def _notify(self) -> None:
        changed, self._changed = self._changed, anyio.Event()
        changed.set()


def _spawn(main: Main) -> Callable[[], object]:
    """Start ``main`` in an empty context; return what cancels it, from any thread."""
    if anyio.get_cancelled_exc_class() is asyncio.CancelledError:
        return _spawn_on_asyncio(main)
    return _spawn_on_trio(main)


def _spawn_on_asyncio(main: Main) -> Callable[[], object]:
    async def run() -> None:
        await main(nullcontext())

    loop = asyncio.get_running_loop()
    # Not in a scope of anyio's, which would cancel each await of a clean-up too:
    # an application made for asyncio expects one CancelledError.
    task = loop.create_task(run(), context=Context())
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)
    return partial(loop.call_soon_threadsafe, task.cancel)


def _spawn_on_trio(main: Main) -> Callable[[], object]:
    import trio

    scope = trio.CancelScope()
    # A system task needs no nursery, and trio cancels it when the test has ended.
    trio.lowlevel.spawn_system_task(main, scope, context=Context())
    return partial(trio.lowlevel.current_trio_token().run_sync_soon, scope.cancel)
