"""The layer of a single process: no engine, nothing between a sender and the mailboxes."""

import logging
import re
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import ParamSpec, TypeVar

import anyio
import anyio.to_thread
from anyio.lowlevel import cancel_shielded_checkpoint

from ..exceptions import LayerClosed, MisuseError
from ..names import require_channel_name, require_group_name
from ..sync import Home
from ..types import Message
from .base import CAPACITY, EXPIRY, BaseChannelLayer, Sent
from .hub import Hub
from .mailbox import Mailbox, Overflow, require_overflow

__all__ = ["InMemoryChannelLayer"]

logger = logging.getLogger("asgi_notify.layers")

_SHUT_DOWN = "the server is shutting down; come back in a moment"

DRAIN_TIMEOUT = 10.0  # seconds that consumers get to end when the layer closes

_sent = partial(tuple.__new__, Sent)  # Sent(...) at a third of its cost

P = ParamSpec("P")
T = TypeVar("T")


class InMemoryChannelLayer(BaseChannelLayer):
    """A channel layer within one process.

    Its consumers live in one event loop: the one of the first consumer or
    reader, until that loop ends. Publishers may be in any thread and loop; what
    they send from elsewhere is handed over to the consumers' loop.

    Args:
        clock: tells the time in seconds, for tests.
    """

    def __init__(
        self,
        *,
        capacity: int = CAPACITY,
        channel_capacity: Mapping[str | re.Pattern[str], int] | None = None,
        expiry: float = EXPIRY,
        overflow: Overflow = "disconnect",
        debug: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(
            capacity=capacity,
            channel_capacity=channel_capacity,
            expiry=expiry,
            overflow=overflow,
            debug=debug,
        )
        self.hub = Hub(self.get_capacity, self.expiry, clock)
        self._home: Home | None = None
        self._closing: anyio.Event | None = None

    async def open(self) -> None:
        pass  # there is nothing to connect to

    async def close(self) -> None:
        home = self._home
        if home is None or home.is_over:
            self._forget_consumers()
        elif home.is_here:
            await self._drain()
        else:
            await anyio.to_thread.run_sync(home.wait_for, self._drain)
        await self.flush()

    async def _drain(self) -> None:
        """Close the consumers' mailboxes, and wait in their loop until they have ended."""
        if not self.hub.attached:
            return
        drained = self._closing = self._closing or anyio.Event()
        for mailbox in self.hub.attached:
            mailbox.close(LayerClosed(_SHUT_DOWN))
        try:
            with anyio.move_on_after(DRAIN_TIMEOUT) as scope:
                await drained.wait()
            if scope.cancelled_caught:
                left = len(self.hub.attached)
                logger.warning("closed with %d consumers that did not end in time", left)
        finally:
            if not drained.statistics().tasks_waiting:  # of several who close, the last
                self._closing = None

    async def attach(self, prefix: str = "specific", overflow: Overflow | None = None) -> Mailbox:
        if self._closing is not None:
            raise LayerClosed(_SHUT_DOWN)
        policy = require_overflow(overflow or self.overflow)
        self._settle()
        return self.hub.attach(require_channel_name(prefix), policy)

    def detach(self, mailbox: Mailbox) -> None:
        self.hub.detach(mailbox)
        if self._closing is not None and not self.hub.attached:
            self._closing.set()

    async def new_channel(self, prefix: str = "specific") -> str:
        return self.hub.new_name(require_channel_name(prefix))

    async def send(self, channel: str, message: Message) -> None:
        require_channel_name(channel)
        entry = self.hub.entry(self.seal(message))
        while not await self._run(self.hub.send, channel, entry):
            await cancel_shielded_checkpoint()

    async def receive(self, channel: str) -> Message:
        self._settle()
        mailbox = self.hub.mailbox(require_channel_name(channel))
        try:
            while (entry := mailbox.pop()) is None:
                await mailbox.wait()
        finally:
            self.hub.release(mailbox)
        return entry.message

    async def group_add(self, group: str, channel: str) -> None:
        names = require_group_name(group), require_channel_name(channel)
        await self._run(self.hub.group_add, *names)

    async def group_discard(self, group: str, channel: str) -> None:
        names = require_group_name(group), require_channel_name(channel)
        await self._run(self.hub.group_discard, *names)

    async def group_send(self, group: str, message: Message) -> Sent:
        require_group_name(group)
        entry = self.hub.entry(self.seal(message))
        home = self._home
        if home is None or home.is_here:  # as _run does, at the cost of no further call
            reached, dropped, late = self.hub.group_send(group, entry)
        else:
            reached, dropped, late = await self._run(self.hub.group_send, group, entry)
        while late:
            # In this turn the woken readers make room; see Mailbox.offer.
            await cancel_shielded_checkpoint()
            more, lost, late = await self._run(self.hub.offer, late, entry)
            reached, dropped = reached + more, dropped + lost
        return _sent((reached, dropped))

    async def flush(self) -> None:
        await self._run(self.hub.clear)

    async def _run(self, func: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a step of the hub in the loop of the consumers."""
        home = self._home
        if home is None or home.is_here:
            return func(*args, **kwargs)
        try:
            return await home.call(func, *args, **kwargs)
        except anyio.RunFinishedError:
            self._forget_consumers()
            return func(*args, **kwargs)

    def _settle(self) -> None:
        """Make the running loop the consumers' one, or say why that cannot be."""
        here = Home()
        if here == self._home:
            return
        if self._home is not None and self.hub.is_read and not self._home.is_over:
            raise MisuseError(
                "this layer's consumers run in another event loop; give each loop its own "
                "InMemoryChannelLayer, or share one through a server such as Valkey"
            )
        self._forget_consumers()
        self._home = here

    def _forget_consumers(self) -> None:
        """Let go of those that an event loop left behind when it ended."""
        for mailbox in self.hub.attached:
            self.hub.detach(mailbox)
