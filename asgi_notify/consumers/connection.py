"""One connection of one consumer, from its first event to the end of its last task."""

import logging
from asyncio import CancelledError
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from math import inf
from time import monotonic
from typing import Any

import anyio
from anyio.abc import TaskGroup

from ..asgi import accept, close, refusal
from ..exceptions import AcceptConnection, ClientError, DenyConnection, LayerClosed, StopConsumer
from ..layers.entries import Entry
from ..layers.mailbox import Mailbox
from ..sync import failure_of
from ..types import Event, Message, Receive, Scope, Send
from .outlet import Outlet
from .patrol import patrol_of
from .protocol import CLOSED
from .stepping import handle_each

__all__ = ["Connection"]

logger = logging.getLogger("asgi_notify.connections")

CLOSE_TIMEOUT = 2.0  # seconds to tell a client, which may not read, why it is cut off


class Connection(Outlet):
    """Feeds a consumer its client's events and the layer's messages, one at a time.

    Two tasks live as long as the connection: the reader waits for the client,
    so that its leaving is noticed while a handler runs; the other one handles
    what waits in the mailbox. However it ends, the disconnect event is handled
    exactly once, shielded from cancellation, if the connect event was.

    Args:
        mailbox: where the layer puts the messages.
        join: puts the channel into its groups, when the first event has come.
        handle: passes one event or message to the consumer.
        parting: the events to send before those that end an answered connection.
        by_steps: whether handlers may be run while the connection's own task sleeps.
        depart: takes the channel out of its groups, when all has been handled.
        grace: seconds that handlers may go on after the client has left.
        send_timeout: seconds that one send may take, of those that wait for a client.
        handle_last: passes the disconnect event to the consumer, and sees to it
            that its handler comes to an end.

    Attributes:
        current: the type of what is being handled.
        is_endless: whether a stream of events may end anywhere between two of them.
        tasks: for tasks of the consumer's own, which end with the connection.
    """

    tasks: TaskGroup

    __slots__ = (
        "_begun_at", "_broken", "_by_steps", "_depart", "_error", "_handle", "_handle_last",
        "_has_failed", "_join", "_parting", "_receive", "_send_timeout", "current",
        "is_endless", "tasks",
    )  # fmt: skip

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        mailbox: Mailbox,
        *,
        join: Callable[[], Awaitable[None]],
        handle: Callable[[Message], Coroutine[Any, Any, None] | None],
        parting: Callable[[Exception], Iterable[Event]],
        by_steps: bool,
        depart: Callable[[], None],
        grace: float,
        send_timeout: float,
        handle_last: Callable[[Event], Awaitable[None]],
    ) -> None:
        super().__init__(scope, send, mailbox, grace)
        self.current = ""
        self.is_endless = False
        self._receive = receive
        self._join = join
        self._handle = handle
        self._parting = parting
        self._by_steps = by_steps
        self._depart = depart
        self._send_timeout = send_timeout
        self._handle_last = handle_last
        self._begun_at: float | None = None
        self._broken: Exception | None = None  # what the server's own receive raised
        self._error: Exception | None = None  # what has ended the connection
        self._has_failed = False  # a handler has, and the log says so

    async def run(self) -> None:
        """Live through the connection.

        Raises:
            Exception: what a handler raised, where the protocol is one that no
                answer is known for; of the others the client is told. And what
                the server's own ``receive`` raised.
        """
        self.mailbox.on_close = self._handling.cancel
        is_limited = self._protocol.has_client and self._protocol.has_answers
        is_limited = is_limited and self._send_timeout < inf
        patrol = patrol_of(self._send_timeout) if is_limited else None
        if patrol is not None:
            patrol.watch(self)
        async with anyio.create_task_group() as self.tasks:
            self.tasks.start_soon(self._read)
            try:
                error = await self._handle_until_over()
            finally:
                if patrol is not None:
                    patrol.leave(self)
                with anyio.CancelScope(shield=True):
                    await self._see_off(CLOSE_TIMEOUT)
                    await self._say_goodbye()
                self._depart()
            self.tasks.cancel_scope.cancel()
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
                await self.mailbox.put_event(event)
                del event  # what it carries may be large, and the next may not come for days
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
        self.current = "joining the groups"
        await self.follow(self._join)
        if not self.is_over:
            await handle_each(self, by_steps=self._by_steps)
        if self.scope["type"] != "websocket":
            await self._see_off(inf)  # a body may be large, and its client slow
        return self._error or self.mailbox.error

    def begin(self, entry: Entry) -> Coroutine[Any, Any, None] | None:
        """Begin to handle what the mailbox held; None where nothing is left to do."""
        message = entry.message
        kind = message["type"]
        if kind == self._protocol.leaving:
            # Sent through the layer, it is somebody's wish that this connection ends.
            self._error = None if entry.is_from_client else StopConsumer()
            self.is_over = True
            return None
        if self._begun_at is None:
            self._begun_at = monotonic()
        self.current = kind
        return self._handle(message)

    async def follow(self, begin: Callable[..., Awaitable[None] | None], *args: object) -> None:
        """Let something be handled, and note what it raises to end the connection."""
        try:
            handling = begin(*args)
            if handling is not None:
                await handling
        except (Exception, CancelledError, SystemExit) as error:
            # A KeyboardInterrupt in the loop's thread may be that of whoever runs the server.
            self._error = await self._verdict(error)
            if self._error is not None:
                self.is_over = True
                return
        self.current = ""

    async def _verdict(self, error: Exception | CancelledError | SystemExit) -> Exception | None:
        """What a handler's error means: the one that ends the connection, or None."""
        if isinstance(error, AcceptConnection):
            await self.follow(self.send, accept())
            return self._error
        if isinstance(error, StopConsumer | DenyConnection):
            return error
        error = failure_of(error)
        if isinstance(error, ClientError) and self._protocol.has_client:
            logger.info("refused %s: %s", self, error)
        else:
            self._log_failure(error)
        return error

    async def _tell(self, error: Exception | None) -> None:
        """Tell the client why its connection ends, where it can still be told."""
        if error is None or self.is_closed:
            return
        with anyio.move_on_after(CLOSE_TIMEOUT):
            for event in self._last_words(error):
                self.current = event["type"]
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
            end = {"type": "http.response.body", "body": b"", "more_body": False}
            return [*self._parting(error), end]
        if "websocket.close" not in self._protocol.moves[self._state]:
            return []  # a response cut short is how a client learns that it is not whole
        if isinstance(error, StopConsumer):
            return [*self._parting(error), close()]
        code = getattr(error, "close_code", 1011)
        reason = str(error) if code != 1011 else "Internal Server Error"
        return [*self._parting(error), close(code, reason)]

    async def _see_off(self, seconds: float) -> None:
        """Wait for the last event, which a task of the consumer's own may just be sending."""
        if self._parted is not None:
            with anyio.move_on_after(seconds):
                await self._parted.wait()

    async def _say_goodbye(self) -> None:
        """Handle the disconnect event, once, if there was a connection at all."""
        self._state = CLOSED
        if self._begun_at is None:
            return
        if self.scope["type"] == "websocket":
            seconds = monotonic() - self._begun_at
            logger.info("ended %s after %.1f s, code %s", self, seconds, self._end.get("code"))
        self.current = self._protocol.leaving
        await self.follow(self._handle_last, self._end)

    def _log_cancelled(self) -> None:
        if not self._handling.cancelled_caught or self._broken or not self.current:
            return
        why = self.mailbox.error or f"{self._grace:g} s after the connection had ended"
        logger.warning("%s: %s was cancelled, %s", self, self.current, why)

    def _log_failure(self, error: Exception) -> None:
        self._has_failed = True
        if not self._protocol.has_answers and self.current != self._protocol.leaving:
            return  # it is raised to whoever runs this connection
        logger.error("%s: %s failed", self, self.current, exc_info=error)
