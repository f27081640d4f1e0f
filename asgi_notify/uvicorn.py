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
sends no whole head                    10 seconds, or less where 1,000 others do so, too
sends thousands of frames at once      others get their turn after each 8 KiB
leaves what it was sent unread,        5 seconds without progress, then the rest is
while its connection closes            thrown away
=====================================  ==============================================

Besides, what a client is sent in one turn of the event loop is written at once, see
`asgi_notify.gathering` for WebSockets and `asgi_notify.streaming` for HTTP. And applications are
offered ``asgi_notify.direct`` in their scope: docs/direct.md. ``ASGI_NOTIFY_GATHERING=0`` turns
both off.

This is the only module that knows how uvicorn works inside. Where the installed one
lacks what stands here, a warning is logged, and uvicorn's own class serves instead.
"""

import asyncio
import logging
import sys
from asyncio import BaseTransport, Transport
from collections.abc import Collection, Coroutine
from dis import get_instructions
from typing import TYPE_CHECKING, Any, cast

from websockets.frames import Frame

from .asgi import DIRECT
from .bounded import Bounded
from .gathering import Gathering, turn_of
from .half_open import half_open_of
from .streaming import Answer, Streaming
from .types import ASGIApp, Receive, Scope, Send

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

MAX_HEAD = 64 * 1024  # bytes of a request before its body; nginx: 32 KiB, h11: 16 KiB

# RFC 9110 15.5.9: it should say that the connection ends.
_TOO_LATE = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"

logger = logging.getLogger(__name__)


class HttpProtocol(HttpToolsProtocol):
    """uvicorn's protocol for HTTP on httptools, with a bound on heads and on waiting requests.

    What is sent in one turn of the loop is written at once: the head and the body of an
    answer, or several events of a stream. A part of an answer is encoded once for all clients
    that are sent the same one in a turn.

    A head is what comes before the body of a request; what comes between its pieces
    and behind it counts alike. Over 64 KiB it is answered with 400. A client that has not
    sent a whole one in time is answered with 408, and with nothing if it has sent nothing.
    """

    def connection_made(self, transport: BaseTransport) -> None:
        self._head = 0  # bytes since the parser last had a request or a body to tell of
        self._half_open = half_open_of(self.loop)
        self._half_open.add(self)
        turn = turn_of(self.loop)
        bounded = (
            Bounded(transport, self.loop, self._parse)
            if turn is None
            else Streaming(transport, self.loop, self._parse, turn)
        )
        super().connection_made(cast(Transport, bounded))

    def connection_lost(self, exc: Exception | None) -> None:
        self._half_open.discard(self)
        cast(Bounded, self.transport).leave()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        cast(Bounded, self.transport).take(data)

    def eof_received(self) -> None:
        self.transport.close()

    def expire(self) -> bool:
        """End the connection of a client that has not sent a whole request in time."""
        if self.cycle is not None and not self.cycle.response_complete:
            return False  # it waits for the answer to an earlier one, which is not its fault
        if not self.transport.is_closing():
            if self.scope is not None:  # a request has begun
                self.transport.write(_TOO_LATE)
            self.transport.close()
        return True

    def pause_writing(self) -> None:
        super().pause_writing()
        if isinstance(self.transport, Streaming):
            self.transport.taken = None

    def resume_writing(self) -> None:
        super().resume_writing()
        if isinstance(self.transport, Streaming):
            self.transport.look()

    def on_message_begin(self) -> None:
        """Begin with the next request."""
        self._head = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Begin to answer; from here on the application says for how long it reads."""
        self._half_open.discard(self)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body, which the application bounds by when it asks for more."""
        self._head = 0
        super().on_body(body)

    def on_response_complete(self) -> None:
        """Go on with the next request; read further ones when none waits."""
        super().on_response_complete()
        if self.pipeline:  # uvicorn reads on after each answer, however many requests wait
            self.flow.pause_reading()

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        # HTTP/1.0 knows no chunks, and the answer to HEAD has no body.
        is_chunked = cycle.scope["http_version"] == "1.1" and cycle.scope["method"] != "HEAD"
        if isinstance(self.transport, Streaming) and is_chunked:
            app = _offering(app, cycle, self.transport)
        super()._start_asgi_task(cycle, app)

    def _parse(self, portion: bytes) -> None:
        if self.timeout_keep_alive_task is not None:  # uvicorn waits for a whole one from here on
            self._half_open.add(self)
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


def _offering(app: ASGIApp, cycle: Any, transport: Streaming) -> ASGIApp:
    """An application that is offered to have the parts of its answer taken at once."""

    def is_open() -> bool:
        return (
            cycle.response_started
            and not cycle.response_complete
            and cycle.chunked_encoding is True  # else the application has given a length
            and not cycle.flow.write_paused
            and not transport.is_closing()
        )

    async def run(scope: Scope, receive: Receive, send: Send) -> None:
        answer = transport.answer = Answer(transport, send, is_open)
        offer: dict[str, object] = {"send": answer.send, "send_body": answer.send_body}
        scope["extensions"] = {**scope.get("extensions", {}), DIRECT: offer}
        try:
            await app(scope, receive, answer.send)
        finally:
            offer.clear()  # or the scope would keep itself, which the cycle has
            if transport.answer is answer:
                transport.answer = transport.taken = None

    return run


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """uvicorn's ``websockets-sansio``, with bounds, and with messages that are gathered.

    There is a bound on answers, on pieces and on goodbyes. With compression, or while frames
    are logged, messages are sent as uvicorn does it.
    """

    def connection_made(self, transport: BaseTransport) -> None:
        self._pong = b""  # waits until the client reads
        self._pieces = bytearray()  # of a message, but for the first one
        self._gathering: Gathering | None = None
        self._offer: dict[str, object] = {}  # to the application, in its scope
        turn = turn_of(self.loop)
        bounded = (
            Bounded(transport, self.loop, self._parse)
            if turn is None or self.logger.isEnabledFor(logging.DEBUG)  # logs each frame
            else Gathering(transport, self.loop, self._parse, turn, self.conn, self.writable)
        )
        super().connection_made(cast(Transport, bounded))

    def connection_lost(self, exc: Exception | None) -> None:
        cast(Bounded, self.transport).leave()
        super().connection_lost(exc)
        self._offer.pop("send", None)  # or it would keep the protocol, whose scope holds it

    def run_asgi(self) -> Coroutine[Any, Any, None]:
        """Run the application, and offer it to take messages at once where that is possible."""
        if isinstance(self.transport, Gathering) and not self.conn.extensions:
            self._gathering = self.transport
            self._offer["send"] = self.send
            self._offer["send_text"] = self._gathering.send_text
            self.scope["extensions"][DIRECT] = self._offer
        return super().run_asgi()

    async def send(self, message: Any) -> None:
        """Take an event of the application."""
        gathering = self._gathering
        if gathering is None:
            return await super().send(message)
        if message["type"] == "websocket.send":
            data = message.get("bytes")
            if data is None:
                is_taken = gathering.send_text(message.get("text"))
            else:
                is_taken = gathering.send_bytes(data)
            if is_taken:
                return None
        gathering.begin()
        try:
            await super().send(message)
        finally:
            gathering.end()

    def data_received(self, data: bytes) -> None:
        cast(Bounded, self.transport).take(data)

    def eof_received(self) -> None:
        self.transport.close()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._gathering is not None:
            self._gathering.is_ready = False

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._gathering is not None:
            self._gathering.look()
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
    """Our class, or uvicorn's where that has not all that ours builds on.

    Looked for are its methods, and what it sets as a connection or a request begins.
    """
    theirs: type[asyncio.Protocol] = ours.__base__
    idle = asyncio.Protocol  # it has methods, too, which do nothing
    has = {name for name in dir(theirs) if getattr(theirs, name) is not getattr(idle, name, None)}
    request = getattr(sys.modules[theirs.__module__], "RequestResponseCycle", theirs)
    begins = getattr(theirs, "handle_connect", theirs.__init__)
    for method in theirs.__init__, begins, request.__init__:
        has |= {step.argval for step in get_instructions(method) if step.opname == "STORE_ATTR"}
    if lacks := sorted(set(needs) - has):
        logger.warning(
            "%s of the installed uvicorn has no %s: it serves as it is, without what %s adds",
            theirs.__name__, ", ".join(lacks), ours.__name__,
        )  # fmt: skip
        return theirs
    return ours


_BOTH = {
    "connection_lost", "connection_made", "data_received", "eof_received", "loop", "transport",
}  # fmt: skip
_HTTP = _BOTH | {
    "_start_asgi_task", "chunked_encoding", "cycle", "flow", "logger", "on_body",
    "on_headers_complete", "on_message_begin", "on_response_complete", "parser", "pause_writing",
    "pipeline", "response_complete", "response_started", "resume_writing", "scope",
    "send_400_response", "timeout_keep_alive_task",
}  # fmt: skip
_WEBSOCKET = _BOTH | {
    "conn", "frames", "handle_cont", "handle_ping", "keepalive_timeout", "logger",
    "pause_writing", "resume_writing", "run_asgi", "scope", "send", "send_receive_event_to_app",
    "shutdown", "writable",
}  # fmt: skip

if not TYPE_CHECKING:
    HttpProtocol = _checked(HttpProtocol, _HTTP)
    WebSocketProtocol = _checked(WebSocketProtocol, _WEBSOCKET)
