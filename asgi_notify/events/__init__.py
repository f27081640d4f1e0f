"""Routing of events, in the way of Channels 1: a function for each kind of message.

A route is asked ``match(message)`` and answers with a consumer and its keyword
arguments, or with None. `EventRouter` makes an ASGI application of routes.
"""

from .consumer import EventConsumer
from .message import AsyncMessage, SyncMessage
from .router import EventRouter
from .routes import Routing, include, route, route_class

__all__ = [
    "AsyncMessage",
    "EventConsumer",
    "EventRouter",
    "Routing",
    "SyncMessage",
    "include",
    "route",
    "route_class",
]
