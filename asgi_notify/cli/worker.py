"""``asgi-notify worker``: a process that handles the messages of channels."""

import logging
import os
import signal

import anyio
import click
from anyio.abc import TaskStatus

from ..exceptions import ConfigurationError, InvalidName, LayerUnavailable
from ..layers import InMemoryChannelLayer, channel_layers, get_channel_layer
from ..worker import CONCURRENCY, SHUTDOWN_TIMEOUT, Worker
from .options import log_level_option
from .target import load_app

__all__ = ["worker"]

logger = logging.getLogger("asgi_notify.worker")


@click.command()
@click.argument("app", metavar="MODULE:APP")
@click.argument("channels", metavar="[CHANNEL]...", nargs=-1)
@click.option(
    "--layer",
    metavar="URL",
    help="Channel layer, one that processes share. [env: ASGI_NOTIFY_LAYER]",
)
@click.option(
    "--concurrency",
    default=CONCURRENCY,
    show_default=True,
    type=click.IntRange(1),
    help="How many messages of one channel are handled at once.",
)
@click.option(
    "--shutdown-timeout",
    default=SHUTDOWN_TIMEOUT,
    show_default=True,
    metavar="SECONDS",
    type=click.FloatRange(0),
    help="How long handlers may go on after SIGTERM or SIGINT; then they are cancelled.",
)
@click.option(
    "--at-most-once",
    is_flag=True,
    help="Lose a message with the process that handles it, rather than handle one twice.",
)
@log_level_option
def worker(
    app: str,
    channels: tuple[str, ...],
    layer: str | None,
    concurrency: int,
    shutdown_timeout: float,
    at_most_once: bool,
    log_level: str,
) -> None:
    """Handle the messages of each CHANNEL with MODULE:APP.

    Without a CHANNEL, those that the application routes. With the layer memory://
    run the worker inside the server instead: asgi-notify serve MODULE:APP --worker
    CHANNEL.
    """
    if layer is not None:
        os.environ["ASGI_NOTIFY_LAYER"] = layer
    try:
        runner = Worker(
            load_app(app),
            channels or None,
            concurrency=concurrency,
            shutdown_timeout=shutdown_timeout,
            at_most_once=at_most_once,
        )
        if isinstance(get_channel_layer(), InMemoryChannelLayer):
            raise ConfigurationError(_in_memory(app, runner.channels))
    except (ConfigurationError, InvalidName) as error:
        raise click.UsageError(str(error)) from error
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("asgi_notify").setLevel(log_level.upper())
    try:
        anyio.run(_work, runner)
    except LayerUnavailable as error:  # at the start; later, the worker waits
        raise click.ClickException(str(error)) from error


def _in_memory(app: str, channels: tuple[str, ...]) -> str:
    options = " ".join(f"--worker {channel}" for channel in channels)
    return (
        "the channel layer is in memory, so no other process can send this one a message. Run the "
        f"worker inside the server, `asgi-notify serve {app} {options}`, or name a layer that "
        "processes share with --layer"
    )


async def _work(runner: Worker) -> None:
    async with channel_layers.running(), anyio.create_task_group() as tasks:
        await tasks.start(_stop_on_signal, runner)
        await runner.run()
        tasks.cancel_scope.cancel()


async def _stop_on_signal(
    runner: Worker, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED
) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        async for number in signals:
            logger.info("told to stop by %s", signal.Signals(number).name)
            runner.stop()
