"""What stands between a client and a server, and can be told to break."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import anyio
from anyio.abc import ByteStream, SocketAttribute

__all__ = ["Proxy", "open_proxy"]

BROKEN = (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError, OSError)


class Proxy:
    """A TCP proxy on a port of its own.

    Attributes:
        target: the server's port; 0 for none, which ends each connection at once.
    """

    def __init__(self, target: int, port: int) -> None:
        self.target = target
        self.url = f"ws://127.0.0.1:{port}/notifications/"
        self._streams: set[ByteStream] = set()

    async def cut(self) -> None:
        """End all connections, without a word of the protocol."""
        for stream in list(self._streams):
            await anyio.aclose_forcefully(stream)

    async def serve(self, client: ByteStream) -> None:
        """Carry what goes over one connection."""
        if not self.target:
            await anyio.aclose_forcefully(client)
            return
        server = await anyio.connect_tcp("127.0.0.1", self.target)
        self._streams |= {client, server}
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._carry, client, server)
                tasks.start_soon(self._carry, server, client)
        finally:
            self._streams -= {client, server}

    async def _carry(self, source: ByteStream, goal: ByteStream) -> None:
        with suppress(*BROKEN):
            while True:
                await goal.send(await source.receive())
        for stream in source, goal:
            await anyio.aclose_forcefully(stream)


@asynccontextmanager
async def open_proxy(target: int) -> AsyncIterator[Proxy]:
    """A proxy to a server on this port."""
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener, anyio.create_task_group() as tasks:
        proxy = Proxy(target, listener.extra(SocketAttribute.local_port))
        tasks.start_soon(listener.serve, proxy.serve)
        yield proxy
        tasks.cancel_scope.cancel()
