"""Which web pages may use an application, judged by the Origin header.

A browser lets any page open a WebSocket to any server, or post to it, and adds
the visitor's cookies; the Origin header, which no page can forge, is all that
tells a server whose page it is.

Source: RFC 6455, section 10.2; RFC 6454, section 7.
"""

import logging
import re
from collections.abc import Iterable
from ipaddress import IPv6Address
from typing import NamedTuple

from .. import django_support
from ..asgi import header_values
from ..exceptions import ConfigurationError, Forbidden
from ..legible import legible
from ..routing.base import as_app
from ..types import Receive, Scope, Send
from ..web import refuse

__all__ = ["AllowedHostsOriginValidator", "OriginValidator", "SameOriginValidator"]

logger = logging.getLogger("asgi_notify.middleware")

# RFC 9110, section 9.2.1: these change nothing on the server.
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
_MAX_SHOWN = 200  # characters of what a client sent that an error or a log line repeats

# RFC 6454, section 7: scheme "://" host [ ":" port ]. No user, no path, and
# hosts as browsers send them: in ASCII, an IPv6 address in brackets.
_ADDRESS = re.compile(
    r"(?:(?P<scheme>[a-z][a-z0-9+.-]*)://)?"
    r"(?P<dot>\.)?"
    r"(?P<host>\[[0-9a-f:.]+\]|[a-z0-9_-][a-z0-9._-]*)"
    r"(?::(?P<port>[0-9]{1,5}))?"
)


class _Address(NamedTuple):
    """An origin, a Host header, or a pattern for origins."""

    scheme: str | None
    has_subdomains: bool
    host: str
    port: int | None

    def covers(self, origin: "_Address") -> bool:
        """Whether an origin fits this pattern."""
        if self.scheme not in (None, origin.scheme):
            return False
        is_any_port = self.scheme is None and self.port is None
        if not is_any_port and self.port_for(origin) != origin.port_for(origin):
            return False
        if self.has_subdomains and origin.host.endswith(f".{self.host}"):
            return True
        return self.host == origin.host

    def port_for(self, origin: "_Address") -> int | None:
        """The port, else the one that the origin's scheme stands for."""
        return _PORTS.get(origin.scheme or "") if self.port is None else self.port


def _parse(text: str) -> _Address | None:
    found = _ADDRESS.fullmatch(text.lower()) if text.isascii() else None
    if found is None:
        return None
    scheme, dot, host, digits = found.groups()
    port = int(digits) if digits else None
    if port is not None and port > 65535:
        return None
    if host.startswith("["):
        try:
            host = f"[{IPv6Address(host[1:-1])}]"
        except ValueError:
            return None
    return _Address(scheme, bool(dot), host.removesuffix("."), port)


def _parse_origin(values: list[str]) -> _Address | None:
    """The one origin that these headers name, if they do; ``null`` names none."""
    origin = _parse(values[0]) if len(values) == 1 else None
    if origin is None or origin.scheme is None or origin.has_subdomains:
        return None
    return origin


class OriginValidator:
    """Lets only pages of the allowed origins through; stands in front of any app.

    It guards WebSockets, and HTTP requests that may change something: all but
    GET, HEAD and OPTIONS. Anything else passes. Who is refused is told why,
    with 403, and the log has one line.

    A pattern is one of

    - ``https://example.com:8000``: this scheme, host and port. Without a port,
      the one that the scheme stands for.
    - ``example.com:8000``: with any scheme. Without a port, on any port.
    - ``.example.com``, ``https://.example.com``: the subdomains too.
    - ``*``: any origin, ``null``, and none at all.

    A client that sends no Origin header is refused, unless ``*`` is allowed.

    Args:
        application: an ASGI app, a consumer class, or a router.
        allowed_origins: a list of patterns.

    Raises:
        ConfigurationError: a pattern can never match, or there is no list.
    """

    _option = "allowed_origins"

    def __init__(self, application: object, allowed_origins: Iterable[str]) -> None:
        """Check the patterns and wrap the application."""
        self.inner = as_app(application, type(self).__name__)
        patterns = _as_list(allowed_origins, self._option)
        self._allows_any = "*" in patterns
        self._patterns = [_as_pattern(text) for text in patterns if text != "*"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand over to the application, or refuse."""
        if not self.guards(scope) or self.allows(scope):
            await self.inner(scope, receive, send)
            return
        values = header_values(scope, b"origin")
        error = Forbidden(_sentence(values, self._option))
        place = legible(scope.get("path"))
        logger.warning(
            "refused a %s at '%s': %s", scope["type"], place, error, extra={"path": place}
        )
        await refuse(scope, send, error)

    def guards(self, scope: Scope) -> bool:
        """Whether a connection is asked where it comes from; override it to ask others, too."""
        if scope["type"] == "http":
            return scope["method"] not in _SAFE_METHODS
        return bool(scope["type"] == "websocket")

    def allows(self, scope: Scope) -> bool:
        """Whether a connection may pass; override it to ask more of one."""
        if self._allows_any:
            return True
        origin = _parse_origin(header_values(scope, b"origin"))
        return origin is not None and any(pattern.covers(origin) for pattern in self._patterns)


class AllowedHostsOriginValidator(OriginValidator):
    """Lets pages of the allowed hosts through, whatever their scheme: see `OriginValidator`.

    Args:
        application: an ASGI app, a consumer class, or a router.
        allowed_hosts: patterns without a scheme. May be left out beside a
            configured Django: then they are its setting ``ALLOWED_HOSTS`` or,
            where that is empty and ``DEBUG`` is on, the names of this machine.

    Raises:
        ConfigurationError: a pattern has a scheme or can never match, or there
            is no list.
    """

    _option = "allowed_hosts"

    def __init__(self, application: object, allowed_hosts: Iterable[str] | None = None) -> None:
        """Check the hosts and wrap the application."""
        if allowed_hosts is None:
            self._option = "ALLOWED_HOSTS"
            allowed_hosts = django_support.allowed_hosts()
        if allowed_hosts is None:
            raise ConfigurationError(
                "name the hosts: AllowedHostsOriginValidator(app, ['example.com']); they are "
                "Django's ALLOWED_HOSTS only where Django is loaded and configured before this"
            )
        hosts = _as_list(allowed_hosts, self._option)
        for host in hosts:
            if isinstance(host, str) and "://" in host:
                raise ConfigurationError(
                    f"{host!r} is no host: leave the scheme out, or use OriginValidator"
                )
        super().__init__(application, hosts)


class SameOriginValidator(OriginValidator):
    """Lets the server's own pages through, and those of the allowed origins.

    A page is the server's own when its origin has the host and the port of the
    Host header. A request without an Origin header passes too: it comes from
    no page, since a browser sends one with every WebSocket and with every
    request that may change something; a program can write any origin it
    likes, so that to ask it for one protects nobody.

    The Host header is believed. Where the server is found by any name, a page
    can point its own name at it (DNS rebinding) and be its own: to keep that
    out, put a `HostValidator` in front, or have a proxy check the host. For
    the rest see `OriginValidator`.

    Args:
        application: an ASGI app, a consumer class, or a router.
        allowed_origins: a list of patterns for other origins.

    Raises:
        ConfigurationError: a pattern can never match, or there is no list.

    Source: Fetch, section "Origin header"; RFC 6455, section 4.1.
    """

    def __init__(self, application: object, allowed_origins: Iterable[str] = ()) -> None:
        """Check the patterns and wrap the application."""
        super().__init__(application, allowed_origins)

    def allows(self, scope: Scope) -> bool:
        """Whether a connection comes from no page, an own page, or an allowed one."""
        origins = header_values(scope, b"origin")
        return (
            not origins or super().allows(scope) or _is_own(origins, header_values(scope, b"host"))
        )


def _is_own(origins: list[str], hosts: list[str]) -> bool:
    origin = _parse_origin(origins)
    host = _parse(hosts[0]) if len(hosts) == 1 else None
    if origin is None or host is None or host.scheme is not None or host.has_subdomains:
        return False
    if origin.scheme not in _PORTS:  # such as an extension, whose "host" is its name
        return False
    return origin.host == host.host and origin.port_for(origin) == host.port_for(origin)


def _sentence(values: list[str], option: str) -> str:
    if not values:
        return f"only a page of an allowed origin may do this; '*' in {option} lets all clients in"
    shown = ", ".join(values)[:_MAX_SHOWN]
    if _parse_origin(values) is None:
        return f"origin {shown!r} names no site; only '*' in {option} lets it in"
    return f"origin {shown!r} is not allowed; to let it in, name it in {option}"


def _as_list(patterns: Iterable[str], option: str) -> list[str]:
    if isinstance(patterns, str | bytes) or not isinstance(patterns, Iterable):
        raise ConfigurationError(
            f"{option} must be a list, such as ['example.com'], not {patterns!r}"
        )
    return list(patterns)


def _as_pattern(text: str) -> _Address:
    # "null" is what a browser sends for a page that anyone may have made.
    pattern = _parse(text) if isinstance(text, str) and text != "null" else None
    if pattern is None:
        raise ConfigurationError(
            f"{text!r} can match no origin; write 'https://example.com', 'example.com:8000', "
            "'.example.com' for its subdomains too, or '*' for any: without a path, in ASCII "
            "(xn--...), an IPv6 address in brackets"
        )
    return pattern
