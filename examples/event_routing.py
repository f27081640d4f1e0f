"""A live blog in the way of Channels 1: each event is routed to a function.

    $ uvicorn examples.event_routing:application

Readers open a WebSocket at ``/liveblog/launch/stream/``. The writer posts to
``/liveblog/launch/``, and everybody who reads it has the line. A reader who
sends ``/count`` is told how many of the lines have come.
"""

from asgi_notify.events import AsyncMessage, EventRouter, SyncMessage, include, route


async def connect_blog(message: AsyncMessage, slug: str) -> None:
    """A reader comes; the WebSocket is accepted when this is done."""
    message.state["lines"] = 0
    await message.group_add(f"liveblog_{slug}")


async def send_line(message: AsyncMessage) -> None:
    """The group has a new line: pass it on to this reader."""
    message.state["lines"] += 1
    await message.reply_text(message["line"])


def count_lines(message: SyncMessage, slug: str) -> None:
    """A plain function, which runs in a worker thread and needs no await."""
    message.reply_json({"blog": slug, "lines": message.state["lines"]})


def publish_line(message: SyncMessage, slug: str) -> None:
    """The writer has posted a line."""
    line = message["body"].decode()
    sent = message.group_send(f"liveblog_{slug}", {"type": "liveblog.line", "line": line})
    message.respond(202, f"{sent.reached} readers\n")


liveblog = [
    route("websocket.connect", connect_blog, path=r"^/stream/$"),
    route("websocket.receive", count_lines, text=r"^/count$"),
    route("http.request", publish_line, path=r"^/$", method=r"^POST$"),
]

application = EventRouter(
    [
        include(liveblog, path=r"^/liveblog/(?P<slug>[a-z0-9-]+)"),
        route("liveblog.line", send_line),
    ]
)
