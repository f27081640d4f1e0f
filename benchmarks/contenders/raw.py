"""The loop that one writes by hand: a set of ``send`` functions for each group."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]

rooms: dict[str, set[Send]] = {}


async def app(scope: Event, receive: Receive, send: Send) -> None:
    """Keep the client's ``send`` under the group that its path names."""
    if scope["type"] != "websocket":
        raise NotImplementedError("this serves WebSockets")
    await receive()  # websocket.connect
    await send({"type": "websocket.accept"})
    clients = rooms.setdefault(scope["path"].strip("/"), set())
    clients.add(send)
    try:
        while (await receive())["type"] != "websocket.disconnect":
            pass
    finally:
        clients.discard(send)


async def publish(group: str, text: str) -> None:
    """Send to one client after the other."""
    for send in list(rooms[group]):  # a client may leave while another's send waits
        await send({"type": "websocket.send", "text": text})


async def add_others(count: int) -> None:
    """Fill the dictionary."""

    async def nobody(event: Event) -> None:
        """Stand for a client."""

    rooms.update({f"other-{number}": {nobody} for number in range(count)})
