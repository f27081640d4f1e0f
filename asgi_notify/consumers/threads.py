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
from ..layers.pace import Pace, handled_channel, pace_of_loop
from ..sync import LoopRef, disconnect_limiter, failure_of, handler_limiter
from ..types import Event, Message, Receive
from .base import Consumer, pass_over
from .job import Job, LastJob
from .lane import Lane, disconnect_lane, handler_lane
from .state import StateAhead

__all__ = ["SyncConsumer"]


class SyncConsumer(Consumer[None]):
    """A consumer whose handlers are plain functions, each run in a worker thread.

    The handlers of one connection run one after the other. Those of different connections run
    side by side, in as many threads as `handler_limiter` allows. The disconnect event has
    threads of its own, and waits for one of them as long as it takes.

    There are two ways into a thread. The plain one is `anyio.to_thread`. Where the event loop is
    asyncio's, and the settings do not turn it off, a `Lane` is used instead, in which a handler
    costs less. The attributes from `_lane` on belong to the second way.
    """

    _loop_ref: LoopRef
    _handler_thread: int | None = None  # the thread in which a handler runs
    _limiter: anyio.CapacityLimiter | None = None  # where None, `handler_limiter()` is used
    _lane: Lane | None = None  # for all handlers but that of the disconnect event
    _last_lane: Lane | None = None  # for the disconnect event, once that has come
    _job: Job | None = None  # the handler that runs in a lane
    _ahead: StateAhead | None = None  # the state that the connection will be in after its sends

    def wrap_receive(self, receive: Receive) -> Receive:
        lane = self._lane = handler_lane()
        self._loop_ref = LoopRef() if lane is None else lane.loop_ref
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
        """Handle a message that needs no thread; None if it needs one."""
        return None

    async def _run_plainly(self, run: Callable[[], None]) -> None:
        if self._limiter is None:  # else it is for the disconnect event, and nothing is read on
            work = _PlainWork(pace_of_loop(), run)
            self._connection.mailbox.pause(work)
            run = work.execute
        in_thread = partial(anyio.to_thread.run_sync, run)
        await _in_own_task(partial(in_thread, limiter=self._limiter or handler_limiter()))

    def _run_in(self, lane: Lane, run: Callable[[], None]) -> Coroutine[Any, Any, None]:
        if type(self).dispatch is SyncConsumer.dispatch:
            self._job = job = Job(lane, run, self._connection.send, self._connection.handling)
            self._connection.mailbox.pause(job)
            return job.run(self._forget_job)
        return self._run_in_scope(lane, run)

    async def _run_in_scope(self, lane: Lane, run: Callable[[], None]) -> None:
        # An overridden `dispatch` may have opened cancel scopes around this call. So the scope of
        # the connection is not the innermost one, and the job needs one that is.
        with anyio.CancelScope() as scope:
            self._job = job = Job(lane, run, self._connection.send, scope)
            self._connection.mailbox.pause(job)
            await job.run(self._forget_job)

    def _forget_job(self) -> None:
        self._job = self._ahead = None

    async def _run_last(self, lane: Lane, run: Callable[[], None], message: Message) -> None:
        self._job = job = LastJob(lane, run, self._connection.send, self.disconnect_timeout)
        if not await job.run_in_time(self._forget_job):
            self._log_cut_off(message)

    def _handle_last(self, event: Message, /) -> Awaitable[None] | None:
        self._last_lane = self._lane_of_disconnects()
        if self._last_lane is None:
            return self._shielded(partial(self._handle_last_plainly, event))
        if type(self).dispatch is SyncConsumer.dispatch:
            return self.dispatch(event)  # a LastJob shields itself
        return self._shielded(partial(self.dispatch, event))

    async def _shielded(self, handle: Callable[[], Awaitable[None]]) -> None:
        with anyio.CancelScope(shield=True):
            await handle()

    async def _handle_last_plainly(self, event: Message) -> None:
        async def handle() -> None:
            # The time limit of the handler begins when the handler does. The wait for a thread
            # has no limit: it ends when handlers before it end, and nothing can end those.
            with anyio.CancelScope(shield=True):
                async with disconnect_limiter():
                    # The disconnect limiter was asked above, so this one never makes it wait.
                    self._limiter = anyio.CapacityLimiter(1)
                    await self._in_time(self.dispatch, event)

        await _in_own_task(handle)

    def _lane_of_disconnects(self) -> Lane | None:
        lane = self._lane
        if lane is None or lane.is_closed:
            return disconnect_lane()
        if lane.of_disconnects is None or lane.of_disconnects.is_closed:
            lane.of_disconnects = disconnect_lane()
        return lane.of_disconnects

    def _run_handler(self, handler: Callable[[Message], Any], message: Message) -> None:
        self._handler_thread = get_ident()
        handled_channel.set(self.channel_name)
        try:
            close_old_connections()
            result = handler(message)
        except (SystemExit, KeyboardInterrupt) as error:
            # In the loop they would end the server. Only the main thread gets signals (Python's
            # documentation, "signal"), so this is not Ctrl-C: the handler has raised it itself.
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
                # No token is given, so anyio takes the loop and the scope of this thread's
                # handler. So the send is cancelled when the handler is.
                anyio.from_thread.check_cancelled()
                anyio.from_thread.run(self._send_for_handler, event)
            else:
                self._loop_ref.wait_for(self._connection.send, event)

    def _emit_ahead(self, job: Job, event: Event) -> None:
        if get_ident() != self._handler_thread:
            # A thread that the handler has started. Its event must not overtake those that the
            # handler sent before and that are still to be done.
            job.drain()
            self._loop_ref.wait_for(self._connection.send, event)
            return
        job.require_not_cancelled()  # also ahead of a mistake in what it sends
        if self._ahead is None:
            # Events of this type do not change the state. So most handlers, which send nothing
            # else, need no copy of it.
            if event["type"] == self._connection.state.steady:
                job.send(event)
                return
            self._ahead = StateAhead(self._connection.state)
        if self._ahead.advance(event):
            job.send(event)

    async def _send_for_handler(self, event: Event) -> None:
        # The handler may have been cancelled before this task was there to be cancelled, too.
        if anyio.current_effective_deadline() == -inf:
            await checkpoint()
            return
        await self._connection.send(event)


class _PlainWork:
    """A handler that is run in the plain way, as seen by a sender that waits for its consumer."""

    def __init__(self, pace: Pace, run: Callable[[], None]) -> None:
        self.looked_at = self.seen_at = 0
        self.has_begun = False
        self.has_ended = False
        self._pace = pace
        self._run = run

    def execute(self) -> None:
        """Run the handler in this thread."""
        self.has_begun = True
        self._pace.begun += 1
        try:
            self._run()
        finally:
            self.has_ended = True


async def _in_own_task(func: Callable[[], Awaitable[None]]) -> None:
    """Run an async function in a task of its own, and wait for its end in any case.

    A server may cancel the running task (`asyncio.Task.cancel`). Then `anyio.to_thread` would
    leave the thread and its handler alone. A task group waits for its tasks even then.
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
