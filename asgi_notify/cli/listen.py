"""``asgi-notify listen``: print the notifications of a group as they come."""

import json
import sys
from collections.abc import Callable
from urllib.parse import urlsplit, urlunsplit

import anyio
import click

from ..client import Gap, Notification, ServerUnavailable, Status, connect
from ..exceptions import ConfigurationError, InvalidName, MissingExtra, NotifyError
from ..names import require_group_name

__all__ = ["listen"]

INTERRUPTED = 130  # 128 and the number of SIGINT, as shells have it

Write = Callable[[Notification], None]


@click.command()
@click.argument("url")
@click.argument("group")
@click.option("--since", metavar="POSITION", help="Begin behind the notification with this id.")
@click.option("--json", "as_json", is_flag=True, help="Print each as a JSON object in one line.")
@click.option("--count", metavar="N", type=click.IntRange(1), help="End after so many.")
def listen(url: str, group: str, since: str | None, as_json: bool, count: int | None) -> None:
    """Print the notifications of GROUP, such as user_42, as they come.

    Whenever the connection is lost it comes back by itself, and prints what was
    published meanwhile. Where something is missing, it says so on standard error.

    URL is where the server is, such as http://127.0.0.1:8000/.
    """
    write = _write_json if as_json else _write_data
    try:
        require_group_name(group)
        anyio.run(_listen, _notifications_url(url), group, since, count, write)
    except MissingExtra as error:
        raise click.ClickException(str(error)) from error
    except (InvalidName, ConfigurationError) as error:
        raise click.UsageError(str(error)) from error
    except ServerUnavailable as error:
        raise click.ClickException(
            f"{error}; start one with: asgi-notify serve, or give the address of another"
        ) from error
    except NotifyError as error:
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


async def _listen(url: str, group: str, since: str | None, count: int | None, write: Write) -> None:
    async with (
        connect(url, on_status=_Narrator()) as client,
        client.subscribe(group, since, on_gap=_tell_gap) as notifications,
    ):
        number = 0
        async for notification in notifications:
            write(notification)
            number += 1
            if number == count:
                return


class _Narrator:
    """Says on standard error when the connection is lost, and when it is back."""

    def __init__(self) -> None:
        self._is_lost = False

    def __call__(self, status: Status) -> None:
        if status.state == "waiting":
            self._is_lost = True
            click.echo(f"{status.reason}; again in {status.retry_in:.1f} s", err=True)
        elif status.state == "open" and self._is_lost:
            self._is_lost = False
            click.echo("connected again", err=True)


def _notifications_url(url: str) -> str:
    """Where the notifications are, of an address that may be the server's own."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return url  # connect() says what is wrong with it
    if "notifications" in parts.path.split("/"):
        return url
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/notifications/"))


def _tell_gap(gap: Gap) -> None:
    number = "some" if gap.lost is None else gap.lost
    click.echo(f"{gap.group}: {number} notifications are missing here ({gap.reason})", err=True)


def _write_data(notification: Notification) -> None:
    data = notification.data
    _write_line(data if isinstance(data, str) else json.dumps(data, ensure_ascii=False))


def _write_json(notification: Notification) -> None:
    _write_line(json.dumps(notification._asdict()))


def _write_line(line: str) -> None:
    # In one piece, so that one who is interrupted leaves no half of it. The bytes, so
    # that the terminal's own encoding cannot fail on them.
    sys.stdout.buffer.write(f"{line}\n".encode(errors="replace"))
    sys.stdout.flush()
