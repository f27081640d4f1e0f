"""The command group, with the options that all commands share."""

import click

from .bench import bench
from .listen import listen
from .routes import routes
from .send import send
from .serve import serve
from .token import token
from .worker import worker

__all__ = ["command"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, invoke_without_command=True)
@click.version_option(package_name="asgi-notify", prog_name="asgi-notify")
@click.pass_context
def command(context: click.Context) -> None:
    """Bring notifications to browsers.

    Without a command, serves the default application.
    """
    if context.invoked_subcommand is None:
        context.invoke(serve)


command.add_command(serve)
command.add_command(send)
command.add_command(token)
command.add_command(routes)
command.add_command(worker)
command.add_command(listen)
command.add_command(bench)
