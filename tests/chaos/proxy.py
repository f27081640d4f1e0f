"""A network that fails: a TCP proxy between one client and whichever server there is."""

import socket
import struct
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from typing import Protocol

import anyio
from anyio.abc import SocketAttribute, SocketStream, TaskStatus

from tests.servers import HOST

__all__ = ["Address", "Proxy"]

READ = 16 * 1024  # bytes at a time
SIP, PAUSE = 1024, 0.1  # bytes at a time, and seconds between two, where a reader is slow
RECEIVE_BUFFER = 2048  # bytes, towards the server: a reader that pauses is felt soon
SEGMENT = 536  # bytes, RFC 9293 3.7.1; else the server's kernel takes megabytes for loopback
_RESET = struct.pack("ii", 1, 0)  # socket(7), SO_LINGER: close by a reset

_BROKEN = (anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream, OSError)


@dataclass
class Address:
    """Where the server is in its present life; another after a restart."""

    port: int = 0


class Goal(Protocol):
    """Where a connection is to go that begins now."""

    @property
    def port(self) -> int:
        """On this machine."""


class Balanced:
    """One of several servers, another one each time: what a load balancer does."""

    def __init__(self, servers: Sequence[Address], random: Random) -> None:
        self._servers = servers
        self._random = random

    @property
    def port(self) -> int:
        """Of any of them."""
        return self._random.choice(self._servers).port


class _Gate:
    """One direction of a connection: what comes waits here while it is shut."""

    def __init__(self) -> None:
        self._opened = anyio.Event()
        self._opened.set()
        self.is_lost = False  # shut for good
        self.is_slow = False

    def shut(self) -> None:
        if self._opened.is_set():
            self._opened = anyio.Event()

    def open(self) -> None:
        if not self.is_lost:
            self._opened.set()

    async def wait(self) -> None:
        await self._opened.wait()


class _Link:
    """A connection of the client, and the one to the server that stands behind it."""

    def __init__(self, client: SocketStream, server: SocketStream) -> None:
        self.up, self.down = _Gate(), _Gate()
        self._client, self._server = client, server
        self._scope = anyio.CancelScope()

    async def carry(self) -> None:
        try:
            with self._scope:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._pump, self._client, self._server, self.up)
                    tasks.start_soon(self._pump, self._server, self._client, self.down)
        finally:
            with anyio.CancelScope(shield=True):
                for stream in (self._client, self._server):
                    await stream.aclose()

    async def _pump(self, source: SocketStream, sink: SocketStream, gate: _Gate) -> None:
        try:
            while True:
                await gate.wait()
                data = await source.receive(SIP if gate.is_slow else READ)
                await gate.wait()
                await sink.send(data)
                if gate.is_slow:
                    await anyio.sleep(PAUSE)
        except _BROKEN:
            self._scope.cancel()

    def cut(self, *, is_reset: bool) -> None:
        """End both connections, as if either end had, or as if a host had died."""
        if is_reset:
            for stream in (self._client, self._server):
                raw = stream.extra(SocketAttribute.raw_socket)
                with suppress(OSError):  # it has just been closed
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._scope.cancel()

    def lose(self, *gates: _Gate) -> None:
        """Carry nothing more in some directions, and tell nobody."""
        for gate in gates:
            gate.is_lost = True
            gate.shut()


class Proxy:
    """Stands between one client and the server, and does to its connections what it is told.

    ::

        async with anyio.create_task_group() as tasks:
            await tasks.start(proxy.serve)
            await proxy.suffer("reset")

    Args:
        server: where to.
        receive_buffer: bytes that the kernel keeps of what the server sends; None: as usual.

    Attributes:
        port: where it listens, once it serves.
        suffered: what has befallen connections, by kind.
    """

    KINDS = ("reset", "close", "half-open up", "half-open down", "half-open", "delay", "slow")

    def __init__(self, server: Goal, *, receive_buffer: int | None = RECEIVE_BUFFER) -> None:
        self.port = 0
        self.suffered: Counter[str] = Counter()
        self._server = server
        self._receive_buffer = receive_buffer
        self._links: list[_Link] = []
        self._used = anyio.Event()  # set while there is one

    async def serve(self, *, task_status: TaskStatus[None]) -> None:
        """Carry connections until cancelled."""
        async with await anyio.create_tcp_listener(local_host=HOST) as listener:
            self.port = listener.extra(SocketAttribute.local_port)
            task_status.started()
            await listener.serve(self._accept)

    async def _accept(self, client: SocketStream) -> None:
        try:
            connection = _connected(self._server.port, self._receive_buffer)
            server = await SocketStream.from_socket(connection)
        except OSError:  # between two lives of the server
            await anyio.aclose_forcefully(client)
            return
        link = _Link(client, server)
        self._links.append(link)
        self._used.set()
        try:
            await link.carry()
        finally:
            self._links.remove(link)
            if not self._links:
                self._used = anyio.Event()

    async def until_used(self) -> None:
        """Wait until there is a connection."""
        await self._used.wait()

    async def suffer(self, kind: str, seconds: float = 0.0) -> None:
        """Let this happen to all connections that there are now.

        Args:
            kind: one of `KINDS`.
            seconds: how long a delay, or a slow reader, takes.
        """
        links = list(self._links)
        self.suffered[kind] += len(links)
        for link in links:
            match kind:
                case "reset" | "close":
                    link.cut(is_reset=kind == "reset")
                case "half-open up":
                    link.lose(link.up)
                case "half-open down":
                    link.lose(link.down)
                case "half-open":
                    link.lose(link.up, link.down)
                case "delay":
                    link.up.shut()
                    link.down.shut()
                case "slow":
                    link.down.is_slow = True
                case _:
                    raise ValueError(f"{kind!r} is none of {', '.join(self.KINDS)}")
        await anyio.sleep(seconds)
        for link in links:
            link.down.is_slow = False
            link.up.open()
            link.down.open()


def _connected(port: int, receive_buffer: int | None) -> socket.socket:
    """A connection to the server, whose kernel may be told to keep little for it."""
    connection = socket.socket()
    try:
        if receive_buffer is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SEGMENT)
        connection.settimeout(1)
        connection.connect((HOST, port))  # on this interface it ends at once
        connection.setblocking(False)
    except BaseException:
        connection.close()
        raise
    return connection
