"""python-socketio, over WebSockets alone, with a room for each group.

The clients of the benchmark never write, so pings are put off here as they are
for the other servers.
"""

from typing import Any
from urllib.parse import parse_qs

import socketio

sio = socketio.AsyncServer(async_mode="asgi", transports=["websocket"], ping_interval=3600)
app = socketio.ASGIApp(sio)
sids: list[str] = []


@sio.event
async def connect(sid: str, environ: dict[str, Any]) -> None:
    """Enter the room that the query names."""
    sids.append(sid)
    await sio.enter_room(sid, parse_qs(environ["QUERY_STRING"])["group"][0])


async def publish(group: str, text: str) -> None:
    """Emit an event to the room."""
    await sio.emit("message", text, room=group)


async def add_others(count: int) -> None:
    """Make further rooms, each with one of the clients in it."""
    for number in range(count):
        await sio.enter_room(sids[number % len(sids)], f"other-{number}")
