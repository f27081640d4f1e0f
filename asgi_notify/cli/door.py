"""Where a running server is, and how a notification is posted to it."""

import json
from http import HTTPStatus
from http.client import HTTPException
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import OpenerDirector, ProxyHandler, Request, build_opener

import click

from ..hosts import is_loopback
from .address import server_url

__all__ = ["Door", "is_local"]

TIMEOUT = 10  # seconds

# What the server says of keys is for those who write requests; these have an option.
KEY_MISSING = (
    "the server wants a publish key: give it with --key KEY, or in ASGI_NOTIFY_PUBLISH_KEY"
)
KEY_WRONG = (
    "the server does not take this publish key: --key KEY, or ASGI_NOTIFY_PUBLISH_KEY, has to "
    "be the one that is set where the server runs"
)


class Door:
    """The HTTP door of one server, through which notifications go in.

    Args:
        url: where the server is, or where in it the application is mounted.
        key: the publish key, or None.

    Raises:
        click.UsageError: the address is none of a server.
    """

    def __init__(self, url: str, key: str | None = None) -> None:
        self.url = server_url(url)
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
        return self._post(Request(self.room(room), body, headers, method="POST"))

    def _post(self, request: Request) -> int:
        try:
            with self._opener.open(request, timeout=TIMEOUT) as answer:
                reached: int = json.load(answer)["reached"]
                return reached
        except HTTPError as error:
            raise click.ClickException(self._explain(error)) from error
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

    def _explain(self, error: HTTPError) -> str:
        sentence = _sentence(error)
        if sentence is not None and error.code == HTTPStatus.UNAUTHORIZED:
            return KEY_WRONG if self.key else KEY_MISSING
        return f"the server answered {error.code}: {sentence or error.reason}"


def is_local(url: str) -> bool:
    """Whether an address is one of this machine, to which no proxy leads."""
    return is_loopback(urlsplit(url).hostname or "")


def _opener(url: str) -> OpenerDirector:
    # A proxy for the internet does not lead back to this machine.
    return build_opener(ProxyHandler({})) if is_local(url) else build_opener()


def _sentence(error: HTTPError) -> str | None:
    """What a server of ours says of it; another one says nothing that could be read here."""
    try:
        return str(json.load(error)["error"])
    except (ValueError, KeyError, TypeError):
        return None
