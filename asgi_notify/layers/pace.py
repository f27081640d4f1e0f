"""How long a sender waits for readers that are busy, and how it is known which of them keep up.

A reader may have work to do before it reads on, such as a synchronous handler that runs in a
thread. Most such handlers end soon after a thread has taken them. So their consumer keeps up, and
a sender that finds its mailbox full waits, as for a reader that was only woken. But a handler may
also block for seconds, and nobody says which ones do. So a sender that waits looks every 2 ms at
the work that it waits for::

    looks        |       |       |       |       |
    prompt    [==] [=] [==] [==] [=] [=] [==] [=]    each look finds another piece of work
    blocked     [==================================  each look finds the same piece again

A look that finds that the work does not get on costs the mailbox some of its patience. Where that
is used up, senders wait no more, and the overflow policy decides, until the mailbox was empty once.
So a consumer that blocks holds up its senders for some 40 ms, however much they send.

Threads share the processor, and work may also wait for a thread. So it takes more than the same
piece of work to say that it does not get on. Either no work at all has begun since the last look,
though the process has hardly computed anything. Or other work overtakes it: twice as much has begun
as there are threads. Where no work has begun while the process has computed, the threads may only
have got no turn, and the look costs a tenth. Then the bound is some 400 ms.

Looks count, not seconds: where the whole process has got no time for 40 ms, nobody was slow.
"""

import time
from contextvars import ContextVar

import anyio
from anyio.lowlevel import RunVar

from ..sync import handler_limiter
from .hub import Lagging
from .mailbox import Mailbox, Work

__all__ = ["Pace", "catch_up", "handled_channel", "pace_of_loop"]

LOOK = 0.002  # seconds; a handler that does not block takes about a hundredth of that
IDLE = 0.5  # of the time between two looks: below, the process has hardly computed anything

# Of a mailbox's patience (`PATIENCE`):
LOOK_COSTS = 10
BUSY_LOOK_COSTS = 1


class Pace:
    """Looks, for the senders of one event loop, at the work that they wait for.

    Attributes:
        begun: how many pieces of work have begun so far; counted up by the threads. They do not
            exclude each other, since it only matters whether it has changed.
        looks: how many looks there were so far; there are none while no sender waits.
    """

    def __init__(self) -> None:
        self.begun = 0
        self._last = (0.0, 0.0, 0)  # at the last look: the time, that of the processor, and `begun`
        self.looks = 0
        self._waiting: dict[object, Lagging] = {}  # what each sender waits for
        self._threads = handler_limiter()

    async def wait_for(self, lagging: Lagging) -> None:
        """Wait until none of these mailboxes is lagging, and look at their work meanwhile."""
        sender = object()
        self._waiting[sender] = lagging
        try:
            while True:
                with anyio.move_on_after(LOOK):
                    await _catch_up(lagging)
                    return
                self._look()
        finally:
            del self._waiting[sender]

    def _look(self) -> None:
        if time.monotonic() - self._last[0] < LOOK / 2:
            return  # another sender has just looked
        self.looks += 1
        cost = self._cost_if_waiting()
        overtaken = self.begun - 2 * self._threads.borrowed_tokens
        for lagging in self._waiting.values():
            for mailbox in lagging:
                if mailbox.work is not None:
                    self._look_at(mailbox, mailbox.work, cost, overtaken)

    def _cost_if_waiting(self) -> int:
        """What this look costs those whose work has not been overtaken."""
        now, cpu, begun = time.monotonic(), time.process_time(), self.begun
        (then, cpu_then, begun_then), self._last = self._last, (now, cpu, begun)
        if begun != begun_then:
            return 0
        return LOOK_COSTS if cpu - cpu_then < IDLE * (now - then) else BUSY_LOOK_COSTS

    def _look_at(self, mailbox: Mailbox, work: Work, cost: int, overtaken: int) -> None:
        last, work.looked_at = work.looked_at, self.looks
        if last == self.looks:
            return  # several senders wait for it
        if last != self.looks - 1:
            work.seen_at = self.begun
        elif work.has_ended:
            return
        elif work.has_begun and work.seen_at <= overtaken:
            work.seen_at = self.begun
            mailbox.lose_patience(LOOK_COSTS)
        elif cost:
            mailbox.lose_patience(cost)


_of_loop: RunVar[Pace] = RunVar("asgi_notify_pace")


def pace_of_loop() -> Pace:
    """The running event loop's pace."""
    try:
        return _of_loop.get()
    except LookupError:
        pace = Pace()
        _of_loop.set(pace)
        return pace


handled_channel: ContextVar[str] = ContextVar("asgi_notify_handled_channel")
"""Whose handler runs, in a thread, in this context."""


async def catch_up(lagging: Lagging) -> None:
    """Wait while readers of full mailboxes have had no turn, or are busy and keep up.

    A handler that sends to its own consumer waits for itself, so it is not waited for.
    """
    own = handled_channel.get(None)
    is_any_busy = False
    for mailbox in lagging:
        if mailbox.work is None:
            continue
        if mailbox.channel == own:
            mailbox.let_go()
        else:
            is_any_busy = True
    if is_any_busy:
        await pace_of_loop().wait_for(lagging)
    else:
        await _catch_up(lagging)


async def _catch_up(lagging: Lagging) -> None:
    for mailbox in lagging:
        await mailbox.catch_up()
