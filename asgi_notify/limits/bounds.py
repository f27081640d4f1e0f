"""The limits of what clients may do to one process: defaults, units, and names."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from ipaddress import ip_network
from math import inf, isfinite
from typing import Any, Self

from ..exceptions import ConfigurationError

__all__ = ["PREFIX", "Limits"]

PREFIX = "ASGI_NOTIFY_LIMIT_"
"""Of the variable for a limit: ``ASGI_NOTIFY_LIMIT_CONNECTIONS`` is that for ``connections``."""


@dataclass(frozen=True)
class Limits:
    """How much clients may do to one process; None is no limit.

    An address is one of IPv4, or a network of 64 bits of IPv6, since whoever has one address
    in such a network usually has all of them. A rate may be exceeded for a while: what was not
    used in the last ``burst`` seconds is saved.

    Attributes:
        connections: WebSockets and HTTP requests under way at once, in all. An idle
            WebSocket takes some 35 kB.
        connections_per_address: the same of one address.
        requests_per_address: HTTP requests under way at once of one address: streams, polls
            and posts.
        connections_per_user: WebSockets and requests at once of one user, where one is known.
        connects_per_second: WebSockets and requests that one address may begin.
        groups_per_address: subscriptions at once, over all connections of one address.
        groups_per_user: the same, over all connections of one user.
        frames_per_second: messages that the client of one WebSocket may send.
        bytes_per_second: bytes of such messages.
        replays_per_second: messages of histories that the client of one connection may ask for.
        replays_per_address: the same a second, over all connections of one address.
        bodies: request bodies that have not come in whole, at once, in all; a body that is too
            large is refused, so that this bounds the memory that they take.
        bodies_per_address: the same of one address.
        body_timeout: seconds in which a request's body has to be there.
        head_timeout: seconds in which a connection has to send a whole request head, and those
            of each further one; where `asgi_notify.uvicorn` serves.
        half_open: connections that have not sent a whole one yet, at once, in all; one more ends
            the one that has waited longest. Where `asgi_notify.uvicorn` serves.
        burst: seconds of each rate that may be used up at once.
        exempt: networks and addresses whose number of connections and connects is not counted
            by address. Those of this machine alone come from its own programs, or from a proxy
            that hides its clients.
    """

    connections: int | None = 20_000
    connections_per_address: int | None = 1_000
    requests_per_address: int | None = 500
    connections_per_user: int | None = 100
    connects_per_second: float | None = 100.0
    groups_per_address: int | None = 10_000
    groups_per_user: int | None = 2_000
    frames_per_second: float | None = 50.0
    bytes_per_second: float | None = 64 * 1024.0
    replays_per_second: float | None = 1_000.0
    replays_per_address: float | None = 10_000.0
    bodies: int | None = 256
    bodies_per_address: int | None = 64
    body_timeout: float | None = 30.0
    head_timeout: float | None = 10.0
    half_open: int | None = 1_000
    burst: float = 10.0
    exempt: tuple[str, ...] = ("127.0.0.0/8", "::1/128")

    def __post_init__(self) -> None:
        """Check each.

        Raises:
            ConfigurationError: a limit is not above 0, or a network is none.
        """
        for name, value in vars(self).items():
            if name == "exempt":
                _require_networks(value)
            elif not _is_limit(value, name):
                raise ConfigurationError(
                    f"{name} is a number above 0, or None for no limit, not {value!r}"
                )

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Self:
        """Those that the environment names; ``none`` is no limit, an empty one the default.

        Raises:
            ConfigurationError: a variable holds no number above 0, or is no limit's.
        """
        found: dict[str, Any] = {}
        for field in fields(cls):
            name = PREFIX + field.name.upper()
            if text := environ.get(name):
                found[field.name] = _read(name, text, field.default)
        unknown = [name for name in environ if name.startswith(PREFIX)]
        unknown = [name for name in unknown if name.removeprefix(PREFIX).lower() not in _NAMES]
        if unknown:
            raise ConfigurationError(
                f"{min(unknown)} is no limit; there are "
                + ", ".join(PREFIX + name.upper() for name in sorted(_NAMES))
            )
        return cls(**found)


_NAMES = frozenset(field.name for field in fields(Limits))


def _is_limit(value: object, name: str) -> bool:
    if value is None:
        return name != "burst"
    is_count = isinstance(value, int) and not isinstance(value, bool)
    is_whole = isinstance(getattr(Limits, name), int)
    is_number = is_count or (not is_whole and isinstance(value, float) and isfinite(value))
    return is_number and 0 < value < inf  # type: ignore[operator]  # it is a number


def _read(name: str, text: str, default: object) -> object:
    if isinstance(default, tuple):
        networks = tuple(part.strip() for part in text.split(",") if part.strip())
        return () if networks == ("none",) else networks
    if text == "none" and name != f"{PREFIX}BURST":
        return None
    is_whole = isinstance(default, int)
    try:
        if not text.isascii() or text != text.strip() or "_" in text:
            raise ValueError
        value = int(text) if is_whole else float(text)
        if not 0 < value < inf:
            raise ValueError
    except ValueError:
        kind = "a whole number of at least 1" if is_whole else "a number above 0"
        raise ConfigurationError(
            f"{name} is {kind}, or 'none' for no limit, not {text!r}"
        ) from None
    return value


def _require_networks(networks: object) -> None:
    if not isinstance(networks, tuple):
        raise ConfigurationError(f"exempt is a tuple of networks, such as (), not {networks!r}")
    for network in networks:
        try:
            ip_network(network)
        except ValueError as error:
            raise ConfigurationError(
                f"exempt holds {network!r}, which is no network such as '10.0.0.0/8': {error}"
            ) from error
