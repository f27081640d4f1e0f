"""What a client's socket says and hears: as little of three protocols as a benchmark needs.

Nothing here waits or owns a socket. A dialect makes the request that opens a
connection, answers what comes before it is open, and finds the publishers'
stamps in what comes after.
"""

import base64
import os
from abc import ABC, abstractmethod
from typing import NamedTuple

from .payload import STAMP_DIGITS

__all__ = [
    "CLOSE",
    "DIALECTS",
    "Dialect",
    "Refused",
    "SocketIo",
    "Sse",
    "Step",
    "WebSocket",
    "masked",
]

_HEAD_END = b"\r\n\r\n"
CLOSE = b"\x88\x82\x00\x00\x00\x00\x03\xe8"  # RFC 6455 5.5.1: 1000, masked with zeros
_TEXT = 0x81  # RFC 6455 5.2: FIN, opcode 1
_LEN_16, _LEN_64 = 126, 127  # RFC 6455 5.2: the length follows in 2 or 8 bytes


class Refused(Exception):
    """The server answered, but not with a connection."""


class Step(NamedTuple):
    """One step towards an open connection."""

    consumed: int
    """Bytes that were read; 0 asks for more of them."""
    reply: bytes = b""
    is_open: bool = False


class Dialect(ABC):
    """What is spoken on one connection."""

    @abstractmethod
    def request(self, path: str) -> bytes:
        """What the client says first."""

    @abstractmethod
    def greet(self, data: bytes) -> Step:
        """Take the next piece of what comes before the connection is open.

        Raises:
            Refused: the server will not have it.
        """

    @abstractmethod
    def stamps(self, data: bytes) -> tuple[list[int], int]:
        """The stamps of the whole messages in the data, and how many bytes these took."""


class WebSocket(Dialect):
    """RFC 6455, without extensions and without fragments."""

    prefix = b""  # what stands before the published text

    def request(self, path: str) -> bytes:
        key = base64.b64encode(os.urandom(16)).decode()
        return (
            f"GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
        ).encode()

    def greet(self, data: bytes) -> Step:
        consumed = _head(data, b"101")
        return Step(consumed, is_open=consumed > 0)

    def stamps(self, data: bytes) -> tuple[list[int], int]:
        found: list[int] = []
        at, end, skip = 0, len(data), len(self.prefix)
        while end - at >= 2:
            start, length = at + 2, data[at + 1]
            if length == _LEN_16:
                start, length = at + 4, int.from_bytes(data[at + 2 : at + 4])
            elif length == _LEN_64:
                start, length = at + 10, int.from_bytes(data[at + 2 : at + 10])
            if start + length > end:
                break
            if data[at] == _TEXT and data.startswith(self.prefix, start):
                found.append(int(data[start + skip : start + skip + STAMP_DIGITS]))
            at = start + length
        return found, at


class SocketIo(WebSocket):
    """Socket.IO 5 over a WebSocket: a session, then the default namespace, then events.

    Source: https://socket.io/docs/v4/socket-io-protocol/
    """

    prefix = b'42["message","'  # a message (4) that is an event (2)

    def greet(self, data: bytes) -> Step:
        if data.startswith(b"H"):
            return Step(_head(data, b"101"))
        if len(data) < 2 or len(data) < 2 + data[1]:  # both packets are short
            return Step(0)
        length = 2 + data[1]
        if data.startswith(b"40", 2):
            return Step(length, is_open=True)
        return Step(length, masked(b"40") if data.startswith(b"0", 2) else b"")


class Sse(Dialect):
    """Server-sent events in a chunked response; each event comes in a chunk of its own."""

    def request(self, path: str) -> bytes:
        accept = "text/event-stream"
        return f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\n\r\n".encode()

    def greet(self, data: bytes) -> Step:
        consumed = _head(data, b"200")
        return Step(consumed, is_open=consumed > 0)

    def stamps(self, data: bytes) -> tuple[list[int], int]:
        found: list[int] = []
        at = 0
        while (line_end := data.find(b"\r\n", at)) >= 0:
            start = line_end + 2
            after = start + int(data[at:line_end], 16) + 2  # RFC 9112 7.1: CRLF ends a chunk
            if after > len(data):
                break
            if data.startswith(b"data: ", start):
                found.append(int(data[start + 6 : start + 6 + STAMP_DIGITS]))
            at = after
        return found, at


DIALECTS: dict[str, Dialect] = {
    "websocket": WebSocket(),
    "socketio": SocketIo(),
    "sse": Sse(),
}


def masked(payload: bytes) -> bytes:
    """A short text frame from a client; RFC 6455 5.3 has it masked, here with zeros."""
    return bytes((_TEXT, 0x80 | len(payload))) + bytes(4) + payload


def _head(data: bytes, status: bytes) -> int:
    """How long the head of the response is, or 0 where it is not all there."""
    end = data.find(_HEAD_END)
    if end < 0:
        return 0
    line = data[: data.index(b"\r\n")]
    if line.split(b" ", 2)[1] != status:
        raise Refused(f"the server answered {line.decode('latin-1')!r}")
    return end + len(_HEAD_END)
