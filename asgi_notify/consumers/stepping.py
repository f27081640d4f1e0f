"""How an idle consumer is woken: by a turn of its own task or, on asyncio, by a step.

To wake a task costs a future, a callback and a switch, which is more than most handlers cost.
So where the event loop is asyncio's, the task of a consumer that waits for its mailbox sleeps
on, and one callback of the loop makes a step for each consumer that has got something::

                  set(), called             step(), called
                  by the mailbox            by the loop
        asleep -----------------> due ---------------------> in a step
          ^                                                    |    |
          |            the mailbox is empty again              |    |  a handler has to wait,
          '----------------------------------------------------'    |  or fails, or all is over
                                                                    v
                                    the task wakes, and goes on where the step has stopped

A step runs the handlers as if the task itself did: in the task's context, and with that task
as the current one, so that cancel scopes and timeouts are the task's. A handler that ends
without having to wait is done. One that has to wait has been begun by then, so the task is
given the coroutine together with what it awaits, and nothing else is handled until it has
ended. A handler that waits for a `Turn`, which is over soon, is left to a later step instead.

A sender only puts something into a mailbox. So no sender is kept by a slow handler or gets a
handler's error, and a handler that sends never runs another handler inside of itself.

Source: Python's documentation, asyncio, "Extending", section "Task lifetime
support", for entering and leaving a task.
"""

import asyncio
from asyncio.tasks import _enter_task, _leave_task
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextvars import Context
from types import coroutine
from typing import Any, Protocol

from anyio.lowlevel import RunVar, checkpoint

from ..layers.entries import Entry
from ..layers.mailbox import Mailbox
from ..settings import Settings

__all__ = ["HandlerSource", "Turn", "handle_each"]

STEPS = 16  # consumers in one callback; then the loop serves others
TURN = 1000  # messages of one consumer, in one go

Handling = Coroutine[Any, Any, None]


class HandlerSource(Protocol):
    """What a connection brings a consumer, as seen from here."""

    current: str
    """The type of what is being handled, or nothing."""

    @property
    def mailbox(self) -> Mailbox:
        """Where it comes from."""

    @property
    def is_over(self) -> bool:
        """Whether nothing more is to be handled."""

    def begin(self, entry: Entry) -> Handling | None:
        """Begin to handle an entry of the mailbox; None where that is all."""

    async def follow(self, begin: Callable[..., Awaitable[None] | None], *args: object) -> None:
        """Begin something and wait for its end, whatever it raises."""


async def handle_each(source: HandlerSource, *, by_steps: bool) -> None:
    """Handle what comes into the mailbox, one after the other, until nothing more is to be.

    Args:
        source: what handles it.
        by_steps: whether handlers may be run from outside of the running task,
            where the event loop and the settings allow it.
    """
    mailbox, handled = source.mailbox, 0
    steps = _steps_of_loop() if by_steps else None
    try:
        while not source.is_over and mailbox.error is None:
            entry = mailbox.pop()
            if entry is not None:
                await source.follow(source.begin, entry)
                handled += 1
                if handled % TURN == 0:
                    mailbox.pause()
                    await checkpoint()
            elif steps is None:
                await mailbox.wait()
            else:
                await _sleep(source, steps)
    finally:
        mailbox.watch(None)  # no sender is to wait for a reader that has gone


class _Steps:
    """Steps to be made for the idle consumers of one event loop that have got something."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.waiting: deque[_Sleep] = deque()
        self.is_scheduled = False
        # An empty one, or else the steps would run in the context of whoever has sent first.
        # Each step enters the context of its own consumer's task.
        self._context = Context()

    def schedule(self) -> None:
        """Have the steps made in the next turn of the loop."""
        self.is_scheduled = True
        self.loop.call_soon(self._run, context=self._context)

    def _run(self) -> None:
        waiting = self.waiting
        try:
            for _ in range(min(len(waiting), STEPS)):
                waiting.popleft().step()
        finally:
            # A signal handler may raise in the middle of a step. The consumers that still wait
            # for theirs would never get one, were this not done then, too.
            self.is_scheduled = False
            if waiting:
                self.schedule()


class Turn(asyncio.Future[None]):
    """What a handler waits for that is over soon, in the thread of the loop.

    A handler that was begun by a step goes on in a step, too, so that its task sleeps on. A
    task that awaits it is woken, as by any future.
    """

    __slots__ = ("sleep",)

    def __init__(self, *, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self.sleep: _Sleep | None = None  # of the task whose step waits for it

    def set(self) -> None:
        """It is over."""
        if not self.done():
            self.set_result(None)
            if self.sleep is not None and self.sleep.is_asleep:
                self.sleep.set()


class _Sleep(asyncio.Future[None]):
    """What the task of an idle consumer waits for, while steps are made for it.

    All that a step needs is in this one object: with many consumers, what
    each touches comes from slow memory.
    """

    __slots__ = ("begun", "context", "error", "is_due", "mailbox", "source", "steps", "task")

    context: Context

    def __init__(self, source: HandlerSource, steps: _Steps) -> None:
        super().__init__(loop=steps.loop)
        self.source = source
        self.mailbox = source.mailbox
        self.is_due = False  # for a step
        self.steps = steps
        self.task: Any = asyncio.current_task()
        self.begun: tuple[Handling, Any] | None = None  # and what it waits for
        self.error: BaseException | None = None

    def add_done_callback(  # type: ignore[override]
        self, fn: Callable[[asyncio.Future[None]], object], /, *, context: Context
    ) -> None:
        # The task calls this with the context that it runs in. Only since Python 3.12 can a
        # task be asked for it.
        self.context = context
        super().add_done_callback(fn, context=context)

    def done(self) -> bool:
        # `anyio.wait_all_tasks_blocked` asks this of what each task awaits. A task that has a
        # step to come is not blocked, though what it awaits has no result yet.
        return self.is_due or super().done()

    def set(self) -> None:
        """Called by the mailbox when something has come."""
        self.is_due = True
        steps = self.steps
        steps.waiting.append(self)
        if not steps.is_scheduled:
            steps.schedule()

    @property
    def is_asleep(self) -> bool:
        """Whether the task sleeps, so that steps can be made."""
        return not super().done()

    def step(self) -> None:
        """Handle what waits in the mailbox, inside the task."""
        self.is_due = False
        if super().done():
            return  # the task was cancelled
        loop = self.steps.loop
        _enter_task(loop, self.task)
        try:
            self.context.run(self._handle_waiting)
        finally:
            _leave_task(loop, self.task)

    def _handle_waiting(self) -> None:
        if self.begun is not None and not self._end_begun(self.begun[0]):
            return
        source, mailbox = self.source, self.mailbox
        for _ in range(TURN):
            if source.is_over or mailbox.error is not None:
                break
            entry = mailbox.pop()
            if entry is None:
                source.current = ""
                mailbox.watch(self)
                return
            try:
                handling = source.begin(entry)
                if handling is None:
                    continue
                try:
                    self.begun = handling, _unmark(handling.send(None))
                except StopIteration:
                    continue  # the handler has ended
            except BaseException as error:
                self.error = error
            break
        self._leave()

    def _end_begun(self, handling: Handling) -> bool:
        """Let a handler go on that has waited for its `Turn`; return whether it has ended."""
        self.begun = None
        try:
            self.begun = handling, _unmark(handling.send(None))
        except StopIteration:
            return True
        except BaseException as error:
            self.error = error
        self._leave()
        return False

    def _leave(self) -> None:
        """Leave what was begun, or what is left, to the task, or to the step after a `Turn`."""
        if self.begun is not None and type(self.begun[1]) is Turn:
            self.begun[1].sleep = self
        elif not super().done():  # a handler may have cancelled its own task
            if self.begun is None:
                self.mailbox.pause()  # the task goes on, without having to wait for anything
            self.set_result(None)


async def _sleep(source: HandlerSource, steps: _Steps) -> None:
    """Let steps be made until one needs the running task, and end what it has begun."""
    sleep = _Sleep(source, steps)
    source.mailbox.watch(sleep)
    cancelled: asyncio.CancelledError | None = None
    try:
        await sleep
    except asyncio.CancelledError as error:
        cancelled = error
    if sleep.begun is not None:
        await source.follow(_go_on, *sleep.begun, cancelled)
        return
    if sleep.error is not None:
        await source.follow(_fail, sleep.error)
    if cancelled is not None:
        raise cancelled


def _unmark(awaited: Any) -> Any:
    # A coroutine that awaits a future marks it, and the task that takes the future out of the
    # coroutine takes the mark away. Here the task may come to that much later. Were the future
    # still marked then, nobody else could await it meanwhile.
    if asyncio.isfuture(awaited):
        awaited._asyncio_future_blocking = False
    return awaited


def _fail(error: BaseException) -> None:
    raise error


@coroutine
def _go_on(
    handling: Handling, awaited: Any, cancelled: BaseException | None
) -> Generator[Any, Any, None]:
    """Go on, in the running task, with what was begun outside of it and awaits something.

    A task that was cancelled before it came here does what `asyncio.Task.cancel`
    would have done: it cancels what is awaited and, only where that is not to be
    cancelled, throws the error into the coroutine.
    """
    error = cancelled
    if asyncio.isfuture(awaited):
        if error is not None and awaited.cancel(*error.args):
            error = None
        awaited._asyncio_future_blocking = True  # again
    while True:
        if error is None:
            try:
                yield awaited
            except BaseException as thrown:
                error = thrown
            else:
                yield from handling
                return
        try:
            awaited, error = handling.throw(error), None
        except StopIteration:
            return


_of_loop: RunVar[_Steps | None] = RunVar("asgi_notify_steps")


def _steps_of_loop() -> _Steps | None:
    """The running loop's, or None where it is not asyncio's, or the settings say so."""
    try:
        if asyncio.current_task() is None:  # trio as asyncio's guest
            return None
    except RuntimeError:
        return None
    try:
        return _of_loop.get()
    except LookupError:
        steps = _Steps() if Settings.of_process().stepping else None
        _of_loop.set(steps)
        return steps
