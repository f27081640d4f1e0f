"""A server of the notification protocol that does what a test tells it, in the test's own loop.

::

    async with fake_server(script) as server:
        async with connect(server.url) as client: ...

The script is called with a `Peer` for each connection, and says all that the
server says. When it returns, the connection is cut, without a close frame.
"""

import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
from anyio.abc import ByteStream
from anyio.streams.tls import TLSListener
from websockets.frames import Frame as WireFrame
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from asgi_notify.protocol import PROTOCOL

__all__ = ["FakeServer", "Frame", "Gone", "Peer", "Script", "fake_server"]

Frame = dict[str, Any]

TIMEOUT = 10  # seconds that a test has for all that it does with a server


class Gone(Exception):
    """The client has closed, or is lost."""


class Peer:
    """One client, as the server sees it."""

    def __init__(self, stream: ByteStream, rules: ServerProtocol, number: int) -> None:
        self.stream = stream
        self.rules = rules
        self.number = number
        self.request: Request
        self.pong = b""
        """What the client has last answered to a WebSocket's own ping."""
        self._frames: list[Frame] = []
        self._closed = False

    @property
    def close_code(self) -> int | None:
        """What the client said as it closed."""
        return self.rules.close_rcvd.code if self.rules.close_rcvd else None

    async def accept(self, *, speaks_protocol: bool = True) -> None:
        """Say yes to the handshake."""
        response = self.rules.accept(self.request)
        if not speaks_protocol:
            del response.headers["Sec-WebSocket-Protocol"]
        self.rules.send_response(response)
        await self.flush()

    async def refuse(self, status: int, body: str = "", headers: Frame | None = None) -> None:
        """Say no to the handshake."""
        response: Response = self.rules.reject(status, body)
        for name, value in (headers or {}).items():
            response.headers[name] = value
        self.rules.send_response(response)
        await self.flush()

    async def welcome(self, ping_interval: float = 25, pong_timeout: float = 10) -> None:
        """Accept, and begin as the protocol wants it."""
        await self.accept()
        await self.send(
            type="welcome",
            version=1,
            connection=f"c{self.number}",
            ping_interval=ping_interval,
            pong_timeout=pong_timeout,
        )

    async def send(self, **frame: Any) -> None:
        await self.say(json.dumps(frame))

    async def say(self, text: str) -> None:
        self.rules.send_text(text.encode())
        await self.flush()

    async def notify(self, id: str | None, group: str = "user_42") -> None:
        """A notification whose data is its id."""
        await self.send(type="notification", group=group, id=id, data=id)

    async def confirm(self, request: Frame, position: str | None = None, **more: Any) -> None:
        """Answer a subscription."""
        await self.send(
            type="subscribed",
            group=request["group"],
            position=position,
            ref=request["ref"],
            **({"replayed": 0} | more),
        )

    async def subscribe(self, position: str | None = None, **more: Any) -> Frame:
        """Expect a subscription, and confirm it."""
        request = await self.expect("subscribe")
        await self.confirm(request, position, **more)
        return request

    async def expect(self, kind: str) -> Frame:
        """The next frame, which has to be of this type."""
        try:
            frame = await self.read()
        except Gone:
            raise AssertionError(f"the client has left, and sent no {kind}") from None
        assert frame["type"] == kind, frame
        return frame

    async def read(self) -> Frame:
        while not self._frames:
            if self._closed:
                raise Gone
            await self.receive()
        return self._frames.pop(0)

    async def ends(self) -> None:
        """Wait until the client is gone."""
        while True:
            try:
                await self.read()
            except Gone:
                return

    async def close(self, code: int, reason: str = "") -> None:
        self.rules.send_close(code, reason)
        await self.flush()
        await self.ends()

    async def handshake(self) -> None:
        while True:
            self.rules.receive_data(await self.stream.receive())
            for event in self.rules.events_received():
                if isinstance(event, Request):
                    self.request = event
                    return

    async def flush(self) -> None:
        for data in self.rules.data_to_send():
            if data:
                await self.stream.send(data)

    async def receive(self) -> None:
        """Take in what comes next, of whatever kind it is."""
        try:
            self.rules.receive_data(await self.stream.receive())
            await self.flush()
        except (anyio.EndOfStream, anyio.BrokenResourceError, OSError):
            self._closed = True
            return
        for event in self.rules.events_received():
            if isinstance(event, WireFrame) and event.opcode.name == "TEXT":
                self._frames.append(json.loads(bytes(event.data)))
            elif isinstance(event, WireFrame) and event.opcode.name == "PONG":
                self.pong = bytes(event.data)
            elif isinstance(event, WireFrame) and event.opcode.name == "CLOSE":
                self._closed = True


Script = Callable[[Peer], Awaitable[None]]


@dataclass
class FakeServer:
    """Where it is, and who has come so far."""

    port: int
    scheme: str = "ws"
    peers: list[Peer] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}/notifications/"


@asynccontextmanager
async def fake_server(
    script: Script, *, ssl_context: ssl.SSLContext | None = None, port: int = 0
) -> AsyncIterator[FakeServer]:
    """Serve by a script. An error in it fails the test."""
    listener: Any = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=port)
    found = listener.extra(anyio.abc.SocketAttribute.local_port)
    server = FakeServer(found)
    if ssl_context is not None:
        listener = TLSListener(listener, ssl_context, standard_compatible=False)
        server.scheme = "wss"

    async def serve(stream: ByteStream) -> None:
        rules = ServerProtocol(subprotocols=[Subprotocol(PROTOCOL)])
        peer = Peer(stream, rules, len(server.peers) + 1)
        try:
            await peer.handshake()
            server.peers.append(peer)
            await script(peer)
        except (Gone, anyio.EndOfStream, anyio.BrokenResourceError):
            pass
        finally:
            await anyio.aclose_forcefully(stream)

    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, serve)
        with anyio.fail_after(TIMEOUT):
            yield server
        tasks.cancel_scope.cancel()
