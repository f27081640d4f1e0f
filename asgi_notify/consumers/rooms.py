"""What a request for notifications says of itself: its room or group, and what it has seen."""

from collections.abc import Mapping
from typing import Any

from ..asgi import query_value
from ..exceptions import ConfigurationError, InvalidName, NoRouteFound
from ..names import require_group_name
from ..positions import Position
from ..types import Scope
from .base import Consumer

__all__ = ["captured_by_path", "named_group", "room_group", "since_of"]


def room_group(room_name: object) -> str:
    """The group of a room: ``user_42`` for 42.

    Raises:
        NoRouteFound: no group can be called that.
    """
    try:
        return require_group_name(f"user_{room_name}")
    except InvalidName as error:
        raise NoRouteFound(f"there is no room of that name: {error}") from error


def captured_by_path(consumer: Consumer[Any]) -> Mapping[str, object]:
    """What the path has captured by name.

    Raises:
        ConfigurationError: no router has looked at the path.
    """
    url_route = consumer.scope.get("url_route")
    if url_route is None:
        name = type(consumer).__qualname__
        raise ConfigurationError(
            f"{name} asks a router for the room of its path: write "
            f"URLRouter([path('notifications/<int:room_name>/', {name})])"
        )
    captured: Mapping[str, object] = url_route["kwargs"]
    return captured


def named_group(scope: Scope) -> str | None:
    """The group that the query names, or None.

    Raises:
        ClientError: it names several, or what can be no group.
    """
    name = query_value(scope, "group")
    try:
        return name if name is None else require_group_name(name)
    except InvalidName as error:
        raise NoRouteFound(f"there is no group of that name: {error}") from error


def since_of(scope: Scope) -> Position | None:
    """The position that the query names, or None.

    Raises:
        ClientError: it is none.
    """
    text = query_value(scope, "since")
    return Position.parse(text) if text is not None else None
