"""The entries of an event routing: what they match, and which consumer they lead to."""

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Protocol, runtime_checkable

from ..exceptions import RouteError
from ..loading import load_routes, routes_of
from ..types import Message
from .consumer import EventConsumer
from .filters import Filters, channel_of

__all__ = [
    "Include",
    "Route",
    "Routing",
    "as_routes",
    "channel_names",
    "first_match",
    "include",
    "route",
    "route_class",
]

_ATTRIBUTE = "channel_routing"  # what Channels 1 calls a module's list of routes

Found = tuple[Callable[..., Any], Mapping[str, Any]]


@runtime_checkable
class Routing(Protocol):
    """One element of a routing: anything with these two methods.

    Source: the routing documentation of Django Channels 1.
    """

    def match(self, message: Message) -> Found | None:
        """The consumer for this message and the kwargs to call it with, or None.

        Changes nothing and runs nothing.
        """
        ...

    def channel_names(self) -> set[str]:
        """The channels whose messages can match."""
        ...


@dataclass(frozen=True, slots=True)
class Route:
    """What `route` and `route_class` make: channels, filters, and a consumer."""

    channels: AbstractSet[str]
    consumer: Callable[..., Any]
    filters: Filters = field(repr=False)

    def match(self, message: Message) -> Found | None:
        """The consumer, if the channel is one of its own and all filters match."""
        if channel_of(message) not in self.channels:
            return None
        found = self.filters.match(message)
        return None if found is None else (self.consumer, found.kwargs)

    def channel_names(self) -> set[str]:
        """The channels whose messages can match."""
        return set(self.channels)


@dataclass(frozen=True, slots=True)
class Include:
    """What `include` makes: routes that see what its filters have left over."""

    routes: tuple[Routing, ...]
    filters: Filters = field(repr=False)

    def match(self, message: Message) -> Found | None:
        """The answer of the first inner route that has one, with the captures of both."""
        outer = self.filters.match(message)
        if outer is None:
            return None
        # A channel's name is whole wherever it is asked for, also under a filter of its own.
        inner = {**message, **outer.rest, "channel": channel_of(message)}
        found = first_match(self.routes, inner)
        return None if found is None else (found[0], {**outer.kwargs, **found[1]})

    def channel_names(self) -> set[str]:
        """The channels of all inner routes."""
        return channel_names(self.routes)


def route(channel: str, consumer: Callable[..., Any], /, **filters: object) -> Route:
    """Lead the messages of a channel to a function.

    Args:
        channel: such as ``"websocket.connect"``.
        consumer: ``def`` or ``async def``, called with the message and what was captured.
        filters: regular expressions by key, all of which must match; see `Filters.match`.

    Raises:
        RouteError: the channel, the consumer or a filter is wrong.
    """
    place = f"route({channel!r})"
    channels = frozenset([_require_name(channel, place)])
    if not callable(consumer) or hasattr(consumer, "as_asgi"):
        raise RouteError(f"{place} leads to {consumer!r}, {_way_out(consumer)}")
    return Route(channels, consumer, Filters.compile(filters, place))


def route_class(consumer: type, /, **filters: object) -> Route:
    """Lead the messages of all channels that a class names to that class.

    Args:
        consumer: a subclass of `EventConsumer`, or a class with a class method
            ``channel_names()``, which is called as a function would be.
        filters: as for `route`.

    Raises:
        RouteError: the class has no channels, lacks a method, or a filter is wrong.
    """
    name = consumer.__qualname__ if isinstance(consumer, type) else repr(consumer)
    place = f"route_class({name})"
    channels = _channels_of(consumer, place)
    return Route(channels, consumer, Filters.compile(filters, place))


def include(
    routes: "str | ModuleType | Routing | Sequence[Routing]", /, **filters: object
) -> Include:
    """Take routes from elsewhere, for the messages that match the filters.

    What a filter matches is taken off that value before the inner routes see
    it. What it captures is passed on, unless an inner route captures the same
    name. The message itself stays as it is, for the consumer too.

    Args:
        routes: a list of routes, one route, or the dotted name of either:
            ``"package.module.attribute"``, ``"package.module:attribute"``, or a
            module, whose ``channel_routing`` is meant. A name is imported at once.
        filters: as for `route`.

    Raises:
        RouteError: the name cannot be imported, leads to no routes, or a
            filter is wrong.
    """
    place = f"include({routes!r})" if isinstance(routes, str) else "include(...)"
    compiled = Filters.compile(filters, place)
    found: object = routes
    if isinstance(routes, str):
        found = load_routes(routes, _ATTRIBUTE)
    elif isinstance(routes, ModuleType):
        found = routes_of(routes, _ATTRIBUTE, routes.__name__)
    return Include(as_routes(found, place), compiled)


def as_routes(routes: object, place: str) -> tuple[Routing, ...]:
    """Return one route, or a list or tuple of them, as a tuple.

    Raises:
        RouteError: something is no route.
    """
    items = routes if isinstance(routes, list | tuple) else [routes]
    for item in items:
        if isinstance(item, type) or not isinstance(item, Routing):
            raise RouteError(
                f"{place}: {item!r} is no event route; make some with route(), route_class() and "
                "include() of asgi_notify.events, or give an object with match() and "
                "channel_names()"
            )
    return tuple(items)


def first_match(routes: Sequence[Routing], message: Message) -> Found | None:
    """The answer of the first route that has one."""
    for entry in routes:
        found = entry.match(message)
        if found is not None:
            return found
    return None


def channel_names(routes: Sequence[Routing]) -> set[str]:
    """The channels whose messages one of the routes can match."""
    return {name for entry in routes for name in entry.channel_names()}


def _channels_of(consumer: type, place: str) -> frozenset[str]:
    find = getattr(consumer, "channel_names", None)
    if not isinstance(consumer, type) or find is None:
        raise RouteError(
            f"{place}: {consumer!r} has no channel_names(); give a subclass of EventConsumer "
            "with a method_mapping, or add that class method"
        )
    channels = find()
    if not isinstance(channels, AbstractSet | list | tuple) or not channels:
        raise RouteError(
            f"{place}: channel_names() is a set of names, not {channels!r}; an EventConsumer "
            'takes them from method_mapping = {"websocket.connect": "connect"}'
        )
    names = frozenset(_require_name(name, place) for name in channels)
    if issubclass(consumer, EventConsumer):
        _require_methods(consumer, names, place)
    return names


def _require_name(channel: object, place: str) -> str:
    if isinstance(channel, str) and channel:
        return channel
    raise RouteError(
        f"{place}: a channel is named by text, such as 'websocket.connect', not {channel!r}"
    )


def _require_methods(consumer: type[EventConsumer], channels: AbstractSet[str], place: str) -> None:
    for channel in channels:
        method = consumer.method_mapping.get(channel)
        if method is None or not callable(getattr(consumer, method, None)):
            raise RouteError(
                f"{place}: method_mapping leads {channel!r} to {method!r}, which is no method; "
                "name one that the class has"
            )


def _way_out(consumer: object) -> str:
    if hasattr(consumer, "as_asgi"):
        return (
            "which handles whole connections; put it under a path() of a URLRouter, "
            "or route events to functions and EventConsumers"
        )
    if isinstance(consumer, str):
        return "which is a name; import the function and pass it itself"
    return "which cannot be called; give a function of (message, **captured)"
