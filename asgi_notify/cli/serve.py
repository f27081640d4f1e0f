"""``asgi-notify serve``: the default application on uvicorn."""

import copy
import os
from typing import Any

import click

from ..exceptions import ConfigurationError, MissingExtra
from ..layers.registry import layer_from_url
from ..middleware.origin import SameOriginValidator
from ..publishing import is_loopback
from ..settings import Settings

__all__ = ["serve"]

# Seconds that open connections get to end once the server is told to stop.
SHUTDOWN_TIMEOUT = 10

# Bytes of one frame; over it the socket is closed with 1009. Clients say little here.
MAX_FRAME_SIZE = 64 * 1024


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    default=8000,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="Port to listen on; 0 takes a free one.",
)
@click.option(
    "--layer",
    metavar="URL",
    help="Channel layer, such as memory://?capacity=500. "
    "[env: ASGI_NOTIFY_LAYER; default: memory://]",
)
@click.option(
    "--allowed-origin",
    "origins",
    multiple=True,
    metavar="ORIGIN",
    help="A further origin whose pages may connect and publish, such as "
    "https://example.com; may be repeated. [env: ASGI_NOTIFY_ALLOWED_ORIGINS]",
)
@click.option(
    "--workers", default=1, show_default=True, type=click.IntRange(1), help="Number of processes."
)
@click.option(
    "--log-level",
    default="info",
    show_default=True,
    type=click.Choice(["debug", "info", "warning", "error"]),
    help="What is logged.",
)
def serve(
    host: str,
    port: int,
    layer: str | None,
    origins: tuple[str, ...],
    workers: int,
    log_level: str,
) -> None:
    """Serve the default application.

    That is a WebSocket for each room, publishing over HTTP, and a demo page.
    Publishers show the key in ASGI_NOTIFY_PUBLISH_KEY, if that is set. It has
    to be set for listening on anything but the loopback interface.
    """
    # Options become environment variables, which the workers' processes read.
    if layer is not None:
        os.environ["ASGI_NOTIFY_LAYER"] = layer
    if origins:
        os.environ["ASGI_NOTIFY_ALLOWED_ORIGINS"] = ",".join(origins)
    try:
        settings = Settings.from_environ(os.environ)
        _check(settings, host, workers)
    except ConfigurationError as error:
        raise click.UsageError(str(error)) from error
    _run(host=host, port=port, workers=workers, log_level=log_level)


def _check(settings: Settings, host: str, workers: int) -> None:
    """Raise what would else come up in a worker, or never."""
    layer_from_url(settings.layer)
    SameOriginValidator(_nothing, settings.allowed_origins)
    if workers > 1 and settings.layer.startswith("memory:"):
        raise ConfigurationError(
            f"{workers} workers cannot share the layer memory://, which lives within one process, "
            "so a notification would reach only some of the browsers; use --workers 1"
        )
    if settings.publish_key is None and not is_loopback(host):
        raise ConfigurationError(
            f"listening on {host} lets other machines publish, which needs a key: set "
            "ASGI_NOTIFY_PUBLISH_KEY to a secret of your choice, or listen on 127.0.0.1"
        )


async def _nothing(scope: Any, receive: Any, send: Any) -> None:
    """Stands for the application while its settings are checked."""


def _run(**options: Any) -> None:
    try:
        import uvicorn
    except ImportError as error:
        raise click.ClickException(str(MissingExtra("serving", "server"))) from error
    uvicorn.run(
        "asgi_notify.app:application",
        ws="websockets-sansio",
        ws_max_size=MAX_FRAME_SIZE,
        ws_per_message_deflate=False,
        timeout_graceful_shutdown=SHUTDOWN_TIMEOUT,
        log_config=_logging(options["log_level"]),
        **options,
    )


def _logging(level: str) -> dict[str, Any]:
    """The server's own logging, and this package's beside it."""
    from uvicorn.config import LOGGING_CONFIG

    config = copy.deepcopy(LOGGING_CONFIG)
    config["loggers"]["asgi_notify"] = {
        "handlers": ["default"], "level": level.upper(), "propagate": False,
    }  # fmt: skip
    return config
