"""A transport that hands over what it reads in portions, and whose close comes to an end."""

from asyncio import AbstractEventLoop, BaseTransport, TimerHandle, Transport
from collections.abc import Callable
from time import monotonic
from typing import Any, cast

__all__ = ["Bounded"]

PORTION = 8 * 1024  # bytes that are parsed at once; a read of the loop is up to 256 KiB
TURN = 0.002  # seconds of parsing, after which others get their turn
LINGER = 5.0  # seconds; half of what `asgi-notify serve` gives to connections as it stops


class Bounded:
    """A transport that hands over what it reads in portions, and whose close comes to an end.

    It stands between a protocol and its real transport. What has been read and not
    been parsed is the ``rest``. The real transport reads only while there is no rest
    and the protocol has not paused it.

    Args:
        transport: the real one, or another of this kind, which is left then.
        loop: the loop of both.
        parse: takes the next portion.
    """

    __slots__ = ("_inner", "_is_due", "_is_paused", "_is_stopped", "_parse", "_rest", "_timer",
                 "_unsent", "loop")  # fmt: skip

    def __init__(
        self, transport: BaseTransport, loop: AbstractEventLoop, parse: Callable[[bytes], object]
    ) -> None:
        if isinstance(transport, Bounded):
            transport.leave()
            transport = transport._inner
        self._inner = cast(Transport, transport)
        self.loop = loop
        self._parse: Callable[[bytes], object] | None = parse
        self._rest = memoryview(b"")
        self._is_paused = False  # by the protocol
        self._is_stopped = False  # the real transport's reading
        self._is_due = False  # a callback that goes on with the rest
        self._timer: TimerHandle | None = None  # runs from the close on
        self._unsent = 0  # bytes, when the timer began

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def write(self, data: bytes) -> None:
        """Send it."""
        self._inner.write(data)

    def take(self, data: bytes) -> None:
        """Hand over what has been read; where it is much, only the beginning now."""
        if self._rest or len(data) > PORTION:
            self._rest = memoryview(bytes(self._rest) + data)
            self._go_on()
        elif self._parse is not None:  # the way of nearly everything
            self._parse(data)

    def pause_reading(self) -> None:
        """Hand over nothing more, not even of what has been read."""
        self._is_paused = True
        self._settle()

    def resume_reading(self) -> None:
        """Go on where it was paused."""
        self._is_paused = False
        self._settle()

    def close(self) -> None:
        """Send what is left, for as long as the client reads on, and close."""
        if not self._inner.is_closing():
            self._rest = memoryview(b"")
            self._linger()
            self._inner.close()

    def leave(self) -> None:
        """Forget the protocol, whose connection has ended or has another protocol now."""
        self._parse = None  # or the two would keep each other in memory
        if self._timer is not None:
            self._timer.cancel()
        if self._is_stopped and not self._inner.is_closing():
            self._inner.resume_reading()  # for the next protocol

    def _go_on(self) -> None:
        self._is_due = False
        end = monotonic() + TURN  # not the loop's time: uvloop's stands still in a turn
        while self._parse is not None and not self._is_paused and not self._inner.is_closing():
            portion, self._rest = self._rest[:PORTION], self._rest[PORTION:]
            self._parse(bytes(portion))
            if not self._rest or monotonic() > end:
                break
        self._settle()

    def _settle(self) -> None:
        if self._parse is None or self._inner.is_closing():
            self._rest = memoryview(b"")
            return
        if self._rest and not self._is_paused and not self._is_due:
            self._is_due = True
            self.loop.call_soon(self._go_on)
        stop = self._is_paused or bool(self._rest)
        if stop is not self._is_stopped:
            self._is_stopped = stop
            (self._inner.pause_reading if stop else self._inner.resume_reading)()

    def _linger(self) -> None:
        self._unsent = self._inner.get_write_buffer_size()
        self._timer = self.loop.call_later(LINGER, self._give_up)

    def _give_up(self) -> None:
        if self._inner.get_write_buffer_size() < self._unsent:
            self._linger()  # a slow client, but it reads
        else:
            self._inner.abort()
