"""The default application: notifications over WebSocket, publishing over HTTP, a demo page."""

import os

from .asgi import json_response, refusal
from .consumers.notification import NotificationConsumer
from .exceptions import MethodNotAllowed
from .middleware.origin import SameOriginValidator
from .publishing import PublishConsumer
from .routing import ProtocolTypeRouter, URLRouter, include, path
from .settings import Settings
from .types import ASGIApp, Receive, Scope, Send

__all__ = ["application", "make_application"]

ROOM = "notifications/<int:room_name>/"


async def healthz(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer that the server is up."""
    if scope["method"] in ("GET", "HEAD"):
        events = json_response(200, {"status": "ok"})
    else:
        events = refusal(scope, MethodNotAllowed("GET, HEAD"))
    for event in events:
        await send(event)


def make_application(settings: Settings) -> ASGIApp:
    """The application for these settings.

    - WebSocket ``/notifications/<int:room_name>/``: the notifications of a room.
    - ``POST`` to the same path publishes ``{"data": ...}`` to the room.
    - ``GET /``: the demo page. ``GET /healthz``: ``{"status": "ok"}``.

    Pages of other origins may neither connect nor publish, unless the settings
    allow them. The layer is the default one.
    """
    publish = PublishConsumer(key=settings.publish_key, max_body_size=settings.max_body_size)
    router = ProtocolTypeRouter(
        {
            "websocket": URLRouter([path(ROOM, NotificationConsumer, name="notifications")]),
            "http": URLRouter(
                [
                    path(ROOM, publish, name="publish"),
                    path("healthz", healthz, name="healthz"),
                    include("asgi_notify.demo"),
                ]
            ),
        }
    )
    return SameOriginValidator(router, settings.allowed_origins)


application = make_application(Settings.from_environ(os.environ))
"""The application as the environment describes it, for ``uvicorn asgi_notify.app:application``."""
