"""A transport whose other end the test is, and a server's protocols on it: no socket, no noise."""

import asyncio
import base64
from collections.abc import Callable
from typing import Any

import anyio
import uvicorn as server
from anyio.lowlevel import checkpoint
from uvicorn.server import ServerState

from asgi_notify.types import Receive, Scope, Send
from asgi_notify.uvicorn import HttpProtocol, WebSocketProtocol

__all__ = ["HIGH_WATER", "READ", "WAIT", "Connection", "Hearer", "Wire", "until"]

WAIT = 10  # seconds until something that is on its way counts as lost
READ = 256 * 1024  # bytes; what both loops read at once
HIGH_WATER = 64 * 1024  # bytes; asyncio's and uvloop's default


class Wire(asyncio.Transport):
    """A transport whose other end reads when it is told to.

    Closing it sends what is left first, as the real ones do, and tells the protocol then.
    """

    def __init__(self, *, is_read: bool = True) -> None:
        super().__init__()
        self.protocol: Any = None
        self.is_read = is_read
        self.reads_on = True
        self.sent = b""  # what the client has read
        self.waiting = b""
        self.pieces: list[Any] = []  # what was written, in the pieces it was written in
        self.is_aborted = False
        self.has_ended = False  # nothing more is sent; its protocol is told in the next turn
        self.is_gone = False
        self._is_closing = False

    def write(self, data: Any) -> None:
        was = len(self.waiting)
        self.pieces.append(data)
        self.waiting += bytes(data)
        if was <= HIGH_WATER < len(self.waiting) and not self.is_read:
            self.protocol.pause_writing()
        if self.is_read:
            self.read()

    def read(self, size: int | None = None) -> None:
        """Have the client read so much of what waits, or all."""
        was, size = len(self.waiting), len(self.waiting) if size is None else size
        self.sent += self.waiting[:size]
        self.waiting = self.waiting[size:]
        if was > HIGH_WATER and not self.waiting:
            self.protocol.resume_writing()
        if not self.waiting and self._is_closing:
            self._end()

    def close(self) -> None:
        self._is_closing = True
        if not self.waiting:
            self._end()

    def abort(self) -> None:
        self._is_closing = self.is_aborted = True
        self.waiting = b""
        self._end()

    def _end(self) -> None:
        if not self.has_ended:
            self.has_ended = True
            asyncio.get_running_loop().call_soon(self._lose)

    def _lose(self) -> None:
        self.protocol.connection_lost(None)
        self.is_gone = True

    def is_closing(self) -> bool:
        return self._is_closing

    def get_write_buffer_size(self) -> int:
        assert not self.is_gone, "uvloop raises then"
        return len(self.waiting)

    def pause_reading(self) -> None:
        assert not self.is_gone, "uvloop raises then"
        self.reads_on = False

    def resume_reading(self) -> None:
        assert not self.is_gone, "uvloop raises then"
        self.reads_on = True

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    async def receive(self, data: bytes) -> int:
        """Hand data to the protocol in reads of the usual size; return how much it took."""
        for start in range(0, len(data), READ):
            with anyio.fail_after(WAIT):
                while not self.reads_on and not self._is_closing:
                    await checkpoint()
            if self._is_closing:
                return start
            self.protocol.data_received(data[start : start + READ])
        return len(data)


class Hearer:
    """An application that keeps what it receives, once it may."""

    def __init__(self) -> None:
        self.heard: list[Any] = []
        self.may_hear = asyncio.Event()
        self.scope: Scope | None = None
        self.send: Send | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
        self.send = send
        await self.may_hear.wait()
        while not (event := await receive())["type"].endswith("disconnect"):
            self.heard.append(event)
            if scope["type"] == "http" and not event.get("more_body"):
                await send({"type": "http.response.start", "status": 200, "headers": []})
                body = scope["path"].encode()
                await send({"type": "http.response.body", "body": body})
        self.heard.append(event)


class Connection:
    """One connection to a server that runs nothing but a `Hearer`, or another application."""

    def __init__(self, *, is_read: bool = True, app: Any = None, **options: Any) -> None:
        self.app = app or Hearer()
        config = server.Config(
            self.app, ws=WebSocketProtocol, http=HttpProtocol, log_config=None, lifespan="off",
            **{"ws_per_message_deflate": False, **options},
        )  # fmt: skip
        config.load()
        self.state = ServerState()
        self.wire = Wire(is_read=is_read)
        http = HttpProtocol(config, self.state, {}, asyncio.get_running_loop())
        self.wire.protocol = http
        http.connection_made(self.wire)

    async def open(self, *headers: str, before: bytes = b"") -> WebSocketProtocol:
        """Make it a WebSocket, by a request that stands in one read behind something."""
        await self.ask(*headers, before=before)
        await until(lambda: self.app.send is not None)
        self.wire.read()
        assert self.wire.sent.startswith(b"HTTP/1.1 101"), self.wire.sent
        self.wire.sent = b""
        protocol = self.wire.protocol
        assert isinstance(protocol, WebSocketProtocol)
        return protocol

    async def ask(self, *headers: str, path: str = "/", before: bytes = b"") -> None:
        """Send the request for a WebSocket."""
        key = base64.b64encode(bytes(16)).decode()
        lines = [f"GET {path} HTTP/1.1", "Host: x", "Connection: Upgrade", "Upgrade: websocket",
                 "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}", *headers]  # fmt: skip
        await self.wire.receive(before + "\r\n".join([*lines, "", ""]).encode())

    async def fill(self) -> None:
        """Have the application send more than the client reads."""
        assert self.app.send is not None
        self.wire.is_read = False
        await self.app.send({"type": "websocket.send", "bytes": bytes(2 * HIGH_WATER)})
        await until(lambda: len(self.wire.waiting) > HIGH_WATER)

    async def end(self) -> None:
        """Be gone, and see the application end."""
        self.app.may_hear.set()
        if not self.wire.has_ended:
            self.wire.abort()
        await until(lambda: not self.state.tasks and not self.state.connections)


async def until(is_so: Callable[[], bool]) -> None:
    with anyio.fail_after(WAIT):
        while not is_so():
            await checkpoint()
