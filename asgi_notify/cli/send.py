"""``asgi-notify send``: one notification, through the HTTP API of a running server."""

import json
import re
import sys

import click

from .options import key_option, url_option
from .publisher import CommandPublisher

__all__ = ["send"]

_GROUP = re.compile(r"user_(0|[1-9][0-9]*)")


@click.command()
@click.argument("room", metavar="ROOM")
@click.argument("text")
@click.option("--json", "is_json", is_flag=True, help="TEXT is JSON; send what it stands for.")
@url_option
@key_option
def send(room: str, text: str, is_json: bool, url: str, key: str | None) -> None:
    """Send TEXT to all browsers that watch ROOM.

    ROOM is a number, such as 42, or its group, user_42. With - for TEXT, the text
    is read from standard input, without the line break at its end.
    """
    number = _room(room)
    data = _read(text)
    reached = CommandPublisher(url, key).publish(number, _parse(data) if is_json else data)
    name = room if room.startswith("user_") else f"room {number}"
    click.echo(f"{name}: reached {reached} connection{'' if reached == 1 else 's'}")


def _room(text: str) -> int:
    group = _GROUP.fullmatch(text)
    number = group[1] if group is not None else text
    try:
        if number.isascii() and number.isdigit():
            return int(number)
    except ValueError:  # thousands of digits
        pass
    raise click.UsageError(
        f"{text[:100]!r} is no room: give a number, such as 42, or the group of one, user_42"
    )


def _read(text: str) -> str:
    if text != "-":
        return text
    try:
        given = sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as error:
        raise click.UsageError(f"standard input is no text in UTF-8: {error}") from error
    return given.removesuffix("\n").removesuffix("\r")


def _parse(text: str) -> object:
    try:
        content: object = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise click.UsageError(
            f"the text is no JSON ({error}); without --json it is sent as it stands"
        ) from error
    return content


def _refuse(constant: str) -> object:
    raise ValueError(f"{constant} is no value of JSON")
