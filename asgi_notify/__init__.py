"""Routing, consumers and channel layers for any ASGI application.

To learn how it works, read in this order, which begins with what is easy. The README has the same
list with all rooms of each step.

1. Words: `types`, `exceptions`.
2. What never waits: `names`, `positions`, `codec`, `asgi`, `routing.patterns`, `protocol.frames`.
3. A mailbox, a history, a group: `layers.mailbox`, `layers.history`, `layers.hub`.
4. A layer for one process, `layers.memory`; and the routers, `routing.routers`.
5. A connection, `consumers.connection`, and the consumers, of which `consumers.notification` is
   the product; then `app`, the application made of it.
6. Layers for many processes: `layers.engine`, `layers.link`, `layers.shared`.
7. How handlers cost less: `consumers.stepping`, `consumers.direct`, `consumers.lane`.
8. The server's side: `gathering`, `uvicorn`, `cli.serve`.
"""

from .codec import FrozenMessage
from .consumers import (
    AsyncConsumer,
    AsyncHttpConsumer,
    AsyncJsonWebsocketConsumer,
    AsyncSseConsumer,
    AsyncWebsocketConsumer,
    Connection,
    HttpConsumer,
    JsonWebsocketConsumer,
    NotificationConsumer,
    NotificationHttpConsumer,
    Notifications,
    Observer,
    SyncConsumer,
    WebsocketConsumer,
)
from .events import EventConsumer, EventRouter, route, route_class
from .exceptions import (
    CLOSE_CODES,
    AcceptConnection,
    ChannelFull,
    ClientError,
    ClientTimeout,
    ConfigurationError,
    DenyConnection,
    Forbidden,
    InvalidChannelLayerError,
    InvalidMessage,
    InvalidName,
    LayerClosed,
    LayerUnavailable,
    MethodNotAllowed,
    MissingExtra,
    MisuseError,
    NoRouteFound,
    NotifyError,
    Overloaded,
    RouteError,
    StopConsumer,
    TooLarge,
    TooManyRequests,
    Unauthorized,
    UnsupportedData,
    VerifierUnavailable,
)
from .layers import (
    DEFAULT_CHANNEL_LAYER,
    BaseChannelLayer,
    ChannelLayerManager,
    Delivery,
    History,
    InMemoryChannelLayer,
    Joined,
    Mailbox,
    Overflow,
    Replay,
    Sent,
    channel_layers,
    get_channel_layer,
    layer_from_url,
)
from .limits import Limits
from .middleware import (
    AllowedHostsOriginValidator,
    Authentication,
    CrossOrigin,
    HostValidator,
    Limited,
    Observed,
    OriginValidator,
    SameOriginValidator,
    TrustedProxies,
)
from .publishing import PublishConsumer
from .routing import (
    ChannelNameRouter,
    Converter,
    Entry,
    Match,
    ProtocolTypeRouter,
    Router,
    Unmatched,
    URLRouter,
    include,
    path,
    re_path,
)
from .settings import Settings
from .sync import async_to_sync, handler_limiter
from .types import ASGIApp, Event, Headers, Message, Receive, Scope, Send
from .with_worker import WithWorker
from .worker import Worker

__all__ = [
    "CLOSE_CODES",
    "DEFAULT_CHANNEL_LAYER",
    "ASGIApp",
    "AcceptConnection",
    "AllowedHostsOriginValidator",
    "AsyncConsumer",
    "AsyncHttpConsumer",
    "AsyncJsonWebsocketConsumer",
    "AsyncSseConsumer",
    "AsyncWebsocketConsumer",
    "Authentication",
    "BaseChannelLayer",
    "ChannelFull",
    "ChannelLayerManager",
    "ChannelNameRouter",
    "ClientError",
    "ClientTimeout",
    "ConfigurationError",
    "Connection",
    "Converter",
    "CrossOrigin",
    "Delivery",
    "DenyConnection",
    "Entry",
    "Event",
    "EventConsumer",
    "EventRouter",
    "Forbidden",
    "FrozenMessage",
    "Headers",
    "History",
    "HostValidator",
    "HttpConsumer",
    "InMemoryChannelLayer",
    "InvalidChannelLayerError",
    "InvalidMessage",
    "InvalidName",
    "Joined",
    "JsonWebsocketConsumer",
    "LayerClosed",
    "LayerUnavailable",
    "Limited",
    "Limits",
    "Mailbox",
    "Match",
    "Message",
    "MethodNotAllowed",
    "MissingExtra",
    "MisuseError",
    "NoRouteFound",
    "NotificationConsumer",
    "NotificationHttpConsumer",
    "Notifications",
    "NotifyError",
    "Observed",
    "Observer",
    "OriginValidator",
    "Overflow",
    "Overloaded",
    "ProtocolTypeRouter",
    "PublishConsumer",
    "Receive",
    "Replay",
    "RouteError",
    "Router",
    "SameOriginValidator",
    "Scope",
    "Send",
    "Sent",
    "Settings",
    "StopConsumer",
    "SyncConsumer",
    "TooLarge",
    "TooManyRequests",
    "TrustedProxies",
    "URLRouter",
    "Unauthorized",
    "Unmatched",
    "UnsupportedData",
    "VerifierUnavailable",
    "WebsocketConsumer",
    "WithWorker",
    "Worker",
    "async_to_sync",
    "channel_layers",
    "get_channel_layer",
    "handler_limiter",
    "include",
    "layer_from_url",
    "path",
    "re_path",
    "route",
    "route_class",
]

__version__ = "0.1.0"
"""The version of the package; what builds it reads it here."""
