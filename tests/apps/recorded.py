"""The application that tests/test_real_servers.py runs on every server.

What happens to its WebSockets it writes down, line by line, in the file RECORD.
"""

import json
import os
from pathlib import Path

import anyio

from asgi_notify import (
    AsyncHttpConsumer,
    DenyConnection,
    NotificationConsumer,
    ProtocolTypeRouter,
    SameOriginValidator,
    URLRouter,
    WebsocketConsumer,
    async_to_sync,
    path,
)
from asgi_notify.types import Message

RECORD = Path(os.environ["RECORD"])


def record(line: str) -> None:
    """Append in one write, so that no line tears another."""
    with RECORD.open("a") as file:
        file.write(line + "\n")


class Recorded(NotificationConsumer):
    """Writes down when its connection begins and ends."""

    async def connect(self) -> None:
        """Join, accept, write it down; room 0 is for nobody."""
        self.room_name = self.scope["url_route"]["kwargs"]["room_name"]
        if self.room_name == 0:
            raise DenyConnection
        await super().connect()
        record(f"connect {self.room_name}")

    async def disconnect(self, code: int) -> None:
        """Take as long as a query to a database would, then write it down."""
        await anyio.sleep(0.05)
        record(f"disconnect {self.room_name} {code}")

    async def end(self, event: Message) -> None:
        """Handle the message that has the server close the socket."""
        await self.close(event["code"], event["reason"])


class RecordedInThreads(WebsocketConsumer):
    """The same with plain functions."""

    def connect(self) -> None:
        """Join, accept, write it down; room 0 is for nobody."""
        self.room_name = self.scope["url_route"]["kwargs"]["room_name"]
        if self.room_name == 0:
            return self.close()
        async_to_sync(self.channel_layer.group_add)(f"user_{self.room_name}", self.channel_name)
        self.accept()
        return record(f"connect {self.room_name}")

    def disconnect(self, code: int) -> None:
        """Write it down."""
        record(f"disconnect {self.room_name} {code}")

    def send_notification(self, event: Message) -> None:
        """Handle a message to the group."""
        self.send(text_data=event["data"])


class Publish(AsyncHttpConsumer):
    """Sends the JSON of a request's body to the group of a room."""

    async def handle(self, body: bytes) -> None:
        """Answer with how many sockets it reached."""
        room = self.scope["url_route"]["kwargs"]["room_name"]
        sent = await self.channel_layer.group_send(f"user_{room}", json.loads(body))
        await self.send_response(202, str(sent.reached).encode())


sockets = URLRouter(
    [
        path("async/<int:room_name>/", Recorded()),
        path("sync/<int:room_name>/", RecordedInThreads()),
    ]
)
application = ProtocolTypeRouter(
    {
        "http": URLRouter([path("publish/<int:room_name>/", Publish)]),
        "websocket": SameOriginValidator(sockets, ["http://good.example"]),
    }
)
