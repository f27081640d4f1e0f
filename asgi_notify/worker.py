"""What reads fixed-name channels, and runs an application for each message."""

import logging
import math
from collections.abc import Iterable

import anyio
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint

from .exceptions import ConfigurationError, LayerUnavailable, MisuseError
from .layers.base import BaseChannelLayer
from .layers.delivery import Delivery
from .layers.registry import get_channel_layer
from .names import require_channel_name
from .routing.base import as_app, unwrap
from .routing.routers import ChannelNameRouter, ProtocolTypeRouter
from .types import ASGIApp, Event, Message, Receive, Scope

__all__ = ["Worker"]

CONCURRENCY = 10  # messages; a handler of a job mostly waits, for a disk or another server
RETRY = 1.0  # seconds between two looks at an engine that is away
SHUTDOWN_TIMEOUT = 10.0  # seconds; Docker kills 10 s after SIGTERM, others later

logger = logging.getLogger("asgi_notify.worker")


class Worker:
    """Runs an application for each message of some channels.

    The application is called with the scope ``{"type": "channel", "channel": name,
    "channel_layer": layer}``. It receives the message, then ``channel.disconnect``.
    There is no client: an application that sends an event gets `MisuseError`.

    What it promises:

    - A message is taken off its channel only when it is begun at once. The others
      wait in the layer, where their capacity and expiry hold.
    - A channel whose messages take long does not hold up the others.
    - What an application raises is logged once, with its traceback, and the next
      message is handled. A message that failed is not tried again.
    - With a layer that processes share, each message is handled at least once: one
      whose handling was cut off, by the end of this worker or the death of its
      process, is given to another worker. So a handler may see a message twice. With
      a layer of one process, it is handled at most once.
    - While the engine of the layer is away, it waits.

    Args:
        app: an ASGI callable, or a consumer class.
        channels: the names to read. Where None, those that the application
            routes: the names of its `ChannelNameRouter`, or what its
            ``channel_names()`` says.
        layer: where to read; the default layer if None.
        concurrency: how many messages of one channel are handled at once.
        shutdown_timeout: seconds that handlers get to end after `stop`; then
            they are cancelled. A thread cannot be: it is waited for.
        at_most_once: let go of a message before it is handled, so that no handler
            ever sees it twice; one whose process dies is lost.

    Raises:
        ConfigurationError: there is no channel to read, the application does not
            route one of them, or a number makes no sense.
        InvalidName: a channel cannot be called that.
    """

    def __init__(
        self,
        app: object,
        channels: Iterable[str] | None = None,
        *,
        layer: BaseChannelLayer | None = None,
        concurrency: int = CONCURRENCY,
        shutdown_timeout: float = SHUTDOWN_TIMEOUT,
        at_most_once: bool = False,
    ) -> None:
        if concurrency < 1:
            raise ConfigurationError(f"concurrency is at least 1, not {concurrency!r}")
        if not 0 <= shutdown_timeout <= math.inf:
            raise ConfigurationError(f"shutdown_timeout is in seconds, not {shutdown_timeout!r}")
        self.app: ASGIApp = as_app(app, "a worker")
        self.channels = _choose(self.app, channels)
        self.layer = layer
        self.concurrency = concurrency
        self.shutdown_timeout = shutdown_timeout
        self.at_most_once = at_most_once
        self._stopping = anyio.Event()
        self._error: Exception | None = None

    async def run(self) -> None:
        """Handle messages until `stop`, then let what runs end within ``shutdown_timeout``.

        A cancellation ends it at once. What is cut off is logged, either way.

        Raises:
            Exception: what the layer's ``receive`` raised.
        """
        layer = self.layer or get_channel_layer()
        names = ", ".join(self.channels)
        logger.info("reading %s; up to %d messages of each at once", names, self.concurrency)
        async with anyio.create_task_group() as handling:
            async with anyio.create_task_group() as reading:
                for channel in self.channels:
                    reading.start_soon(self._read, channel, layer, handling)
                await self._stopping.wait()
                reading.cancel_scope.cancel()
            logger.info("reading no more; what runs has %g s to end", self.shutdown_timeout)
            handling.cancel_scope.deadline = anyio.current_time() + self.shutdown_timeout
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """Take no more messages, now and for good; to be called in the event loop of `run`."""
        self._stopping.set()

    async def _read(self, channel: str, layer: BaseChannelLayer, handling: TaskGroup) -> None:
        slots = anyio.Semaphore(self.concurrency)
        while not self._stopping.is_set():
            await slots.acquire()  # first, so that what has no slot stays in the layer
            try:
                delivery = await self._next(channel, layer)
            except Exception as error:
                self._error = error
                self.stop()
                return
            handling.start_soon(self._handle, channel, layer, delivery, slots)

    async def _next(self, channel: str, layer: BaseChannelLayer) -> Delivery:
        while True:
            try:
                if self.at_most_once:
                    return Delivery(await layer.receive(channel))
                return await layer.take(channel)
            except LayerUnavailable:  # which the layer has logged
                await anyio.sleep(RETRY)

    async def _handle(
        self, channel: str, layer: BaseChannelLayer, delivery: Delivery, slots: anyio.Semaphore
    ) -> None:
        message = delivery.message
        scope: Scope = {
            "type": "channel",
            "asgi": {"version": "3.0"},
            "channel": channel,
            "channel_layer": layer,
        }
        fields = {"channel": channel}
        try:
            async with delivery:
                await self.app(scope, _receiver(message), _refuse)
        except Exception:
            logger.exception("channel %s: %s failed", channel, message["type"], extra=fields)
        except anyio.get_cancelled_exc_class():
            logger.warning("channel %s: %s was cut off", channel, message["type"], extra=fields)
            raise
        finally:
            slots.release()


def _receiver(message: Message) -> Receive:
    """What yields the message, and after it the end, as often as it is asked."""
    events: list[Event] = [dict(message)]

    async def receive() -> Event:
        await checkpoint()
        return events.pop() if events else {"type": "channel.disconnect"}

    return receive


async def _refuse(event: Event) -> None:
    raise MisuseError(
        f"{event['type']} cannot be sent: the message of a channel has no client. To tell "
        "somebody, use channel_layer.send or channel_layer.group_send"
    )


def _choose(app: ASGIApp, channels: Iterable[str] | None) -> tuple[str, ...]:
    """The channels to read: those that were named, or those of the app."""
    if isinstance(channels, str):
        raise ConfigurationError(f"channels is a list of names: write [{channels!r}]")
    routed, takes_any = _routed(app)
    chosen = sorted(routed) if channels is None else list(dict.fromkeys(channels))
    if not chosen:
        raise ConfigurationError(
            "a worker needs channels to read, and the application names none: name them, "
            "as in Worker(app, ['thumbnails']), or route them with a ChannelNameRouter"
        )
    for channel in chosen:
        require_channel_name(channel)
    strange = [] if takes_any else sorted(set(chosen) - routed)
    if strange:
        raise ConfigurationError(
            f"the application does not route the channel {', '.join(strange)}; it routes "
            f"{', '.join(sorted(routed)) or 'none'}. Add it to the ChannelNameRouter under "
            "'channel' of the ProtocolTypeRouter, or name another"
        )
    return tuple(chosen)


def _routed(app: object) -> tuple[set[str], bool]:
    """The channels that an app routes by name, and whether it may take others."""
    for part in unwrap(app):
        if isinstance(part, ProtocolTypeRouter):
            inner = part.application_mapping.get("channel", part.unmatched)
            return (set(), False) if isinstance(inner, str) else _routed(inner)
        if isinstance(part, ChannelNameRouter):
            return set(part.application_mapping), not isinstance(part.unmatched, str)
        channel_names = getattr(part, "channel_names", None)
        if callable(channel_names):
            return set(channel_names()), False
    return set(), True
