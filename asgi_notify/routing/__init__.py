"""Where each connection goes: by protocol, by path, or by channel name.

An entry answers ``match(scope)`` with a `Match`, which carries the app and a
new scope, or with None. Nothing is changed and nothing runs until the match is
found, so what an app raises is never taken for "no match".
"""

from .base import Entry, Match, Router
from .entries import include, path, re_path
from .patterns import Converter
from .routers import ChannelNameRouter, ProtocolTypeRouter, Unmatched, URLRouter

__all__ = [
    "ChannelNameRouter",
    "Converter",
    "Entry",
    "Match",
    "ProtocolTypeRouter",
    "Router",
    "URLRouter",
    "Unmatched",
    "include",
    "path",
    "re_path",
]
