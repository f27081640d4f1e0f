"""Consumers: classes that handle one connection each."""

from .base import AsyncConsumer
from .http import AsyncHttpConsumer, HttpConsumer
from .notification import NotificationConsumer, Notifications
from .notification_http import NotificationHttpConsumer
from .sse import AsyncSseConsumer
from .threads import SyncConsumer
from .websocket import (
    AsyncJsonWebsocketConsumer,
    AsyncWebsocketConsumer,
    JsonWebsocketConsumer,
    WebsocketConsumer,
)

__all__ = [
    "AsyncConsumer",
    "AsyncHttpConsumer",
    "AsyncJsonWebsocketConsumer",
    "AsyncSseConsumer",
    "AsyncWebsocketConsumer",
    "HttpConsumer",
    "JsonWebsocketConsumer",
    "NotificationConsumer",
    "NotificationHttpConsumer",
    "Notifications",
    "SyncConsumer",
    "WebsocketConsumer",
]
