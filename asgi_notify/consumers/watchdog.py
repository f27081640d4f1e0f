"""How a send that never ends is noticed: by somebody who looks at all of them now and then.

A server's ``send`` waits while its client reads nothing. A timer for each send would cost
more than the send. So one of them for the whole event loop rings a few times within the
limit, and looks which connections have had a send under way and ended none meanwhile::

    looks       |     |     |     |     |
    slow    [=======][========][=====][====]   counts 1, 1, 1, ...: each finds another send
    stuck     [===========================     counts 1, 2, 3, 4, 5: it is given up
"""

from typing import Protocol

from anyio.lowlevel import RunVar

from ..layers.alarm import Alarm

__all__ = ["SendWatchdog", "Sender", "watchdog_of"]

IDLE = (0, 0)
LOOKS = 4  # within the limit; it is exceeded by a quarter of itself at most


class Sender(Protocol):
    """A connection, as seen from here."""

    sends_begun: int
    sends_ended: int

    def give_up(self, seconds: float) -> None:
        """End the connection, whose client has taken nothing for so long."""


class SendWatchdog:
    """Looks after the connections of one event loop that have one limit.

    Args:
        limit: seconds for which a connection may have a send under way and end none.
    """

    def __init__(self, limit: float) -> None:
        self.limit = limit
        # How many sends had ended, and at how many looks until now one was under way since.
        self._seen: dict[Sender, tuple[int, int]] = {}
        self._alarm = Alarm(self._look)

    def watch(self, sender: Sender) -> None:
        """Look after a connection from now on."""
        if not self._seen:
            self._alarm.set(self.limit / LOOKS)
        self._seen[sender] = IDLE

    def leave(self, sender: Sender) -> None:
        """Look after a connection no more."""
        del self._seen[sender]
        if not self._seen:
            self._alarm.cancel()  # on trio it is a thread, which would outlive the loop

    def _look(self) -> None:
        if not self._seen:
            return  # on trio, what was on its way already when the last one left
        self._alarm.cancel()  # in that case, one that was set since
        self._alarm.set(self.limit / LOOKS)
        for sender, (ended, looks) in list(self._seen.items()):
            if sender.sends_begun == sender.sends_ended:
                now = IDLE
            elif sender.sends_ended == ended:
                now = ended, looks + 1
            else:
                now = sender.sends_ended, 1
            self._seen[sender] = now
            if now[1] == LOOKS + 1:
                sender.give_up(self.limit)


_of_loop: RunVar[dict[float, SendWatchdog]] = RunVar("asgi_notify_patrols")


def watchdog_of(limit: float) -> SendWatchdog:
    """The running event loop's patrol for this limit, in seconds."""
    try:
        patrols = _of_loop.get()
    except LookupError:
        patrols = {}
        _of_loop.set(patrols)
    if limit not in patrols:
        patrols[limit] = SendWatchdog(limit)
    return patrols[limit]
