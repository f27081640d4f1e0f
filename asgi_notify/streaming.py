"""How the parts of an HTTP answer that goes on are taken at once, and encoded once for all.

An event of a stream is a part of an answer's body. What is written is a chunk: the part with its
length before it and a line end behind it. All members of a group are sent the same part, so its
chunk is the same for all of them. What `gathering` does with the messages of WebSockets is done
here with such parts. They come by ``await send(event)``, or by the extension of docs/direct.md,
which does the same without a coroutine::

    send_body("a") to 1, 2    chunk of "a"        1: [a, b]
    send_body("b") to 1, 2    chunk of "b"   ->   2: [a, b]   ->  turn ends: two writes

A part is taken only while nothing has to be waited for. Any other part, and the beginning and
the end of an answer, go to the server's own ``send``.
"""

from asyncio import AbstractEventLoop, BaseTransport
from collections.abc import Callable

from .gathering import GATHERED, Gathered, Turn
from .types import Event, Send

__all__ = ["Answer", "Streaming"]

SHORT = 16 * 1024  # bytes; to find out that a longer part was sent before costs as much as a copy


class Streaming(Gathered):
    """A transport that takes the parts of one answer after the other.

    Args: as for `Gathered`.

    Attributes:
        answer: the one that is being sent; None between two of them.
        taken: the same while its parts are taken, else None. They are while further parts
            follow, the client reads, no call of the server's ``send`` waits, and no more
            than 64 KiB wait for the end of the turn.
        turn: holds the chunks.
    """

    __slots__ = ("answer", "taken", "turn")

    def __init__(
        self,
        transport: BaseTransport,
        loop: AbstractEventLoop,
        parse: Callable[[bytes], object],
        turn: Turn,
    ) -> None:
        super().__init__(transport, loop, parse, turn)
        self.turn = turn
        self.answer: Answer | None = None
        self.taken: Answer | None = None

    def add_chunk(self, chunk: bytes) -> None:
        """Send a chunk when the turn ends, also if it is a long one."""
        self._gather(chunk)
        if self._size > GATHERED:
            self.taken = None  # until it is written

    def flush(self) -> int:
        """Write what waits, at the end of the turn; return how many bytes it was."""
        size = super().flush()
        if size > GATHERED:
            self.look()
        return size

    def look(self) -> None:
        """Find out whether parts can be taken now; called when that may have changed."""
        if self.answer is not None:
            self.answer.look()

    def close(self) -> None:
        """Send what waits and what is left, for as long as the client reads on, and close."""
        self.taken = None
        super().close()

    def abort(self) -> None:
        """Close, and throw away what has not been sent."""
        self.taken = None
        super().abort()

    def leave(self) -> None:
        """Forget the protocol, and the answer."""
        self.answer = self.taken = None
        super().leave()


class Answer:
    """The answer to one request, whose parts are taken at once where that is possible.

    Args:
        transport: of its connection.
        send: the server's function.
        is_open: whether the server would send a further part now, as a chunk and without
            waiting for the client.
    """

    __slots__ = ("_is_open", "_send", "_sending", "_transport")

    def __init__(self, transport: Streaming, send: Send, is_open: Callable[[], bool]) -> None:
        self._transport = transport
        self._send = send
        self._is_open = is_open
        self._sending = 0  # calls of the server's `send` that have not returned

    def send_body(self, body: bytes) -> bool:
        """Take a part of the body if the client is ready for it; return whether it was taken."""
        transport = self._transport
        if transport.taken is not self or type(body) is not bytes or not body:
            return False
        transport.add_chunk(transport.turn.chunk(body))
        return True

    async def send(self, event: Event) -> None:
        """Take an event of the application."""
        if event["type"] == "http.response.body" and event.get("more_body", False):
            body = event.get("body", b"")
            if len(body) <= SHORT and self.send_body(body):
                return
        transport = self._transport
        self._sending += 1
        if transport.taken is self:
            transport.taken = None
        try:
            await self._send(event)
        finally:
            self._sending -= 1
            self.look()

    def look(self) -> None:
        """Have the transport take the parts of this answer, if it can."""
        if self._sending == 0 and self._is_open():
            self._transport.taken = self
