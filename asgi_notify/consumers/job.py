"""One handler run by a thread of the sync lane: how it sends, calls, fails and is cancelled.

What a handler sends, and what it calls with `async_to_sync`, are its acts. The handler's thread
appends them to a list, and the connection's own task does them, in the same order::

    the handler's thread                             the connection's task, in `Job.run`
    --------------------                             -----------------------------------
    send(event)    --- goes on at once --->  [acts]  --->  send the event to the client
    call(func)     --- waits ------------->  [acts]  --->  await func(), release the thread
    the handler returns or raises            is_over --->  do the acts that are left, and end

The handler waits for the result of a call. It does not wait for what it sends, unless the client
does not take what was sent before, or too many acts wait. What a send raises comes to the handler
at its next send or, if there is none, out of `run`.

Cancellation takes two forms. A cancel scope, as of anyio, raises in the task at once, and the
handler is cancelled: its next send raises, and so does a call that has to wait. Some servers
cancel the connection's task itself (`asyncio.Task.cancel`). Either way the task may not leave
while the thread still runs the handler, since the handler uses the connection. So it waits until
the handler has ended.
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

AHEAD = 8  # acts that may wait to be done; with more, a handler waits before it sends the next


class Job:
    """One handler of one connection: it waits for a thread, is run in it, and ends.

    Args:
        lane: whose threads run it.
        handler: a plain function.
        send: sends an event to the client; called in the loop.
        scope: the innermost cancel scope of the connection's task; when it is cancelled, so is
            the handler.

    Attributes:
        is_over: whether the handler has ended; acts of it may still have to be done.
        has_begun: whether a thread has taken it.
        looked_at, seen_at: see `Work`.
    """

    # The initial values are the class's: most jobs never change them, and need not set them.
    # Written by the handler's thread:
    is_over = False
    has_begun = False
    _error: BaseException | None = None  # what the handler has raised
    # Written by the loop:
    looked_at = seen_at = 0
    _is_withdrawn = False  # the handler is cancelled
    _turn: Turn | None = None  # what the task waits for while there is nothing to do
    _is_busy = False  # an act is being done
    _native: asyncio.CancelledError | None = None  # a server's cancellation, raised at the end
    # Written by both:
    _is_told = False  # the lane is about to call `wake`
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
        self._acts: list[Event | Call] = []  # an act stays in the list until it is done

    # In the loop.

    @property
    def has_ended(self) -> bool:
        """Whether its end, and what is left to do for it, only waits for a turn of the loop."""
        return self.is_over and not self._is_busy

    async def run(self, forget: Callable[[], None]) -> None:
        """Have the handler run in a thread, do its acts, and wait for its end in any case.

        Args:
            forget: called at the end, to drop the references to this job. The connection may
                have nothing to handle for days after it.

        Raises:
            BaseException: what the handler has raised.
            CancelledError: it was cancelled; the handler has ended, or will not begin.
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
                            elif self._failure is None:  # else the handler gets that first
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
                        # The thread may have called `Lane.notify` before there was a turn for it to
                        # end. So this looks again, now that there is one.
                        if not acts and not self.is_over:
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
                # The traceback of the error refers to this frame, and the frame to the error by
                # way of this job: a cycle, which would wait for the garbage collector.
                self._error = self._failure = None

    async def _abort(self) -> None:
        """Cancel the handler, and wait until it has ended."""
        self.scope.cancel()  # it is not cancelled yet if a server has cancelled the task itself
        self._is_withdrawn = True
        if not self.has_begun:
            return  # a thread that takes it now does not run the handler
        acts = self._acts
        with anyio.CancelScope(shield=True):
            while not self.is_over or acts:
                while acts:
                    act = acts.pop(0)
                    if isinstance(act, Call):
                        with anyio.CancelScope() as scope:
                            # What has to wait is cancelled. What does not is done all the same.
                            scope.cancel()
                            await act.run(self.cancel_natively)
                self._let_go_on()
                self._turn = turn = Turn(loop=self.lane.loop)
                try:
                    if not self.is_over and not acts:
                        await turn
                except asyncio.CancelledError:
                    continue  # a server has cancelled the task once more

    def wake(self) -> None:
        """Wake the task that does the acts; called by the lane in the loop, after `Lane.notify`."""
        self._is_told = False
        if self._turn is not None:
            self._turn.set()

    def _let_go_on(self) -> None:
        """Let those threads go on that wait in `drain`."""
        drained, self._drained = self._drained, None
        if drained is not None:
            drained.set()

    def puts_off(self, error: asyncio.CancelledError) -> bool:
        """Whether the handler runs on although the task was cancelled; see `LastJob`."""
        return False

    def cancel_natively(self, error: asyncio.CancelledError) -> None:
        """Cancel the handler because a server has cancelled the task, which waits for its end.

        The server's error is raised in the task afterwards.
        """
        self._native = error
        self.scope.cancel()

    # In the handler's thread.

    def execute(self) -> None:
        """Run the handler in this thread."""
        self.has_begun = True
        self.lane.pace.begun += 1
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
        """Have an event sent to the client.

        It waits only if acts before it are not done yet: one that takes time, such as a send to
        a client that does not read, or `AHEAD` of them.

        Raises:
            CancelledError: the handler is cancelled.
            Exception: an earlier event could not be sent.
        """
        if self._is_busy or len(self._acts) >= AHEAD:
            self.drain()
        self.require_not_cancelled()
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        self._acts.append(event)
        self._tell()

    def call(self, func: Func, *, in_place: bool = False) -> Any:
        """Have the connection's task run an async function, and wait for its result.

        Args:
            func: the function.
            in_place: as of `Call`.

        Raises:
            CancelledError: the handler is cancelled.
            anyio.RunFinishedError: the loop has ended.
            Exception: what the function has raised.
        """
        self.require_not_cancelled()
        call = Call(func, in_place=in_place)
        self._acts.append(call)
        self._tell()
        self.lane.wait_for(partial(call.done.acquire, True))
        return call.result()

    def require_not_cancelled(self) -> None:
        """Raise what a handler that is cancelled gets from whatever it asks of the loop.

        Raises:
            CancelledError: it is cancelled.
        """
        if self._is_withdrawn:
            anyio.from_thread.check_cancelled()

    def drain(self) -> None:
        """Wait until all acts so far are done; called in any thread but the loop's."""
        with self.lane.lock:
            if self._drained is None:
                self._drained = threading.Event()
            drained = self._drained
        if self._acts:
            self.lane.wait_for(drained.wait)

    def _tell(self) -> None:
        """Have the loop look at this job, unless it is about to do so."""
        if not self._is_told:
            self._is_told = True
            self.lane.notify(self)


class LastJob(Job):
    """The handler of the disconnect event: only its time limit cancels it.

    By then the client has gone or the server ends, and the handler has to tidy up all the same.

    Args:
        time_limit: seconds that it may take. The wait for a thread does not count.
    """

    _since = 0.0

    def __init__(
        self,
        lane: Lane,
        handler: Callable[[], None],
        send: Callable[[Event], Awaitable[None]],
        time_limit: float,
    ) -> None:
        super().__init__(lane, handler, send, anyio.CancelScope(shield=True))
        self._time_limit = time_limit

    async def run_in_time(self, forget: Callable[[], None]) -> bool:
        """Do what `run` does, and return whether the handler ended within its time."""
        self._timer = self.lane.loop.call_later(self._time_limit, self._look_at_time)
        try:
            with self.scope:
                await self.run(forget)
        finally:
            self._timer.cancel()
        return not self.scope.cancelled_caught

    def _look_at_time(self) -> None:
        """Cancel the handler if its time is over; look again later if it is not."""
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
