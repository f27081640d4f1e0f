"""How all that the WebSockets of an event loop are sent in one turn is written at its end.

A message to a group is the same text for each of its members, and a burst is many
messages for one member. A server that spells a frame and calls the kernel for each
message and each member does both far more often than it has to. Here the frame of a text
is spelled once in a turn of the loop, and what one connection is sent in that turn is
handed to its transport with one ``write``::

    send("a") to 1, 2, 3    frame of "a"        1: [a, b]
    send("b") to 1, 2, 3    frame of "b"   ->   2: [a, b]   ->  turn ends: three writes
                                                3: [a, b]

Nothing here knows a server; `asgi_notify.uvicorn` puts it to use.
"""

from asyncio import AbstractEventLoop, BaseTransport, Event
from collections import deque
from collections.abc import Callable
from contextvars import Context
from weakref import WeakKeyDictionary

from websockets.protocol import State
from websockets.server import ServerProtocol

from .bounded import Bounded
from .settings import Settings

__all__ = ["Gathered", "Gathering", "Turn", "turn_of"]

GATHERED = 64 * 1024  # bytes for one connection, over which no more are gathered
WRITES = 64  # connections in one callback of the loop, then others get their turn
WRITTEN = 1024 * 1024  # bytes in one callback, after which others get their turn, too
SHARED = 1024 * 1024  # bytes of frames that are kept for the next one who is sent the same
SMALLEST = 256  # bytes that an entry of the cache takes, however short its text


class Turn:
    """What one event loop has to write before it goes on to its next turn.

    It holds the frames spelled in this turn, by their text, so nothing of what was
    sent stays in memory after the turn.
    """

    __slots__ = ("__weakref__", "_context", "_due", "_frames", "_held")

    def __init__(self) -> None:
        self._due: deque[Gathered] = deque()
        self._frames: dict[str | bytes, bytes] = {}
        self._held = 0  # bytes, about
        self._context = Context()  # of no sender

    def frame(self, text: str) -> bytes:
        """A text's frame, which all who are sent an equal one in this turn share.

        Raises:
            UnicodeEncodeError: the text holds half of a surrogate pair.
        """
        frame = self._frames.get(text)
        return self._spell(text) if frame is None else frame

    def add(self, gathered: "Gathered") -> None:
        """Flush it when the turn ends; it is not to be added again before that."""
        if not self._due:
            gathered.loop.call_soon(self._flush, context=self._context)
        self._due.append(gathered)

    def _spell(self, text: str) -> bytes:
        frame = frame_of(0x81, text.encode())
        if self._held > SHARED:
            self._frames.clear()
            self._held = 0
        self._held += len(frame) + SMALLEST
        self._frames[text] = frame
        return frame

    def _flush(self) -> None:
        due = self._due
        last = due[-1]
        try:
            written = 0
            for _ in range(min(len(due), WRITES)):
                written += due.popleft().flush()
                if written > WRITTEN:
                    break
        finally:  # what a signal handler raises does not keep the others' from being written
            if due:
                last.loop.call_soon(self._flush, context=self._context)
            else:
                self._frames.clear()
                self._held = 0


class Gathered(Bounded):
    """A transport that writes what it is given in one turn of the loop at its end.

    What waits for the end of the turn is written at once where it is more than 64 KiB, and
    before the transport is closed or gets another protocol.

    Args:
        transport: the real one, or another of this kind, which is left then.
        loop: the loop of both.
        parse: takes the next portion.
        turn: the loop's.
    """

    __slots__ = ("_is_queued", "_pending", "_size", "_turn")

    def __init__(
        self,
        transport: BaseTransport,
        loop: AbstractEventLoop,
        parse: Callable[[bytes], object],
        turn: Turn,
    ) -> None:
        super().__init__(transport, loop, parse)
        self._turn = turn
        self._pending: list[bytes] = []
        self._size = 0  # of all that, in bytes
        self._is_queued = False  # in the turn

    def write(self, data: bytes) -> None:
        """Send it, when the turn ends."""
        self._gather(data)
        if self._size > GATHERED:
            self._write_pending()

    def flush(self) -> int:
        """Write what waits, since the turn has ended; return how many bytes it was."""
        self._is_queued = False
        size = self._size
        self._write_pending()
        return size

    def close(self) -> None:
        """Send what waits and what is left, for as long as the client reads on, and close."""
        self._write_pending()
        super().close()

    def abort(self) -> None:
        """Close, and throw away what has not been sent."""
        self._inner.abort()
        self._write_pending()  # to nobody

    def leave(self) -> None:
        """Forget the protocol, which has ended or has handed its connection on."""
        self._write_pending()
        super().leave()

    def _gather(self, data: bytes) -> None:
        self._pending.append(data)
        self._size += len(data)
        if not self._is_queued:
            self._is_queued = True
            self._turn.add(self)

    def _write_pending(self) -> None:
        if self._pending:
            data = b"".join(self._pending)
            self._pending.clear()
            self._size = 0
            if not self._inner.is_closing():
                self._inner.write(data)


class Gathering(Gathered):
    """A transport that takes messages of a WebSocket, and writes them at the end of the turn.

    The messages of an open connection come by `send_text` and `send_bytes`. They wait for
    the end of the turn, or for anything else to be written: a ping, a pong, a close frame.
    That goes out at once, behind what waits, so the order is always that in which all of it
    was sent.

    Such a message is taken only if ``is_ready``: the connection is open, its client reads,
    no other message waits for it to do so, and no more than 64 KiB wait for the end of the
    turn. A message that is not taken goes to uvicorn, which waits or writes at once.

    Whatever opens or closes the connection is written by uvicorn, or told to the protocol.
    So ``is_ready`` is found out then, rather than for each message.

    Args:
        transport: the real one, or another of this kind, which is left then.
        loop: the loop of both.
        parse: takes the next portion.
        turn: the loop's.
        conn: says whether the WebSocket is open.
        writable: says whether the client reads.
    """

    __slots__ = ("_conn", "_sending", "_writable", "is_ready")

    def __init__(
        self,
        transport: BaseTransport,
        loop: AbstractEventLoop,
        parse: Callable[[bytes], object],
        turn: Turn,
        conn: ServerProtocol,
        writable: Event,
    ) -> None:
        super().__init__(transport, loop, parse, turn)
        self._conn = conn
        self._writable = writable
        self._sending = 0  # calls of uvicorn's `send` that have not returned
        self.is_ready = False

    def send_text(self, text: str) -> bool:
        """Take a text message if the client is ready for it; return whether it was taken.

        Raises:
            UnicodeEncodeError: the text holds half of a surrogate pair.
        """
        if not self.is_ready or type(text) is not str:
            return False
        self._take(self._turn.frame(text))
        return True

    def send_bytes(self, data: bytes) -> bool:
        """Take a binary message if the client is ready for it; return whether it was taken."""
        if not self.is_ready or type(data) is not bytes:
            return False
        self._take(frame_of(0x82, data))
        return True

    def flush(self) -> int:
        """Write what waits, since the turn has ended; return how many bytes it was."""
        size = super().flush()
        if size > GATHERED:
            self.look()
        return size

    def write(self, data: bytes) -> None:
        """Send what uvicorn says, behind what waits."""
        self._pending.append(data)
        self._write_pending()
        self.look()

    def close(self) -> None:
        """Send what waits and what is left, for as long as the client reads on, and close."""
        self.is_ready = False
        super().close()

    def abort(self) -> None:
        """Close, and throw away what has not been sent."""
        self.is_ready = False
        super().abort()

    def leave(self) -> None:
        """Forget the protocol."""
        self.is_ready = False
        super().leave()

    def look(self) -> None:
        """Find out whether messages can be taken."""
        self.is_ready = (
            self._sending == 0
            and self._writable.is_set()
            and self._conn.state is State.OPEN
            and not self._inner.is_closing()
        )

    def begin(self) -> None:
        """Take nothing while uvicorn's `send` runs, which may have to wait."""
        self._sending += 1
        self.is_ready = False

    def end(self) -> None:
        """Go on, as it has returned."""
        self._sending -= 1
        self.look()

    def _take(self, frame: bytes) -> None:
        self._gather(frame)
        if self._size > GATHERED:
            self.is_ready = False  # until it is written


def frame_of(first: int, payload: bytes) -> bytes:
    """An unmasked frame.

    Args:
        first: its first byte: FIN, and the opcode.
        payload: what it carries.

    Source: RFC 6455 5.2.
    """
    size = len(payload)
    if size < 126:
        return bytes((first, size)) + payload
    if size < 1 << 16:
        return b"%c\x7e%b%b" % (first, size.to_bytes(2), payload)
    return b"%c\x7f%b%b" % (first, size.to_bytes(8), payload)


# The turn does not know its loop, or neither would ever be freed.
_turns: WeakKeyDictionary[AbstractEventLoop, Turn | None] = WeakKeyDictionary()


def turn_of(loop: AbstractEventLoop) -> Turn | None:
    """The loop's, which all of its connections share; None where the settings say so.

    The settings are those of the process when the loop has its first connection.
    """
    try:
        return _turns[loop]
    except KeyError:
        turn = _turns[loop] = Turn() if Settings.of_process().gathering else None
        return turn
