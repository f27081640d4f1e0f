"""How the handlers of a synchronous consumer run: in worker threads, one after the other."""

import inspect
from asyncio import CancelledError
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from math import inf
from threading import get_ident
from typing import Any

import anyio
import anyio.from_thread
import anyio.to_thread
from anyio.lowlevel import checkpoint

from ..django_support import close_old_connections
from ..exceptions import MisuseError
from ..sync import LoopRef, disconnect_limiter, failure_of, handler_limiter
from ..types import Event, Message, Receive
from .base import Consumer, pass_over
from .job import Job, LastJob
from .lane import Lane, disconnect_lane, handler_lane
from .state import StateAhead

__all__ = ["SyncConsumer"]


class SyncConsumer(Consumer[None]):
    """A consumer whose handlers are plain functions, each run in a worker thread.

    The handlers of one connection run one after the other, those of different
    connections side by side, as many as `handler_limiter` has threads. The
    disconnect event has threads of its own, and waits for one as long as it takes.

    What stands here is the plain way, `anyio.to_thread`. Where the event loop is asyncio's,
    the threads are those of a `Lane`, in which handlers cost less.
    """

    _loop_ref: LoopRef
    _handler_thread: int | None = None  # while a handler runs
    _limiter: anyio.CapacityLimiter | None = None  # the handlers' one where None
    _lane: Lane | None = None  # once it is known
    _last_lane: Lane | None = None  # the one for the disconnect event, when that has come
    _job: Job | None = None  # of the handler that runs in the lane
    _ahead: StateAhead | None = None  # when that one has sent something

    def wrap_receive(self, receive: Receive) -> Receive:
        self._loop_ref = LoopRef()
        return super().wrap_receive(receive)

    def dispatch(self, message: Message) -> Coroutine[Any, Any, None]:
        handling = self._pass_on(message)
        if handling is not None:
            return handling
        handler = self._handler(message)
        if handler is None:
            return pass_over()
        run = partial(self._run_handler, handler, message)
        if self._last_lane is not None:
            return self._run_last(self._last_lane, run, message)
        if self._limiter is None:
            lane = self._lane = self._lane or handler_lane()
            if lane is not None:
                return self._run_in(lane, run)
        return self._run_plainly(run)

    def _pass_on(self, message: Message) -> Coroutine[Any, Any, None] | None:
        """Handle what takes no thread; None for anything else."""
        return None

    async def _run_plainly(self, run: Callable[[], None]) -> None:
        in_thread = partial(anyio.to_thread.run_sync, run)
        await _in_own_task(partial(in_thread, limiter=self._limiter or handler_limiter()))

    def _run_in(self, lane: Lane, run: Callable[[], None]) -> Coroutine[Any, Any, None]:
        if type(self).dispatch is SyncConsumer.dispatch:
            self._job = Job(lane, run, self._connection.send, self._connection.handling)
            return self._job.run(self._forget_job)
        return self._run_in_scope(lane, run)

    async def _run_in_scope(self, lane: Lane, run: Callable[[], None]) -> None:
        # Whoever calls `dispatch` may have scopes of its own around the call.
        with anyio.CancelScope() as scope:
            self._job = Job(lane, run, self._connection.send, scope)
            await self._job.run(self._forget_job)

    def _forget_job(self) -> None:
        self._job = self._ahead = None

    async def _run_last(self, lane: Lane, run: Callable[[], None], message: Message) -> None:
        self._job = job = LastJob(lane, run, self._connection.send, self.disconnect_timeout)
        if not await job.run_in_time(self._forget_job):
            self._log_cut_off(message)

    async def _handle_last(self, event: Message) -> None:
        self._last_lane = disconnect_lane()
        if self._last_lane is not None:
            await self.dispatch(event)
            return

        async def handle() -> None:
            # The handler's time begins when it does. So nothing bounds the wait for a thread
            # but the ends of the handlers before it, whose threads nothing can cut off either.
            with anyio.CancelScope(shield=True):
                async with disconnect_limiter():
                    self._limiter = anyio.CapacityLimiter(1)  # the thread that it has by now
                    await self._in_time(self.dispatch, event)

        await _in_own_task(handle)

    def _run_handler(self, handler: Callable[[Message], Any], message: Message) -> None:
        self._handler_thread = get_ident()
        try:
            close_old_connections()
            result = handler(message)
        except (SystemExit, KeyboardInterrupt) as error:
            # In the loop, they would end it. Python's documentation, "signal": the main
            # thread alone gets signals, so this is no Ctrl-C, but the handler's own doing.
            raise failure_of(error) from error
        finally:
            self._handler_thread = None
            close_old_connections()
        if inspect.iscoroutine(result):
            result.close()
            raise MisuseError(
                f"{type(self).__qualname__}'s handler of {message['type']} is async, but a "
                "SyncConsumer calls plain functions: write `def`, or use AsyncConsumer"
            )

    def send(self, message: Event) -> None:
        self._emit(message)

    def _emit(self, *events: Event) -> None:
        for event in events:
            if self._connection.is_closed:
                return
            job = self._job
            if job is not None and not job.is_over:
                self._emit_ahead(job, event)
            elif get_ident() == self._handler_thread:
                # With no loop named, it is cancelled together with its handler.
                anyio.from_thread.check_cancelled()
                anyio.from_thread.run(self._send_for_handler, event)
            else:
                self._loop_ref.wait_for(self._connection.send, event)

    def _emit_ahead(self, job: Job, event: Event) -> None:
        if get_ident() != self._handler_thread:
            job.drain()  # one thread's events do not overtake another's
            self._loop_ref.wait_for(self._connection.send, event)
            return
        if self._ahead is None:
            if event["type"] == self._connection.state.steady:
                job.send(event)
                return
            self._ahead = StateAhead(self._connection.state)
        if self._ahead.advance(event):
            job.send(event)

    async def _send_for_handler(self, event: Event) -> None:
        # A scope cancels the tasks that it has by then, and this one may be a moment late.
        if anyio.current_effective_deadline() == -inf:
            await checkpoint()
            return
        await self._connection.send(event)


async def _in_own_task(func: Callable[[], Awaitable[None]]) -> None:
    """Wait for the end of something that must not be left before it has ended.

    A server may cancel the running task, which would then not wait for a thread; a
    task group waits for its tasks, come what may.
    """
    errors: list[Exception] = []

    async def run() -> None:
        try:
            await func()
        except (Exception, CancelledError) as error:
            errors.append(failure_of(error))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
    if errors:
        raise errors[0]
