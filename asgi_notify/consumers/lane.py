"""The sync lane: threads that run synchronous handlers, with few wake-ups of threads and loop.

The plain way, `anyio.to_thread`, wakes a thread for each handler, the loop for each of its
sends, and a task for its end. That takes some 100 us of CPU, where the handler itself takes two.
In a lane, a thread takes one waiting handler after the other. What they want done in the loop is
handed over together, with one wake-up of the loop for all that has gathered by then::

    the connection's task                           a thread
    ---------------------                           --------
    Job.run --- submit ---> [ jobs that wait ] ---> take one, run its handler, take the next
       ^                                               |
       |  by a step, or in the task                    v
       +------- flush <--- [ jobs to look at ] <--- notify: it sends, calls, or has ended

``notify`` has the loop look at a job; `Job` says what its two sides exchange.

How many threads are awake: Python runs one thread at a time, so for handlers that only compute,
one thread is enough. Handlers that block, such as those that ask a database, are to run side by
side. Nobody says which ones do. So as long as jobs wait, the lane looks every 2 ms whether the
threads that are awake make progress, and if not, it wakes as many again, up to the limiter's
number. A few milliseconds later all handlers that block run side by side, and a handler that
computes does not wait longer than that behind them.

How threads and loop share data: a part is changed under the lock only. The rest needs no lock,
since each side writes first and reads afterwards. For example, a thread appends to ``_changed``
and then reads ``_is_notified``; the loop clears ``_is_notified`` and then empties ``_changed``.
Whichever comes first, either the thread sees that it has to wake the loop, or the loop sees what
was appended.
"""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextvars import Context
from typing import Protocol

import anyio
from anyio.lowlevel import RunVar, current_token

from ..layers.pace import pace_of_loop
from ..loop_calls import LOOK_AFTER
from ..settings import Settings
from ..sync import LoopRef, disconnect_limiter, handler_limiter

try:
    # Here anyio's functions for worker threads (`anyio.from_thread`) find the loop that a thread
    # works for, and the cancel scope of its handler. It is not public. Where it is missing, there
    # is no lane, and all handlers are run in the plain way.
    from anyio._core._eventloop import threadlocals
except ImportError:  # pragma: no cover
    threadlocals = None  # type: ignore[assignment]

__all__ = ["Lane", "Work", "disconnect_lane", "handler_lane"]

logger = logging.getLogger("asgi_notify.connections")

LOOK = 0.002  # seconds; a handler that does not block takes about a hundredth of that
GLANCE = 0.5  # seconds between two looks of an idle thread whether the process ends
IDLE = 10.0  # seconds without work after which a thread ends; anyio's own number


class Work(Protocol):
    """What a lane needs of a `Job`."""

    scope: anyio.CancelScope

    def execute(self) -> None:
        """Run the handler; called in a thread of the lane."""

    def wake(self) -> None:
        """Do what the handler wants done; called in the loop, after `Lane.notify`."""


class _Worker:
    """One thread of a lane.

    Attributes:
        taken: how many jobs it has taken so far.
        seen: what ``taken`` was when the lane looked last.
        is_stalled: whether it took no job between two looks, so that it seems to be blocked.
        called: a lock that the thread waits for while it is idle; released to wake it.
    """

    __slots__ = ("called", "is_stalled", "seen", "taken")

    def __init__(self) -> None:
        self.taken = self.seen = 0
        self.is_stalled = False
        self.called = threading.Lock()
        self.called.acquire()


class Lane:
    """Threads that run the handlers of one event loop.

    Args:
        limiter: bounds how many run at once. The lane holds a token of it for each thread
            that is awake, but for no more than there are jobs.

    Attributes:
        loop: the event loop.
        loop_ref: the same, for its connections; to make one takes a dozen calls.
        of_disconnects: the `disconnect_lane`, where this is the `handler_lane`, once it is known.
        pace: whose ``begun`` is to be counted up when a handler begins.
    """

    def __init__(self, limiter: anyio.CapacityLimiter) -> None:
        self.loop = asyncio.get_running_loop()
        self.loop_ref = LoopRef()
        self.of_disconnects: Lane | None = None
        self.pace = pace_of_loop()
        self._token = current_token()
        self._limiter = limiter
        self._context = Context()  # for callbacks; an empty one, so that no handler's is kept
        # Used by both sides without the lock; see above.
        self._jobs: deque[Work] = deque()  # jobs that wait for a thread
        self._changed: deque[Work] = deque()  # jobs that the loop is to look at
        self._is_notified = False  # whether a callback of the loop is due for them
        self._is_closed = False
        # Used by the loop alone:
        self._under_way = 0  # jobs submitted and not finished
        self._tokens: list[object] = []  # of the limiter
        self._is_watching = False  # whether `_watch` is due
        self._has_warned = False  # that no thread could be started
        self._cpu = 0.0  # seconds that the process had computed at the last look
        # Changed under the lock:
        self.lock = threading.Lock()
        self._awake: set[_Worker] = set()
        self._idle: list[_Worker] = []
        self._stalled = 0  # workers that are awake and stalled
        self._end = self._wait_for_end()
        self._enter(self._end)

    @property
    def waiting(self) -> int:
        """How many jobs wait for a thread."""
        return len(self._jobs)

    # In the loop.

    def submit(self, job: Work) -> None:
        """Have a thread run a job; the caller must call `finish` when it is over."""
        self._under_way += 1
        self._jobs.append(job)
        if len(self._awake) <= self._stalled:
            if self._wake() and len(self._jobs) == 1:
                return  # a thread was woken for this one job, so there is nothing to watch
        elif len(self._tokens) < min(len(self._awake), self._under_way):
            # A thread is awake, and takes the job. Its token may have been given back already,
            # because there was no job for it any more.
            self._borrow()
        if not self._is_watching:
            self._is_watching = True
            self._cpu = time.process_time()
            self.loop.call_later(LOOK, self._watch, context=self._context)

    def finish(self) -> None:
        """Note that a job is over, and give back the tokens that are not needed any more."""
        self._under_way -= 1
        while len(self._tokens) > self._under_way:
            self._limiter.release_on_behalf_of(self._tokens.pop())

    def _borrow(self) -> bool:
        """Take a token of the limiter; return whether there was one."""
        token = object()
        try:
            self._limiter.acquire_on_behalf_of_nowait(token)
        except anyio.WouldBlock:
            return False
        self._tokens.append(token)
        return True

    def _wake(self) -> bool:
        """Wake one more thread, or start one; return whether the limiter allowed it."""
        if len(self._tokens) <= len(self._awake) and not self._borrow():
            return False
        with self.lock:
            worker = self._idle.pop() if self._idle else None
            if worker is not None:
                self._awake.add(worker)
                worker.called.release()
                return True
            worker = _Worker()
            self._awake.add(worker)
        name = f"asgi_notify handlers of {id(self.loop):x}"
        try:
            threading.Thread(target=self._work, args=(worker,), name=name).start()
        except RuntimeError as error:  # the system has no more of them; `_watch` tries again
            with self.lock:
                self._awake.discard(worker)
            if not self._has_warned:
                self._has_warned = True
                logger.warning("handlers wait, since no thread could be started: %s", error)
            return False
        return True

    def _watch(self) -> None:
        """Look whether the threads make progress with the jobs that wait; wake others if not."""
        if not self._jobs or self._is_closed:
            self._is_watching = False
            return
        cpu, self._cpu = self._cpu, time.process_time()
        with self.lock:
            for worker in self._awake:
                if worker.taken == worker.seen and not worker.is_stalled:
                    worker.is_stalled = True
                    self._stalled += 1
                worker.seen = worker.taken
            awake, are_stalled = len(self._awake), self._stalled == len(self._awake)
        # A handler that blocks for less than 2 ms, again and again, never stalls its thread. But
        # the process then computes little, though there are jobs that wait.
        if are_stalled or self._cpu - cpu < LOOK / 2:
            for _ in range(min(max(awake, 1), len(self._jobs))):
                if not self._wake():
                    break
        self.loop.call_later(LOOK, self._watch, context=self._context)

    def _flush(self) -> None:
        self._is_notified = False
        changed = self._changed
        while changed:
            changed.popleft().wake()

    # In threads.

    def notify(self, job: Work) -> None:
        """Have the loop call `Work.wake` for a job."""
        self._changed.append(job)
        if not self._is_notified:
            self._is_notified = True
            try:
                self.loop.call_soon_threadsafe(self._flush, context=self._context)
            except RuntimeError:  # it was closed
                self.close()

    def wait_for(self, acquire: Callable[[float], bool]) -> None:
        """Wait for something that the loop is to do, as long as the loop exists.

        Args:
            acquire: waits for a number of seconds, and returns whether it is done.

        Raises:
            anyio.RunFinishedError: the loop has ended.
        """
        while not acquire(LOOK_AFTER):
            if self.loop.is_closed():
                raise anyio.RunFinishedError

    def _work(self, worker: _Worker) -> None:
        """What a thread of the lane does."""
        threadlocals.current_token = self._token
        jobs = self._jobs
        while not self._is_closed:
            try:
                job = jobs.popleft()
            except IndexError:
                if not self._rest(worker):
                    break
                continue
            worker.taken += 1
            if worker.is_stalled:
                self._move_on(worker)
            threadlocals.current_cancel_scope = job.scope
            job.execute()
            del job, threadlocals.current_cancel_scope  # an idle thread keeps no connection alive
        del threadlocals.current_token

    def _move_on(self, worker: _Worker) -> None:
        with self.lock:
            worker.is_stalled = False
            self._stalled -= 1

    def _rest(self, worker: _Worker) -> bool:
        """Sleep until there is more to do; return False if the thread is to end."""
        if worker.is_stalled:
            self._move_on(worker)
        with self.lock:
            self._awake.discard(worker)
            self._idle.append(worker)
            # A job may have come while this thread still counted as awake. Then `submit` has
            # woken nobody for it.
            if self._jobs:
                self._idle.pop()
                self._awake.add(worker)
                return True
        if self._is_called(worker):
            return True
        with self.lock:
            if worker in self._idle:
                self._idle.remove(worker)
                return False
        # `_wake` took it from the idle ones just when its time was over. Were that call not taken
        # here, the next rest would end at once, with the thread both idle and awake.
        return worker.called.acquire()

    def _is_called(self, worker: _Worker) -> bool:
        """Wait to be called; return False after `IDLE` seconds, or where the process ends.

        A process waits for its threads, and some servers never say that their loop has ended.
        """
        left = IDLE
        while left > 0 and threading.main_thread().is_alive():
            if worker.called.acquire(timeout=min(left, GLANCE)):
                return True
            left -= GLANCE
        return False

    # The end.

    def close(self) -> None:
        """End the threads: the idle ones now, the others when their handlers have ended."""
        self._is_closed = True
        with self.lock:
            idle, self._idle = self._idle, []
        for worker in idle:
            worker.called.release()

    @property
    def is_closed(self) -> bool:
        """Whether it takes no more jobs, since its loop has ended."""
        return self._is_closed

    async def _wait_for_end(self) -> AsyncGenerator[None, None]:
        # A lane has to end with its loop, and asyncio calls nobody when a loop ends. But a loop
        # that is about to end closes all asynchronous generators that were begun in it
        # (`loop.shutdown_asyncgens`). So the lane has one that does nothing but wait for that.
        try:
            yield
        finally:
            self.close()

    @staticmethod
    def _enter(generator: AsyncGenerator[None, None]) -> None:
        """Begin an asynchronous generator, up to its first ``yield``, without an ``await``."""
        try:
            generator.__anext__().send(None)
        except StopIteration:
            return


_handlers: RunVar[Lane | None] = RunVar("asgi_notify_handler_lane")
_disconnects: RunVar[Lane | None] = RunVar("asgi_notify_disconnect_lane")


def handler_lane() -> Lane | None:
    """The running loop's lane; None if the loop is not asyncio's, or the settings turn it off."""
    return _lane_in(_handlers, handler_limiter)


def disconnect_lane() -> Lane | None:
    """The lane for disconnect events: its threads are its own, so no other handler delays them."""
    return _lane_in(_disconnects, disconnect_limiter)


def _lane_in(
    place: RunVar[Lane | None], limiter: Callable[[], anyio.CapacityLimiter]
) -> Lane | None:
    try:
        lane = place.get()
    except LookupError:
        lane = Lane(limiter()) if _is_possible() else None
        place.set(lane)
    return None if lane is None or lane.is_closed else lane


def _is_possible() -> bool:
    try:
        # Without a task, trio runs as a guest in asyncio's loop.
        is_asyncio = asyncio.current_task() is not None
    except RuntimeError:
        return False
    return is_asyncio and threadlocals is not None and Settings.of_process().sync_lane
