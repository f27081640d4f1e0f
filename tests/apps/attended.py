"""The default application with presence, and a page that says who is there and puts users out.

``GET /present/7`` answers who is in the presence of ``user_7``, ``GET /connections/7`` lists the
user's connections, and of ``/out/7`` ends them. The variable ASGI_NOTIFY_LAYER names the layer.
"""

import json
import os
from types import MappingProxyType

from asgi_notify import (
    AsyncHttpConsumer,
    NotificationConsumer,
    ProtocolTypeRouter,
    URLRouter,
    channel_layers,
    path,
)
from asgi_notify.users import connections_of, disconnect_user

channel_layers.set("default", os.environ["ASGI_NOTIFY_LAYER"])


class Attended(NotificationConsumer):
    """One whose group says that it is there."""

    presence_info = MappingProxyType({"app": "test"})


class Office(AsyncHttpConsumer):
    """Knows what users are on."""

    async def handle(self, body: bytes) -> None:
        """Answer one of the three questions."""
        layer, kwargs = self.channel_layer, self.scope["url_route"]["kwargs"]
        group = f"user_{kwargs['user']}"
        match kwargs["what"]:
            case "present":
                found = sorted(await layer.presence(group))
            case "connections":
                found = sorted(await connections_of(layer, kwargs["user"]))
            case _:
                await disconnect_user(layer, kwargs["user"], code=4401, reason="signed out")
                found = []
        await self.send_response(200, json.dumps(found).encode())


app = ProtocolTypeRouter(
    {
        "websocket": URLRouter([path("notifications/<int:room_name>/", Attended)]),
        "http": URLRouter([path("<str:what>/<int:user>", Office)]),
    }
)
