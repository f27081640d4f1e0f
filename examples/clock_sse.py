"""A clock over server-sent events, which a browser reads without any library.

uvicorn examples.clock_sse:app --timeout-graceful-shutdown 1, then open
http://127.0.0.1:8000/. Stop the server for a while and start it again: the
page comes back by itself, and is told how many seconds it has missed.
"""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from asgi_notify import (
    AsyncHttpConsumer,
    AsyncSseConsumer,
    ClientError,
    Message,
    ProtocolTypeRouter,
    Receive,
    Scope,
    Send,
    URLRouter,
    channel_layers,
    get_channel_layer,
    path,
)
from asgi_notify.lifespan import serve_lifespan

PAGE = b"""<!doctype html>
<title>Clock</title>
<h1></h1>
<p></p>
<script>
  const clock = new EventSource("clock");
  const show = (name) => (event) => (document.querySelector(name).textContent = event.data);
  clock.addEventListener("tick", show("h1"));
  clock.addEventListener("missed", show("p"));
</script>
"""


class Clock(AsyncSseConsumer):
    """Sends an event each second, with the second as its id."""

    groups = ("clock",)
    retry = 1000  # milliseconds until a browser comes back

    async def connect(self) -> None:
        """Tell who comes back how many seconds it has missed."""
        if self.last_event_id is None:
            return
        try:
            missed = int(time.time()) - int(self.last_event_id)
        except ValueError as error:
            raise ClientError("the id of an event is a number of seconds") from error
        await self.send_event(f"missed: {missed} s", event="missed")

    async def clock_tick(self, message: Message) -> None:
        """Handle the message of each second."""
        second = message["second"]
        text = time.strftime("%H:%M:%S", time.localtime(second))
        await self.send_event(text, event="tick", id=str(second))


class Page(AsyncHttpConsumer):
    """The page that shows the clock."""

    async def handle(self, body: bytes) -> None:
        """Answer with the page."""
        await self.send_response(200, PAGE, headers={"content-type": "text/html; charset=utf-8"})


async def tick() -> None:
    """Send the time to all who watch, once a second: one message, however many they are."""
    layer, second = get_channel_layer(), int(time.time())
    while True:
        second += 1
        await anyio.sleep(max(0, second - time.time()))
        await layer.group_send("clock", {"type": "clock.tick", "second": second})


@asynccontextmanager
async def ticking() -> AsyncIterator[None]:
    """Keep the layers open, and the clock going, as long as the server runs."""
    async with channel_layers.running(), anyio.create_task_group() as tasks:
        tasks.start_soon(tick)
        yield
        tasks.cancel_scope.cancel()


async def lifespan(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer the server when it starts and when it stops."""
    await serve_lifespan(receive, send, ticking())


app = ProtocolTypeRouter(
    {"http": URLRouter([path("", Page), path("clock", Clock)]), "lifespan": lifespan}
)
