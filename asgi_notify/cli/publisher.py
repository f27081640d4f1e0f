"""How a command publishes to a running server, and what it says when it cannot."""

from urllib.parse import urlsplit

import click

from ..client.publisher import Publisher
from ..exceptions import NotifyError, Unauthorized
from ..hosts import is_loopback
from .address import server_url

__all__ = ["CommandPublisher", "is_local"]

# What the server says of keys is for those who write requests; these have an option.
KEY_MISSING = (
    "the server wants a publish key: give it with --key KEY, or in ASGI_NOTIFY_PUBLISH_KEY"
)
KEY_WRONG = (
    "the server does not take this publish key: --key KEY, or ASGI_NOTIFY_PUBLISH_KEY, has to "
    "be the one that is set where the server runs"
)


class CommandPublisher:
    """One server, through whose HTTP API the commands publish.

    Args:
        url: where the server is, or where in it the application is mounted.
        key: the publish key, or None.

    Raises:
        click.UsageError: the address is none of a server.
    """

    def __init__(self, url: str, key: str | None = None) -> None:
        self.url = server_url(url)
        self._publisher = Publisher(self.url, key)

    def room(self, room: int) -> str:
        """The address of a room."""
        return self._publisher.room(room)

    def socket(self, room: int) -> str:
        """The address of a room's WebSocket."""
        return "ws" + self.room(room).removeprefix("http")

    def publish(self, room: int, data: object) -> int:
        """Publish to all that watch a room; returns how many connections took it.

        Raises:
            click.ClickException: there is no such server, or it refuses.
        """
        try:
            return self._publisher.publish(room, data).reached
        except Unauthorized as error:
            raise click.ClickException(KEY_WRONG if self._publisher.key else KEY_MISSING) from error
        except NotifyError as error:
            raise click.ClickException(str(error)) from error


def is_local(url: str) -> bool:
    """Whether an address is one of this machine, to which no proxy leads."""
    return is_loopback(urlsplit(url).hostname or "")
