"""``asgi-notify serve``: an application, and perhaps a worker, on uvicorn."""

import logging.config
import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import click
from click.core import ParameterSource

from ..auth.configured import verifier_of
from ..exceptions import ConfigurationError, InvalidName, MissingExtra
from ..hosts import is_loopback
from ..layers.registry import DEFAULT_CHANNEL_LAYER, channel_layers, layer_from_url
from ..layers.url_parts import split_url
from ..middleware.host import HostValidator
from ..middleware.origin import SameOriginValidator
from ..middleware.proxies import TrustedProxies
from ..routing.base import as_app
from ..settings import Settings
from ..types import ASGIApp
from ..with_worker import WithWorker
from .collecting import CollectsLess
from .draining import DrainsOnSignal
from .embedding import SCHEME, embedded_layer, ended_by_sigterm
from .listening import check_address, check_certificate, check_socket
from .logs import logging_config
from .options import log_level_option
from .target import DEFAULT_APP, load_app

__all__ = ["serve"]

# Seconds that open connections get to end once the server is told to stop.
SHUTDOWN_TIMEOUT = 10

# The settings of uvicorn for whatever is served: docs/deployment.md has the figures.
UVICORN: Mapping[str, Any] = {
    "loop": "auto",  # uvloop, where it is installed: not on Windows, not on PyPy
    "http": "asgi_notify.uvicorn:HttpProtocol",  # on httptools, where it is installed
    "ws": "asgi_notify.uvicorn:WebSocketProtocol",
    "ws_per_message_deflate": False,
    "ws_ping_interval": 20.0,  # seconds; many proxies give up what was silent for 60
    "ws_ping_timeout": 20.0,  # seconds
    "backlog": 2048,  # connections; all clients come back at once after a restart
    "timeout_graceful_shutdown": SHUTDOWN_TIMEOUT,
}

# Seconds in which a worker has to answer the main process, or another takes its place. uvicorn's
# own 5 are too few where several load a large application at once, on a machine that is busy:
# they would be replaced again and again, and never serve.
HEALTH_CHECK = 30

# Bytes of one frame; over it the socket is closed with 1009. To the default
# application clients say little; another one may have more to hear.
MAX_FRAME_SIZE = 64 * 1024

FILE = click.Path(exists=True, dir_okay=False)

# What the server's processes are to make of another application.
_APP, _CHANNELS = "ASGI_NOTIFY_SERVED_APP", "ASGI_NOTIFY_SERVED_CHANNELS"


@click.command()
@click.argument("app", metavar="[MODULE:APP]", default=DEFAULT_APP)
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
    help="Channel layer, such as valkey://127.0.0.1:6379, or embedded:///folder for a server that "
    "is started with this one and keeps its data there. [env: ASGI_NOTIFY_LAYER; default: "
    "memory://?history=user_* or, with several workers, embedded://?history=user_*]",
)
@click.option(
    "--allowed-origin",
    "origins",
    multiple=True,
    metavar="ORIGIN",
    help="A further origin whose pages may connect to the default application and publish, "
    "such as https://example.com; may be repeated. [env: ASGI_NOTIFY_ALLOWED_ORIGINS]",
)
@click.option(
    "--allowed-host",
    "hosts",
    multiple=True,
    metavar="HOST",
    help="A host name under which the default application is asked for, such as example.com "
    "or .example.com for its subdomains; may be repeated. On a loopback address without it, "
    "loopback names are served alone. [env: ASGI_NOTIFY_ALLOWED_HOSTS]",
)
@click.option(
    "--workers",
    default=1,
    show_default=True,
    type=click.IntRange(1),
    help="Number of processes. Several share a Valkey or Redis: the one that the layer names, "
    "else one of their own.",
)
@click.option(
    "--worker",
    "channels",
    multiple=True,
    metavar="CHANNEL",
    help="A channel whose messages are handled by a worker in the server's process; "
    "may be repeated.",
)
@click.option("--reload", is_flag=True, help="Start again whenever a Python file here changes.")
@click.option(
    "--uds",
    metavar="PATH",
    help="Listen on a Unix socket instead of a host and a port, for a proxy on this machine.",
)
@click.option("--ssl-certfile", type=FILE, help="The certificate, in PEM, to serve https with.")
@click.option("--ssl-keyfile", type=FILE, help="Its key, if it is in a file of its own.")
@click.option(
    "--proxy-headers/--no-proxy-headers",
    default=True,
    show_default=True,
    help="Whether X-Forwarded-For and X-Forwarded-Proto say who a client is, where the "
    "addresses in FORWARDED_ALLOW_IPS, 127.0.0.1 by default, send them.",
)
@log_level_option
@click.pass_context
def serve(
    context: click.Context,
    /,
    app: str,
    host: str,
    port: int,
    layer: str | None,
    origins: tuple[str, ...],
    hosts: tuple[str, ...],
    workers: int,
    channels: tuple[str, ...],
    reload: bool,
    uds: str | None,
    log_level: str,
    **options: Any,
) -> None:
    """Serve MODULE:APP, or the default application.

    The default one has a WebSocket for each room, publishing over HTTP, and a
    demo page. Publishers show the key in ASGI_NOTIFY_PUBLISH_KEY, if that is set.
    It has to be set for listening on anything but the loopback interface.
    Everybody may watch, unless keys for logins are set (asgi-notify token --help):
    then each user hears their own room alone.

    Who may do what with MODULE:APP is for that application to say: for it no
    key is asked for.
    """
    # Options become environment variables, which the workers' processes read.
    if layer is not None:
        os.environ["ASGI_NOTIFY_LAYER"] = layer
    if origins:
        os.environ["ASGI_NOTIFY_ALLOWED_ORIGINS"] = ",".join(origins)
    if hosts:
        os.environ["ASGI_NOTIFY_ALLOWED_HOSTS"] = ",".join(hosts)
    os.environ[_APP], os.environ[_CHANNELS] = app, ",".join(channels)
    is_default = app == DEFAULT_APP
    if is_default:
        options["ws_max_size"] = MAX_FRAME_SIZE
    with ExitStack() as stack:
        try:
            _check_together(context)
            check_certificate(options["ssl_certfile"], options["ssl_keyfile"])
            settings = Settings.of_process()
            _check(settings)
            if is_default:
                _check_open(settings, uds or host)
            if uds is None:
                check_address(host, port)
            else:
                check_socket(uds)
            config = _log_config(log_level, is_default)
            embed = partial(_embed, stack, config)
            if split_url(settings.layer).scheme == SCHEME:
                embed(settings.layer)
            make_served()  # here, where a mistake can still be explained
            if workers > 1:
                _share(workers, embed)
        except (ConfigurationError, InvalidName) as error:
            raise click.UsageError(str(error)) from error
        _run(
            host=host,
            port=port,
            uds=uds,
            workers=workers,
            reload=reload,
            log_level=log_level,
            log_config=config,
            **options,
        )


def make_served() -> ASGIApp:
    """The application that the command line has named, with all that it has asked for.

    Raises:
        ConfigurationError: it is no application, or does not route a channel.
    """
    name, channels = os.environ[_APP], os.environ[_CHANNELS]
    app = as_app(load_app(name), name)
    app = WithWorker(app, channels.split(",")) if channels else app
    return DrainsOnSignal(CollectsLess(app) if Settings.of_process().gc_tuning else app)


def _check(settings: Settings) -> None:
    """Raise what would else come up in a worker, or never."""
    if split_url(settings.layer).scheme != SCHEME:
        layer_from_url(settings.layer)
    SameOriginValidator(_nothing, settings.allowed_origins)
    HostValidator(_nothing, settings.allowed_hosts)
    TrustedProxies(_nothing, settings.trusted_proxies, header=settings.forwarded_header)
    verifier_of(settings)


def _embed(stack: ExitStack, log_config: dict[str, Any], url: str) -> None:
    """Start the engine that a URL asks for; its own URL is what all processes get for a layer."""
    logging.config.dictConfig(log_config)  # as the server will, which runs a moment later
    stack.enter_context(ended_by_sigterm())
    os.environ["ASGI_NOTIFY_LAYER"] = stack.enter_context(embedded_layer(url))


def _share(workers: int, embed: Callable[[str], None]) -> None:
    """Have several workers share what they send: by their layer, else by an engine of their own.

    Raises:
        ConfigurationError: a layer is named that lives in one process, or no engine starts.
    """
    layer = channel_layers.found(DEFAULT_CHANNEL_LAYER)  # which the application may have set
    if layer is not None and layer.is_shared:
        return
    named = os.environ.get("ASGI_NOTIFY_LAYER")
    if not named:
        embed(f"{SCHEME}://?{urlsplit(Settings.layer).query}")
    elif split_url(named).scheme == "memory":
        raise ConfigurationError(
            f"{workers} workers cannot share the layer memory://, which lives within one process, "
            "so a notification would reach only some of the browsers; name none, and they get a "
            f"Valkey or Redis of their own, with options as {SCHEME}://?capacity=500 has them; "
            "or name one that runs, such as valkey://127.0.0.1:6379; or use --workers 1"
        )


def _check_together(context: click.Context) -> None:
    """Refuse options of which one would be passed over."""
    given = {
        name
        for name in context.params
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE
    }
    for one, other in ("uds", "host"), ("uds", "port"), ("reload", "workers"):
        if {one, other} <= given:
            raise ConfigurationError(f"--{one} and --{other} do not go together: leave one away")


def _check_open(settings: Settings, place: str) -> None:
    """Look at what others may do who reach the server, and not only this machine's programs."""
    if is_loopback(place):
        return
    if settings.publish_key is None:
        raise ConfigurationError(
            f"listening on {place} lets others publish, which needs a key: set "
            "ASGI_NOTIFY_PUBLISH_KEY to a secret of your choice, or listen on 127.0.0.1"
        )
    if verifier_of(settings) is None:
        click.echo(
            f"Everybody who reaches {place} may watch every room, since no login is asked for: "
            "set ASGI_NOTIFY_TOKEN_KEYS, ASGI_NOTIFY_JWT_KEY or ASGI_NOTIFY_JWT_JWKS",
            err=True,
        )


async def _nothing(scope: Any, receive: Any, send: Any) -> None:
    """Stands for the application while its settings are checked."""


def _log_config(level: str, is_default: bool) -> dict[str, Any]:
    try:
        import uvicorn  # noqa: F401  # whose configuration this adds to
    except ImportError as error:
        raise click.ClickException(str(MissingExtra("serving", "server"))) from error
    return logging_config(level, is_default=is_default)


def _run(**options: Any) -> None:
    import uvicorn

    uvicorn.run(
        f"{__name__}:{make_served.__name__}",
        factory=True,
        timeout_worker_healthcheck=HEALTH_CHECK,
        **UVICORN,
        **options,
    )
