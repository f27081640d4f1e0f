"""Consumers: classes that handle one connection each."""

from .base import AsyncConsumer
from .connection import Connection
from .http import AsyncHttpConsumer, HttpConsumer
from .notification import NotificationConsumer, Notifications
from .notification_http import NotificationHttpConsumer
from .observing import Observer
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
    "Connection",
    "HttpConsumer",
    "JsonWebsocketConsumer",
    "NotificationConsumer",
    "NotificationHttpConsumer",
    "Notifications",
    "Observer",
    "SyncConsumer",
    "WebsocketConsumer",
]
