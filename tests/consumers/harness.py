"""What the tests of consumers share: a wire that a test holds by both ends, and a look at leaks."""

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio

from asgi_notify import InMemoryChannelLayer
from asgi_notify.asgi import DIRECT
from asgi_notify.testing import WebsocketCommunicator
from asgi_notify.types import ASGIApp, Event, Scope

CONNECT: Event = {"type": "websocket.connect"}
ACCEPT: Event = {"type": "websocket.accept", "subprotocol": None, "headers": []}


def text(content: str) -> Event:
    """A text frame from the client."""
    return {"type": "websocket.receive", "text": content}


def left(code: int = 1001) -> Event:
    """What a server says when the client has gone."""
    return {"type": "websocket.disconnect", "code": code, "reason": ""}


class Wire:
    """Stands where a server would, and lets the test see and do more than a communicator does.

    Attributes:
        received: how many events the application has taken.
        sent: what the application has sent.
        on_send: awaited with each event before it counts as sent; a test's own trouble.
    """

    def __init__(self, *events: Event, kind: str = "websocket", path: str = "/") -> None:
        self.scope: Scope = {"type": kind, "path": path, "headers": [], "method": "GET"}
        self.received = 0
        self.sent: list[Event] = []
        self.on_send: Callable[[Event], Awaitable[None]] | None = None
        self._waiting = deque(events)
        self._told = anyio.Event()

    def tell(self, *events: Event) -> None:
        """Put events where the application takes them."""
        self._waiting.extend(events)
        told, self._told = self._told, anyio.Event()
        told.set()

    async def receive(self) -> Event:
        """What the application takes events with."""
        while not self._waiting:
            await self._told.wait()
        self.received += 1
        return self._waiting.popleft()

    async def send(self, event: Event) -> None:
        """What the application sends events with."""
        if self.on_send is not None:
            await self.on_send(event)
        self.sent.append(event)

    async def run(self, app: ASGIApp | Any) -> None:
        """Run the application until it ends."""
        await app(self.scope, self.receive, self.send)

    @property
    def texts(self) -> list[str]:
        """The text frames that the application has sent."""
        return [event["text"] for event in self.sent if event["type"] == "websocket.send"]

    @property
    def close(self) -> Event | None:
        """The close that the application has sent, or None."""
        return next((event for event in self.sent if event["type"] == "websocket.close"), None)


class DirectWire(Wire):
    """A server that takes texts at once, as docs/direct.md says it may.

    Attributes:
        is_ready: whether it would, as far as the client's reading goes.
        taken: the texts that it has taken so.
    """

    def __init__(self, *events: Event, path: str = "/") -> None:
        super().__init__(*events, path=path)
        self.is_ready = True
        self.taken: list[str] = []
        self._sending = 0
        self._has_left = False
        offer = {"send": self.send, "send_text": self.send_text}
        self.scope["extensions"] = {DIRECT: offer}

    def send_text(self, content: str) -> bool:
        """What the application sends texts at once with."""
        kinds = {event["type"] for event in self.sent}
        is_open = "websocket.accept" in kinds and "websocket.close" not in kinds
        if self._sending or not self.is_ready or not is_open or self._has_left:
            return False
        content.encode()
        self.taken.append(content)
        self.sent.append({"type": "websocket.send", "text": content})
        return True

    def tell(self, *events: Event) -> None:
        self._has_left |= any(event["type"] == "websocket.disconnect" for event in events)
        super().tell(*events)

    async def send(self, event: Event) -> None:
        self._sending += 1
        try:
            await super().send(event)
        finally:
            self._sending -= 1


class Slow:
    """A network that lets through as many events as a test says; its `hold` is an ``on_send``."""

    def __init__(self) -> None:
        self.permits = 0.0
        self._changed = anyio.Event()

    def let(self, count: float) -> None:
        self.permits += count
        changed, self._changed = self._changed, anyio.Event()
        changed.set()

    async def hold(self, event: Any) -> None:
        while self.permits < 1:
            await self._changed.wait()
        self.permits -= 1


@asynccontextmanager
async def connected(
    app: ASGIApp | type[Any], path: str = "/", **kwargs: Any
) -> AsyncIterator[WebsocketCommunicator]:
    """An accepted WebSocket, closed at the end of the block."""
    async with WebsocketCommunicator(app, path, **kwargs) as client:
        is_open, why = await client.connect()
        assert is_open, why
        yield client


def assert_nothing_left(layer: InMemoryChannelLayer, *groups: str) -> None:
    """Fail if a mailbox or a member has outlived its connection."""
    assert layer.hub.attached == frozenset()
    for group in groups:
        assert list(layer.hub.members(group)) == []
