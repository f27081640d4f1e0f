"""The words of ASGI, as types that the whole package speaks."""

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

__all__ = ["ASGIApp", "Event", "Headers", "Message", "Receive", "Scope", "Send"]

Scope = MutableMapping[str, Any]
"""What is known of one connection when it begins."""

Event = MutableMapping[str, Any]
"""What the server tells the application, or the application the server."""

Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

Message = Mapping[str, Any]
"""What travels through a channel layer: a mapping with a ``"type"``, read-only once sent."""

Headers = list[tuple[bytes, bytes]]
"""Pairs of a lower-case name and a value, as ASGI carries them."""
