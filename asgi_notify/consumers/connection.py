"""One connection of one consumer, from its first event to the end of its last task."""

import logging
from asyncio import CancelledError
from collections.abc import Awaitable, Callable
from time import monotonic

import anyio
from anyio.lowlevel import cancel_shielded_checkpoint, checkpoint

from ..asgi import accept, close, refusal
from ..exceptions import AcceptConnection, ClientError, DenyConnection, LayerClosed, StopConsumer
from ..layers.mailbox import Mailbox
from ..sync import failure_of
from ..types import Event, Message, Receive, Scope, Send
from .protocol import CLOSED, protocol_of

__all__ = ["Connection"]

logger = logging.getLogger("asgi_notify.connections")

CLOSE_TIMEOUT = 2.0  # seconds to tell a client, which may not read, why it is cut off
NOTICE_TIMEOUT = 0.5  # seconds in which a server whose send failed says that the client left
TURN = 1000  # messages handled in one go before others get their turn; all that usually wait


class Connection:
    """Feeds a consumer its client's events and the layer's messages, one at a time.

    Two tasks live as long as the connection: the reader waits for the client,
    so that its leaving is noticed while a handler runs; the other one handles
    what waits in the mailbox. However it ends, the disconnect event is handled
    exactly once, shielded from cancellation, if the connect event was.

    Args:
        mailbox: where the layer puts the messages.
        join: puts the channel into its groups, when the first event has come.
        handle: passes one event or message to the consumer.
        depart: takes the channel out of its groups, when all has been handled.
        grace: seconds that handlers may go on after the client has left.
        farewell: seconds that the handler of the disconnect event may take.
    """

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        mailbox: Mailbox,
        *,
        join: Callable[[], Awaitable[None]],
        handle: Callable[[Message], Awaitable[None]],
        depart: Callable[[], None],
        grace: float,
        farewell: float,
    ) -> None:
        self.scope = scope
        self.mailbox = mailbox
        self.is_endless = False  # a stream of events may end anywhere between two of them
        self._receive = receive
        self._send = send
        self._join = join
        self._handle = handle
        self._depart = depart
        self._grace = grace
        self._farewell = farewell
        self._protocol = protocol_of(scope["type"])
        self._state = self._protocol.start
        self._handling = anyio.CancelScope()
        self._reading = anyio.CancelScope()
        self._begun_at: float | None = None
        self._current = ""  # the type of what is being handled
        self._broken: Exception | None = None  # what the server's own receive raised
        self._has_failed = False  # a handler has, and the log says so
        self._end: Event = {"type": self._protocol.leaving, "code": 1006, "reason": ""}
        self._is_left = False
        self._left = anyio.Event()

    @property
    def is_answered(self) -> bool:
        """Whether the client has got a first answer, such as an accept."""
        return self._state != self._protocol.start

    @property
    def is_closed(self) -> bool:
        """Whether nothing that is sent goes anywhere any more."""
        return self._state == CLOSED

    async def send(self, event: Event) -> None:
        """Send an event to the client; see `Consumer.send`."""
        if self._state == CLOSED:
            return
        before, self._state = self._state, self._protocol.next_state(self._state, event)
        if self._state != before:
            self._note(event)
        if event["type"] != "websocket.close":
            await self._pass_on(event)
            return
        # Some servers hold the close frame back while they are asked for an event.
        self._reading.cancel()
        await cancel_shielded_checkpoint()
        await self._pass_on(event)
        self._handling.deadline = anyio.current_time() + self._grace

    async def _pass_on(self, event: Event) -> None:
        try:
            await self._send(event)
        except OSError:
            # ASGI, HTTP & WebSocket, "Disconnected client - send exception".
            self._leave()
        except Exception:
            if not self._protocol.has_client:
                raise
            code = event.get("code", 0)
            if event["type"] == "websocket.close" and 1000 < code < 3000:
                # Some servers refuse to send the codes that RFC 6455 7.4.1 has named.
                await self._pass_on({**event, "code": code + 3000})
                return
            # Some servers tell in errors of their own what others tell in an OSError.
            with anyio.move_on_after(NOTICE_TIMEOUT):
                await self._left.wait()
            if not self._left.is_set():
                raise

    def _note(self, event: Event) -> None:
        """Remember, and log, what ends the connection or begins it."""
        if event["type"] == "websocket.close":
            self._end["code"] = event.get("code", 1000)
            self._end["reason"] = event.get("reason") or ""
        elif event["type"] == "websocket.accept":
            logger.info("accepted %s", self)

    def _leave(self) -> None:
        """The client is gone: nothing is sent any more, and handlers have a while to end."""
        self._state = CLOSED
        self._is_left = True
        self._handling.deadline = anyio.current_time() + self._grace

    async def run(self) -> None:
        """Live through the connection.

        Raises:
            Exception: what a handler raised, where the protocol is one that no
                answer is known for; of the others the client is told. And what
                the server's own ``receive`` raised.
        """
        self.mailbox.on_close = self._handling.cancel
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._read)
            try:
                error = await self._handle_until_over()
            finally:
                self.mailbox.on_close = None
                with anyio.CancelScope(shield=True):
                    await self._say_goodbye()
                self._depart()
            tasks.cancel_scope.cancel()
        if self._broken is not None:
            raise self._broken
        is_ending = isinstance(error, StopConsumer | DenyConnection)
        if error is not None and not is_ending and not self._protocol.has_answers:
            raise error

    async def _read(self) -> None:
        with self._reading:
            while True:
                try:
                    event = await self._receive()
                except Exception as error:  # a middleware's; servers raise none here
                    self._broken = error
                    self._leave()
                    self._handling.cancel()
                    return
                is_last = event["type"] == self._protocol.leaving
                if is_last and self._protocol.has_client:
                    if not self.is_closed or self._is_left:
                        self._end = event
                    self._leave()
                    self._left.set()
                await self.mailbox.put_event(event)
                if is_last:
                    return

    async def _handle_until_over(self) -> Exception | None:
        """Handle what comes, tell the client why it ends, and return the error that ended it."""
        error: Exception | None = None
        try:
            with self._handling:
                error = await self._handle_all()
            self._log_cancelled()
            await self._tell(error := error or self.mailbox.error)
            return error
        except anyio.get_cancelled_exc_class():
            # Whoever runs the application cancels it to shut down; the client comes back.
            if self.is_answered:
                with anyio.CancelScope(shield=True):
                    await self._tell(LayerClosed("the server is shutting down"))
            raise

    async def _handle_all(self) -> Exception | None:
        """Handle what comes until the connection is over; return the error that ended it."""
        # Messages of a group joined now line up behind the event that has come.
        await self.mailbox.wait()
        error = await self._guard(self._join(), "joining the groups")
        handled = 0
        while error is None and self.mailbox.error is None:
            entry = self.mailbox.pop()
            if entry is None:
                await self.mailbox.wait()
                continue
            if entry.message["type"] == self._protocol.leaving:
                # Sent through the layer, it is somebody's wish that this connection ends.
                return None if entry.is_from_client else StopConsumer()
            self._begun_at = self._begun_at or monotonic()
            error = await self._guard(self._handle(entry.message), entry.message["type"])
            if self.is_closed and not self._is_left:
                break
            handled += 1
            if handled % TURN == 0:
                await checkpoint()
        return error or self.mailbox.error

    async def _guard(self, handling: Awaitable[None], what: str) -> Exception | None:
        """Let the consumer handle something; return what it raised to end the connection."""
        self._current = what
        try:
            try:
                await handling
            except AcceptConnection:
                await self.send(accept())
        except (StopConsumer, DenyConnection) as ending:
            return ending
        except (Exception, CancelledError) as error:
            error = failure_of(error)
            if isinstance(error, ClientError) and self._protocol.has_client:
                logger.info("refused %s: %s", self, error)
            else:
                self._log_failure(error)
            return error
        self._current = ""
        return None

    async def _tell(self, error: Exception | None) -> None:
        """Tell the client why its connection ends, where it can still be told."""
        if error is None or self.is_closed:
            return
        with anyio.move_on_after(CLOSE_TIMEOUT):
            for event in self._last_words(error):
                self._current = event["type"]
                try:
                    await self.send(event)
                except Exception as failure:
                    if not self._has_failed:  # else most likely for the same cause
                        self._log_failure(failure)
                    return

    def _last_words(self, error: Exception) -> list[Event]:
        if not self.is_answered:
            if isinstance(error, StopConsumer) and self.scope["type"] == "websocket":
                error = DenyConnection()
            return refusal(self.scope, error)
        if "http.response.body" in self._protocol.moves[self._state] and self.is_endless:
            return [{"type": "http.response.body", "body": b"", "more_body": False}]
        if "websocket.close" not in self._protocol.moves[self._state]:
            return []  # a response cut short is how a client learns that it is not whole
        if isinstance(error, StopConsumer):
            return [close()]
        code = getattr(error, "close_code", 1011)
        return [close(code, str(error) if code != 1011 else "Internal Server Error")]

    async def _say_goodbye(self) -> None:
        """Handle the disconnect event, once, if there was a connection at all."""
        self._state = CLOSED
        if self._begun_at is None:
            return
        if self.scope["type"] == "websocket":
            seconds = monotonic() - self._begun_at
            logger.info("ended %s after %.1f s, code %s", self, seconds, self._end.get("code"))
        with anyio.move_on_after(self._farewell) as scope:
            await self._guard(self._handle(self._end), self._protocol.leaving)
        if scope.cancelled_caught:
            logger.error("%s: %s was cut off after %g s", self, self._current, self._farewell)

    def _log_cancelled(self) -> None:
        if not self._handling.cancelled_caught or self._broken or not self._current:
            return
        why = self.mailbox.error or f"{self._grace:g} s after the connection had ended"
        logger.warning("%s: %s was cancelled, %s", self, self._current, why)

    def _log_failure(self, error: Exception) -> None:
        self._has_failed = True
        if not self._protocol.has_answers and self._current != self._protocol.leaving:
            return  # it is raised to whoever runs this connection
        logger.error("%s: %s failed", self, self._current, exc_info=error)

    def __str__(self) -> str:
        where = self.scope.get("path") or self.scope.get("channel", "")
        return f"{self.scope['type']} {where!r} (channel {self.mailbox.channel})"
