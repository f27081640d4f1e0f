"""Whether the client at the other end is still there, and what is done about one that is not."""

from math import inf

import anyio

from ..exceptions import ClientTimeout
from ..types import Event, Receive
from .connection import Connection

__all__ = ["Peer"]

_PING = "ping.due"  # handled by the consumer in its turn, so that one thing at a time is sent


class Peer:
    """The client of one connection, asked again and again whether it is there.

    Args:
        connection: that it is at the other end of.
        ping_interval: seconds between two pings.
        pong_timeout: seconds after which one that has not sent anything, or reads nothing, is
            gone.
    """

    def __init__(self, connection: Connection, ping_interval: float, pong_timeout: float) -> None:
        self._connection = connection
        self._interval = ping_interval
        self._timeout = pong_timeout
        # On the event loop's clock, in seconds:
        self._silent_since = inf  # when the wait for its next frame began
        self._pinged_at = -inf

    def hears(self, receive: Receive) -> Receive:
        """A ``receive`` that notes when the client was heard of."""

        async def hear() -> Event:
            # A frame that waits to be handled is no silence: then nobody waits here.
            self._silent_since = anyio.current_time()
            event = await receive()
            self._silent_since = inf
            return event

        return hear

    def note_pinged(self) -> None:
        """Note that a ping goes out now."""
        self._pinged_at = anyio.current_time()

    async def watch(self) -> None:
        """Have the client pinged, and close its connection when it is gone."""
        connection, began_at = self._connection, anyio.current_time()
        mailbox = connection.mailbox
        while True:
            await anyio.sleep_until(began_at + self._interval)
            began_at = anyio.current_time()
            stuck_at = connection.sends_ended if connection.is_sending else None
            with anyio.move_on_after(self._timeout):
                await mailbox.put_event({"type": _PING})
                await anyio.sleep(self._timeout)
            pinged_at = self._pinged_at
            if pinged_at < began_at:
                # It still waits behind others: for a handler, which is not the client's fault,
                # or for a send that the client does not let end.
                if connection.is_sending and connection.sends_ended == stuck_at:
                    connection.give_up(self._timeout)
                    return
                continue
            # One that had to wait leaves the client as much time as any other.
            await anyio.sleep_until(pinged_at + self._timeout)
            # uvloop's clock goes in steps of 1 ms: who answers within one is not silent.
            if self._silent_since < pinged_at:
                mailbox.close(
                    ClientTimeout(f"nothing was heard for {self._timeout:g} s after a ping")
                )
                return
