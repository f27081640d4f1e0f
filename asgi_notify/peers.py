"""Who a connection comes from, as far as clients are told apart by their addresses."""

import re
from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TypeAlias

from .types import Scope

__all__ = [
    "UNKNOWN",
    "Network",
    "address_in",
    "forwarded_for",
    "is_in",
    "networks_of",
    "peer_name",
]

Network: TypeAlias = IPv4Network | IPv6Network

_SITE = 64  # bits of an IPv6 address; RFC 6177: the least that somebody is given

UNKNOWN = "an unknown address"
"""The name of whoever has none."""


def networks_of(texts: Iterable[str]) -> tuple[Network, ...]:
    """Networks and addresses, as they are written down.

    Raises:
        ValueError: one of them is none.
    """
    return tuple(ip_network(text) for text in texts)


def is_in(networks: Iterable[Network], host: str) -> bool:
    """Whether an address is in one of the networks; what is no address is in none."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return False
    address = getattr(address, "ipv4_mapped", None) or address
    return any(address in network for network in networks)


def peer_name(host: str) -> str:
    """By what a client is told from others: its IPv4 address, or its network of IPv6.

    Whoever stands behind what is no address shares one name, so that no text that a client
    has chosen is taken for one.
    """
    try:
        address = ip_address(host.partition("%")[0])  # RFC 4007: fe80::1%eth0
    except ValueError:
        return UNKNOWN
    mapped = getattr(address, "ipv4_mapped", None)
    if mapped is not None:
        return str(mapped)
    if isinstance(address, IPv6Address):
        return str(ip_network((int(address) >> _SITE << _SITE, _SITE)))
    return str(address)


def forwarded_for(scope: Scope, name: str) -> list[str]:
    """Whom the proxies say that they have forwarded for, in the order of the hops.

    What is malformed says nothing: no entry of the whole header is returned then.

    Args:
        scope: of the request.
        name: of the header, which is ``forwarded`` or one of the form of ``x-forwarded-for``.

    Source: RFC 7239, section 4; ``X-Forwarded-For`` has none.
    """
    lines = [value for key, value in scope.get("headers", ()) if key.lower() == name.encode()]
    text = b",".join(lines).decode("latin-1")
    if name != "forwarded":
        return [entry.strip() for entry in text.split(",")] if text else []
    return _elements(text)


def address_in(entry: str) -> tuple[str, int] | None:
    """The address and the port, or 0, in an entry of such a header; None where there is none."""
    found = _NODE.fullmatch(entry)
    if found is None:
        return None
    host = found["v6"] or found["v4"] or entry
    try:
        address = ip_address(host)
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    port = int(found["port"] or 0)
    return (str(mapped or address), port) if port < 2**16 else None


# Beside a bare address of IPv6: RFC 7239, section 6, of which names such as "unknown" are none.
_NODE = re.compile(
    r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<v4>[0-9.]+))(?::(?P<port>[0-9]{1,5}))?|[0-9A-Fa-f:.]+"
)

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # RFC 9110, section 5.6.2
_QUOTED = r'"(?:[^"\\]|\\.)*"'
_PAIR = re.compile(rf"[ \t]*(?P<key>{_TOKEN})=(?P<value>{_TOKEN}|{_QUOTED})[ \t]*(?P<end>[;,]|$)")


def _elements(text: str) -> list[str]:
    """What each element of a Forwarded header has for ``for``; an empty text where it has none."""
    found, place, value = [], 0, ""
    while place < len(text):
        pair = _PAIR.match(text, place)
        if pair is None:
            return []
        place = pair.end()
        if pair["key"].lower() == "for":
            value = re.sub(r"\\(.)", r"\1", pair["value"].strip('"'))
        if pair["end"] != ";":
            found.append(value)
            value = ""
    return found
