"""Options that several commands share."""

import click

from .address import DEFAULT_URL

__all__ = ["TOKEN_HINT", "key_option", "log_level_option", "token_option", "url_option"]

url_option = click.option(
    "--url",
    envvar="ASGI_NOTIFY_URL",
    show_envvar=True,
    default=DEFAULT_URL,
    show_default=True,
    help="Where the server is.",
)

key_option = click.option(
    "--key",
    envvar="ASGI_NOTIFY_PUBLISH_KEY",
    show_envvar=True,
    help="The publish key, if the server wants one.",
)

TOKEN_HINT = "give a user's token with --token, or in ASGI_NOTIFY_TOKEN"
"""For whoever the server asks who it is."""

token_option = click.option(
    "--token",
    envvar="ASGI_NOTIFY_TOKEN",
    show_envvar=True,
    help="A user's token, if the server wants one.",
)

log_level_option = click.option(
    "--log-level",
    default="info",
    show_default=True,
    type=click.Choice(["debug", "info", "warning", "error"]),
    help="What is logged.",
)
