"""One connection of one consumer, from its first event to the end of its last task.

Two tasks live as long as a connection does. The one that runs it takes the first event, handles
what waits in the mailbox, one thing at a time, and sends; the reader waits for the client, so
that its leaving is noticed while a handler runs::

    client --> _read --> mailbox --> handle_each --> the consumer's handler --> send --> client
                           ^
    layer -----------------+

What was said and may be said is in `ConnectionState`; what is here waits, sends and ends.

Many things end a connection: the client leaves, a handler fails or closes it, the mailbox is
closed, the server cancels its task. What follows is always the same, in this order:

1. What is being handled ends, or is cancelled: at once, or `grace` seconds after the client
   has left or was sent a close.
2. The client is sent why, unless it has left or was sent a close already.
3. A last event that another task is just sending is waited for.
4. The disconnect event is handled, once, shielded from cancellation.
5. The channel leaves its groups, and the consumer's own tasks are cancelled.
"""

import logging
from asyncio import CancelledError
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from functools import partial
from math import inf
from time import monotonic
from typing import Any, ClassVar, Protocol

import anyio
from anyio.lowlevel import cancel_shielded_checkpoint

from ..asgi import accept, client_address
from ..exceptions import (
    AcceptConnection,
    ClientError,
    ClientTimeout,
    DenyConnection,
    LayerClosed,
    LayerUnavailable,
    MisuseError,
    NotifyError,
    StopConsumer,
)
from ..layers.entries import Entry
from ..layers.mailbox import Mailbox
from ..legible import MOST_OF_SENTENCE, legible
from ..sync import failure_of
from ..types import Event, Message, Receive, Scope, Send
from .beside import Beside, tasks_beside
from .direct import Direct
from .state import ConnectionState
from .stepping import handle_each
from .watchdog import watchdog_of

__all__ = ["Connection"]

logger = logging.getLogger("asgi_notify.connections")

CLOSE_TIMEOUT = 2.0  # seconds to tell a client, which may not read, why it is cut off
NOTICE_TIMEOUT = 0.5  # seconds in which a server whose send failed says that the client left

# A server may take minutes for one of these, however fast its client reads.
_WHOLE_FILES = frozenset({"http.response.pathsend", "http.response.zerocopysend"})


class Owner(Protocol):
    """The consumer of a connection, as seen from here."""

    leave_grace: float
    send_timeout: float
    _by_steps: ClassVar[bool]
    """Whether handlers may be run while the connection's own task sleeps."""

    def dispatch(self, message: Message, /) -> Coroutine[Any, Any, None]:
        """Pass one event or message to its handler."""

    def closing_events(self, error: Exception, /) -> Iterable[Event]:
        """The events to send before those that end an answered connection."""

    def _join_groups(self) -> Awaitable[None] | None:
        """Put the channel into its groups, when the first event has come."""

    def _handle_last(self, event: Message, /) -> Awaitable[None] | None:
        """Handle the disconnect event, shielded from cancellation, for as long as that may take.

        None where there is nothing to do.
        """


class Connection:
    """Feeds a consumer its client's events and the layer's messages, and sends what it says.

    However it ends, the disconnect event is handled exactly once, shielded from
    cancellation, if the connect event was.

    Args:
        mailbox: where the layer puts the messages.
        consumer: whose connection it is; forgotten at `let_go`.
        leave_groups: takes the channel out of its groups, when all has been handled.

    Attributes:
        scope: what is known of the connection.
        mailbox: where what it is to handle waits.
        state: what was said on it.
        current: the type of what is being handled.
        direct: its direct lane, which its mailbox uses while texts may be sent; or None.
        handling: cancelled where that is to end; not around the disconnect event.
        is_over: whether nothing more is to be handled, but the disconnect event.
        sends_begun, sends_ended: how many sends; see `is_sending`.
    """

    __slots__ = (
        "_begun_at",
        "_beside",
        "_broken",
        "_consumer",
        "_error",
        "_has_failed",
        "_is_left",
        "_last_send",
        "_leave_groups",
        "_left",
        "_send",
        "current",
        "direct",
        "handling",
        "is_over",
        "mailbox",
        "scope",
        "sends_begun",
        "sends_ended",
        "state",
    )  # fmt: skip

    _consumer: Owner

    def __init__(
        self,
        scope: Scope,
        send: Send,
        mailbox: Mailbox,
        consumer: Owner,
        leave_groups: Callable[[], None],
    ) -> None:
        self.scope = scope
        self.mailbox = mailbox
        self.state = ConnectionState(scope)
        self.current = ""
        self.direct: Direct | None = None
        self.is_over = False
        self._send = send
        self._consumer = consumer
        self._leave_groups = leave_groups
        self.handling = anyio.CancelScope()
        self._beside: Beside | None = None  # once it runs
        self._begun_at: float | None = None  # when the first event was handled
        # Where the two differ, a send is under way; where it waits, so does the client's reading.
        self.sends_begun = 0
        self.sends_ended = 0
        # Why and how it ends:
        self._is_left = False  # by the client
        self._left: anyio.Event | None = None  # made by who waits for it: it takes 800 bytes
        self._last_send: anyio.Event | None = None  # made with the last event, set when it was sent
        self._broken: Exception | None = None  # what the server's own receive raised
        self._error: Exception | None = None  # what has ended the connection
        self._has_failed = False  # a handler has, and the log says so

    @property
    def channel(self) -> str:
        """The address of its consumer."""
        return self.mailbox.channel

    @property
    def groups(self) -> frozenset[str]:
        """The groups that its channel is in now."""
        return frozenset(self.mailbox.groups)

    @property
    def log_fields(self) -> dict[str, object]:
        """What a line of the log about it carries beside its text, as its ``extra``."""
        path = self.scope.get("path")
        return {"connection": self.channel, "path": None if path is None else legible(path)}

    @property
    def end(self) -> Event:
        """How it has ended, as its disconnect event says: of a WebSocket, with ``code``."""
        return self.state.end

    @property
    def is_answered(self) -> bool:
        """Whether the client has got a first answer, such as an accept."""
        return self.state.is_answered

    @property
    def subprotocol(self) -> str | None:
        """The subprotocol that a WebSocket was accepted with, if any."""
        return self.state.subprotocol

    @property
    def is_closed(self) -> bool:
        """Whether nothing that is sent goes anywhere any more."""
        return self.state.is_closed

    @property
    def is_sending(self) -> bool:
        """Whether a send is under way; the server's waits while the client reads nothing."""
        return self.sends_begun != self.sends_ended

    async def run(self, receive: Receive) -> None:
        """Live through the connection, whose events the client sends through ``receive``.

        Raises:
            Exception: what a handler raised, where the protocol is one that no
                answer is known for; of the others the client is told. And what
                the server's own ``receive`` raised.
        """
        self.mailbox.on_close = self.handling.cancel
        limit = self._consumer.send_timeout
        is_limited = self.state.protocol.has_client and self.state.protocol.has_answers
        watchdog = watchdog_of(limit) if is_limited and limit < inf else None
        if watchdog is not None:
            watchdog.watch(self)
        async with tasks_beside() as beside:
            self._beside = beside
            try:
                error = await self._handle_until_over(receive, beside)
            finally:
                if watchdog is not None:
                    watchdog.leave(self)
                if self._last_send is not None:
                    with anyio.move_on_after(CLOSE_TIMEOUT, shield=True):
                        await self._last_send.wait()
                self.state.close()
                self.mailbox.direct = None
                if self._begun_at is not None:  # else there was no connection at all
                    await self._handle_disconnect(self._begun_at)
                self._leave_groups()
        if self._broken is not None:
            raise self._broken
        is_ending = isinstance(error, StopConsumer | DenyConnection)
        if error is not None and not is_ending and not self.state.protocol.has_answers:
            raise error

    def let_go(self) -> None:
        """Forget the consumer, once all has ended.

        It refers to its connection, and both would wait for the garbage collector.
        """
        del self._consumer
        self.direct = None

    def start_soon(self, func: Callable[..., Awaitable[None]], *args: object) -> None:
        """Start a task of the consumer's own; see `AsyncConsumer.start_soon`."""
        if self._beside is None:
            raise MisuseError("there is no connection yet that a task could belong to")
        self._beside.start_soon(self._run_task, func, args)

    async def _run_task(self, func: Callable[..., Awaitable[None]], args: Iterable[object]) -> None:
        try:
            await func(*args)
        except Exception as error:
            self.fail(error, f"the task {getattr(func, '__qualname__', func)}")

    def fail(self, error: Exception, what: str) -> None:
        """End the connection for what something beside its handlers has raised.

        Args:
            error: what was raised; with `StopConsumer`, what is being handled may end.
            what: has raised it, for the log.
        """
        self._error = self._error or error
        self.is_over = True
        self.mailbox.wake()  # also where nothing is being handled
        if not isinstance(error, StopConsumer | DenyConnection):
            self._log_failure(error, what)
            self.handling.cancel()

    async def refuse(self, error: Exception, what: str) -> None:
        """Tell the client, instead of `run`, that there will be no connection.

        Args: as of `fail`.

        Raises:
            Exception: the error itself, where the protocol has no answer for it.
        """
        if not self.state.protocol.has_answers:
            raise error
        self.fail(error, what)
        await self._send_closing(error)

    def close(self, error: NotifyError) -> None:
        """End the connection, from anywhere in its event loop, for a reason told to its client.

        What is being handled is cancelled, and what waits is lost. The error has
        the close code, such as that of `ClientError`, which is 4400.
        """
        self.mailbox.close(error)

    def guard(self, send: Callable[[Send], Send], direct: Callable[[Direct], Direct]) -> None:
        """Have all that goes to the client pass by somebody, from now on.

        Args:
            send: makes the function to send with of the one so far.
            direct: makes a direct lane of the one so far.
        """
        self._send = send(self._send)
        if self.direct is not None:
            is_open = self.mailbox.direct is not None
            self.direct = direct(self.direct)
            self.mailbox.direct = self.direct if is_open else None

    # Reading.

    async def _read_first(self, receive: Receive, beside: Beside) -> None:
        """Take the event that begins the connection, and start to read those behind it."""
        # Not by the reader, which would have to wake this task for it.
        try:
            event = await receive()
            is_last = self._hear(event)
        except Exception as error:
            self._break(error)
            return
        self.mailbox.put_event_nowait(event)
        if not is_last:
            beside.read(partial(self._read, receive))

    async def _read(self, receive: Receive) -> None:
        try:
            is_last = False
            while not is_last:
                event = await receive()
                is_last = self._hear(event)
                await self.mailbox.put_event(event)
                del event  # what it carries may be large, and the next may not come for days
        except Exception as error:
            self._break(error)
            self.handling.cancel()

    def _hear(self, event: Event) -> bool:
        """Note what an event says of the connection; return whether it is the last one."""
        protocol = self.state.protocol
        is_last: bool = event["type"] == protocol.leaving
        if is_last and protocol.has_client:
            if not self.is_closed or self._is_left:
                self.state.end = event
            self._leave()
        return is_last

    def _break(self, error: Exception) -> None:
        """Nothing can be read any more; a middleware's receive has failed, as servers' do not."""
        self._broken = error
        self.is_over = True
        self._leave()

    def _leave(self) -> None:
        """The client is gone: nothing is sent any more, and handlers have a while to end."""
        self.state.close()
        self.mailbox.direct = None
        self._is_left = True
        if self._left is not None:
            self._left.set()
        if self.current or self._last_send is not None or not self.mailbox.is_empty:
            self.handling.deadline = anyio.current_time() + self._consumer.leave_grace

    def give_up(self, seconds: float) -> None:
        """End the connection, whose client has taken nothing for so long."""
        self.close(ClientTimeout(f"nothing was read for {seconds:g} s"))

    # Handling, until it is over.

    async def _handle_until_over(self, receive: Receive, beside: Beside) -> Exception | None:
        """Handle what comes, tell the client why it ends, and return the error that ended it."""
        error: Exception | None = None
        try:
            with self.handling:
                error = await self._handle_all(receive, beside)
            self._log_cancelled()
            await self._send_closing(error := error or self._error or self.mailbox.error)
            return error
        except anyio.get_cancelled_exc_class():
            # Whoever runs the application cancels it to shut down; the client comes back.
            if self.is_answered:
                with anyio.CancelScope(shield=True):
                    await self._send_closing(LayerClosed("the server is shutting down"))
            raise

    async def _handle_all(self, receive: Receive, beside: Beside) -> Exception | None:
        """Handle what comes until the connection is over; return the error that ended it."""
        await self._read_first(receive, beside)
        if self.is_over:
            return self._error or self.mailbox.error
        # The groups are joined only when the connect event waits in the mailbox. Joined earlier,
        # a message of theirs could stand before it, and be handled before there is a connection.
        self.current = "joining the groups"
        await self.follow(self._consumer._join_groups)
        if not self.is_over:
            await handle_each(self, by_steps=self._consumer._by_steps)
        if self.scope["type"] != "websocket" and self._last_send is not None:
            await self._last_send.wait()  # a body may be large, and its client slow
        return self._error or self.mailbox.error

    def begin(self, entry: Entry) -> Coroutine[Any, Any, None] | None:
        """Begin to handle what the mailbox held; None where nothing is left to do."""
        message = entry.message
        kind = message["type"]
        if kind == self.state.protocol.leaving:
            # Sent through the layer, it is somebody's wish that this connection ends.
            self._error = None if entry.is_from_client else StopConsumer()
            self.is_over = True
            return None
        if self._begun_at is None:
            self._begun_at = monotonic()
        self.current = kind
        return self._consumer.dispatch(message)

    async def follow(self, begin: Callable[..., Awaitable[None] | None], *args: object) -> None:
        """Let something be handled, and note what it raises to end the connection."""
        try:
            handling = begin(*args)
            if handling is not None:
                await handling
        except (Exception, CancelledError, SystemExit) as error:
            # A KeyboardInterrupt in the loop's thread may be that of whoever runs the server.
            self._error = await self._outcome(error)
            if self._error is not None:
                self.is_over = True
                return
        self.current = ""

    async def _outcome(self, error: Exception | CancelledError | SystemExit) -> Exception | None:
        """What a handler's error means: the one that ends the connection, or None."""
        if isinstance(error, AcceptConnection):
            await self.follow(self.send, accept())
            return self._error
        if isinstance(error, StopConsumer | DenyConnection):
            return error
        error = failure_of(error)
        self._log_failure(error)
        return error

    async def _send_closing(self, error: Exception | None) -> None:
        """Send the client why its connection ends, where it can still be sent anything."""
        if error is None or self.is_closed:
            return
        with anyio.move_on_after(CLOSE_TIMEOUT):
            for event in self.state.last_words(error, self._consumer.closing_events):
                self.current = event["type"]
                try:
                    await self.send(event)
                except Exception as failure:
                    if not self._has_failed:  # else most likely for the same cause
                        self._log_failure(failure)
                    return

    async def _handle_disconnect(self, begun_at: float) -> None:
        """Handle the disconnect event."""
        if self.scope["type"] == "websocket" and logger.isEnabledFor(logging.INFO):
            seconds = monotonic() - begun_at
            code = self.end.get("code")
            logger.info(
                "ended %s after %.1f s, code %s", self, seconds, code, extra=self.log_fields
            )
        self.current = self.state.protocol.leaving
        await self.follow(self._consumer._handle_last, self.state.end)

    def _log_cancelled(self) -> None:
        if not self.handling.cancelled_caught or self._broken or not self.current:
            return
        why = (
            self._error
            or self.mailbox.error
            or f"{self._consumer.leave_grace:g} s after the connection had ended"
        )
        why = legible(why, MOST_OF_SENTENCE)
        logger.warning("%s: %s was cancelled, %s", self, self.current, why, extra=self.log_fields)

    def _log_failure(self, error: Exception, what: str = "") -> None:
        if isinstance(error, ClientError) and self.state.protocol.has_client:
            sentence = legible(error, MOST_OF_SENTENCE)  # which may repeat what the client sent
            logger.info("refused %s: %s", self, sentence, extra=self.log_fields)
            return
        self._has_failed = True
        if not self.state.protocol.has_answers and self.current != self.state.protocol.leaving:
            return  # it is raised to whoever runs this connection
        self.log_failed(what or self.current, error)

    def log_failed(
        self,
        what: str,
        error: Exception,
        logger: logging.Logger = logger,
        **fields: object,
    ) -> None:
        """Log that something failed, with its traceback, or with a line where that says it all.

        A layer that is away has said so once, and every client that comes meanwhile would
        add the same traceback.
        """
        extra = {**self.log_fields, **fields}
        if isinstance(error, LayerUnavailable):
            logger.warning("%s: %s failed: %s", self, what, error, extra=extra)
        else:
            logger.error("%s: %s failed", self, what, exc_info=error, extra=extra)

    # Sending.

    async def send(self, event: Event) -> None:
        """Send an event to the client; see `Consumer.send`."""
        kind = event["type"]
        if kind != self.state.steady and not self.state.is_part(event):
            if self.state.is_closed:
                return
            has_advanced = self._advance(event)
            if has_advanced and self.state.is_closed:
                await self._send_last(event)
                return
            if kind in _WHOLE_FILES:
                await self._pass_on(event)
                return
        self.sends_begun += 1
        try:  # what _pass_on does, without the cost of a call for each frame
            await self._send(event)
        except Exception as error:
            await self._excuse(error, event)
        finally:
            self.sends_ended += 1

    def _advance(self, event: Event) -> bool:
        has_advanced = self.state.advance(event)
        self.mailbox.direct = self.direct if self.state.is_direct else None
        is_accepted = has_advanced and event["type"] == "websocket.accept"
        if is_accepted and logger.isEnabledFor(logging.INFO):
            address = client_address(self.scope)
            logger.info("accepted %s from %s", self, address, extra=self.log_fields)
        return has_advanced

    async def _send_last(self, event: Event) -> None:
        """Send what ends the connection, and have no more handled, also where nothing is now."""
        self.is_over = True
        self._last_send = anyio.Event()
        self.mailbox.wake()
        try:
            if event["type"] == "websocket.close":
                await self._send_close(event)
            else:
                await self._pass_on(event)
        finally:
            self._last_send.set()

    async def _send_close(self, event: Event) -> None:
        # Some servers hold the close frame back while they are asked for an event.
        if self._beside is not None:
            self._beside.stop_reading()
        await cancel_shielded_checkpoint()
        await self._pass_on(event)
        self.handling.deadline = anyio.current_time() + self._consumer.leave_grace

    async def _pass_on(self, event: Event) -> None:
        is_counted = event["type"] not in _WHOLE_FILES
        self.sends_begun += is_counted
        try:
            await self._send(event)
        except Exception as error:
            await self._excuse(error, event)
        finally:
            self.sends_ended += is_counted

    async def _excuse(self, error: Exception, event: Event) -> None:
        """Pass over what a server raises for a client that has left; raise anything else."""
        if isinstance(error, OSError):
            # ASGI, HTTP & WebSocket, "Disconnected client - send exception".
            self._leave()
            return
        if not self.state.protocol.has_client:
            raise error
        code = event.get("code", 0)
        if event["type"] == "websocket.close" and 1000 < code < 3000:
            # Some servers refuse to send the codes that RFC 6455 7.4.1 has named.
            await self._pass_on({**event, "code": code + 3000})
            return
        # Where the client has left, some servers raise errors of their own instead of an
        # OSError. So wait a moment for the disconnect event, which says whether it was that.
        if not self._is_left:
            self._left = self._left or anyio.Event()
            with anyio.move_on_after(NOTICE_TIMEOUT):
                await self._left.wait()
        if not self._is_left:
            raise error

    def __str__(self) -> str:
        where = self.scope.get("path") or self.scope.get("channel", "")
        return f"{self.scope['type']} '{legible(where)}' (channel {self.mailbox.channel})"
