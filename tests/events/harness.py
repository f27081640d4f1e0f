"""What the tests of event routing share: a WebSocket that leaves when it has been heard."""

import anyio

from asgi_notify.events import AsyncMessage, EventRouter, route
from asgi_notify.types import Event
from tests.consumers.harness import CONNECT, Wire, left, text


async def talk(
    router: EventRouter, *events: Event, path: str = "/", root_path: str = "", code: int = 1001
) -> Wire:
    """Run a WebSocket that sends these events and leaves once they are handled."""
    wire = Wire(CONNECT, *events, text("I leave"), path=path)
    wire.scope["root_path"] = root_path

    async def leave(message: AsyncMessage) -> None:
        wire.tell(left(code))

    goodbye = route("websocket.receive", leave, text="^I leave$")
    with anyio.fail_after(20):
        await wire.run(EventRouter([goodbye, *router.routes]))
    return wire
