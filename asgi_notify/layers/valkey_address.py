"""Where a Valkey or Redis server is, and how its URL says so."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import SplitResult, parse_qsl, unquote

from ..exceptions import InvalidChannelLayerError
from .url_parts import split_url

__all__ = ["OPTIONS", "SCHEMES", "Place", "ValkeyAddress", "read_url"]

PORT = 6379  # registered for Redis; Valkey listens there too

SCHEMES: Mapping[str, bool] = {"valkey": False, "redis": False, "valkeys": True, "rediss": True}
"""What a URL begins with, and whether that asks for TLS."""

OPTIONS = ("cluster", "prefix", "probe_interval", "timeout", "tls_ca")
"""What a URL's query may say of the server; the rest is the layer's."""

_TRUE = {"1": True, "true": True, "0": False, "false": False}


@dataclass(frozen=True)
class ValkeyAddress:
    """One server, or one cluster by some of its nodes.

    As text it is a URL without the password, for errors and logs.

    Args:
        nodes: host and port of each.
        username: whom to log in as, where the server knows several.
        password: what to log in with.
        database: the number; a cluster has 0 alone.
        is_cluster: whether the nodes are of a cluster.
        is_tls: whether to speak TLS.
        tls_ca: a file with the certificates, as PEM, that the server's is signed with;
            None: those that the machine trusts.
    """

    nodes: tuple[tuple[str, int], ...] = (("127.0.0.1", PORT),)
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    database: int = 0
    is_cluster: bool = False
    is_tls: bool = False
    tls_ca: str | None = None

    def __str__(self) -> str:
        scheme = "valkeys" if self.is_tls else "valkey"
        nodes = ",".join(_spelled(host, port) for host, port in self.nodes)
        return f"{scheme}://{nodes}/{self.database}"


class Place(NamedTuple):
    """What a URL says of servers."""

    addresses: tuple[ValkeyAddress, ...]
    """One, or several that know nothing of each other."""
    options: Mapping[str, str]
    """Those of `OPTIONS` that concern no address."""


def read_url(url: str, others: Collection[str] = ()) -> Place:
    """Read ``valkey://user:password@host:6379/0?cluster=1``, or one of the other `SCHEMES`.

    Several hosts, with commas between them, are servers that know nothing of each other;
    with ``cluster=1`` they are nodes of one cluster.

    Args:
        url: what to read.
        others: the options that are not of the server; they are passed over.

    Raises:
        InvalidChannelLayerError: it makes no sense. The sentence never has the password.
    """
    parts = _split(url)
    options: dict[str, str] = {}
    for name, text in parse_qsl(parts.query, keep_blank_values=True):
        if name in OPTIONS:
            options[name] = text
        elif name not in others:
            known = ", ".join(sorted({*OPTIONS, *others}))
            raise InvalidChannelLayerError(
                f"{parts.scheme}:// has no option {name!r}; there are {known}"
            )
    login, _, hosts = parts.netloc.rpartition("@")
    username, _, password = login.partition(":")
    cluster = options.pop("cluster", "0").lower()
    if cluster not in _TRUE:
        raise InvalidChannelLayerError(f"{cluster!r} is no value for cluster: use 1 or 0")
    is_cluster = _TRUE[cluster]
    database = _database(parts.path, is_cluster)
    tls_ca = options.pop("tls_ca", None)
    if tls_ca is not None and not SCHEMES[parts.scheme]:
        raise InvalidChannelLayerError("tls_ca is for a server with TLS: begin with valkeys://")
    nodes = tuple(_node(host) for host in hosts.split(","))
    if len(set(nodes)) < len(nodes):
        raise InvalidChannelLayerError(f"{hosts!r} names a server twice")
    return Place(
        tuple(
            ValkeyAddress(
                nodes=some,
                username=unquote(username) or None,
                password=unquote(password) or None,
                database=database,
                is_cluster=is_cluster,
                is_tls=SCHEMES[parts.scheme],
                tls_ca=tls_ca,
            )
            for some in ([nodes] if is_cluster else [(node,) for node in nodes])
        ),
        options,
    )


def _split(url: str) -> SplitResult:
    parts = split_url(url)
    if parts.scheme not in SCHEMES:
        known = ", ".join(f"{scheme}://" for scheme in SCHEMES)
        raise InvalidChannelLayerError(f"{parts.scheme}:// is none of {known}")
    return parts


def _database(path: str, is_cluster: bool) -> int:
    text = path.strip("/") or "0"
    if not (text.isascii() and text.isdigit()):
        raise InvalidChannelLayerError(f"{text!r} is no number of a database: use 0, 1, 2, ...")
    if is_cluster and int(text):
        raise InvalidChannelLayerError("a cluster has database 0 alone; leave the number out")
    return int(text)


def _node(text: str) -> tuple[str, int]:
    """Host and port of ``host``, ``host:6379`` or ``[::1]:6379``; nothing is the own machine."""
    host, colon, port = text.rpartition(":")
    if not colon or port.endswith("]"):
        host, port = text, ""
    host = host.removeprefix("[").removesuffix("]")
    if port and not (port.isascii() and port.isdigit() and 0 < int(port) < 65_536):
        raise InvalidChannelLayerError(f"{port!r} is no port: use 1 to 65535")
    return host or "127.0.0.1", int(port or PORT)


def _spelled(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
