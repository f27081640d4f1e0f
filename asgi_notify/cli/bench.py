"""``asgi-notify bench``: how fast, and how surely, a running server delivers."""

import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import click

from ..exceptions import MissingExtra
from .measure import MIN_SIZE, Measurement, Report, latencies_ms
from .options import key_option
from .publisher import CommandPublisher

if TYPE_CHECKING:
    from .load import Clients

__all__ = ["bench"]

# Far above the numbers that users have, so that none of them sees what is sent here.
FIRST_ROOM = 900_000_000

LOOK = 0.02  # seconds between two looks at what has arrived


@dataclass(frozen=True)
class Plan:
    """What a run does; ``rate`` in messages per second, 0 for no limit; ``wait`` in seconds."""

    clients: int
    rooms: int
    first_room: int
    messages: int
    rate: float
    size: int
    wait: float


@click.command()
@click.argument("url")
@click.option(
    "--clients",
    default=100,
    show_default=True,
    type=click.IntRange(1),
    help="How many WebSockets to open.",
)
@click.option(
    "--rooms",
    default=1,
    show_default=True,
    type=click.IntRange(1),
    help="Over how many rooms to spread them.",
)
@click.option(
    "--first-room",
    default=FIRST_ROOM,
    show_default=True,
    type=click.IntRange(0),
    help="The first of these rooms; the others follow it.",
)
@click.option(
    "--messages",
    default=100,
    show_default=True,
    type=click.IntRange(1),
    help="How many to publish, to the rooms in turn.",
)
@click.option(
    "--rate",
    default=0.0,
    type=click.FloatRange(0),
    help="How many to publish in a second; 0, the default, is as fast as the server answers.",
)
@click.option(
    "--size",
    default=128,
    show_default=True,
    type=click.IntRange(MIN_SIZE),
    help="Bytes of a message.",
)
@click.option(
    "--wait",
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    type=click.FloatRange(0),
    help="How long nothing may arrive before what is missing counts as lost.",
)
@key_option
@click.option("--json", "as_json", is_flag=True, help="Print the figures as a JSON object.")
def bench(url: str, key: str | None, as_json: bool, **options: int | float) -> None:
    """Measure the notification server at URL.

    Opens WebSockets to it, publishes to them over HTTP, and prints how many
    notifications arrived, in what time, and how many were lost. Exits with 1 if
    any was.

    URL is such as http://127.0.0.1:8000/, with the path under which the
    application is mounted, if any.
    """
    plan = Plan(**options)  # type: ignore[arg-type]  # click has checked the types
    if plan.rooms > plan.clients:
        raise click.UsageError(
            f"{plan.clients} clients cannot fill {plan.rooms} rooms; use fewer --rooms"
        )
    publisher = CommandPublisher(url, key)
    try:
        from .load import Clients
    except ImportError as error:
        raise click.ClickException(str(MissingExtra("bench", "server"))) from error
    # Says at once if there is no server, or if it wants another key.
    publisher.publish(plan.first_room, "bench")
    uvloop = find_spec("uvloop") is not None
    report = anyio.run(_measure, publisher, plan, Clients, backend_options={"use_uvloop": uvloop})
    click.echo(report.to_json() if as_json else report.to_text())
    if report.error is not None:
        raise click.ClickException(report.error)
    if report.lost:
        sys.exit(1)


async def _measure(
    publisher: CommandPublisher, plan: Plan, clients_class: "type[Clients]"
) -> Report:
    measurement = Measurement(plan.messages, plan.rooms, plan.size)
    listeners = [measurement.add() for _ in range(plan.clients)]
    async with clients_class(publisher, measurement.take, plan.first_room) as clients:
        started = time.perf_counter()
        async with _progress("Connecting", plan.clients, lambda: clients.size):
            await clients.connect(listeners)
        connected = time.perf_counter()
        cpu = time.process_time()
        async with _progress("Publishing", plan.messages, lambda: measurement.published):
            error = await _publish(publisher, plan, measurement)
        published = time.perf_counter()
        async with _progress("Receiving", measurement.expected, lambda: measurement.delivered):
            # A server that fails takes its clients along, which they hear a moment later.
            await _settle(
                measurement,
                plan.wait,
                measurement.is_anyone_left if error else measurement.is_any_missing,
            )
        cpu = time.process_time() - cpu
    deliver_seconds = (measurement.ended - measurement.started) / 1e9
    return Report(
        url=publisher.url,
        clients=plan.clients,
        rooms=plan.rooms,
        size=plan.size,
        connect_seconds=connected - started,
        published=measurement.published,
        publish_seconds=published - connected,
        expected=measurement.expected,
        delivered=measurement.delivered,
        deliver_seconds=deliver_seconds,
        latency_ms=latencies_ms(measurement.latencies),
        cut=dict(measurement.cut),
        busy=cpu / max(deliver_seconds, published - connected),
        error=error,
    )


async def _publish(publisher: CommandPublisher, plan: Plan, measurement: Measurement) -> str | None:
    """Publish all messages; returns why that ended early, if it did."""
    started = time.perf_counter()
    for number in range(plan.messages):
        if plan.rate:
            await anyio.sleep(max(started + number / plan.rate - time.perf_counter(), 0))
        room = plan.first_room + number % plan.rooms
        try:
            await anyio.to_thread.run_sync(publisher.publish, room, measurement.text(number))
        except click.ClickException as error:
            return error.message
        measurement.published += 1
    return None


async def _settle(measurement: Measurement, wait: float, is_open: Callable[[], bool]) -> None:
    """Wait for what can still arrive, as long as something does."""
    before, since = -1, time.perf_counter()
    while is_open() and time.perf_counter() - since < wait:
        if measurement.delivered != before:
            before, since = measurement.delivered, time.perf_counter()
        await anyio.sleep(LOOK)


@asynccontextmanager
async def _progress(label: str, length: int, done: Callable[[], int]) -> AsyncIterator[None]:
    """Show how far it is, where somebody may be looking."""
    if not sys.stderr.isatty():
        yield
        return
    with click.progressbar(length=length, label=label, file=sys.stderr) as bar:

        async def show() -> None:
            while True:
                bar.update(done() - bar.pos)
                await anyio.sleep(0.1)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(show)
            try:
                yield
            finally:
                tasks.cancel_scope.cancel()
                bar.update(done() - bar.pos)
