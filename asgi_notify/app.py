"""The default application: notifications over WebSocket and HTTP, publishing, a demo page."""

import os
from collections.abc import Iterator, Mapping

from .asgi import json_response, refusal
from .consumers.notification import NotificationConsumer
from .consumers.notification_http import NotificationHttpConsumer
from .exceptions import MethodNotAllowed
from .middleware.host import HostValidator
from .middleware.origin import SameOriginValidator
from .publishing import PublishConsumer
from .routing import ProtocolTypeRouter, URLRouter, include, path
from .routing.base import Match, Row, as_app, walk
from .settings import Settings
from .types import ASGIApp, Receive, Scope, Send

__all__ = ["application", "make_application"]

ROOM = "notifications/<int:room_name>/"
LOBBY = "notifications/"  # no room: the client says which groups it watches


async def healthz(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer that the server is up."""
    if scope["method"] in ("GET", "HEAD"):
        events = json_response(200, {"status": "ok"})
    else:
        events = refusal(scope, MethodNotAllowed("GET, HEAD"))
    for event in events:
        await send(event)


class _ByMethod:
    """Hands a request to the app for its method, and answers 405 to the other methods."""

    def __init__(self, apps: Mapping[str, object]) -> None:
        self.apps = {method: as_app(app, method) for method, app in apps.items()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self.apps.get(scope["method"])
        if app is not None:
            await app(scope, receive, send)
            return
        for event in refusal(scope, MethodNotAllowed(", ".join(self.apps))):
            await send(event)

    # What makes it a router, so that `asgi-notify routes` shows each of the apps.

    def match(self, scope: Scope) -> Match:
        return Match(self, scope)

    def routes_paths(self, scope: Scope) -> bool:
        return False

    def walk(self, protocol: str = "", prefix: str = "") -> Iterator[Row]:
        for method, app in self.apps.items():
            yield from walk(app, protocol, prefix, method)


class _AlsoReading(SameOriginValidator):
    """Asks whoever wants to read, too: what a room is sent is for the pages that may connect."""

    def guards(self, scope: Scope) -> bool:
        return True


def make_application(settings: Settings) -> ASGIApp:
    """The application for these settings.

    - WebSocket ``/notifications/<int:room_name>/``: the notifications of a room.
    - ``GET`` of the same path: the same as server-sent events, where the client
      accepts these, else as a long poll.
    - ``/notifications/``: the same without a room; a WebSocket subscribes to
      groups, and a ``GET`` names one in ``?group=user_42``.
    - ``POST`` to the same path publishes ``{"data": ...}`` to the room.
    - ``GET /``: the demo page. ``GET /healthz``: ``{"status": "ok"}``.

    Pages of other origins may neither watch nor publish, and other host names
    than this machine's are not served over its loopback interface, unless the
    settings allow them. The layer is the default one.
    """
    watch = _AlsoReading(NotificationHttpConsumer, settings.allowed_origins)
    publish = PublishConsumer(key=settings.publish_key, max_body_size=settings.max_body_size)
    router = ProtocolTypeRouter(
        {
            "websocket": URLRouter(
                [
                    path(ROOM, NotificationConsumer, name="notifications"),
                    path(LOBBY, NotificationConsumer, name="lobby"),
                ]
            ),
            "http": URLRouter(
                [
                    path(ROOM, _ByMethod({"GET": watch, "POST": publish})),
                    path(LOBBY, _ByMethod({"GET": watch})),
                    path("healthz", healthz, name="healthz"),
                    include("asgi_notify.demo"),
                ]
            ),
        }
    )
    own_pages = SameOriginValidator(router, settings.allowed_origins)
    return HostValidator(own_pages, settings.allowed_hosts)


application = make_application(Settings.from_environ(os.environ))
"""The application as the environment describes it, for ``uvicorn asgi_notify.app:application``."""
