"""A consumer of server-sent events: an HTTP response that brings one event after the other."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import anyio

from .. import sse
from ..asgi import header
from ..exceptions import (
    DenyConnection,
    Forbidden,
    MethodNotAllowed,
    StopConsumer,
    Unauthorized,
)
from ..spelling import LastSpelled
from ..types import Event, Message, Scope, Send
from .direct import Direct, direct_of, offer_of
from .handlers import awaitable
from .http import AsyncHttpConsumer
from .passing import EventRendering, RenderEvent, add_handlers, renderings_of

__all__ = ["SENDING", "AsyncSseConsumer"]

logger = logging.getLogger("asgi_notify.consumers")

SENDING = ("dispatch", "send_body", "send_event")
"""The methods that see every event of a stream, if a class overrides them."""


class AsyncSseConsumer(AsyncHttpConsumer):
    """Brings events to a browser's ``EventSource``, or to any other reader of such a stream.

    ``connect`` joins groups; the handlers of their messages call `send_event`.
    The stream goes on until the client leaves, or until `send_body` completes
    it; a browser comes back from either by itself. ``disconnect`` runs once if
    ``connect`` was called. A method other than GET is answered 405. A body means
    nothing in a GET: it is dropped, or answered 413 where it is over `max_body_size`.

    Attributes:
        last_event_id: the id of the last event that the client has got in an
            earlier stream, or None; any client can write one.
        keep_alive: seconds without an event after which a comment is sent, so
            that no proxy takes the stream for dead. Also while a handler runs.
            `math.inf` for none.
        retry: milliseconds that a browser waits before it comes back; where
            None, its own time.
        passes_on: types of messages that are only passed on, each with the function that makes
            the data of an event of such a message, or all of the event by `asgi_notify.sse.event`.
            It stands for a handler that sends this event, and takes less: docs/consumers.md.
    """

    keep_alive: float = 15.0  # HTML, section 9.2.7 "Authoring notes": "every 15 seconds or so"
    retry: int | None = None
    passes_on: ClassVar[Mapping[str, RenderEvent]] = {}
    helpers: ClassVar[frozenset[str]] = frozenset({"connect", "send_comment", "send_event"})

    last_event_id: str | None = None

    _renderings: ClassVar[Mapping[str, EventRendering]] = {}
    """The events of the types of messages that nothing of the class's own has to do with."""

    _ends_with_login = True
    _reads_body = False
    _has_begun = False  # connect was called
    _has_written = False  # an event or a comment was sent
    _sent_at = 0.0  # on the event loop's clock, in seconds
    _time: Callable[[], float] = staticmethod(anyio.current_time)  # reads that clock

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        add_handlers(cls, EventRendering)
        cls._renderings = renderings_of(cls, EventRendering, *SENDING)

    async def connect(self) -> None:
        """Called with each request; joins groups, and may send what the client has missed.

        Before the first event is sent, a `ClientError` or `DenyConnection`
        refuses the request with its status, `StopConsumer` with 403. To have
        browsers stop coming back, ``await self.send_response(204, b"")``. To
        send further headers, call `send_headers` with `asgi_notify.sse.HEADERS`
        and yours.
        """

    async def disconnect(self) -> None:
        """Called once at the end, if ``connect`` was; nothing can be sent any more."""

    async def send_event(
        self,
        data: str | None,
        *,
        event: str | None = None,
        id: str | None = None,
        retry: int | None = None,
    ) -> None:
        """Send one event, whole; after the end of the connection, do nothing.

        Args: as of `asgi_notify.sse.event`.

        Raises:
            InvalidMessage: no event can carry one of these.
            TypeError: one of these is no text, or ``retry`` is no whole number.
        """
        await self._write(sse.event(data, event=event, id=id, retry=retry))

    async def send_comment(self, text: str = "") -> None:
        """Send what a browser passes over.

        Raises:
            InvalidMessage: it is no Unicode text.
            TypeError: it is no text.
        """
        await self._write(sse.comment(text))

    async def handle(self, body: bytes) -> None:
        if self.scope["method"] != "GET":
            raise MethodNotAllowed("GET")
        self.last_event_id = _last_event_id(self.scope)
        self._has_begun = True
        try:
            await awaitable(self, "connect", self.connect())
        except StopConsumer:
            if self._connection.is_answered:
                raise
            raise DenyConnection from None  # as of a WebSocket that was not accepted
        if not self._has_written and not self._connection.is_closed:
            await self._open()

    async def connection_close(self, message: Message) -> None:
        """Handle somebody's wish, sent through the layer, that this connection ends.

        Raises:
            Forbidden: it was not answered yet; the client is told the reason.
            Unauthorized: the same, where the close code is 4401.
        """
        if not self._connection.is_answered:
            is_login = message.get("code") == Unauthorized.close_code
            refused = Unauthorized if is_login else Forbidden
            raise refused(message.get("reason") or "the server has ended this connection")
        await self.send_body(b"")

    async def http_disconnect(self, message: Event) -> None:
        if self._has_begun:
            await awaitable(self, "disconnect", self.disconnect())

    async def _open(self) -> None:
        """Send something at once: a server sends the headers only with the first part."""
        if self.retry is None:
            await self.send_comment()
        else:
            await self.send_event(None, retry=self.retry)

    async def _write(self, chunk: bytes) -> None:
        if not self._has_written:
            if not self._connection.is_answered:
                await self.send_headers(headers=sse.HEADERS)
            self._begin()
        self._sent_at = self._time()
        await self.send_body(chunk, more_body=True)

    def _begin(self) -> None:
        """The first event is about to be sent, or the first comment."""
        self._has_written = True
        self._time = _clock()
        self._connection.state.is_endless = True
        self.start_soon(self._keep_alive)

    def wrap_send(self, send: Send) -> Send:
        send = super().wrap_send(send)
        if offer_of(self.scope, send):  # then it sends each event whole
            return send
        sending = anyio.Lock(fast_acquire=True)

        async def send_alone(event: Event) -> None:
            async with sending:
                await send(event)

        return send_alone

    def _direct(self, send: Send) -> Direct | None:
        if not self._renderings:
            return None
        return direct_of(self.scope, send, self._event_at_once)

    def _event_at_once(self, message: Message) -> bytes | None:
        """The event that this client gets for a message; None where its handler has to decide."""
        rendering = self._renderings.get(message["type"])
        return None if rendering is None else self._find(rendering.last, message)

    def _find(self, last: LastSpelled[bytes], message: Message) -> bytes | None:
        self._sent_at = self._time()  # if it is not now, it is soon
        known, event = last.known
        return event if known is message else last.find(message)

    async def _keep_alive(self) -> None:
        while not self._connection.is_closed:
            silent_for = self._time() - self._sent_at
            if silent_for < self.keep_alive:
                await anyio.sleep(self.keep_alive - silent_for)
                continue
            try:
                await self.send_comment()
            except Exception as error:
                # The next event fails the same way, and ends the connection.
                connection = self._connection
                logger.error(
                    "%s: a comment failed", connection, exc_info=error, extra=connection.log_fields
                )
                return


def _clock() -> Callable[[], float]:
    """What tells the time of the event loop, in seconds."""
    try:
        return asyncio.get_running_loop().time
    except RuntimeError:  # the loop is trio's
        return anyio.current_time


def _last_event_id(scope: Scope) -> str | None:
    # HTML, section 9.2.3: a browser sends the id in UTF-8.
    sent = header(scope, b"last-event-id") or ""
    return sent.encode("latin-1").decode(errors="replace") or None
