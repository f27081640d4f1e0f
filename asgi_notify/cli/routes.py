"""``asgi-notify routes``: what an application serves where."""

import importlib
import sys
from pathlib import Path

import click

from ..routing import Row, walk
from ..routing.base import find_router

__all__ = ["routes"]

HEADINGS = ("TYPE", "ROUTE", "APP", "NAME")


@click.command()
@click.argument("app", metavar="MODULE:APP", default="asgi_notify.app:application")
def routes(app: str) -> None:
    """Show what MODULE:APP serves where.

    It is made of this package's routers. Without it, shows the default application.
    """
    found = _load(app)
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


def _load(name: str) -> object:
    module, colon, attribute = name.partition(":")
    if not module or not colon or not attribute:
        raise click.UsageError(
            f"{name!r} is no MODULE:APP; an example is myproject.asgi:application"
        )
    sys.path.insert(0, str(Path.cwd()))
    try:
        found: object = importlib.import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except Exception as error:
        raise click.ClickException(
            f"{name} cannot be loaded: {type(error).__name__}: {error}"
        ) from error
    return found


def _cells(row: Row) -> tuple[str, str, str, str]:
    route = row.route if row.protocol == "channel" else f"/{row.route}"
    return row.protocol or "any", route, _describe(row.app), row.name or ""


def _describe(app: object) -> str:
    named = app if hasattr(app, "__qualname__") else type(app)
    return f"{named.__module__}.{named.__qualname__}"
