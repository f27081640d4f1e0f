"""What hostile clients are let loose on: the default application, and what they may break."""

import os
from pathlib import Path
from typing import Any

import anyio

from asgi_notify import (
    AsyncConsumer,
    ChannelNameRouter,
    ProtocolTypeRouter,
    URLRouter,
    get_channel_layer,
    path,
)
from asgi_notify.app import application as default
from asgi_notify.asgi import json_response
from asgi_notify.types import Event, Receive, Scope, Send
from asgi_notify.with_worker import WithWorker

WORK = 2.0  # seconds that a job and a slow request take
BLOCK = 64 * 1024  # bytes of one message that no client reads
CHANNEL = "jobs"


def note(line: str) -> None:
    """Write it where whoever tries the server reads it."""
    with Path(os.environ["HOSTILE_NOTES"]).open("a") as notes:
        notes.write(line + "\n")


class Job(AsyncConsumer):
    """Work that a server has to end before it stops."""

    async def job_do(self, message: Any) -> None:
        """Take some time."""
        note("job begun")
        await anyio.sleep(WORK)
        note("job done")


async def order(scope: Scope, receive: Receive, send: Send) -> None:
    """Have a job done."""
    await get_channel_layer().send(CHANNEL, {"type": "job.do"})
    for event in json_response(202, {}):
        await send(event)


async def slow(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer, after some time."""
    note("request begun")
    await anyio.sleep(WORK)
    for event in json_response(200, {"status": "done"}):
        await send(event)


async def flood(scope: Scope, receive: Receive, send: Send) -> None:
    """Send for ever, as fast as the client reads; to one that does not, wait for ever."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
        event: Event = {"type": "websocket.send", "text": "." * BLOCK}
    else:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        event = {"type": "http.response.body", "body": b"." * BLOCK, "more_body": True}
    try:
        while True:
            await send(event)
    finally:
        note(f"flood ended {scope['query_string'].decode()}")


async def hear(scope: Scope, receive: Receive, send: Send) -> None:
    """Take all that a client says, and say nothing."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
    while not (await receive())["type"].endswith("disconnect"):
        pass


_flood, _hear = path("flood/", flood), path("hear/", hear)

application = WithWorker(
    ProtocolTypeRouter(
        {
            "websocket": URLRouter([_flood, _hear], unmatched=default),
            "http": URLRouter(
                [_flood, _hear, path("order/", order), path("slow/", slow)], unmatched=default
            ),
            "channel": ChannelNameRouter({CHANNEL: Job}),
        }
    ),
    [CHANNEL],
)
