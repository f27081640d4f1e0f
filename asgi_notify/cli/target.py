"""What MODULE:APP names on a command line."""

import importlib
import sys
from pathlib import Path

import click

__all__ = ["DEFAULT_APP", "load_app"]

DEFAULT_APP = "asgi_notify.app:application"


def load_app(name: str) -> object:
    """Import what MODULE:APP names; modules of the current directory are found first.

    Raises:
        click.UsageError: the name has another form.
        click.ClickException: the import fails, or there is no such attribute.
    """
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
