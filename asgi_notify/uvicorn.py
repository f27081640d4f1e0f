r"""Protocols for uvicorn that no single client can fill, freeze, or keep from stopping.

They are uvicorn's own, with a bound on what a client can make them do::

    uvicorn --ws asgi_notify.uvicorn:WebSocketProtocol \
        --http asgi_notify.uvicorn:HttpProtocol myproject.asgi:application

=====================================  ==============================================
what a client does                     what it costs here
=====================================  ==============================================
sends pings and reads no answers       one pong waits, that to the last ping
sends a message in endless pieces      the bytes of the pieces, up to ``ws_max_size``
sends requests, and reads no answers   the requests in one portion of 8 KiB
sends a head that never ends           64 KiB, then the connection is closed
sends thousands of frames at once      others get their turn after each 8 KiB
leaves what it was sent unread,        5 seconds without progress, then the rest is
while its connection closes            thrown away
=====================================  ==============================================

This is the only module that knows how uvicorn works inside. Where the installed one
lacks what stands here, a warning is logged, and uvicorn's own class serves instead.
"""

import asyncio
import logging
from asyncio import AbstractEventLoop, BaseTransport, TimerHandle, Transport
from collections.abc import Callable, Collection
from time import monotonic
from typing import TYPE_CHECKING, Any, cast

from websockets.frames import Frame

# The second choice is what uvicorn takes itself; `_checked` sees that it is another class.
try:
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
except ImportError:  # there is no httptools here, or uvicorn has put it elsewhere
    from uvicorn.protocols.http.auto import (  # type: ignore[assignment]
        AutoHTTPProtocol as HttpToolsProtocol,
    )
try:
    from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
except ImportError:
    from uvicorn.protocols.websockets.auto import (  # type: ignore[assignment]
        AutoWebSocketsProtocol as WebSocketsSansIOProtocol,
    )

__all__ = ["HttpProtocol", "WebSocketProtocol"]

PORTION = 8 * 1024  # bytes that are parsed at once; a read of the loop is up to 256 KiB
TURN = 0.002  # seconds of parsing, after which others get their turn
MAX_HEAD = 64 * 1024  # bytes of a request before its body; nginx: 32 KiB, h11: 16 KiB
LINGER = 5.0  # seconds; half of what `asgi-notify serve` gives to connections as it stops

logger = logging.getLogger(__name__)


class _Bounded:
    """A transport that hands over what it reads in portions, and whose close comes to an end.

    It stands between a protocol and its real transport. What has been read and not
    been parsed is the ``rest``. The real transport reads only while there is no rest
    and the protocol has not paused it.

    Args:
        transport: the real one, or another of this kind, which is left then.
        loop: the loop of both.
        parse: takes the next portion.
    """

    __slots__ = ("_inner", "_is_due", "_is_paused", "_is_stopped", "_loop", "_parse", "_rest",
                 "_timer", "_unsent", "write")  # fmt: skip

    def __init__(
        self, transport: BaseTransport, loop: AbstractEventLoop, parse: Callable[[bytes], object]
    ) -> None:
        if isinstance(transport, _Bounded):
            transport.leave()
            transport = transport._inner
        self._inner = cast(Transport, transport)
        self._loop = loop
        self._parse: Callable[[bytes], object] | None = parse
        self._rest = memoryview(b"")
        self._is_paused = False  # by the protocol
        self._is_stopped = False  # the real transport's reading
        self._is_due = False  # a callback that goes on with the rest
        self._timer: TimerHandle | None = None  # runs from the close on
        self._unsent = 0  # bytes, when the timer began
        self.write = self._inner.write

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

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
            self._loop.call_soon(self._go_on)
        stop = self._is_paused or bool(self._rest)
        if stop is not self._is_stopped:
            self._is_stopped = stop
            (self._inner.pause_reading if stop else self._inner.resume_reading)()

    def _linger(self) -> None:
        self._unsent = self._inner.get_write_buffer_size()
        self._timer = self._loop.call_later(LINGER, self._give_up)

    def _give_up(self) -> None:
        if self._inner.get_write_buffer_size() < self._unsent:
            self._linger()  # a slow client, but it reads
        else:
            self._inner.abort()


class HttpProtocol(HttpToolsProtocol):
    """uvicorn's protocol for HTTP on httptools, with a bound on heads and on waiting requests.

    A head is what comes before the body of a request; what comes between its pieces
    and behind it counts alike. Over 64 KiB it is answered with 400.
    """

    def connection_made(self, transport: BaseTransport) -> None:
        self._head = 0  # bytes since the parser last had a request or a body to tell of
        super().connection_made(cast(Transport, _Bounded(transport, self.loop, self._parse)))

    def connection_lost(self, exc: Exception | None) -> None:
        cast(_Bounded, self.transport).leave()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        cast(_Bounded, self.transport).take(data)

    def eof_received(self) -> None:
        self.transport.close()

    def on_message_begin(self) -> None:
        """Begin with the next request."""
        self._head = 0
        super().on_message_begin()

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body, which the application bounds by when it asks for more."""
        self._head = 0
        super().on_body(body)

    def on_response_complete(self) -> None:
        """Go on with the next request; read further ones when none waits."""
        super().on_response_complete()
        if self.pipeline:  # uvicorn reads on after each answer, however many requests wait
            self.flow.pause_reading()

    def _parse(self, portion: bytes) -> None:
        self._head += len(portion)
        super().data_received(portion)
        if self._head > MAX_HEAD and not self.transport.is_closing():
            self._refuse()

    def _refuse(self) -> None:
        self.logger.warning("Request head of more than %d bytes.", MAX_HEAD)
        if self.cycle is None or self.cycle.response_complete:
            self.send_400_response("Request head too large.")
        else:  # the answer to an earlier one may be under way
            self.transport.close()


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """uvicorn's ``websockets-sansio``, with a bound on answers, on pieces and on goodbyes."""

    def connection_made(self, transport: BaseTransport) -> None:
        self._pong = b""  # waits until the client reads
        self._pieces = bytearray()  # of a message, but for the first one
        super().connection_made(cast(Transport, _Bounded(transport, self.loop, self._parse)))

    def connection_lost(self, exc: Exception | None) -> None:
        cast(_Bounded, self.transport).leave()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        cast(_Bounded, self.transport).take(data)

    def eof_received(self) -> None:
        self.transport.close()

    def resume_writing(self) -> None:
        super().resume_writing()
        pong, self._pong = self._pong, b""
        if pong and not self.transport.is_closing():
            self.transport.write(pong)

    def handle_ping(self) -> None:
        """Answer a ping, at once if the client reads, else when it reads again."""
        pongs = self.conn.data_to_send()  # to all of a portion, at the first of them
        if not pongs:
            return
        if self.writable.is_set() or self.conn.close_rcvd is not None:
            self.transport.write(b"".join(pongs))
        else:  # RFC 6455 5.5.3: of several pings without an answer, the last one's may do.
            self._pong = pongs[-1]

    def handle_cont(self, event: Frame) -> None:
        """Add a piece to the message that has begun."""
        # One buffer: in a list each piece, even an empty one, would take some 50 bytes.
        self._pieces += event.data
        if event.fin:
            self.frames = [self.frames[0] + self._pieces]
            self._pieces = bytearray()
            self.send_receive_event_to_app()

    def keepalive_timeout(self) -> None:
        """Close, since the client has not answered a ping; at once if it does not read."""
        is_stuck = self.transport.get_write_buffer_size() > 0
        super().keepalive_timeout()
        if is_stuck:  # it will not read the close frame either
            self.transport.abort()

    def shutdown(self) -> None:
        """Close with 1012, since the server stops; let be what is closing already."""
        if not self.transport.is_closing():  # after the client's goodbye uvicorn's would raise
            super().shutdown()

    def _parse(self, portion: bytes) -> None:
        super().data_received(portion)


def _checked(ours: Any, needs: Collection[str]) -> Any:
    """Our class, or uvicorn's where that has not all that ours builds on."""
    theirs: type[asyncio.Protocol] = ours.__base__
    has = {*dir(theirs), *theirs.__init__.__code__.co_names}  # methods, and what it sets
    if lacks := sorted(set(needs) - has):
        logger.warning(
            "%s of the installed uvicorn has no %s: it serves as it is, without the bounds of %s",
            theirs.__name__, ", ".join(lacks), ours.__name__,
        )  # fmt: skip
        return theirs
    return ours


_BOTH = {
    "connection_lost", "connection_made", "data_received", "eof_received", "loop", "transport",
}  # fmt: skip
_HTTP = _BOTH | {
    "cycle", "flow", "logger", "on_body", "on_message_begin", "on_response_complete", "parser",
    "pipeline", "send_400_response",
}  # fmt: skip
_WEBSOCKET = _BOTH | {
    "conn", "frames", "handle_cont", "handle_ping", "keepalive_timeout", "resume_writing",
    "send_receive_event_to_app", "shutdown", "writable",
}  # fmt: skip

if not TYPE_CHECKING:
    HttpProtocol = _checked(HttpProtocol, _HTTP)
    WebSocketProtocol = _checked(WebSocketProtocol, _WEBSOCKET)
