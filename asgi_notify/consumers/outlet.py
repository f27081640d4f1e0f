"""What an application sends on one connection, and what it learns by that."""

import logging

import anyio
from anyio.lowlevel import cancel_shielded_checkpoint

from ..asgi import client_address
from ..exceptions import ClientTimeout
from ..layers.mailbox import Mailbox
from ..types import Event, Scope, Send
from .protocol import CLOSED, protocol_of

__all__ = ["Outlet"]

logger = logging.getLogger("asgi_notify.connections")

NOTICE_TIMEOUT = 0.5  # seconds in which a server whose send failed says that the client left

# A server may take minutes for one of these, however fast its client reads.
_WHOLE_FILES = frozenset({"http.response.pathsend", "http.response.zerocopysend"})


class Outlet:
    """The sending half of a connection: passes events on in their turn, while there is a client.

    Args:
        grace: seconds that handlers may go on after the client has left.
    """

    __slots__ = (
        "_end", "_grace", "_handling", "_is_left", "_left", "_parted", "_protocol", "_reading",
        "_send", "_state", "_steady", "is_over", "mailbox", "scope", "sends_begun", "sends_ended",
    )  # fmt: skip

    def __init__(self, scope: Scope, send: Send, mailbox: Mailbox, grace: float) -> None:
        self.scope = scope
        self.mailbox = mailbox
        self._send = send
        self._grace = grace
        self._protocol = protocol_of(scope["type"])
        self._state = self._protocol.start
        self._steady = ""  # the type of the event that may be sent again and again
        self._handling = anyio.CancelScope()
        self._reading = anyio.CancelScope()
        self._end: Event = {"type": self._protocol.leaving, "code": 1006, "reason": ""}
        self._is_left = False
        self._left: anyio.Event | None = None  # made by who waits for it: it takes 800 bytes
        self._parted: anyio.Event | None = None  # made with the last event, set when it was sent
        self.is_over = False  # and nothing more is to be handled, but the disconnect event
        # Where the two differ, a send is under way; where it waits, so does the client's reading.
        self.sends_begun = 0
        self.sends_ended = 0

    @property
    def is_answered(self) -> bool:
        """Whether the client has got a first answer, such as an accept."""
        return self._state != self._protocol.start

    @property
    def is_closed(self) -> bool:
        """Whether nothing that is sent goes anywhere any more."""
        return self._state == CLOSED

    @property
    def is_sending(self) -> bool:
        """Whether a send is under way; the server's waits while the client reads nothing."""
        return self.sends_begun != self.sends_ended

    async def send(self, event: Event) -> None:
        """Send an event to the client; see `Consumer.send`."""
        if self._state == CLOSED:
            return
        kind = event["type"]
        if kind != self._steady:
            has_advanced = self._advance(event)
            if has_advanced and self._state == CLOSED:
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

    def give_up(self, seconds: float) -> None:
        """End the connection, whose client has taken nothing for so long."""
        self.mailbox.close(ClientTimeout(f"nothing was read for {seconds:g} s"))

    def _advance(self, event: Event) -> bool:
        """Go to the state after this event; return whether it is another one."""
        before, self._state = self._state, self._protocol.next_state(self._state, event)
        if self._state == before:
            return False
        self._steady = self._protocol.steady(self._state)
        if event["type"] == "websocket.close":
            self._end["code"] = event.get("code", 1000)
            self._end["reason"] = event.get("reason") or ""
        elif event["type"] == "websocket.accept":
            logger.info("accepted %s from %s", self, client_address(self.scope))
        return True

    async def _send_last(self, event: Event) -> None:
        """Send what ends the connection, and have no more handled, also where nothing is now."""
        self.is_over = True
        self._parted = anyio.Event()
        self.mailbox.wake()
        try:
            if event["type"] == "websocket.close":
                await self._close(event)
            else:
                await self._pass_on(event)
        finally:
            self._parted.set()

    async def _close(self, event: Event) -> None:
        # Some servers hold the close frame back while they are asked for an event.
        self._reading.cancel()
        await cancel_shielded_checkpoint()
        await self._pass_on(event)
        self._handling.deadline = anyio.current_time() + self._grace

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
        if not self._protocol.has_client:
            raise error
        code = event.get("code", 0)
        if event["type"] == "websocket.close" and 1000 < code < 3000:
            # Some servers refuse to send the codes that RFC 6455 7.4.1 has named.
            await self._pass_on({**event, "code": code + 3000})
            return
        # Some servers tell in errors of their own what others tell in an OSError.
        if not self._is_left:
            self._left = self._left or anyio.Event()
            with anyio.move_on_after(NOTICE_TIMEOUT):
                await self._left.wait()
        if not self._is_left:
            raise error

    def _leave(self) -> None:
        """The client is gone: nothing is sent any more, and handlers have a while to end."""
        self._state = CLOSED
        self._is_left = True
        if self._left is not None:
            self._left.set()
        self._handling.deadline = anyio.current_time() + self._grace

    def __str__(self) -> str:
        where = self.scope.get("path") or self.scope.get("channel", "")
        return f"{self.scope['type']} {where!r} (channel {self.mailbox.channel})"
