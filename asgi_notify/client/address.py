"""Where a server is, in the words of either scheme."""

from urllib.parse import urlsplit, urlunsplit

from ..exceptions import ConfigurationError

__all__ = ["websocket_url"]

_SCHEMES = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}


def websocket_url(url: str) -> str:
    """The address of a WebSocket, where that of a page may have been given.

    Raises:
        ConfigurationError: it is none of either.
    """
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in _SCHEMES and bool(parts.hostname) and parts.port != 0
    except ValueError as error:  # such as a port that is no number
        raise _unusable(url) from error
    if not is_address:
        raise _unusable(url)
    return urlunsplit((_SCHEMES[parts.scheme], parts.netloc, parts.path or "/", parts.query, ""))


def _unusable(url: str) -> ConfigurationError:
    return ConfigurationError(
        f"{url!r} is no address of a server; give such as ws://HOST:PORT/notifications/"
    )
