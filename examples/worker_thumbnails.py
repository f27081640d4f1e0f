r"""Pictures come in over HTTP; a worker makes their thumbnails, and tells the user of each.

Run it, listen as user 42, and send a picture (a grey one, as binary PGM)::

    asgi-notify serve examples.worker_thumbnails:application --worker thumbnails
    python -m websockets ws://127.0.0.1:8000/notifications/42/
    printf 'P5 8 4 255\nABCDEFGHIJKLMNOPQRSTUVWXYZ012345' |
        curl --data-binary @- http://127.0.0.1:8000/users/42/pictures/
"""

import re
from uuid import uuid4

from asgi_notify import (
    AsyncHttpConsumer,
    ChannelFull,
    ChannelNameRouter,
    Message,
    NotificationConsumer,
    ProtocolTypeRouter,
    SameOriginValidator,
    SyncConsumer,
    URLRouter,
    async_to_sync,
    path,
)

SHRINK = 4  # one pixel of so many, each way

# Enough for one process. Workers elsewhere need a place that all of them can read.
pictures: dict[str, bytes] = {}
thumbnails: dict[str, bytes] = {}


class Upload(AsyncHttpConsumer):
    """Takes a picture, and leaves the work to the worker."""

    async def handle(self, body: bytes) -> None:
        """Answer at once. A message says where the picture is, since channels are for news."""
        name, user = uuid4().hex, self.scope["url_route"]["kwargs"]["user"]
        pictures[name] = body
        message = {"type": "thumbnails.generate", "name": name, "user": user}
        try:
            await self.channel_layer.send("thumbnails", message)
        except ChannelFull:
            del pictures[name]
            await self.send_response(503, b"Too many pictures are waiting; come back later.\n")
        else:
            await self.send_response(202, b"The thumbnail is being made.\n")


class ThumbnailConsumer(SyncConsumer):
    """Runs in the worker: a plain function in a thread, so that the server goes on meanwhile."""

    def thumbnails_generate(self, message: Message) -> None:
        """Make one thumbnail, and tell all tabs of the user where it is."""
        name, user = message["name"], message["user"]
        thumbnails[name] = shrink(pictures.pop(name))
        news = {"type": "send.notification", "data": f"/thumbnails/{name}/"}
        async_to_sync(self.channel_layer.group_send)(f"user_{user}", news)


class Thumbnail(AsyncHttpConsumer):
    """Shows a thumbnail."""

    async def handle(self, body: bytes) -> None:
        """Answer with the picture, if it is there."""
        thumbnail = thumbnails.get(self.scope["url_route"]["kwargs"]["name"])
        if thumbnail is None:
            await self.send_response(404, b"There is no such thumbnail.\n")
        else:
            headers = {"content-type": "image/x-portable-graymap"}
            await self.send_response(200, thumbnail, headers=headers)


def shrink(picture: bytes) -> bytes:
    """Take every fourth pixel of every fourth row."""
    head = re.match(rb"P5\s+(\d+)\s+(\d+)\s+255\s", picture)
    if head is None:
        raise ValueError("the picture is no binary PGM of 8 bits")
    width, height = int(head[1]), int(head[2])
    pixels = picture[head.end() :]
    rows = [pixels[y * width : (y + 1) * width : SHRINK] for y in range(0, height, SHRINK)]
    return b"P5 %d %d 255\n" % (len(rows[0]), len(rows)) + b"".join(rows)


application = SameOriginValidator(
    ProtocolTypeRouter(
        {
            "http": URLRouter(
                [
                    path("users/<int:user>/pictures/", Upload),
                    path("thumbnails/<slug:name>/", Thumbnail),
                ]
            ),
            "websocket": URLRouter([path("notifications/<int:room_name>/", NotificationConsumer)]),
            "channel": ChannelNameRouter({"thumbnails": ThumbnailConsumer}),
        }
    )
)
