"""What goes over the wire between an engine and its server: a TCP proxy that keeps it all."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from anyio.abc import SocketStream

from tests.servers import HOST

__all__ = ["Tap", "tapped"]

_OVER = (anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream)


class Tap:
    """Attributes:
    port: where it listens.
    sent: bytes to the server, of all connections.
    received: bytes from the server.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self.sent = bytearray()
        self.received = bytearray()

    @property
    def url(self) -> str:
        return f"valkey://{HOST}:{self.port}/0"

    @property
    def bytes(self) -> int:
        """How many went either way."""
        return len(self.sent) + len(self.received)


@asynccontextmanager
async def tapped(port: int) -> AsyncIterator[Tap]:
    """A proxy to a server on a port of this machine."""
    listener = await anyio.create_tcp_listener(local_host=HOST)
    tap = Tap(listener.extra(anyio.abc.SocketAttribute.local_port))

    async def serve(client: SocketStream) -> None:
        server = await anyio.connect_tcp(HOST, port)
        async with client, server, anyio.create_task_group() as directions:
            directions.start_soon(_pump, client, server, tap.sent)
            directions.start_soon(_pump, server, client, tap.received)

    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, serve)
        yield tap
        tasks.cancel_scope.cancel()


async def _pump(source: SocketStream, target: SocketStream, seen: bytearray) -> None:
    try:
        while True:
            data = await source.receive()
            seen += data
            await target.send(data)
    except _OVER:
        await target.aclose()
