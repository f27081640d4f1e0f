"""Which host names lead to this machine alone, and which requests came through a proxy."""

from ipaddress import ip_address
from urllib.parse import urlsplit

from .asgi import header
from .types import Scope

__all__ = ["arrived_over_loopback", "is_loopback", "is_proxied", "requested_host"]

# What proxies and content delivery networks add to a request that they pass on.
_PROXY_HEADERS = frozenset(
    {
        b"cdn-loop",  # RFC 8586
        b"fastly-client-ip",
        b"forwarded",  # RFC 7239
        b"true-client-ip",  # Akamai, Cloudflare
        b"via",  # RFC 9110 7.6.3: each proxy must send it
        b"x-client-ip",
        b"x-cluster-client-ip",
        b"x-envoy-external-address",
        b"x-original-forwarded-for",
        b"x-real-ip",
    }
)
_PROXY_PREFIXES = (b"x-forwarded-", b"cf-")  # -for, -host, -proto, ...; Cloudflare's


def is_loopback(host: str) -> bool:
    """Whether a host name or address leads to this machine alone."""
    name = host.strip("[]").rstrip(".").lower()
    # RFC 6761 6.3: names under localhost resolve to the loopback address.
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ip_address(name)
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def arrived_over_loopback(scope: Scope) -> bool:
    """Whether the server took this connection on the loopback interface, as a local proxy's."""
    server = scope.get("server")
    return server is not None and is_loopback(str(server[0]))


def is_proxied(scope: Scope) -> bool:
    """Whether a header says that a proxy has passed this request on.

    Without one nothing is certain: a proxy may add none, and a client any.
    """
    names = (bytes(name).lower() for name, _ in scope.get("headers", ()))
    return any(name in _PROXY_HEADERS or name.startswith(_PROXY_PREFIXES) for name in names)


def requested_host(scope: Scope) -> str | None:
    """The host of the Host header, in lower case and without its port.

    Empty where the header names none; None where there is no such header, which
    no browser leaves out.

    Source: RFC 9110, section 7.2.
    """
    value = header(scope, b"host")
    if value is None:
        return None
    try:
        return urlsplit(f"//{value}").hostname or ""
    except ValueError:  # such as half an IPv6 address
        return ""
