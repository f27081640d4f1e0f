"""What one anonymous client can do to a server: one function for each thing that was tried.

Each takes a socket from `Attacker` and says how many bytes it has sent. Its sockets stay
open until the server has ended, so that a probe is also there when that is told to stop.
"""

import base64
import os
import socket
import ssl
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import repeat
from threading import Thread

from tests.servers import HOST

__all__ = ["PROBES", "Attacker"]

ANSWER = 10.0  # seconds until a server has answered a handshake
STALLED = 2.0  # seconds in which a server takes nothing: it will not take any more
READ = 8 * 1024  # bytes; the least that the kernel keeps for a client that does not read


class Attacker:
    """A client that means harm.

    Args:
        port: of the server.
        size: bytes to send at most.
        seconds: for which to send at most.
        context: for TLS, or None.
    """

    def __init__(
        self, port: int, size: int, seconds: float, context: ssl.SSLContext | None = None
    ) -> None:
        self._port = port
        self._context = context
        self._size = size
        self._seconds = seconds
        self._sockets: list[socket.socket] = []

    def connect(self) -> socket.socket:
        """A connection that takes little before it has to be read."""
        opened = socket.socket()
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, READ)
        opened.settimeout(ANSWER)
        opened.connect((HOST, self._port))
        if self._context is not None:
            opened = self._context.wrap_socket(opened, server_hostname=HOST)
        self._sockets.append(opened)
        return opened

    def upgrade(self, path: str, *headers: str) -> tuple[socket.socket, str]:
        """A WebSocket, and the head of the server's answer."""
        opened = self.connect()
        key = base64.b64encode(os.urandom(16)).decode()
        lines = [
            f"GET {path} HTTP/1.1", f"Host: {HOST}:{self._port}", "Connection: Upgrade",
            "Upgrade: websocket", "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}",
            *headers,
        ]  # fmt: skip
        opened.sendall("\r\n".join([*lines, "", ""]).encode())
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            byte = opened.recv(1)
            assert byte, f"no answer but {head!r}"
            head += byte
        assert head.startswith(b"HTTP/1.1 101"), head
        return opened, head.decode()

    def send(self, opened: socket.socket, blocks: Iterator[bytes]) -> int:
        """Send until the server takes no more, it is enough, or time is over."""
        opened.settimeout(STALLED)
        end = time.monotonic() + self._seconds
        sent = 0
        with suppress(OSError):
            for block in blocks:
                if sent >= self._size or time.monotonic() > end:
                    break
                view = memoryview(block)
                while view:
                    count = opened.send(view)
                    sent += count
                    view = view[count:]
        return sent

    def close(self) -> None:
        """Be gone."""
        for opened in self._sockets:
            opened.close()


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv1: bool = False) -> bytes:
    """A client's frame, whose mask changes nothing. Source: RFC 6455 5.2."""
    first = opcode | fin << 7 | rsv1 << 6
    if len(payload) < 126:
        head = bytes([first, 0x80 | len(payload)])
    elif len(payload) < 2**16:
        head = bytes([first, 0x80 | 126]) + len(payload).to_bytes(2, "big")
    else:
        head = bytes([first, 0x80 | 127]) + len(payload).to_bytes(8, "big")
    return head + bytes(4) + payload


CONT, TEXT, BINARY, CLOSE, PING = 0x0, 0x1, 0x2, 0x8, 0x9
GOODBYE = frame(CLOSE, (1000).to_bytes(2, "big"))


def endless(unit: bytes) -> Iterator[bytes]:
    """The same again and again, in blocks of some 64 KiB."""
    return repeat(unit * max(1, 64 * 1024 // len(unit)))


def pings(by: Attacker) -> int:
    """Pings, whose answers are not read."""
    opened, _ = by.upgrade("/notifications/1/")
    return by.send(opened, endless(frame(PING, b"." * 125)))


def empty_pings(by: Attacker) -> int:
    """Pings with nothing in them: as many frames as fit."""
    opened, _ = by.upgrade("/notifications/1/")
    return by.send(opened, endless(frame(PING)))


def empty_fragments(by: Attacker) -> int:
    """A message in empty pieces that never ends."""
    opened, _ = by.upgrade("/notifications/1/")
    opened.sendall(frame(TEXT, fin=False))
    return by.send(opened, endless(frame(CONT, fin=False)))


def small_fragments(by: Attacker) -> int:
    """A message in pieces of two bytes that never ends."""
    opened, _ = by.upgrade("/hear/")
    opened.sendall(frame(TEXT, fin=False))
    return by.send(opened, endless(frame(CONT, b"..", fin=False)))


def empty_messages(by: Attacker) -> int:
    """As many messages as fit, to an application that takes each."""
    opened, _ = by.upgrade("/hear/")
    return by.send(opened, endless(frame(TEXT)))


def compressed(by: Attacker) -> int:
    """Messages of 15 MiB that take 15 KiB, where the server takes compressed ones."""
    opened, head = by.upgrade("/hear/", "Sec-WebSocket-Extensions: permessage-deflate")
    if "permessage-deflate" not in head.lower():
        return 0
    packer = zlib.compressobj(9, wbits=-12)
    packed = packer.compress(bytes(15 * 1024 * 1024)) + packer.flush(zlib.Z_SYNC_FLUSH)
    message = frame(BINARY, packed.removesuffix(b"\x00\x00\xff\xff"), rsv1=True)
    return by.send(opened, repeat(message, 40))


def headers(by: Attacker) -> int:
    """A request whose headers never end."""
    opened = by.connect()
    opened.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n")
    return by.send(opened, endless(b"X-A: b\r\n"))


def header_value(by: Attacker) -> int:
    """A request with a header that never ends."""
    opened = by.connect()
    opened.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX-A: ")
    return by.send(opened, endless(b"b"))


def target(by: Attacker) -> int:
    """A request whose path never ends."""
    opened = by.connect()
    opened.sendall(b"GET /")
    return by.send(opened, endless(b"b"))


def trailers(by: Attacker) -> int:
    """A request with headers behind its body that never end."""
    opened = by.connect()
    opened.sendall(b"POST /hear/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n")
    return by.send(opened, endless(b"X-A: b\r\n"))


def requests(by: Attacker) -> int:
    """Requests one after the other, without waiting for answers, and without reading these."""
    opened = by.connect()
    return by.send(opened, endless(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"))


def requests_read(by: Attacker) -> int:
    """The same by a client that does read."""
    opened = by.connect()
    Thread(target=_drain, args=[opened], daemon=True).start()
    return by.send(opened, endless(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"))


def goodbye(by: Attacker) -> int:
    """A full write buffer, a close frame, and no end."""
    opened, _ = by.upgrade("/flood/")
    time.sleep(1)  # until the server can write no more
    return by.send(opened, iter([GOODBYE]))


def half_closed(by: Attacker) -> int:
    """A full write buffer, and the end of what the client says, but not of what it hears."""
    opened, _ = by.upgrade("/flood/")
    time.sleep(1)
    opened.shutdown(socket.SHUT_WR)
    time.sleep(1)
    return 0


def slow_readers(by: Attacker) -> int:
    """Twenty WebSockets and twenty streams that do not read."""
    for _ in range(20):
        by.upgrade("/flood/")
        by.connect().sendall(b"GET /flood/ HTTP/1.1\r\nHost: x\r\n\r\n")
    time.sleep(2)
    return 0


def _drain(opened: socket.socket) -> None:
    with suppress(OSError):
        while opened.recv(2**16):
            pass


PROBES: dict[str, Callable[[Attacker], int]] = {
    probe.__name__.replace("_", "-"): probe
    for probe in (
        pings, empty_pings, empty_fragments, small_fragments, empty_messages, compressed,
        headers, header_value, target, trailers, requests, requests_read,
        goodbye, half_closed, slow_readers,
    )
}  # fmt: skip
"""By the name that the command line takes."""
