"""The application that tests/test_http_transports.py runs: the default one, with more beside it.

Each stream and each poll that ends writes a line into the file RECORD.
"""

import os
from pathlib import Path as FilePath

from asgi_notify import (
    AsyncHttpConsumer,
    NotificationHttpConsumer,
    ProtocolTypeRouter,
    URLRouter,
    path,
)
from asgi_notify.app import application as default_application

RECORD = FilePath(os.environ["RECORD"])


def record(line: str) -> None:
    """Append in one write, so that no line tears another."""
    with RECORD.open("a") as file:
        file.write(line + "\n")


class Recorded(NotificationHttpConsumer):
    """Writes down that its connection ends."""

    keep_alive = 0.1

    async def disconnect(self) -> None:
        """Say what has ended."""
        record(f"{'poll' if self.is_polling else 'stream'} {self.room_name}")


class Page(AsyncHttpConsumer):
    """A page that pushes its style."""

    async def handle(self, body: bytes) -> None:
        """Push, then answer."""
        await self.push("/style.css", [("accept", "text/css")])
        await self.send_response(200, b"<p>", headers=[("content-type", "text/html")])


class Style(AsyncHttpConsumer):
    """What is pushed."""

    async def handle(self, body: bytes) -> None:
        """Say which type was asked for."""
        accept = dict(self.scope["headers"]).get(b"accept", b"")
        await self.send_response(200, b"p {}", headers=[("content-type", accept)])


application = ProtocolTypeRouter(
    {
        "http": URLRouter(
            [
                path("recorded/<int:room_name>/", Recorded),
                path("page", Page),
                path("style.css", Style),
            ],
            unmatched=default_application,
        ),
        "websocket": default_application,
    }
)
