"""Channel layers: how a message finds every mailbox that wants it."""

from .base import BaseChannelLayer
from .delivery import Delivery
from .history import History
from .mailbox import Mailbox
from .memory import InMemoryChannelLayer
from .overflow import Overflow
from .registry import (
    DEFAULT_CHANNEL_LAYER,
    ChannelLayerManager,
    channel_layers,
    get_channel_layer,
    layer_from_url,
)
from .results import Joined, Replay, Sent

__all__ = [
    "DEFAULT_CHANNEL_LAYER",
    "BaseChannelLayer",
    "ChannelLayerManager",
    "Delivery",
    "History",
    "InMemoryChannelLayer",
    "Joined",
    "Mailbox",
    "Overflow",
    "Replay",
    "Sent",
    "channel_layers",
    "get_channel_layer",
    "layer_from_url",
]
