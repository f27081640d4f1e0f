"""The sync lane: how many synchronous handlers are run with few wake-ups of threads and loop.

The plain way, `anyio.to_thread`, wakes a thread for each handler, the loop for each of its
sends, and a task for its end: some 100 us of CPU, where the handler itself takes two. Here a
thread takes one waiting handler after the other, and what they want done in the loop is handed
over together, with one wake-up of the loop for all that is there by then::

    the connection's task                           a thread
    ---------------------                           --------
    Job.run --- submit ---> [ jobs that wait ] ---> take one, run its handler, take the next
       ^                                               |
       |  by a step, or in the task                    v
       +------- flush <--- [ jobs to look at ] <--- tell: it sends, it calls, it has ended

Python runs one thread at a time, so for handlers that only compute one thread does. Another
joins where those that are awake do not get on, since their handlers wait for something: the
lane looks every 2 ms, and wakes as many again. So handlers that block run side by side after
a few milliseconds, up to the limiter's number, and keep no others waiting for longer than that.

What threads and the loop both change is either changed under the lock, or it is written by
each before it reads what the other writes, so that at least one of them sees the other.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextvars import Context
from typing import Protocol

import anyio
from anyio.lowlevel import RunVar, current_token

from ..loop_calls import LOOK_AFTER
from ..settings import Settings
from ..sync import disconnect_limiter, handler_limiter

try:
    # Where anyio's functions for worker threads look for the loop and the scope of theirs. It is
    # not public; without it there is no lane, and all handlers are run in the plain way.
    from anyio._core._eventloop import threadlocals
except ImportError:  # pragma: no cover
    threadlocals = None  # type: ignore[assignment]

__all__ = ["Lane", "Work", "disconnect_lane", "handler_lane"]

LOOK = 0.002  # seconds; a handler that does not wait takes a hundredth of that
IDLE = 10.0  # seconds without work after which a thread ends; anyio's own number


class Work(Protocol):
    """A handler with its connection, as seen from here."""

    scope: anyio.CancelScope

    def execute(self) -> None:
        """Run it, in a thread."""

    def wake(self) -> None:
        """Look what it has told, in the loop."""


class _Worker:
    """One thread of a lane; it borrows a token of the limiter while it is awake.

    Attributes:
        taken: how many jobs it has taken.
        seen: how many it had when the lane looked.
        is_stalled: whether it had taken no other since the look before.
        called: released to wake it.
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
        limiter: bounds how many run at once.
    """

    def __init__(self, limiter: anyio.CapacityLimiter) -> None:
        self.loop = asyncio.get_running_loop()
        self._token = current_token()
        self._limiter = limiter
        self._context = Context()  # for callbacks: no handler's
        self._jobs: deque[Work] = deque()
        self._told: deque[Work] = deque()
        self._is_told = False  # the loop is about to look at them
        self._is_closed = False
        # Used by the loop alone:
        self._under_way = 0
        self._tokens: list[object] = []
        self._is_watching = False
        self._cpu = 0.0
        # Under the lock:
        self.lock = threading.Lock()
        self._awake: set[_Worker] = set()
        self._idle: list[_Worker] = []
        self._stalled = 0
        self._end = self._wait_for_end()
        self._enter(self._end)

    @property
    def waiting(self) -> int:
        """How many jobs wait for a thread."""
        return len(self._jobs)

    # In the loop.

    def submit(self, job: Work) -> None:
        """Have a thread run a job; `finish` must follow."""
        self._under_way += 1
        self._jobs.append(job)
        if len(self._awake) <= self._stalled:
            if self._wake() and len(self._jobs) == 1:
                return  # its own thread comes for it
        elif len(self._tokens) < min(len(self._awake), self._under_way):
            self._borrow()  # for one that was about to fall asleep
        if not self._is_watching:
            self._is_watching = True
            self._cpu = time.process_time()
            self.loop.call_later(LOOK, self._watch, context=self._context)

    def finish(self) -> None:
        """Note that a job is over."""
        self._under_way -= 1
        while len(self._tokens) > self._under_way:
            self._limiter.release_on_behalf_of(self._tokens.pop())

    def _borrow(self) -> bool:
        token = object()
        try:
            self._limiter.acquire_on_behalf_of_nowait(token)
        except anyio.WouldBlock:
            return False
        self._tokens.append(token)
        return True

    def _wake(self) -> bool:
        """Wake one more thread, where the limiter allows it; return whether it did."""
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
        threading.Thread(target=self._work, args=(worker,), name=name).start()
        return True

    def _watch(self) -> None:
        """Look whether the threads get on with the jobs that wait, and wake others if not."""
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
        # Short waits are seen by this: nobody computes, though there is something to do.
        if are_stalled or self._cpu - cpu < LOOK / 2:
            for _ in range(min(max(awake, 1), len(self._jobs))):
                if not self._wake():
                    break
        self.loop.call_later(LOOK, self._watch, context=self._context)

    def _flush(self) -> None:
        self._is_told = False
        told = self._told
        while told:
            told.popleft().wake()

    # In threads.

    def tell(self, job: Work) -> None:
        """Have the loop look at a job."""
        self._told.append(job)
        if not self._is_told:
            self._is_told = True
            try:
                self.loop.call_soon_threadsafe(self._flush, context=self._context)
            except RuntimeError:  # it was closed
                self.close()

    def wait_for(self, acquire: Callable[[float], bool]) -> None:
        """Wait for something that the loop does, while the loop lives.

        Args:
            acquire: waits for so many seconds, and says whether it is done.

        Raises:
            anyio.RunFinishedError: the loop has ended.
        """
        while not acquire(LOOK_AFTER):
            if self.loop.is_closed():
                raise anyio.RunFinishedError

    def _work(self, worker: _Worker) -> None:
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
            del job, threadlocals.current_cancel_scope
        del threadlocals.current_token

    def _move_on(self, worker: _Worker) -> None:
        with self.lock:
            worker.is_stalled = False
            self._stalled -= 1

    def _rest(self, worker: _Worker) -> bool:
        """Sleep until there is more to do; return False where the thread is to end."""
        if worker.is_stalled:
            self._move_on(worker)
        with self.lock:
            self._awake.discard(worker)
            self._idle.append(worker)
            if self._jobs:  # they came when this thread still counted as awake
                self._idle.pop()
                self._awake.add(worker)
                return True
        if worker.called.acquire(timeout=IDLE):
            return True
        with self.lock:
            if worker in self._idle:
                self._idle.remove(worker)
                return False
        return True  # it was called at this very moment

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
        # A loop ends the asynchronous generators that were begun in it, when it is about to end.
        try:
            yield
        finally:
            self.close()

    @staticmethod
    def _enter(generator: AsyncGenerator[None, None]) -> None:
        try:
            generator.__anext__().send(None)
        except StopIteration:
            return


_handlers: RunVar[Lane | None] = RunVar("asgi_notify_handler_lane")
_disconnects: RunVar[Lane | None] = RunVar("asgi_notify_disconnect_lane")


def handler_lane() -> Lane | None:
    """The running loop's, or None where it is not asyncio's, or the settings say so."""
    return _lane_in(_handlers, handler_limiter)


def disconnect_lane() -> Lane | None:
    """One more for the handlers of disconnect events, which no other handler may hold up."""
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
        is_asyncio = asyncio.current_task() is not None  # else trio as asyncio's guest
    except RuntimeError:
        return False
    return is_asyncio and threadlocals is not None and Settings.of_process().sync_lane
