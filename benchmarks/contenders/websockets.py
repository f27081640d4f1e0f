"""websockets' own server and its ``broadcast``: the floor outside ASGI, without uvicorn."""

import socket
from collections import defaultdict

from websockets.asyncio.server import ServerConnection, broadcast
from websockets.asyncio.server import serve as serve_websockets

rooms: defaultdict[str, set[ServerConnection]] = defaultdict(set)


async def handle(connection: ServerConnection) -> None:
    """Keep the connection under the group that its path names."""
    assert connection.request is not None
    clients = rooms[connection.request.path.strip("/")]
    clients.add(connection)
    try:
        await connection.wait_closed()
    finally:
        clients.discard(connection)


async def serve(listener: socket.socket) -> None:
    """Serve until cancelled, without compression and pings, as uvicorn does for the others."""
    async with serve_websockets(
        handle, sock=listener, compression=None, ping_interval=None
    ) as server:
        await server.serve_forever()


async def publish(group: str, text: str) -> None:
    """Write to one client after the other; one that is slow is not waited for."""
    broadcast(rooms[group], text)


async def add_others(count: int) -> None:
    """Fill the dictionary."""
    rooms.update({f"other-{number}": set() for number in range(count)})
