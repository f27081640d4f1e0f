"""``asgi-notify send``: one notification, through the HTTP door of a running server."""

import click

from .door import Door
from .options import key_option

__all__ = ["send"]


@click.command()
@click.argument("room", type=click.IntRange(0))
@click.argument("text")
@click.option(
    "--url", default="http://127.0.0.1:8000/", show_default=True, help="Where the server is."
)
@key_option
def send(room: int, text: str, url: str, key: str | None) -> None:
    """Send TEXT to all browsers that watch ROOM."""  # fmt: skip
    reached = Door(url, key).publish(room, text)
    click.echo(f"room {room}: reached {reached} connection{'' if reached == 1 else 's'}")
