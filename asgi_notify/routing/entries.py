"""The entries of a router's list: what they match and where they lead."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from ..exceptions import RouteError
from ..loading import load_routes, routes_of
from ..types import ASGIApp, Scope
from .base import Entry, Match, Router, Row, Target, walk
from .patterns import (
    Converter,
    PathPattern,
    RegexPattern,
    compile_path,
    compile_regex,
    remaining_path,
)

__all__ = ["Include", "Route", "as_entries", "first_match", "include", "path", "re_path"]

_ATTRIBUTE = "urlpatterns"  # what Django calls a module's list of routes


@dataclass(frozen=True, slots=True)
class Route:
    """What `path` and `re_path` make: a pattern, and where it leads."""

    route: str
    pattern: PathPattern | RegexPattern = field(repr=False)
    target: Target = field(repr=False)
    kwargs: Mapping[str, Any]
    name: str | None = None

    @property
    def app(self) -> ASGIApp | Router:
        """Where the route leads: an app, or the entries of an `include`."""
        return self.target.app

    def match(self, scope: Scope) -> Match | None:
        """Hold the pattern against the path that remains, then ask a router that follows."""
        path = remaining_path(scope)
        found = self.pattern.match(path, is_prefix=self.target.routes_paths(scope))
        if found is None:
            return None
        outer = scope.get("url_route") or {}
        url_route = {
            "args": (*outer.get("args", ()), *found.args),
            "kwargs": {**outer.get("kwargs", {}), **found.kwargs, **self.kwargs},
        }
        return self.target.match({**scope, "path_remaining": found.rest, "url_route": url_route})

    def walk(self, protocol: str = "", prefix: str = "") -> Iterator[Row]:
        """Yield a row for each app that the route leads to."""
        return walk(self.app, protocol, prefix + self.route, self.name)


@dataclass(frozen=True, slots=True)
class Include:
    """What `include` makes: entries to be tried as if they stood in its place."""

    entries: tuple[Entry, ...]

    def routes_paths(self, scope: Scope) -> bool:
        """Always: its entries take the path from here on."""
        return True

    def match(self, scope: Scope) -> Match | None:
        """Ask the entries in their order."""
        return first_match(self.entries, scope)

    def walk(self, protocol: str = "", prefix: str = "") -> Iterator[Row]:
        """Yield the rows of each entry."""
        for entry in self.entries:
            yield from entry.walk(protocol, prefix)


def path(
    route: str,
    app: object,
    kwargs: Mapping[str, Any] | None = None,
    name: str | None = None,
    *,
    converters: Mapping[str, Converter | type[Converter]] | None = None,
) -> Route:
    """Lead a path such as ``"rooms/<int:room>/"`` to an app.

    An app takes the whole path. A router, a middleware around a router, a list
    of entries or an `include` takes what begins with the route, and routes the
    rest; where none of its entries match, the next entry here is tried.

    Args:
        route: text and parameters, without a leading slash; ``<room>`` is ``<str:room>``.
        app: an ASGI callable, a consumer class or instance, a `URLRouter`, a list
            of entries, or an `include`.
        kwargs: added to ``scope["url_route"]["kwargs"]``.
        name: shown in tables of routes.
        converters: your own, by name, beside ``int``, ``path``, ``slug``, ``str``, ``uuid``.

    Raises:
        RouteError: the route or the app is wrong.

    Source: Django, "django.urls functions for use in URLconfs", section "path()".
    """
    return _route(route, compile_path(route, converters), app, kwargs, name)


def re_path(
    route: str, app: object, kwargs: Mapping[str, Any] | None = None, name: str | None = None
) -> Route:
    """Lead a path that has a match for a regular expression to an app.

    The expression is searched for, so begin it with ``^`` and end it with
    ``$``, unless a router routes the rest. Its named groups become kwargs;
    where it has none, its groups become args. For the arguments see `path`.

    Raises:
        RouteError: the expression or the app is wrong.

    Source: Django, "django.urls functions for use in URLconfs", section "re_path()".
    """
    return _route(route, compile_regex(route), app, kwargs, name)


def _route(
    route: str,
    pattern: PathPattern | RegexPattern,
    app: object,
    kwargs: Mapping[str, Any] | None,
    name: str | None,
) -> Route:
    if kwargs is not None and not isinstance(kwargs, Mapping):
        raise RouteError(
            f"route {route!r}: kwargs is a mapping such as {{'key': 1}}, not {kwargs!r}"
        )
    if isinstance(app, list | tuple):
        app = Include(as_entries(app))
    place = f"route {route!r}"
    target = Target(app, app) if isinstance(app, Include) else Target.of(app, place)
    return Route(route, pattern, target, dict(kwargs or {}), name)


def include(routes: str | ModuleType | Entry | Sequence[Entry]) -> Include:
    """Take entries from elsewhere, as an entry itself or as what `path` leads to.

    Args:
        routes: a list of entries, one entry, or the dotted name of either:
            ``"package.module.attribute"``, ``"package.module:attribute"``, or a
            module, whose ``urlpatterns`` are meant. A name is imported at once.

    Raises:
        RouteError: the name cannot be imported, or leads to no entries.
    """
    if isinstance(routes, str):
        loaded = load_routes(routes, _ATTRIBUTE)
        try:
            return Include(as_entries(loaded))
        except RouteError as error:
            raise RouteError(f"include({routes!r}): {error}") from error
    if isinstance(routes, ModuleType):
        return Include(as_entries(routes_of(routes, _ATTRIBUTE, routes.__name__)))
    return Include(as_entries(routes))


def as_entries(routes: object) -> tuple[Entry, ...]:
    """Return one entry, or a list or tuple of them, as a tuple.

    Raises:
        RouteError: something is no entry.
    """
    items = routes if isinstance(routes, list | tuple) else [routes]
    for item in items:
        if isinstance(item, type) or not isinstance(item, Entry):
            raise RouteError(
                f"{item!r} is no route; make routes with path(), re_path() and include() "
                "of asgi_notify, and include([...]) for a list inside a list"
            )
    return tuple(items)


def first_match(entries: Sequence[Entry], scope: Scope) -> Match | None:
    """The answer of the first entry that has one."""
    for entry in entries:
        match = entry.match(scope)
        if match is not None:
            return match
    return None
