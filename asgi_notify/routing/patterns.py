"""How a route's text becomes a pattern, and which part of a path the pattern is held against."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable
from uuid import UUID

from ..exceptions import MisuseError, RouteError
from ..types import Scope

__all__ = [
    "CONVERTERS",
    "Captured",
    "Converter",
    "PathPattern",
    "RegexPattern",
    "compile_path",
    "compile_regex",
    "remaining_path",
]


@runtime_checkable
class Converter(Protocol):
    """What a ``<converter:name>`` of a route accepts, and the value it makes of it.

    ``regex`` has no named groups. `to_python` raises `ValueError` to say "no match".
    """

    @property
    def regex(self) -> str:
        """What the text of a parameter has to match."""
        ...

    def to_python(self, value: str) -> Any:
        """The value of a parameter whose text has matched."""
        ...


@dataclass(frozen=True, slots=True)
class _Text:
    regex: str

    def to_python(self, value: str) -> str:
        return value


class _Int:
    regex = "[0-9]+"

    def to_python(self, value: str) -> int:
        # Thousands of digits raise ValueError, which is "no match".
        return int(value)


class _UUID:
    regex = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"

    def to_python(self, value: str) -> UUID:
        return UUID(value)


CONVERTERS: Mapping[str, Converter] = {
    "int": _Int(),
    "path": _Text(".+"),
    "slug": _Text("[-a-zA-Z0-9_]+"),
    "str": _Text("[^/]+"),
    "uuid": _UUID(),
}
"""The converters every `path` knows.

Source: Django, "URL dispatcher", section "Path converters".
"""


class Captured(NamedTuple):
    """What a pattern took from a path, and the rest that it left."""

    rest: str
    args: tuple[str | None, ...]
    kwargs: dict[str, Any]


@dataclass(frozen=True, slots=True)
class PathPattern:
    """A route such as ``"rooms/<int:room>/"``, compiled."""

    regex: re.Pattern[str]
    converters: Mapping[str, Converter]

    def match(self, path: str, *, is_prefix: bool) -> Captured | None:
        """Hold the pattern against the whole path, or against how it begins."""
        found = self.regex.match(path) if is_prefix else self.regex.fullmatch(path)
        if found is None:
            return None
        kwargs = {}
        for name, text in found.groupdict().items():
            try:
                kwargs[name] = self.converters[name].to_python(text)
            except ValueError:
                return None
        return Captured(path[found.end() :], (), kwargs)


@dataclass(frozen=True, slots=True)
class RegexPattern:
    """A regular expression as a route."""

    regex: re.Pattern[str]

    def match(self, path: str, *, is_prefix: bool) -> Captured | None:
        """Search the path; for an endpoint whose regex ends in ``$``, match all of it.

        Source: Django, "URL dispatcher", section "Using regular expressions".
        """
        # "$" alone would also match before a newline that ends the path.
        is_whole = not is_prefix and self.regex.pattern.endswith("$")
        found = self.regex.fullmatch(path) if is_whole else self.regex.search(path)
        if found is None:
            return None
        rest = path[found.end() :]
        if not found.re.groupindex:
            return Captured(rest, found.groups(), {})
        named = {name: text for name, text in found.groupdict().items() if text is not None}
        return Captured(rest, (), named)


# A parameter as Starlette, FastAPI and aiohttp write it: "{room}", "{room:int}".
_IN_BRACES = re.compile(r"\{(?P<name>[^\W\d]\w*)(?::(?P<converter>[^{}]*))?\}")

_PARAMETER = re.compile(r"<(?:(?P<converter>[^<>:]+):)?(?P<name>[^<>]+)>")


def compile_path(
    route: str, converters: Mapping[str, Converter | type[Converter]] | None = None
) -> PathPattern:
    """Compile a route of literal text and ``<name>`` or ``<converter:name>`` parameters.

    Args:
        route: without a leading slash.
        converters: further converters by name, as classes or instances.

    Raises:
        RouteError: the route cannot be meant as written; the text says why.
    """
    _require_text(route, "path('rooms/<int:room>/', app)")
    if route.startswith("/"):
        raise RouteError(
            f"route {route!r} can never match, since the path's leading slash is removed "
            f"before routing; write {route.lstrip('/')!r}"
        )
    if "(?P<" in route or route.startswith("^") or route.endswith("$"):
        raise RouteError(f"route {route!r} looks like a regular expression; use re_path() for it")
    braces = _IN_BRACES.search(route)
    if braces is not None:
        name, converter = braces["name"], braces["converter"] or "int"
        raise RouteError(
            f"route {route!r} would match {braces[0]!r} as it stands; a parameter is written "
            f"'<{converter}:{name}>', or '<{name}>' for any text up to the next slash"
        )
    known = {**CONVERTERS, **_own_converters(route, converters or {})}
    used: dict[str, Converter] = {}
    parts: list[str] = []
    end = 0
    for parameter in _PARAMETER.finditer(route):
        name, converter = _read_parameter(route, parameter, known)
        if name in used:
            raise RouteError(f"route {route!r} has two parameters {name!r}; rename one")
        used[name] = converter
        parts += _literal(route, end, parameter.start()), f"(?P<{name}>{converter.regex})"
        end = parameter.end()
    parts.append(_literal(route, end, len(route)))
    return PathPattern(_compile("".join(parts), f"route {route!r}"), used)


def _own_converters(route: str, given: Mapping[str, object]) -> dict[str, Converter]:
    own: dict[str, Converter] = {}
    for name, value in given.items():
        converter = value() if isinstance(value, type) else value
        if not isinstance(converter, Converter) or not isinstance(converter.regex, str):
            raise RouteError(
                f"route {route!r}: converter {name!r} needs a text 'regex' and a method "
                f"'to_python(value)', which {value!r} has not"
            )
        place = f"route {route!r}: converter {name!r}"
        if _compile(converter.regex, place).groupindex:
            raise RouteError(f"{place}: take the names off its groups, as in '(?:...)'")
        own[name] = converter
    return own


def _read_parameter(
    route: str, parameter: re.Match[str], known: Mapping[str, Converter]
) -> tuple[str, Converter]:
    kind, name = parameter.group("converter") or "str", parameter.group("name")
    if any(character.isspace() for character in parameter[0]):
        raise RouteError(f"route {route!r}: remove the whitespace in {parameter[0]!r}")
    if not name.isidentifier():
        raise RouteError(
            f"route {route!r}: {name!r} cannot name a parameter; use a Python identifier"
        )
    if kind not in known:
        raise RouteError(
            f"route {route!r} names the unknown converter {kind!r}; use one of "
            f"{', '.join(sorted(known))}, or pass your own: path(..., converters={{{kind!r}: ...}})"
        )
    return name, known[kind]


def _literal(route: str, start: int, end: int) -> str:
    text = route[start:end]
    if "<" in text or ">" in text:
        raise RouteError(
            f"route {route!r}: '<' and '>' must enclose a parameter, such as '<int:room>'"
        )
    return re.escape(text)


# An optional slash, as in "^/?rooms", can match; so can the other side of a "|".
_SLASH_FIRST = re.compile(r"\^\\?/(?![?*{])[^|]*")


def compile_regex(route: str) -> RegexPattern:
    """Compile a regular expression as a route.

    Raises:
        RouteError: it is no valid expression, or begins with a slash.
    """
    _require_text(route, "re_path(r'^rooms/(?P<room>[0-9]+)/$', app)")
    if _SLASH_FIRST.fullmatch(route):
        raise RouteError(
            f"route {route!r} can never match, since the path's leading slash is removed "
            "before routing; drop the slash after '^'"
        )
    return RegexPattern(_compile(route, f"route {route!r}"))


def _require_text(route: object, example: str) -> None:
    if not isinstance(route, str):
        raise RouteError(f"a route is text, not {route!r}; write {example}")


def _compile(regex: str, place: str) -> re.Pattern[str]:
    try:
        return re.compile(regex)
    except (re.error, OverflowError) as error:
        raise RouteError(f"{place}: {regex!r} is no regular expression: {error}") from error


def remaining_path(scope: Scope) -> str:
    """The part of the path that is not routed yet, without its leading slashes.

    That is what an outer router left, else the path below ``root_path``, which
    some servers leave in the path and others have taken off.

    Raises:
        MisuseError: this kind of scope has no path.

    Source: ASGI, HTTP & WebSocket, section "HTTP Connection Scope".
    """
    rest = scope.get("path_remaining")
    if rest is None:
        path = scope.get("path")
        if path is None:
            raise MisuseError(
                f"a {scope.get('type')!r} scope has no path to route by; put the routes under "
                "'http' or 'websocket' of a ProtocolTypeRouter"
            )
        rest = _below(scope.get("root_path") or "", path)
    return str(rest).lstrip("/")


def _below(root_path: str, path: str) -> str:
    root = root_path.rstrip("/")
    # Only at a segment's end: "/apix" is not below "/api".
    return path[len(root) :] if path == root or path.startswith(f"{root}/") else path
