"""Ten thousand connections come and go, well and badly, and leave nothing behind."""

import gc
import threading
import tracemalloc
from collections import deque

import anyio
import pytest

from asgi_notify import InMemoryChannelLayer, NotificationConsumer, Settings, URLRouter, path
from asgi_notify.app import make_application
from asgi_notify.types import ASGIApp, Event

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

COUNTS = {"asyncio": (2_000, 10_000), "trio": (1_000, 4_000)}  # warmed up, and in all
AT_ONCE = 100  # connections
SLACK = 32 * 1024  # bytes; 4 for each connection, where a leaked dict alone has 64
ENDINGS = ("client leaves", "network breaks", "handler fails", "cancelled", "no such path")


class Failing(NotificationConsumer):
    """The consumer of the default application, with a mistake of its user's."""

    async def client_message(self, text: str) -> None:
        raise LookupError("a handler failed")


class Life:
    """One connection, from the server's side: it gets its message, or something goes wrong.

    Attributes:
        ending: how it goes on once the socket is open.
        sent: what the application has sent.
    """

    def __init__(self, layer: InMemoryChannelLayer, number: int) -> None:
        self.layer = layer
        self.room = number
        self.ending = ENDINGS[number % len(ENDINGS)]
        self.sent: list[str] = []
        self._events: deque[Event] = deque([{"type": "websocket.connect"}])
        self._told = anyio.Event()
        self._scope = anyio.CancelScope()

    async def live(self, apps: dict[str, ASGIApp]) -> None:
        app = apps.get(self.ending, apps["default"])
        room = "none" if self.ending == "no such path" else self.room
        scope = {
            "type": "websocket",
            "path": f"/notifications/{room}/",
            "headers": [],
            "channel_layer": self.layer,
        }
        with self._scope:
            await app(scope, self._receive, self._send)

    async def _receive(self) -> Event:
        while not self._events:
            await self._told.wait()
        return self._events.popleft()

    async def _send(self, event: Event) -> None:
        self.sent.append(event["type"])
        if event["type"] == "websocket.accept":
            message = {"type": "send.notification", "data": "hello"}
            await self.layer.group_send(f"user_{self.room}", message)
        elif event["type"] == "websocket.send":
            self._got_message()

    def _got_message(self) -> None:
        if self.ending == "cancelled":
            self._scope.cancel()
            return
        if self.ending == "handler fails":
            self._events.append({"type": "websocket.receive", "text": "hello"})
        else:
            self._events.append({"type": "websocket.disconnect", "code": 1001})
        self._told.set()
        if self.ending == "network breaks":
            raise OSError("the network is gone")


EXPECTED = {
    "client leaves": ["websocket.accept", "websocket.send"],
    "network breaks": ["websocket.accept", "websocket.send"],
    "handler fails": ["websocket.accept", "websocket.send", "websocket.close"],
    "cancelled": ["websocket.accept", "websocket.send", "websocket.close"],
    "no such path": ["websocket.close"],
}


async def churn(apps: dict[str, ASGIApp], layer: InMemoryChannelLayer, numbers: range) -> None:
    for start in range(numbers.start, numbers.stop, AT_ONCE):
        lives = [Life(layer, number) for number in range(start, start + AT_ONCE)]
        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                for life in lives:
                    tasks.start_soon(life.live, apps)
        seen = {(life.ending, *life.sent) for life in lives}
        assert seen == {(ending, *sent) for ending, sent in EXPECTED.items()}


# With coverage each new thread gets a tracer, which has kilobytes and stays.
MEASURING = [tracemalloc.Filter(False, f"*/{name}") for name in ("coverage/*", "tracemalloc.py")]


def allocated() -> int:
    """How many bytes Python's objects have, apart from garbage and from what measures them."""
    for _ in range(3):
        gc.collect()
    snapshot = tracemalloc.take_snapshot().filter_traces(MEASURING)
    return sum(found.size for found in snapshot.statistics("filename"))


async def test_ten_thousand_connections_leave_memory_flat(
    anyio_backend: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("CRITICAL", "asgi_notify")  # a captured record is memory too
    layer = InMemoryChannelLayer()
    failing = URLRouter(path("notifications/<int:room_name>/", Failing))
    apps: dict[str, ASGIApp] = {"default": make_application(Settings()), "handler fails": failing}
    warm, total = COUNTS[anyio_backend]
    tasks, threads = len(anyio.get_running_tasks()), set(threading.enumerate())
    tracemalloc.start()
    try:
        await churn(apps, layer, range(warm))
        before = allocated()
        await churn(apps, layer, range(warm, total))
        grown = allocated() - before
    finally:
        tracemalloc.stop()
    assert grown < SLACK, f"{grown / (total - warm):.1f} bytes stayed of each connection"
    hub = vars(layer.hub)
    assert not any(hub[kept] for kept in ("_mailboxes", "_groups", "_attached"))
    assert len(anyio.get_running_tasks()) == tasks
    assert set(threading.enumerate()) <= threads
