"""Consumers: classes that handle one connection each."""

from .base import AsyncConsumer, SyncConsumer
from .http import AsyncHttpConsumer
from .notification import NotificationConsumer
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
    "AsyncWebsocketConsumer",
    "JsonWebsocketConsumer",
    "NotificationConsumer",
    "SyncConsumer",
    "WebsocketConsumer",
]
