"""One handler that a thread of the sync lane runs: what it wants done, and how it ends.

What a handler sends, and what it calls with `async_to_sync`, are its acts. The connection's own
task does them, in the order in which the handler wanted them. The handler waits for the result
of a call; it does not wait for what it sends, unless the client does not take what came before.
"""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import anyio
import anyio.from_thread

from ..loop_calls import context_in_thread
from ..sync import handler_thread
from ..types import Event
from .call import Call, Func
from .lane import Lane
from .stepping import Turn

__all__ = ["Job", "LastJob"]

AHEAD = 8  # events that a handler may have sent and the loop has not taken yet


class Job:
    """One handler of one connection: it waits for a thread, is run in it, and ends.

    Args:
        lane: whose thread it waits for.
        handler: a plain function.
        send: sends an event of the handler's to the client, in the loop.
        scope: the innermost one that the connection's task is in; where it is cancelled, so
            is the handler.
    """

    # Most jobs never change these, and so need not set them.
    is_over = False  # written by the handler's thread, as the next two
    has_begun = False
    _error: BaseException | None = None  # what the handler has raised
    _is_withdrawn = False  # written by the loop, as the next three: it is cancelled
    _turn: Turn | None = None  # while the loop waits for an act
    _is_busy = False
    _native: asyncio.CancelledError | None = None  # a server's cancellation, put off
    _is_told = False  # by both, as the rest: the loop is about to look at it
    _failure: Exception | None = None  # what a send has raised, until the handler gets it
    _drained: threading.Event | None = None  # set when all acts are done

    def __init__(
        self,
        lane: Lane,
        handler: Callable[[], None],
        send: Callable[[Event], Awaitable[None]],
        scope: anyio.CancelScope,
    ) -> None:
        self.lane = lane
        self.scope = scope
        self._handler = handler
        self._send = send
        self._context = context_in_thread()
        self._acts: list[Event | Call] = []  # the first stays there until it is done

    # In the loop.

    async def run(self, forget: Callable[[], None]) -> None:
        """Have the handler run, and wait for its end, come what may.

        Args:
            forget: called at the end: a connection may have nothing to handle for days.

        Raises:
            BaseException: what the handler has raised.
            CancelledError: it was cancelled; its thread has ended it, or will not begin it.
        """
        lane, acts = self.lane, self._acts
        lane.submit(self)
        try:
            while not self.is_over or acts:
                try:
                    while acts:
                        act = acts[0]
                        self._is_busy = True
                        try:
                            if isinstance(act, Call):
                                await act.run(self.cancel_natively)
                            elif self._failure is None:  # else the handler is told first
                                await self._send(act)
                        except Exception as error:
                            self._failure = error
                        finally:
                            self._is_busy = False
                            del acts[0]
                    if self._drained is not None:
                        self._let_go_on()
                    if not self.is_over:
                        self._turn = turn = Turn(loop=lane.loop)
                        if not acts and not self.is_over:  # else it was told before there was one
                            await turn
                except asyncio.CancelledError as error:
                    if self.puts_off(error):
                        continue
                    await self._abort()
                    raise
        finally:
            self._turn = None
            lane.finish()
            forget()
        if self._native is not None:
            raise self._native
        if self._error is not None or self._failure is not None:
            try:
                raise self._error or self._failure or AssertionError
            finally:
                self._error = self._failure = None  # they refer to this frame by now

    async def _abort(self) -> None:
        """Tell the handler that it is cancelled, and wait until it has ended."""
        self.scope.cancel()  # where a server has cancelled the task
        self._is_withdrawn = True
        if not self.has_begun:
            return  # the thread that comes to it passes it over
        acts = self._acts
        with anyio.CancelScope(shield=True):
            while not self.is_over or acts:
                while acts:
                    act = acts.pop(0)
                    if isinstance(act, Call):
                        with anyio.CancelScope() as scope:
                            scope.cancel()  # what need not wait is done all the same
                            await act.run(self.cancel_natively)
                self._let_go_on()
                self._turn = turn = Turn(loop=self.lane.loop)
                try:
                    if not self.is_over and not acts:
                        await turn
                except asyncio.CancelledError:
                    continue  # a server's, once more

    def wake(self) -> None:
        """Look what the handler wants done."""
        self._is_told = False
        if self._turn is not None:
            self._turn.set()

    def _let_go_on(self) -> None:
        drained, self._drained = self._drained, None
        if drained is not None:
            drained.set()

    def puts_off(self, error: asyncio.CancelledError) -> bool:
        """Whether the handler is to be seen through all the same."""
        return False

    def cancel_natively(self, error: asyncio.CancelledError) -> None:
        """Put a server's cancellation off until the handler, which is cancelled, has ended."""
        self._native = error
        self.scope.cancel()

    # In the handler's thread.

    def execute(self) -> None:
        """Run the handler in this thread."""
        self.has_begun = True
        if not self._is_withdrawn:
            handler_thread.call = self.call
            try:
                self._context.run(self._handler)
            except BaseException as error:
                self._error = error
            finally:
                handler_thread.call = None
        self.is_over = True
        self._tell()

    def send(self, event: Event) -> None:
        """Have an event sent; waits where the client does not take those before it.

        Raises:
            CancelledError: the handler is cancelled.
            Exception: what an earlier event has raised when it was sent.
        """
        if self._is_busy or len(self._acts) >= AHEAD:
            self.drain()
        if self._is_withdrawn:
            anyio.from_thread.check_cancelled()
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        self._acts.append(event)
        self._tell()

    def call(self, func: Func) -> Any:
        """Have an async function run in the connection's task, and wait for its result.

        Raises:
            CancelledError: the handler is cancelled.
            anyio.RunFinishedError: the loop has ended.
            Exception: what the function has raised.
        """
        if self._is_withdrawn:
            anyio.from_thread.check_cancelled()
        call = Call(func)
        self._acts.append(call)
        self._tell()
        self.lane.wait_for(partial(call.done.acquire, True))
        return call.result()

    def drain(self) -> None:
        """Wait, in any thread, until all that the handler wanted done is done."""
        with self.lane.lock:
            if self._drained is None:
                self._drained = threading.Event()
            drained = self._drained
        if self._acts:
            self.lane.wait_for(drained.wait)

    def _tell(self) -> None:
        if not self._is_told:
            self._is_told = True
            self.lane.tell(self)


class LastJob(Job):
    """The handler of the disconnect event: it has its time, and nothing else cancels it.

    Args:
        time_limit: seconds that it may take, from when it begins.
    """

    _since = 0.0

    def __init__(
        self,
        lane: Lane,
        handler: Callable[[], None],
        send: Callable[[Event], Awaitable[None]],
        time_limit: float,
    ) -> None:
        super().__init__(lane, handler, send, anyio.CancelScope())
        self._time_limit = time_limit

    async def run_in_time(self, forget: Callable[[], None]) -> bool:
        """Do as `run` does, and return whether the handler ended within its time."""
        self._timer = self.lane.loop.call_later(self._time_limit, self._look_at_time)
        try:
            with self.scope:
                await self.run(forget)
        finally:
            self._timer.cancel()
        return not self.scope.cancelled_caught

    def _look_at_time(self) -> None:
        left = self._time_limit
        if self.has_begun:
            left += self._since - time.monotonic()
        if left > 0:
            self._timer = self.lane.loop.call_later(left, self._look_at_time)
        else:
            self.scope.cancel()

    def puts_off(self, error: asyncio.CancelledError) -> bool:
        if self.scope.cancel_called:
            return False
        self._native = error
        return True

    def cancel_natively(self, error: asyncio.CancelledError) -> None:
        self._native = error

    def execute(self) -> None:
        self._since = time.monotonic()
        super().execute()
