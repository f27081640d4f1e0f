"""Where a server is, as it may be given on a command line, and what is wrong with an address."""

from urllib.parse import SplitResult, urlsplit, urlunsplit

import click

__all__ = ["DEFAULT_URL", "notifications_url", "server_url"]

DEFAULT_URL = "http://127.0.0.1:8000/"

# An address may have either scheme: that of the requests, or that of the sockets.
HTTP = {"http": "http", "https": "https", "ws": "http", "wss": "https"}

NOTIFICATIONS = "notifications"  # the segment of the path under which they are


def server_url(url: str) -> str:
    """The http address of a server, or of the application mounted in it, without a last slash.

    Args:
        url: that address, with either scheme, or the one of its notifications.

    Raises:
        click.UsageError: it is no address of a server.
    """
    parts = _split(url)
    if parts.query or parts.fragment:
        extra = url[len(url.partition("?")[0].partition("#")[0]) :]
        raise click.UsageError(f"{url!r} goes on after its path: leave {extra!r} away")
    if "@" in parts.netloc:
        raise click.UsageError(
            f"the address of {parts.hostname} has a user in it: leave away what stands before "
            "the '@'; a publish key is given with --key"
        )
    segments = parts.path.rstrip("/").split("/")
    if NOTIFICATIONS in segments:
        segments = segments[: segments.index(NOTIFICATIONS)]
    return f"{HTTP[parts.scheme]}://{parts.netloc}{'/'.join(segments)}"


def notifications_url(url: str) -> str:
    """The address of a server's notifications, where that of the server may have been given.

    Raises:
        click.UsageError: it is no address of a server.
    """
    parts = _split(url)
    if NOTIFICATIONS in parts.path.split("/"):
        return url
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{NOTIFICATIONS}/"))


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
    except ValueError as error:  # such as an IPv6 address without its bracket
        raise _no_address(url) from error
    if parts.scheme not in HTTP or not parts.hostname:
        raise _no_address(url)
    try:
        has_port = parts.port != 0
    except ValueError:
        has_port = False
    if not has_port:
        raise click.UsageError(f"the port of {url!r} is not a number from 1 to 65535")
    return parts


def _no_address(url: str) -> click.UsageError:
    return click.UsageError(f"{url!r} is no address of a server; give http://HOST:PORT/")
