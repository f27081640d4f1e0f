"""``asgi-notify token``: a token of a user, to try at once what a login will do later."""

import click

from ..auth.configured import signed_token
from ..auth.signed import MAX_AGE
from ..exceptions import ConfigurationError
from ..settings import Settings

__all__ = ["token"]


@click.command()
@click.argument("user", metavar="USER")
@click.option(
    "--max-age",
    default=MAX_AGE,
    show_default=True,
    type=click.FloatRange(0, min_open=True),
    help="Seconds until it expires.",
)
def token(user: str, max_age: float) -> None:
    """Print a token of USER, such as 42.

    It is signed with the first key in ASGI_NOTIFY_TOKEN_KEYS, or the secret in
    ASGI_NOTIFY_JWT_KEY: whoever has it is that user, until it expires. A program shows it in
    the header 'Authorization: Bearer ...'.
    """
    try:
        click.echo(signed_token(Settings.of_process(), user, max_age))
    except ConfigurationError as error:
        raise click.UsageError(str(error)) from error
