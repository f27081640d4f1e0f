"""What the tests of streams share: a request whose response goes on, and its reader."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio

from asgi_notify.asgi import DIRECT
from asgi_notify.types import Event
from tests.consumers.harness import Wire
from tests.eventstream import Dispatched, EventStream

REQUEST: Event = {"type": "http.request", "body": b"", "more_body": False}
LEFT: Event = {"type": "http.disconnect"}


class Stream(Wire):
    """A wire that asks for a stream, and reads its events."""

    def __init__(
        self,
        *headers: tuple[bytes, bytes],
        path: str = "/",
        method: str = "GET",
        query: str = "",
    ) -> None:
        super().__init__(REQUEST, kind="http", path=path)
        self.scope.update(method=method, headers=list(headers), query_string=query.encode())

    @property
    def chunks(self) -> list[bytes]:
        """The parts of the body, as they were sent."""
        return [event["body"] for event in self.sent if event["type"] == "http.response.body"]

    @property
    def events(self) -> list[Dispatched]:
        """What a page's listeners have got."""
        return EventStream().feed(b"".join(self.chunks))


@asynccontextmanager
async def streaming(
    app: Any, *headers: tuple[bytes, bytes], path: str = "/", query: str = ""
) -> AsyncIterator[Stream]:
    """A stream that runs beside the test; its client leaves at the end of the block."""
    wire = Stream(*headers, path=path, query=query)
    with anyio.fail_after(100):  # longer than what a test sees of a turned clock
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wire.run, app)
            await anyio.wait_all_tasks_blocked()
            yield wire
            wire.tell(LEFT)


async def until(condition: Callable[[], bool]) -> None:
    """Wait until something is so that happens a little later."""
    with anyio.fail_after(20):
        while not condition():  # noqa: ASYNC110  # nothing tells when it has changed
            await anyio.sleep(0.005)


class DirectStream(Stream):
    """A server that takes parts of a body at once, as docs/direct.md says it may.

    Attributes:
        is_ready: whether it would, as far as the client's reading goes.
        taken: the parts that it has taken so.
    """

    def __init__(self, *headers: tuple[bytes, bytes], path: str = "/", query: str = "") -> None:
        super().__init__(*headers, path=path, query=query)
        self.is_ready = True
        self.taken: list[bytes] = []
        self._sending = 0
        self._has_left = False
        self.scope["extensions"] = {DIRECT: {"send": self.send, "send_body": self.send_body}}

    def send_body(self, body: bytes) -> bool:
        """What the application sends parts at once with."""
        is_open = bool(self.sent) and all(event.get("more_body", True) for event in self.sent)
        if self._sending or not self.is_ready or not is_open or self._has_left:
            return False
        assert body
        self.taken.append(body)
        self.sent.append({"type": "http.response.body", "body": body, "more_body": True})
        return True

    def tell(self, *events: Event) -> None:
        self._has_left |= LEFT in events
        super().tell(*events)

    async def send(self, event: Event) -> None:
        self._sending += 1
        try:
            await super().send(event)
        finally:
            self._sending -= 1
