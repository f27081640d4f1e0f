"""broadcaster on Starlette, in memory, as its README has it: a task that sends, one that reads."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import anyio
from broadcaster import Broadcast
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

broadcast = Broadcast("memory://")
others = AsyncExitStack()


async def room(websocket: WebSocket) -> None:
    """Send what is published until the client leaves."""
    await websocket.accept()
    async with anyio.create_task_group() as tasks:

        async def read() -> None:
            async for _ in websocket.iter_text():
                pass
            tasks.cancel_scope.cancel()

        tasks.start_soon(read)
        async with broadcast.subscribe(channel=websocket.path_params["group"]) as subscriber:
            async for event in subscriber:
                await websocket.send_text(event.message)


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    """Connect to the backend."""
    async with broadcast:
        yield


app = Starlette(routes=[WebSocketRoute("/{group}", room)], lifespan=lifespan)


async def publish(group: str, text: str) -> None:
    """Send a text to the channel."""
    await broadcast.publish(channel=group, message=text)


async def add_others(count: int) -> None:
    """Subscribe to as many channels."""
    for number in range(count):
        await others.enter_async_context(broadcast.subscribe(channel=f"other-{number}"))
