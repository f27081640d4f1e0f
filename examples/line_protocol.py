"""A chat over plain TCP: a protocol of lines, in front of an ASGI application.

Run it, and talk from two terminals::

    python -m examples.line_protocol
    nc 127.0.0.1 7000

The protocol and its name, ``line``, are our own. Its server tells the application
``line.connect``, ``line.receive`` with a ``text``, and ``line.disconnect``, by which
name a consumer knows that its client is gone. The application sends ``line.send``
with a ``text``, and ``line.close``.
"""

import logging
from functools import partial

import anyio
from anyio.abc import SocketAttribute, SocketStream, TaskStatus
from anyio.streams.buffered import BufferedByteReceiveStream

from asgi_notify import AsyncConsumer, Event, Message, ProtocolTypeRouter, StopConsumer
from asgi_notify.types import ASGIApp

MAX_LINE = 1024  # bytes

# It left, perhaps in the middle of a line; it was sent away; it sent a line without end.
LEFT = (anyio.IncompleteRead, anyio.BrokenResourceError, anyio.ClosedResourceError)
GONE = (*LEFT, anyio.DelimiterNotFound)

logger = logging.getLogger(__name__)


async def serve_lines(
    app: ASGIApp, port: int = 7000, *, task_status: TaskStatus[int] = anyio.TASK_STATUS_IGNORED
) -> None:
    """Listen on a port of this machine, for ever; port 0 takes a free one, and tells which."""
    async with await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=port) as server:
        task_status.started(server.extra(SocketAttribute.local_port))
        await server.serve(partial(serve_client, app))


async def serve_client(app: ASGIApp, stream: SocketStream) -> None:
    """Run the application for one client."""
    lines = BufferedByteReceiveStream(stream)
    waiting: list[Event] = [{"type": "line.connect"}]

    async def receive() -> Event:
        if waiting:
            return waiting.pop()
        try:
            line = await lines.receive_until(b"\n", MAX_LINE)
        except GONE:
            return {"type": "line.disconnect"}
        if len(line) > MAX_LINE:  # it came at once, newline and all
            return {"type": "line.disconnect"}
        return {"type": "line.receive", "text": line.decode(errors="replace").rstrip("\r")}

    async def send(event: Event) -> None:
        try:
            if event["type"] == "line.close":
                await stream.aclose()
            else:
                await stream.send(event["text"].encode() + b"\n")
        except LEFT as error:
            raise OSError("the client has left") from error  # as ASGI asks of servers

    async with stream:
        try:
            await app({"type": "line", "asgi": {"version": "3.0"}}, receive, send)
        except Exception:  # nobody else hears of it, and others are still connected
            logger.exception("a line connection failed")


class Chat(AsyncConsumer):
    """Passes on what each client says to all of them."""

    groups = ("chat",)

    async def line_connect(self, event: Event) -> None:
        """Greet."""
        await self.send({"type": "line.send", "text": "Welcome. Say bye to leave."})

    async def line_receive(self, event: Event) -> None:
        """Tell everybody, or close."""
        if event["text"] == "bye":
            await self.send({"type": "line.close"})
            raise StopConsumer
        await self.tell(event["text"])

    async def line_disconnect(self, event: Event) -> None:
        """Tell the others; the group is left without a word."""
        await self.tell("(somebody has left)")

    async def tell(self, text: str) -> None:
        """Send a line to the group."""
        await self.channel_layer.group_send("chat", {"type": "chat.line", "text": text})

    async def chat_line(self, message: Message) -> None:
        """Handle a line that was sent to the group."""
        await self.send({"type": "line.send", "text": message["text"]})


# Beside "line", "http" and "websocket" would stand here, for another server.
application = ProtocolTypeRouter({"line": Chat})


if __name__ == "__main__":
    anyio.run(serve_lines, application)
