"""asgi_notify: the same consumer, on a layer that several processes could share."""

import os

from asgi_notify import channel_layers

from ..engine import URL
from .ours_async import add_others, app, publish

__all__ = ["add_others", "app", "publish"]

channel_layers.set("default", os.environ[URL].replace("redis", "valkey", 1))
