"""uvicorn in a thread of the test's own process, and clients whose every byte the test sees."""

import asyncio
import base64
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any, Self

import uvicorn

from tests.servers import HOST

__all__ = ["WAIT", "Answers", "Frame", "Socket", "frames_of", "serving"]

WAIT = 20.0  # seconds until what is on its way counts as lost

Frame = tuple[int, bytes]  # its first byte, FIN and the opcode, and its payload


@contextmanager
def serving(
    app: Any, loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None, **options: Any
) -> Iterator[int]:
    """Serve an application on a loop of its own, and yield the port."""
    config = uvicorn.Config(
        app,
        **{"http": "httptools", "lifespan": "off", "log_config": None, "access_log": False,
           "ws_per_message_deflate": False, "ws_ping_interval": None, **options},
    )  # fmt: skip
    server = uvicorn.Server(config)
    listener = socket.create_server((HOST, 0))

    def run() -> None:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(server.serve(sockets=[listener]))

    thread = Thread(target=run)
    thread.start()
    try:
        deadline = time.monotonic() + WAIT
        while not server.started:
            assert thread.is_alive()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(WAIT)
        listener.close()
    assert not thread.is_alive()


def frames_of(data: bytes) -> tuple[list[Frame], bytes]:
    """The whole frames of a server, and what is left. Source: RFC 6455 5.2."""
    frames = []
    while len(data) >= 2:
        size, head = data[1], 2
        if size > 125:
            head = 4 if size == 126 else 10
            size = int.from_bytes(data[2:head])
        if len(data) < max(head, head + size):
            break
        frames.append((data[0], data[head : head + size]))
        data = data[head + size :]
    return frames, data


class Socket:
    """A client of a WebSocket that sends and reads bytes.

    Args:
        port: of the server.
        path: what it asks for.
        headers: further lines of its request.
        receive_buffer: bytes that the kernel keeps for it, at least.
    """

    def __init__(
        self, port: int, path: str = "/", *headers: str, receive_buffer: int | None = None
    ) -> None:
        self._socket = socket.socket()
        if receive_buffer is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._socket.settimeout(WAIT)
        self._socket.connect((HOST, port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        key = base64.b64encode(os.urandom(16)).decode()
        lines = [f"GET {path} HTTP/1.1", f"Host: {HOST}", "Connection: Upgrade",
                 "Upgrade: websocket", "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}",
                 *headers, "", ""]  # fmt: skip
        self._socket.sendall("\r\n".join(lines).encode())
        head = b""
        while b"\r\n\r\n" not in head:
            head += self._read()
        self.head, _, data = head.partition(b"\r\n\r\n")
        assert self.head.startswith(b"HTTP/1.1 101"), head
        self._frames, self._data = frames_of(data)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._socket.close()

    def send(self, *blocks: bytes) -> None:
        """Send each by itself."""
        for block in blocks:
            self._socket.sendall(block)

    def frame(self) -> Frame:
        """The server's next frame.

        Raises:
            EOFError: the server has ended the connection.
        """
        while not self._frames:
            if not self._read_on():
                raise EOFError
        return self._frames.pop(0)

    def rest(self) -> list[Frame]:
        """All frames until the server ends the connection."""
        while self._read_on():
            pass
        assert not self._data, f"it ended within a frame: {self._data[:20]!r}"
        frames, self._frames = self._frames, []
        return frames

    def _read_on(self) -> bool:
        data = self._read()
        frames, self._data = frames_of(self._data + data)
        self._frames += frames
        return data != b""

    def _read(self) -> bytes:
        try:
            return self._socket.recv(256 * 1024)
        except ConnectionResetError:
            return b""


class Answers:
    """A client of HTTP/1.1 that reads answers chunk by chunk, one answer after the other.

    Args:
        port: of the server.
        requests: what it sends at once, such as two requests in a row.
        receive_buffer: bytes that the kernel keeps for it, at least.
    """

    def __init__(self, port: int, requests: bytes, *, receive_buffer: int | None = None) -> None:
        self._socket = socket.socket()
        if receive_buffer is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._socket.settimeout(WAIT)
        self._socket.connect((HOST, port))
        self._data = bytearray()
        self.send(requests)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._socket.close()

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def leave(self) -> None:
        """Be gone, with nothing said."""
        self._socket.shutdown(socket.SHUT_RDWR)

    def head(self) -> bytes:
        """The status line and the headers of the next answer."""
        return self._until(b"\r\n\r\n")

    def body(self) -> bytes:
        """The body of the next answer, one with a length.

        Raises: as `chunk`.
        """
        lines = self.head().lower().splitlines()
        size = next(int(line[15:]) for line in lines if line.startswith(b"content-length:"))
        while len(self._data) < size:
            self._read_on()
        body = bytes(self._data[:size])
        del self._data[:size]
        return body

    def chunk(self) -> bytes:
        """What the next chunk carries; empty at the end of an answer.

        Raises:
            EOFError: the server has ended the connection.
        """
        size = int(self._until(b"\r\n"), 16)
        while len(self._data) < size + 2:
            self._read_on()
        chunk, end = bytes(self._data[:size]), self._data[size : size + 2]
        assert end == b"\r\n"
        del self._data[: size + 2]
        return chunk

    def chunks(self) -> list[bytes]:
        """What all chunks carry until the end of the answer, which is the last of them.

        Where the server ends the connection within the answer, there is no such end.
        """
        found: list[bytes] = []
        try:
            while not found or found[-1]:
                found.append(self.chunk())
        except EOFError:
            assert not self._data, f"it ended within a chunk: {bytes(self._data[:20])!r}"
        return found

    def seen(self) -> bytes:
        """All that has come and was not read by another method, once more has come.

        Raises: as `chunk`.
        """
        self._read_on()
        return bytes(self._data)

    def _until(self, end: bytes) -> bytes:
        while (place := self._data.find(end)) < 0:
            self._read_on()
        line = bytes(self._data[:place])
        del self._data[: place + len(end)]
        return line

    def _read_on(self) -> None:
        try:
            data = self._socket.recv(256 * 1024)
        except ConnectionResetError:
            data = b""
        if not data:
            raise EOFError
        self._data += data
