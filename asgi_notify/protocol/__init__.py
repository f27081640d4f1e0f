"""The notification protocol ``asgi-notify.v1``, apart from how its frames travel."""

from .frames import PROTOCOL
from .requests import BadFrame, Request, read

__all__ = ["PROTOCOL", "BadFrame", "Request", "read"]
