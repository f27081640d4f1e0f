"""``asgi-notify listen``: print the notifications of a group as they come."""

import json
import sys
from collections.abc import Callable, Mapping

import anyio
import click
from click.core import ParameterSource

from ..client import Gap, Notification, ServerUnavailable, Status, connect
from ..exceptions import ConfigurationError, InvalidName, MissingExtra, NotifyError, Unauthorized
from ..names import require_group_name
from .address import notifications_url
from .options import TOKEN_HINT, token_option, url_option

__all__ = ["listen"]

INTERRUPTED = 130  # 128 and the number of SIGINT, as shells have it

Write = Callable[[Notification], None]


@click.command()
@click.argument("target", nargs=-1, metavar="[URL] GROUP")
@url_option
@token_option
@click.option("--since", metavar="POSITION", help="Begin behind the notification with this id.")
@click.option("--json", "as_json", is_flag=True, help="Print each as a JSON object in one line.")
@click.option("--count", metavar="N", type=click.IntRange(1), help="End after so many.")
@click.pass_context
def listen(
    context: click.Context,
    target: tuple[str, ...],
    url: str,
    token: str | None,
    since: str | None,
    as_json: bool,
    count: int | None,
) -> None:
    """Print the notifications of GROUP, such as user_42, as they come.

    Whenever the connection is lost it comes back by itself, and prints what was
    published meanwhile. Where something is missing, it says so on standard error.

    URL is where the server is, such as http://127.0.0.1:8000/; it may be given by
    --url, too.
    """
    url, group = _place(context, target, url)
    write = _write_json if as_json else _write_data
    try:
        require_group_name(group)
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        anyio.run(_listen, notifications_url(url), headers, group, since, count, write)
    except MissingExtra as error:
        raise click.ClickException(str(error)) from error
    except (InvalidName, ConfigurationError) as error:
        raise click.UsageError(str(error)) from error
    except ServerUnavailable as error:
        raise click.ClickException(
            f"{error}; start one with: asgi-notify serve, or give the address of another"
        ) from error
    except Unauthorized as error:
        raise click.ClickException(f"{error}\n{TOKEN_HINT}") from error
    except NotifyError as error:
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _place(context: click.Context, target: tuple[str, ...], url: str) -> tuple[str, str]:
    """The address and the group, of which the first may be left to --url."""
    match target:
        case [one] if "://" in one:
            raise click.UsageError(f"name the group behind the address, as in: {one} user_42")
        case [group]:
            return url, group
        case [address, group]:
            if context.get_parameter_source("url") is ParameterSource.COMMANDLINE:
                raise click.UsageError("the address is given twice: leave --url away")
            return address, group
        case _:
            raise click.UsageError("give a group, such as user_42, and before it a URL or none")


async def _listen(
    url: str,
    headers: Mapping[str, str],
    group: str,
    since: str | None,
    count: int | None,
    write: Write,
) -> None:
    async with (
        connect(url, headers=headers, on_status=_Narrator()) as client,
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
