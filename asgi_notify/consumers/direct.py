"""The direct lane: a message that is only passed on is sent in the sender's walk over the members.

On the plain way a message waits in the mailbox, a step or a task of the consumer takes it out,
finds its handler and runs it, and the handler sends. Where the consumer is idle and its handler
would only pass the message on, the same event comes of all that, one turn of the loop later. So
the mailbox, which is empty, asks here first::

    group_send --> mailbox --> queue --> handler --> send --> the server's connection
                      |                                            ^
                      +---------- Direct.take --> send_text -------+

What cannot go directly waits, and what comes behind it waits behind it, so nothing is
overtaken. Without all this the same is sent, for twice the work.

The server has to offer it, as docs/direct.md says: a function that takes a text at once, or
answers that it cannot.
"""

import asyncio
from collections.abc import Callable
from contextvars import Context

from anyio.lowlevel import RunVar

from ..asgi import DIRECT
from ..settings import Settings
from ..types import Message, Scope, Send

__all__ = ["Direct", "direct_of"]

TURN = 4096  # messages in one turn of the loop, some 2 ms; then others are served first


class _Turn:
    """How many messages may still go directly before the event loop serves others.

    A sender in a loop of its own would otherwise never let it: its messages leave, and no
    mailbox is ever full. The loop is asked for a turn when half of them have gone, so what
    spreads its messages over several turns never comes to the end.
    """

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = TURN

    def count(self) -> None:
        """Count one that goes directly."""
        self.left -= 1
        if self.left == TURN // 2:
            asyncio.get_running_loop().call_soon(self._renew, context=Context())

    def _renew(self) -> None:
        self.left = TURN


class Direct:
    """Sends what is only passed on to one client, past its idle consumer.

    Args:
        send_text: the server's.
        text_of: the text that the client gets for a message, or None where its
            handler has to decide.
        turn: that of the event loop.
    """

    __slots__ = ("_send_text", "_text_of", "_turn")

    def __init__(
        self,
        send_text: Callable[[str], bool],
        text_of: Callable[[Message], str | None],
        turn: _Turn,
    ) -> None:
        self._send_text = send_text
        self._text_of = text_of
        self._turn = turn

    def take(self, message: Message) -> bool:
        """Send a message now, and return whether that could be done."""
        turn = self._turn
        if not turn.left:
            return False
        text = self._text_of(message)
        if text is None or not self._send_text(text):
            return False
        turn.count()
        return True


def direct_of(scope: Scope, send: Send, text_of: Callable[[Message], str | None]) -> Direct | None:
    """The direct lane of a connection, or None where there is none.

    Args:
        scope: what the server has said of the connection.
        send: what the connection sends its events with. Where it is not the server's own, what
            is sent has to go through it: it may be a middleware's, which counts or changes it.
        text_of: as of `Direct`.
    """
    offer = (scope.get("extensions") or {}).get(DIRECT) or {}
    if offer.get("send") != send:
        return None
    turn = _turn_of_loop()
    return None if turn is None else Direct(offer["send_text"], text_of, turn)


_of_loop: RunVar[_Turn | None] = RunVar("asgi_notify_direct")


def _turn_of_loop() -> _Turn | None:
    """The running event loop's; None where it is not asyncio's, or the settings say so."""
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
