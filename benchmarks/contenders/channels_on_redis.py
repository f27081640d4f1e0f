"""The application of both of channels_redis' layers; it is that of `channels`."""

import os
from typing import Any

from channels.layers import channel_layers
from django.conf import settings

from ..engine import URL
from .channels import add_others, app, publish

__all__ = ["add_others", "app", "publish", "use"]


def use(backend: str, **config: Any) -> None:
    """Have a backend carry the messages."""
    config["hosts"] = [os.environ[URL]]
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": backend, "CONFIG": config}}
    channel_layers.backends = {}
