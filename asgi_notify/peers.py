"""Who a connection comes from, as far as clients are told apart by their addresses."""

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TypeAlias

__all__ = ["UNKNOWN", "Network", "is_in", "networks_of", "peer_name"]

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
