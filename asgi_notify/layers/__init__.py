"""Channel layers: how a message finds every mailbox that wants it."""

from .base import BaseChannelLayer, Sent
from .mailbox import Mailbox, Overflow
from .memory import InMemoryChannelLayer
from .registry import (
    DEFAULT_CHANNEL_LAYER,
    ChannelLayerManager,
    channel_layers,
    get_channel_layer,
    layer_from_url,
)

__all__ = [
    "DEFAULT_CHANNEL_LAYER",
    "BaseChannelLayer",
    "ChannelLayerManager",
    "InMemoryChannelLayer",
    "Mailbox",
    "Overflow",
    "Sent",
    "channel_layers",
    "get_channel_layer",
    "layer_from_url",
]
