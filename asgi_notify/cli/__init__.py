"""The command ``asgi-notify``, and what it says where its packages are missing."""

import sys

from ..exceptions import MissingExtra

__all__ = ["main"]


def main() -> None:
    """Run the command line."""
    try:
        from .commands import command
    except ImportError as error:
        if error.name != "click":
            raise
        sys.exit(f"Error: {MissingExtra('the command line', 'server')}")
    command(prog_name="asgi-notify")
