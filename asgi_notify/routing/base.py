"""What entries and routers promise each other, and what a route may lead to."""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol, cast, runtime_checkable

from ..exceptions import RouteError
from ..types import ASGIApp, Scope

__all__ = ["Entry", "Match", "Router", "Row", "Target", "as_app", "find_router", "unwrap", "walk"]


class Match(NamedTuple):
    """The app that a connection goes to, and the new scope that the app is called with."""

    app: ASGIApp
    scope: Scope


class Row(NamedTuple):
    """One line of a table of routes: where it starts and what it leads to.

    Attributes:
        protocol: the scope's type, or "" where no router asks for it.
        route: the routes on the way, joined as written; "*" is "anything else".
        app: what is called at the end, with middleware taken off.
        name: the name given to the last route, if any.
    """

    protocol: str
    route: str
    app: object
    name: str | None = None


@runtime_checkable
class Entry(Protocol):
    """One element of a router's list: anything with these two methods."""

    def match(self, scope: Scope) -> Match | None:
        """Say where this connection goes, or None; changes nothing and runs nothing."""
        ...

    def walk(self, protocol: str = "", prefix: str = "") -> Iterator[Row]:
        """Yield a row for each app that can be reached through this entry."""
        ...


@runtime_checkable
class Router(Entry, Protocol):
    """An app that is asked where a connection goes before anything runs.

    A middleware that wraps a router keeps it as its attribute ``inner``. Then
    `path` takes the middleware for a prefix, as it does the router itself; the
    router routes once the middleware has called it.
    """

    def routes_paths(self, scope: Scope) -> bool:
        """Whether it would route this scope by the path that remains."""
        ...


_MAX_MIDDLEWARE = 100  # wrappers; no stack is deeper, but a mock's ``inner`` never ends


def find_router(app: object) -> Router | None:
    """The router that the app is, or wraps: see `Router`."""
    return next((part for part in unwrap(app) if isinstance(part, Router)), None)


def unwrap(app: object) -> Iterator[object]:
    """Yield the app, then what it wraps as its ``inner``, and so on."""
    for _ in range(_MAX_MIDDLEWARE):
        yield app
        app = getattr(app, "inner", None)
        if not callable(app):
            return


def as_app(target: object, place: str) -> ASGIApp:
    """Return the ASGI app that a target is, or that its ``as_asgi()`` makes.

    Args:
        target: an ASGI callable, or a consumer class.
        place: what leads there, for the error.

    Raises:
        RouteError: it is neither, such as a framework's view, which takes one request.
    """
    if isinstance(target, type):
        make: Callable[[], object] | None = getattr(target, "as_asgi", None)
        if make is not None:
            return as_app(make(), place)
    elif callable(target) and _takes_three(target):
        return cast(ASGIApp, target)
    raise RouteError(f"{place} leads to {target!r}, which is no ASGI app; {_way_out(target)}")


def _takes_three(target: Callable[..., object]) -> bool:
    """Whether it can be called as ASGI does; what does not say how it is called passes."""
    try:
        inspect.signature(target).bind("scope", "receive", "send")
    except TypeError:
        return False
    except ValueError:  # such as a function written in C
        return True
    return True


def _way_out(target: object) -> str:
    if isinstance(target, str):
        return f"to take routes from there, write include({target!r})"
    if isinstance(target, list | tuple | Entry) and not isinstance(target, type):
        return "wrap it in URLRouter(...)"
    if callable(target) and not isinstance(target, type):
        return (
            "an ASGI app is called with scope, receive and send, and this takes other "
            "arguments: a view belongs into its framework's own routes, and of a function "
            "that makes an app, give what it returns"
        )
    return (
        "give it an ASGI callable (an async function of scope, receive and send), a consumer "
        "class that has as_asgi(), a consumer instance, or a URLRouter"
    )


@dataclass(frozen=True, slots=True)
class Target:
    """Where a route leads: an app, and the router that the app is or wraps."""

    app: ASGIApp | Router
    router: Router | None

    @classmethod
    def of(cls, target: object, place: str) -> "Target":
        """Check and wrap what a route was given; see `as_app`."""
        app = as_app(target, place)
        return cls(app, find_router(app))

    def routes_paths(self, scope: Scope) -> bool:
        """Whether a router takes the path from here on."""
        return self.router is not None and self.router.routes_paths(scope)

    def match(self, scope: Scope) -> Match | None:
        """Ask a router where the connection goes; an app, or a middleware, takes it."""
        if self.router is not None and self.router is self.app:
            return self.router.match(scope)
        return Match(cast(ASGIApp, self.app), scope)


def walk(
    app: object, protocol: str = "", route: str = "", name: str | None = None
) -> Iterator[Row]:
    """Yield a row for each app behind this one, through routers, includes and middleware."""
    router = find_router(app)
    if router is None:
        *_, innermost = unwrap(app)
        yield Row(protocol, route, innermost, name)
    else:
        yield from router.walk(protocol, route)
