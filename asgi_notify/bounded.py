"""A transport that parses much input in portions, and gives up a close that takes too long.

Both keep one client from harming the others. Parsing a long read in one go would block the event
loop for all connections. And a transport that is closed waits until all is written, which is
never if the client has stopped to read; the connection would stay in memory forever.
"""

from asyncio import AbstractEventLoop, BaseTransport, TimerHandle, Transport
from collections.abc import Callable
from time import monotonic
from typing import Any, cast

__all__ = ["Bounded"]

PORTION = 8 * 1024  # bytes that are parsed at once; a read of the loop is up to 256 KiB
TURN = 0.002  # seconds of parsing; then the loop serves others
LINGER = 5.0  # seconds; half of what `asgi-notify serve` gives connections to end when it stops


class Bounded:
    """A transport between a protocol and its real transport.

    What has been read and not yet been parsed is the ``rest``. The real transport reads only
    while there is no rest and the protocol has not paused it.

    After `close`, it looks every `LINGER` seconds whether the client has taken some of what was
    still to be sent. If it has not, the connection is aborted.

    Args:
        transport: the real one. If it is a `Bounded`, the one inside of it is taken over, and
            that `Bounded` is left; see `leave`.
        loop: the event loop.
        parse: called with the next portion; usually the protocol's parser.
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
        self._is_stopped = False  # whether the real transport has stopped to read
        self._is_due = False  # whether a callback is scheduled that goes on with the rest
        self._timer: TimerHandle | None = None  # set while a close is waited for
        self._unsent = 0  # bytes that were still to be sent when the timer began

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def write(self, data: bytes) -> None:
        """Send data."""
        self._inner.write(data)

    def take(self, data: bytes) -> None:
        """Parse what has been read. If it is much, only the beginning is parsed now."""
        if self._rest or len(data) > PORTION:
            self._rest = memoryview(bytes(self._rest) + data)
            self._go_on()
        elif self._parse is not None:  # nearly all reads go this way
            self._parse(data)

    def pause_reading(self) -> None:
        """Parse nothing more, not even what has been read already."""
        self._is_paused = True
        self._settle()

    def resume_reading(self) -> None:
        """Go on where parsing was paused."""
        self._is_paused = False
        self._settle()

    def close(self) -> None:
        """Send what is left, as long as the client takes it, and close."""
        if not self._inner.is_closing():
            self._rest = memoryview(b"")
            self._linger()
            self._inner.close()

    def leave(self) -> None:
        """Forget the protocol, whose connection has ended or has another protocol now."""
        self._parse = None  # it refers to the protocol, which refers to this: a cycle otherwise
        if self._timer is not None:
            self._timer.cancel()
        if self._is_stopped and not self._inner.is_closing():
            self._inner.resume_reading()  # for the next protocol

    def _go_on(self) -> None:
        self._is_due = False
        # Not loop.time(): that of uvloop does not change within a turn of the loop.
        end = monotonic() + TURN
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
            self._linger()  # the client is slow, but it reads
        else:
            self._inner.abort()
