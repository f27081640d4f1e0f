"""How WebSocket frames are encoded once for all clients, and written once in a turn of the loop.

A message to a group is the same text for each of its members, and a burst is many
messages for one member. A server that encodes a frame and calls the kernel for each
message and each member does both far more often than it has to. Here the frame of a text
is encoded once in a turn of the loop, and what one connection is sent in that turn is
handed to its transport with one ``write``::

    send("a") to 1, 2, 3    frame of "a"        1: [a, b]
    send("b") to 1, 2, 3    frame of "b"   ->   2: [a, b]   ->  turn ends: three writes
                                                3: [a, b]

Nothing here starts a server; `asgi_notify.uvicorn` uses it in a protocol of uvicorn's.
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

GATHERED = 64 * 1024  # bytes that may wait for one connection; more are written at once
WRITES = 64  # connections in one callback of the loop; then the loop serves others
WRITTEN = 1024 * 1024  # bytes in one callback; then the loop serves others, too
SHARED = 1024 * 1024  # bytes of frames that are kept for other clients that are sent the same
SMALLEST = 256  # bytes that an entry takes there beside its frame


class Turn:
    """What one event loop has to write before it goes on to its next turn.

    It also holds what was encoded in this turn. That is dropped at its end, so nothing of what
    was sent stays in memory.

    Attributes:
        frames: frames by their text, for all that are sent an equal text in this turn.
    """

    __slots__ = ("__weakref__", "_chunks", "_context", "_due", "_held", "frames")

    def __init__(self) -> None:
        self.frames: dict[str, bytes] = {}
        self._due: deque[Gathered] = deque()
        self._chunks: dict[bytes, bytes] = {}  # of HTTP answers, by what they carry
        self._held = 0  # bytes that both take, about
        self._context = Context()  # for callbacks; an empty one, so that no sender's is kept

    def spell(self, text: str) -> bytes:
        """Make the frame of a text, and keep it in ``frames`` until the turn ends.

        Raises:
            UnicodeEncodeError: the text holds half of a surrogate pair.
        """
        frame = frame_of(0x81, text.encode())
        self._make_room(frame)
        self.frames[text] = frame
        return frame

    def chunk(self, part: bytes) -> bytes:
        """The chunk that carries a part of an HTTP answer, shared like a frame.

        Args:
            part: not empty, which would be the end of the answer.

        Source: RFC 9112 7.1.
        """
        chunk = self._chunks.get(part)
        if chunk is None:
            chunk = b"%x\r\n%b\r\n" % (len(part), part)
            self._make_room(chunk)
            self._chunks[part] = chunk
        return chunk

    def add(self, gathered: "Gathered") -> None:
        """Flush a transport when the turn ends. It must not be added again before that."""
        if not self._due:
            gathered.loop.call_soon(self._flush, context=self._context)
        self._due.append(gathered)

    def _make_room(self, data: bytes) -> None:
        if self._held > SHARED:
            self._forget()
        self._held += len(data) + SMALLEST

    def _forget(self) -> None:
        self.frames.clear()
        self._chunks.clear()
        self._held = 0

    def _flush(self) -> None:
        due = self._due
        last = due[-1]
        try:
            written = 0
            for _ in range(min(len(due), WRITES)):
                written += due.popleft().flush()
                if written > WRITTEN:
                    break
        finally:  # a signal handler may raise here; the other transports are written all the same
            if due:
                last.loop.call_soon(self._flush, context=self._context)
            else:
                self._forget()


class Gathered(Bounded):
    """A transport that writes, at the end of a turn of the loop, all that it got in that turn.

    What waits is written earlier if it is more than 64 KiB, and before the transport is closed
    or gets another protocol.

    Args:
        transport: the real one. If it is a `Bounded`, the one inside of it is taken over.
        loop: the event loop.
        parse: as for `Bounded`.
        turn: the loop's; see `turn_of`.
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
        # None where nothing waits: a list of each connection's own would lie in slow memory.
        self._pending: list[bytes] | None = None
        self._size = 0  # of all that is pending, in bytes
        self._is_queued = False  # whether the turn will flush this transport

    def write(self, data: bytes) -> None:
        """Send data when the turn ends."""
        self._gather(data)
        if self._size > GATHERED:
            self._write_pending()

    def flush(self) -> int:
        """Write what waits, at the end of the turn; return how many bytes it was."""
        self._is_queued = False
        pending, size = self._pending, self._size
        if pending is None:
            return 0
        # What `_write_pending` does, without the cost of a call for each connection.
        self._pending = None
        self._size = 0
        if not self._inner.is_closing():
            self._inner.write(b"".join(pending))
        if size > GATHERED:
            self.look()
        return size

    def close(self) -> None:
        """Send what waits and what is left, for as long as the client reads on, and close."""
        self._write_pending()
        super().close()

    def abort(self) -> None:
        """Close, and throw away what has not been sent."""
        self._inner.abort()
        self._write_pending()  # only drops it, since the real transport is closing

    def leave(self) -> None:
        """Forget the protocol, which has ended or has handed its connection on."""
        self._write_pending()
        super().leave()

    def look(self) -> None:
        """Called when much was written, so that more may be taken."""

    def _gather(self, data: bytes) -> None:
        if self._pending is None:
            self._pending = [data]
        else:
            self._pending.append(data)
        self._size += len(data)
        if not self._is_queued:
            self._is_queued = True
            self._turn.add(self)

    def _write_pending(self) -> None:
        pending, self._pending = self._pending, None
        if pending is not None:
            self._size = 0
            if not self._inner.is_closing():
                self._inner.write(b"".join(pending))


class Gathering(Gathered):
    """A transport that takes the messages of a WebSocket, and writes them when the turn ends.

    The messages of an open connection come by `send_text` and `send_bytes`, and wait for the end
    of the turn. All else comes by `write`: a ping, a pong, a close frame. It is written at once,
    and what waits is written before it. So the order is always that in which all was sent.

    A message is taken only if ``is_ready`` is true. That is so while the connection is open, its
    client reads, no call of uvicorn's ``send`` waits for the client, and no more than 64 KiB
    wait for the end of the turn. A message that is not taken goes to uvicorn, which waits or
    writes at once.

    To find all this out takes longer than to take a message. So `look` does it only when it may
    have changed: after each `write` by uvicorn, which opens and closes the connection by one,
    and when the protocol reports that the client reads or does not.

    Args:
        transport: the real one. If it is a `Bounded`, the one inside of it is taken over.
        loop: the event loop.
        parse: as for `Bounded`.
        turn: the loop's; see `turn_of`.
        conn: knows whether the WebSocket is open.
        writable: set while the client reads.
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
        turn = self._turn
        frame = turn.frames.get(text)
        if frame is None:
            frame = turn.spell(text)
        # What `_gather` does, without the cost of a call for each delivery.
        if self._pending is None:
            self._pending = [frame]
        else:
            self._pending.append(frame)
        self._size += len(frame)
        if self._size > GATHERED:
            self.is_ready = False  # until it is written
        if not self._is_queued:
            self._is_queued = True
            turn.add(self)
        return True

    def send_bytes(self, data: bytes) -> bool:
        """Take a binary message if the client is ready for it; return whether it was taken."""
        if not self.is_ready or type(data) is not bytes:
            return False
        self._gather(frame_of(0x82, data))
        if self._size > GATHERED:
            self.is_ready = False
        return True

    def write(self, data: bytes) -> None:
        """Write data of uvicorn's at once, after what waits."""
        if self._pending is not None:
            self._pending.append(data)
            self._write_pending()
        elif not self._inner.is_closing():
            self._inner.write(data)
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
        """Find out whether messages can be taken now, and set ``is_ready``."""
        self.is_ready = (
            self._sending == 0
            and self._writable.is_set()
            and self._conn.state is State.OPEN
            and not self._inner.is_closing()
        )

    def begin(self) -> None:
        """Take no messages while uvicorn's ``send`` runs, which may have to wait."""
        self._sending += 1
        self.is_ready = False

    def end(self) -> None:
        """Take messages again, since uvicorn's ``send`` has returned."""
        self._sending -= 1
        self.look()


def frame_of(first: int, payload: bytes) -> bytes:
    """Encode an unmasked frame, as servers send them.

    Args:
        first: the first byte of the frame: FIN, and the opcode.
        payload: the data in the frame.

    Source: RFC 6455 5.2.
    """
    size = len(payload)
    if size < 126:
        return bytes((first, size)) + payload
    if size < 1 << 16:
        return b"%c\x7e%b%b" % (first, size.to_bytes(2), payload)
    return b"%c\x7f%b%b" % (first, size.to_bytes(8), payload)


# A turn holds no reference to its loop. If it did, the key would be referred to by its value, and
# neither would ever be freed.
_turns: WeakKeyDictionary[AbstractEventLoop, Turn | None] = WeakKeyDictionary()


def turn_of(loop: AbstractEventLoop) -> Turn | None:
    """The turn of a loop, shared by all its connections; None if the settings turn it off.

    The settings are read when the loop has its first connection.
    """
    try:
        return _turns[loop]
    except KeyError:
        turn = _turns[loop] = Turn() if Settings.of_process().gathering else None
        return turn
