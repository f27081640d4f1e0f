"""The default application: notifications over WebSocket and HTTP, publishing, a demo page."""

from collections.abc import Callable, Iterable
from typing import Any

from .asgi import json_response
from .auth.configured import tickets_of, verifier_of
from .auth.rules import Rule, own_group
from .auth.verifying import Verifier
from .consumers.notification import NotificationConsumer
from .consumers.notification_http import NotificationHttpConsumer
from .exceptions import ConfigurationError, MethodNotAllowed
from .layers.base import BaseChannelLayer
from .layers.registry import layer_from_url
from .lifespan import serve_lifespan
from .middleware.authentication import Authentication
from .middleware.cors import CrossOrigin
from .middleware.host import HostValidator
from .middleware.limits import Limited
from .middleware.origin import SameOriginValidator
from .middleware.proxies import TrustedProxies
from .publishing import PublishConsumer
from .routing import ProtocolTypeRouter, URLRouter, include, path
from .settings import Settings
from .ticketing import TicketConsumer
from .types import ASGIApp, Receive, Scope, Send
from .web import ByMethod, refuse, send_all

__all__ = ["application", "make_application"]

ROOM = "notifications/<int:room_name>/"
LOBBY = "notifications/"  # no room: the client says which groups it watches


async def healthz(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer that the server is up."""
    if scope["method"] in ("GET", "HEAD"):
        await send_all(send, json_response(200, {"status": "ok"}))
    else:
        await refuse(scope, send, MethodNotAllowed("GET, HEAD"))


class _AlsoReading(SameOriginValidator):
    """Asks whoever wants to read, too: what a room is sent is for the pages that may connect."""

    def guards(self, scope: Scope) -> bool:
        return True


def make_application(
    settings: Settings | None = None,
    *,
    layer: BaseChannelLayer | str | None = None,
    socket: type[NotificationConsumer] = NotificationConsumer,
    http: type[NotificationHttpConsumer] = NotificationHttpConsumer,
    publisher: type[PublishConsumer] = PublishConsumer,
    middleware: Iterable[Callable[[ASGIApp], ASGIApp]] = (),
    verifier: Verifier | None = None,
    rule: Rule | None = None,
) -> ASGIApp:
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
    settings allow them. What an allowed origin's pages are answered has CORS headers.
    How much a client may do is limited: docs/limits.md.

    Without a verifier, everybody may watch every room. With one, here or in the settings, who
    watches has to show a credential, and hears the group ``user_<id>`` of their own alone,
    over every transport, unless a rule says otherwise. ``POST /tickets`` then gives them a
    ticket, which opens one connection, shown in ``?ticket=`` or in a first frame.

    Args:
        settings: those of the process's environment, unless given.
        layer: a channel layer, or the URL of one, which is opened and closed with the
            server; unless given, the default one and all others that were set are.
        socket: the consumer of WebSockets; a subclass that has its own ``authorize``,
            for example.
        http: the consumer of streams and polls.
        publisher: the consumer of what is published.
        middleware: each is called with an application and returns one, such as
            ``lambda app: Observed(app, [Metrics()])``. The first stands outermost, and
            all stand behind the limits and the checks of host and origin.
        verifier: says who shows a credential, as for `Authentication`; unless given, that of
            the settings.
        rule: what each user may do with a group, as in ``own_group | public("news_*")``;
            unless given, `own_group` where there is a verifier.

    Raises:
        ConfigurationError: the settings, or what was given, cannot work.
    """
    settings = settings or Settings.of_process()
    layer = layer_from_url(layer) if isinstance(layer, str) else layer
    verifier = verifier_of(settings) if verifier is None else verifier
    if verifier is not None:
        rule = own_group if rule is None else rule
    options: dict[str, Any] = {"channel_layer": layer} | ({} if rule is None else {"rule": rule})
    tickets = None if verifier is None else tickets_of(settings, verifier, layer)
    asking = _asking(verifier, settings, tickets)
    watch = _AlsoReading(asking(http.as_asgi(**options)), settings.allowed_origins)
    on_socket = asking(socket.as_asgi(**options))
    publish = publisher.as_asgi(
        channel_layer=layer, key=settings.publish_key, max_body_size=settings.max_body_size
    )
    desk = []
    if tickets is not None:
        # Whoever shows a ticket gets none for it: only what it was given for can be lost with it.
        giving = _asking(verifier, settings)(
            TicketConsumer.as_asgi(channel_layer=layer, tickets=tickets)
        )
        desk = [path("tickets", ByMethod({"POST": giving}), name="tickets")]
    app: ASGIApp = ProtocolTypeRouter(
        {
            **({} if layer is None else {"lifespan": _opening(layer)}),
            "websocket": URLRouter(
                [
                    path(ROOM, on_socket, name="notifications"),
                    path(LOBBY, on_socket, name="lobby"),
                ]
            ),
            "http": URLRouter(
                [
                    path(ROOM, ByMethod({"GET": watch, "POST": publish})),
                    path(LOBBY, ByMethod({"GET": watch})),
                    *desk,
                    path("healthz", healthz, name="healthz"),
                    include("asgi_notify.demo"),
                ]
            ),
        }
    )
    for wrap in reversed(list(middleware)):
        app = wrap(app)
    app = SameOriginValidator(app, settings.allowed_origins)
    if settings.allowed_origins:
        app = CrossOrigin(app, settings.allowed_origins)
    app = Limited(HostValidator(app, settings.allowed_hosts), settings.limits)
    if settings.trusted_proxies:
        app = TrustedProxies(app, settings.trusted_proxies, header=settings.forwarded_header)
    return app


def _asking(
    verifier: Verifier | None, settings: Settings, tickets: Verifier | None = None
) -> Callable[[ASGIApp], ASGIApp]:
    """What has those who watch show who they are, where there is a verifier."""
    if verifier is not None:
        return lambda app: Authentication(
            app,
            verifier,
            cookie=settings.auth_cookie,
            tickets=tickets,
            first_frame=True,
            allowed_origins=settings.allowed_origins,
        )
    if settings.auth_cookie:
        raise ConfigurationError(
            "ASGI_NOTIFY_AUTH_COOKIE names a cookie, and nothing says what is in it: give a "
            "verifier, or set ASGI_NOTIFY_TOKEN_KEYS, ASGI_NOTIFY_JWT_KEY or ASGI_NOTIFY_JWT_JWKS"
        )
    return lambda app: app


def _opening(layer: BaseChannelLayer) -> ASGIApp:
    async def live(scope: Scope, receive: Receive, send: Send) -> None:
        await serve_lifespan(receive, send, layer)

    return live


application = make_application()
"""The application as the environment describes it, for ``uvicorn asgi_notify.app:application``."""
