"""Options that several commands share."""

import click

__all__ = ["key_option", "log_level_option"]

key_option = click.option(
    "--key",
    envvar="ASGI_NOTIFY_PUBLISH_KEY",
    show_envvar=True,
    help="The publish key, if the server wants one.",
)

log_level_option = click.option(
    "--log-level",
    default="info",
    show_default=True,
    type=click.Choice(["debug", "info", "warning", "error"]),
    help="What is logged.",
)
