"""The direct lane: how a group message is sent to a client without running its consumer.

On the plain way a message waits in the mailbox; a step or a task of the consumer takes it out,
finds its handler and runs it, and the handler sends. If the consumer is idle, and its handler
would only pass the message on, we know already which event will be sent at the end of all that.
So a mailbox that is empty asks here first, within the sender's loop over the members of the
group::

    group_send --> mailbox --> queue --> handler --> send --> the server's connection
                      |                                            ^
                      +---------- Direct.take --> send_text -------+

A message that cannot go directly waits in the mailbox. All that come after it wait behind it,
since the mailbox is not empty then, so no message overtakes another. Without the direct lane the
client is sent the same, for about twice the work.

The server has to offer it, as docs/direct.md says: a function that takes a text at once, or
returns that it cannot.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextvars import Context
from typing import Any

from anyio.lowlevel import RunVar

from ..asgi import DIRECT
from ..settings import Settings
from ..types import Message, Scope, Send

__all__ = ["Direct", "direct_of", "offer_of"]

TURN = 4096  # messages in one turn of the loop, some 2 ms; then the loop serves others


class _Turn:
    """How many messages may still go directly in this turn of the event loop.

    Without this bound, an endless ``while`` that sends to a group would never let the loop serve
    anybody else: on the plain way a full mailbox makes a sender wait, but what goes directly
    fills no mailbox. Messages beyond the bound go the plain way.

    The bound is renewed in the next turn of the loop. That callback is scheduled when half of
    the messages have gone, so a sender that waits now and then never comes to the end of them.

    Attributes:
        left: how many; whoever sends one counts it, and calls `renew_soon` at half of `TURN`.
    """

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = TURN

    def renew_soon(self) -> None:
        """Have the bound renewed in the next turn of the loop."""
        # In an empty context, so that the sender's is not kept alive.
        asyncio.get_running_loop().call_soon(self._renew, context=Context())

    def _renew(self) -> None:
        self.left = TURN


class Direct:
    """Sends to one client the messages that its consumer would only pass on.

    Args:
        send_text: the server's function; returns False if it cannot take the text now. Of a
            stream it is one for parts of a body, and what is said of texts holds for them.
        text_of: returns the text that the client gets for a message, or None if its handler
            has to run.
        turn: shared by all connections of the event loop.
    """

    __slots__ = ("_send_text", "_text_of", "_turn")

    def __init__(
        self,
        send_text: Callable[[Any], bool],
        text_of: Callable[[Message], str | bytes | None],
        turn: _Turn,
    ) -> None:
        self._send_text = send_text
        self._text_of = text_of
        self._turn = turn

    def take(self, message: Message) -> bool:
        """Send a message now, if that is possible; return whether it was sent."""
        turn = self._turn
        if not turn.left:
            return False
        text = self._text_of(message)
        if text is None or not self._send_text(text):
            return False
        turn.left -= 1
        if turn.left == TURN // 2:
            turn.renew_soon()
        return True


def direct_of(
    scope: Scope, send: Send, text_of: Callable[[Message], str | bytes | None]
) -> Direct | None:
    """The direct lane of a connection, or None if it has none.

    Args:
        scope: of the connection.
        send: what the connection sends its events with. If it is not the server's own function,
            it is a middleware's, which may count or change what is sent. Then every event has
            to go through it, and there is no direct lane.
        text_of: as for `Direct`.
    """
    offer = offer_of(scope, send)
    turn = _turn_of_loop() if offer else None
    if turn is None:
        return None
    name = "send_text" if scope["type"] == "websocket" else "send_body"
    return Direct(offer[name], text_of, turn)


def offer_of(scope: Scope, send: Send) -> Mapping[str, Any]:
    """What a server offers in the extension; nothing where ``send`` is not its own."""
    offer: Mapping[str, Any] = (scope.get("extensions") or {}).get(DIRECT) or {}
    return offer if offer.get("send") == send else {}


_of_loop: RunVar[_Turn | None] = RunVar("asgi_notify_direct")


def _turn_of_loop() -> _Turn | None:
    """The running loop's turn; None if the loop is not asyncio's, or the settings turn it off."""
    try:
        return _of_loop.get()
    except LookupError:
        turn = _Turn() if _is_asyncio() and Settings.of_process().direct else None
        _of_loop.set(turn)
        return turn


def _is_asyncio() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
