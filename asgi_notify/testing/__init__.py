"""What tests of ASGI applications use: communicators that stand where a server would."""

from .application import ApplicationCommunicator
from .http import HttpCommunicator
from .websocket import Denial, WebsocketCommunicator

__all__ = ["ApplicationCommunicator", "Denial", "HttpCommunicator", "WebsocketCommunicator"]
