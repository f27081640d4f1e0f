"""Where a running server is, and how a notification is posted to it."""

import json
from http.client import HTTPException
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import OpenerDirector, ProxyHandler, Request, build_opener

import click

from ..hosts import is_loopback

__all__ = ["Door", "is_local"]

TIMEOUT = 10  # seconds

# An address may have either scheme: that of the requests, or that of the sockets.
HTTP = {"http": "http", "https": "https", "ws": "http", "wss": "https"}


class Door:
    """The HTTP door of one server, through which notifications go in.

    Args:
        url: where the server is, or where in it the application is mounted.
        key: the publish key, or None.

    Raises:
        click.UsageError: the address is none of a server.
    """

    def __init__(self, url: str, key: str | None = None) -> None:
        if not _is_address(url):
            raise click.UsageError(f"{url!r} is no address of a server; give http://HOST:PORT/")
        scheme, _, rest = url.rstrip("/").partition("://")
        self.url = f"{HTTP[scheme.lower()]}://{rest}"
        self.key = key
        self._opener = _opener(self.url)

    def room(self, room: int) -> str:
        """The address of a room."""
        return f"{self.url}/notifications/{room}/"

    def socket(self, room: int) -> str:
        """The address of a room's WebSocket."""
        return "ws" + self.room(room).removeprefix("http")

    def publish(self, room: int, data: object) -> int:
        """Publish to all that watch a room; returns how many connections took it.

        Raises:
            click.ClickException: there is no such server, or it refuses.
        """
        headers = {"content-type": "application/json"}
        if self.key:
            # Headers are written in Latin-1; the server compares the key's bytes in UTF-8.
            headers["authorization"] = f"Bearer {self.key}".encode().decode("latin-1")
        body = json.dumps({"data": data}).encode()
        return _post(self._opener, Request(self.room(room), body, headers, method="POST"))


def is_local(url: str) -> bool:
    """Whether an address is one of this machine, to which no proxy leads."""
    return is_loopback(urlsplit(url).hostname or "")


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in HTTP and bool(parts.hostname)
    except ValueError:  # such as an IPv6 address without its bracket
        return False


def _post(opener: OpenerDirector, request: Request) -> int:
    try:
        with opener.open(request, timeout=TIMEOUT) as answer:
            reached: int = json.load(answer)["reached"]
            return reached
    except HTTPError as error:
        raise click.ClickException(
            f"the server answered {error.code}: {_sentence(error)}"
        ) from error
    except (URLError, OSError) as error:
        reason = getattr(error, "reason", error)
        raise click.ClickException(
            f"no server at {request.full_url} ({reason}); start one with: asgi-notify serve, "
            "or give the address of another"
        ) from error
    except (HTTPException, ValueError, KeyError, TypeError) as error:
        raise click.ClickException(
            f"what answers at {request.full_url} is no notification server"
        ) from error


def _opener(url: str) -> OpenerDirector:
    # A proxy for the internet does not lead back to this machine.
    return build_opener(ProxyHandler({})) if is_local(url) else build_opener()


def _sentence(error: HTTPError) -> str:
    try:
        return str(json.load(error)["error"])
    except (ValueError, KeyError, TypeError):
        return error.reason
