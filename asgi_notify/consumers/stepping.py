"""How a consumer's mailbox is handled: by the consumer's own task or, on asyncio, by steps.

To wake a task costs a future, a callback and a switch, which is more than most handlers cost.
So where the event loop is asyncio's, the task of an idle consumer is not woken for each message.
It sleeps on, and one callback of the loop makes a step for each consumer that has got something::

                  set(), called             step(), called
                  by the mailbox            by the loop
        asleep -----------------> due ---------------------> in a step
          ^                                                    |    |
          |            the mailbox is empty again              |    |  a handler has to wait,
          '----------------------------------------------------'    |  or fails, or all is over
                                                                    v
                                    the task wakes, and goes on where the step has stopped

A step runs the handlers as if the task itself did: in the task's context, and with that task
as the current one, so that cancel scopes and timeouts are the task's. There are three ways in
which a handler's coroutine can come out of a step:

- It has ended without having to wait. Then the step goes on with the next message.
- It awaits something. A coroutine that has begun cannot begin again, so the task is woken and
  given the coroutine together with what it awaits (`_Sleep.begun`, `_go_on`). Nothing else is
  handled until it has ended.
- It awaits a `Turn`, which is over soon. Then the task sleeps on, and a later step goes on with
  the coroutine (`_Sleep._end_begun`).

Steps are made in a later turn of the loop, never in the sender's call, which only puts something
into a mailbox. So a slow handler does not delay the sender, a handler's error does not come to
the sender, and a handler that sends does not run another handler inside of itself.

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

STEPS = 32  # consumers in one callback; then the loop serves others: docs/performance.md
TURN = 1000  # messages of one consumer in a row; then the loop serves others

Handling = Coroutine[Any, Any, None]

_is_done = asyncio.Future[Any].done  # whatever a subclass says; super() would cost each step more


class HandlerSource(Protocol):
    """What this module needs of a connection: a mailbox, and how its entries are handled."""

    current: str
    """The type of the event or message that is being handled; empty while there is none."""

    @property
    def mailbox(self) -> Mailbox:
        """Where the entries come from."""

    @property
    def is_over(self) -> bool:
        """Whether nothing more is to be handled."""

    def begin(self, entry: Entry) -> Handling | None:
        """Begin to handle an entry; return the handler's coroutine, or None if it is handled."""

    async def follow(self, begin: Callable[..., Awaitable[None] | None], *args: object) -> None:
        """Call a function, and wait for the end of what it returns, if it returns something.

        An error is noted, and ends the connection. Only a cancellation of the running task is
        raised here.
        """


async def handle_each(source: HandlerSource, *, by_steps: bool) -> None:
    """Handle what comes into the mailbox, one entry after the other, until all is over.

    Args:
        source: the connection.
        by_steps: whether steps may be made, where the event loop and the settings allow it.
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
        mailbox.watch(None)  # senders that wait for this reader go on: it has gone


class _Steps:
    """The steps that are due in one event loop, for idle consumers that have got something."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.waiting: deque[_Sleep] = deque()
        self.is_scheduled = False
        # An empty one: otherwise the callback would run in the context of the first sender, and
        # keep that alive. Each step enters the context of its own consumer's task.
        self._context = Context()

    def schedule(self) -> None:
        """Have the loop make the steps in its next turn."""
        self.is_scheduled = True
        self.loop.call_soon(self._run, context=self._context)

    def _run(self) -> None:
        waiting = self.waiting
        try:
            for _ in range(min(len(waiting), STEPS)):
                waiting.popleft().step()
        finally:
            # A signal handler may raise in the middle of a step. This has to be done even then:
            # otherwise the consumers that still wait for their steps would never get them.
            self.is_scheduled = False
            if waiting:
                self.schedule()


class Turn(asyncio.Future[None]):
    """A future for what is over soon, such as the next act of a synchronous handler.

    When a coroutine in a step awaits it, a later step goes on with the coroutine, and the task
    sleeps on. A task that awaits it itself is woken, as by any future. `set` is called in the
    loop's thread.
    """

    __slots__ = ("sleep",)

    def __init__(self, *, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self.sleep: _Sleep | None = None  # of the consumer whose handler awaits it in a step

    def set(self) -> None:
        """End the waiting."""
        if not self.done():
            self.set_result(None)
            if self.sleep is not None and self.sleep.is_asleep:
                self.sleep.set()


class _Sleep(asyncio.Future[None]):
    """The future that the task of an idle consumer awaits, while steps are made for it.

    Its result is set when the task is needed; see `_leave`. All that a step needs is in this one
    object: with many consumers, none of it is in the processor's cache, and each further object
    that a step touches costs a slow access to memory.

    Attributes:
        is_due: whether a step is to be made.
        begun: a handler's coroutine that has not ended, and what it awaits.
        error: what a handler has raised in a step.
    """

    __slots__ = ("begun", "context", "error", "is_due", "mailbox", "source", "steps", "task")

    context: Context

    def __init__(self, source: HandlerSource, steps: _Steps) -> None:
        super().__init__(loop=steps.loop)
        self.source = source
        self.mailbox = source.mailbox
        self.is_due = False
        self.steps = steps
        self.task: Any = asyncio.current_task()
        self.begun: tuple[Handling, Any] | None = None
        self.error: BaseException | None = None

    def add_done_callback(  # type: ignore[override]
        self, fn: Callable[[asyncio.Future[None]], object], /, *, context: Context
    ) -> None:
        # The task calls this when it begins to await, with the context that it runs in. That is
        # how a step learns it: `Task.get_context` exists since Python 3.12 only.
        self.context = context
        super().add_done_callback(fn, context=context)

    def done(self) -> bool:
        # `anyio.wait_all_tasks_blocked` asks each task's future whether the task is blocked. A
        # task for which a step is due is not, though its future has no result yet. The methods
        # here ask super().done() for the real answer.
        return self.is_due or super().done()

    def set(self) -> None:
        """Have a step made; called by the mailbox when something has come, and by a `Turn`."""
        self.is_due = True
        steps = self.steps
        steps.waiting.append(self)
        if not steps.is_scheduled:
            steps.schedule()

    @property
    def is_asleep(self) -> bool:
        """Whether the task still awaits this, so that steps can be made."""
        return not super().done()

    def step(self) -> None:
        """Handle what waits in the mailbox, as if inside the task."""
        self.is_due = False
        if _is_done(self):
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
            entry = mailbox.pop(self)
            if entry is None:
                source.current = ""
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
        """Go on with a handler that has awaited its `Turn`; return whether it has ended."""
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
        """End the step: leave what is to be done to the task, or to the step after a `Turn`."""
        if self.begun is not None and type(self.begun[1]) is Turn:
            self.begun[1].sleep = self
        elif not super().done():  # a handler may have cancelled its own task
            if self.begun is None:
                # The task goes on to read the mailbox by itself. Until it does, it counts as a
                # reader that keeps up, so that no sender drops messages because of it.
                self.mailbox.pause()
            self.set_result(None)


async def _sleep(source: HandlerSource, steps: _Steps) -> None:
    """Sleep while steps are made, until one needs this task; then end what that has begun."""
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
    # A coroutine that awaits a future sets a mark on it, and the task that runs the coroutine
    # takes the mark away at once. Here a step runs it, and the task comes to that much later.
    # While the mark is set, nobody else can await the future, so it is taken away until then.
    if asyncio.isfuture(awaited):
        awaited._asyncio_future_blocking = False
    return awaited


def _fail(error: BaseException) -> None:
    raise error


@coroutine
def _go_on(
    handling: Handling, awaited: Any, cancelled: BaseException | None
) -> Generator[Any, Any, None]:
    """Go on, in the running task, with a coroutine that a step has begun.

    From here on the coroutine is run as ``await`` would run it.

    Args:
        handling: the coroutine.
        awaited: what it awaits.
        cancelled: the error, if the task was cancelled while it slept. The coroutine has to
            notice that as if it had run in the task: `asyncio.Task.cancel` would have cancelled
            what it awaits, and thrown the error into it only if that cannot be cancelled.
    """
    error = cancelled
    if asyncio.isfuture(awaited):
        if error is not None and awaited.cancel(*error.args):
            error = None
        awaited._asyncio_future_blocking = True  # the task expects the mark; see `_unmark`
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
    """The running loop's steps; None if the loop is not asyncio's, or the settings turn it off."""
    try:
        if asyncio.current_task() is None:  # trio runs as a guest in asyncio's loop
            return None
    except RuntimeError:
        return None
    try:
        return _of_loop.get()
    except LookupError:
        steps = _Steps() if Settings.of_process().stepping else None
        _of_loop.set(steps)
        return steps
