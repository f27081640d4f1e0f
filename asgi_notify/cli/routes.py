"""``asgi-notify routes``: what an application serves where."""

import click

from ..routing.base import Row, find_router, walk
from .target import DEFAULT_APP, load_app

__all__ = ["routes"]

HEADINGS = ("TYPE", "ROUTE", "APP", "NAME")


@click.command()
@click.argument("app", metavar="[MODULE:APP]", default=DEFAULT_APP)
def routes(app: str) -> None:
    """Show what MODULE:APP serves where.

    It is made of this package's routers. Without MODULE:APP, shows the default application.
    """
    found = load_app(app)
    if find_router(found) is None:
        raise click.ClickException(
            f"{app} is no router of this package, so its routes are not known; "
            "name a ProtocolTypeRouter, a URLRouter or a middleware around one"
        )
    rows = [HEADINGS, *map(_cells, walk(found))]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo("  ".join(cells).rstrip())


def _cells(row: Row) -> tuple[str, str, str, str]:
    route = row.route if row.protocol == "channel" else f"/{row.route}"
    return row.protocol or "any", route, _describe(row.app), row.name or ""


def _describe(app: object) -> str:
    named = app if hasattr(app, "__qualname__") else type(app)
    return f"{named.__module__}.{named.__qualname__}"
