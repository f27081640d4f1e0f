"""What every layer does in its own process: its loop, its consumers, and how they end."""

import logging
import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from threading import Lock
from typing import Any, ParamSpec, TypeVar

import anyio
import anyio.to_thread

from ..codec import FrozenMessage
from ..exceptions import LayerClosed, MisuseError
from ..sync import LoopRef
from ..types import Message
from .base import CAPACITY, EXPIRY, BaseChannelLayer
from .hub import Hub, Lagging
from .mailbox import Mailbox
from .overflow import Overflow
from .pace import catch_up

__all__ = ["LocalChannelLayer"]

logger = logging.getLogger("asgi_notify.layers")

_SHUT_DOWN = "the server is shutting down; come back in a moment"

DRAIN_TIMEOUT = 10.0  # seconds that consumers get to end when the layer closes

P = ParamSpec("P")
T = TypeVar("T")


class LocalChannelLayer(BaseChannelLayer):
    """The half of a layer that knows this process: where its consumers live, and its hub.

    Its consumers live in one event loop: the one of the first consumer or
    reader, until that loop ends. Publishers may be in any thread and loop; what
    they do elsewhere is handed over to the consumers' loop.

    What the messages of a group go through before they come to the hub, and what is kept
    of them, is for the classes below.

    Args:
        clock: returns the time in seconds, for tests.
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
        self._loop_ref: LoopRef | None = None
        self._without_loop = Lock()  # held by whoever uses the hub while no loop has it
        self._closing: anyio.Event | None = None

    async def close(self) -> None:
        ref = self._loop_ref
        if ref is None or ref.is_over:
            await self._run(self._forget_consumers)
        elif ref.is_here:
            await self._drain()
        else:
            with suppress(anyio.RunFinishedError):  # they ended with it
                await anyio.to_thread.run_sync(ref.wait_for, self._drain)
        await self._let_go()

    async def _let_go(self) -> None:
        """Let go of what the layer holds, once its consumers have ended."""
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

    async def _attach(self, prefix: str, overflow: Overflow, tell_gaps: bool) -> Mailbox:
        if self._closing is not None:
            raise LayerClosed(_SHUT_DOWN)
        self._settle()
        return self.hub.attach(prefix, overflow, tell_gaps)

    def detach(self, mailbox: Mailbox) -> None:
        self.hub.detach(mailbox)
        if self._closing is not None and not self.hub.attached:
            self._closing.set()

    async def _new_channel(self, prefix: str) -> str:
        return self.hub.new_name(prefix)

    async def _send(self, channel: str, message: FrozenMessage) -> None:
        await self._let_catch_up(await self._run(self.hub.send, channel, message))

    async def _receive(self, channel: str) -> Message:
        self._settle()
        mailbox = self.hub.mailbox(channel)
        if self.hub.is_attached(mailbox):
            raise MisuseError(
                f"{channel} is a consumer's own: its messages come to the consumer's handlers; "
                "to receive them elsewhere, make a channel of your own with new_channel()"
            )
        try:
            while (entry := mailbox.pop()) is None:
                await mailbox.wait()
        finally:
            self.hub.release(mailbox)
        return entry.message

    async def _let_catch_up(self, lagging: Lagging) -> None:
        """Wait for consumers that keep up, and are over their capacity: a burst loses nothing."""
        ref = self._loop_ref
        if not lagging or ref is None:
            return
        if ref == LoopRef():
            await catch_up(lagging)
            return
        with suppress(anyio.RunFinishedError):  # those in it are late no more
            await anyio.to_thread.run_sync(ref.wait_for, catch_up, lagging)

    async def _run(self, func: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a step of the hub: in the loop of the consumers or, where there is none, here."""
        while True:
            ref = self._loop_ref
            if ref is not None:
                if ref.is_here:
                    return func(*args, **kwargs)
                try:
                    return await ref.call(func, *args, **kwargs)
                except anyio.RunFinishedError:
                    pass
            with self._without_loop:
                if self._loop_ref == ref:
                    if ref is not None:
                        self._forget_consumers()
                    return func(*args, **kwargs)
            # Meanwhile a loop has taken it.

    def _is_in_loop(self) -> bool:
        return self._loop_ref is not None and self._loop_ref.is_here and not self._loop_ref.is_over

    def _settle(self) -> None:
        """Make the running loop the consumers' one, or say why that cannot be."""
        if self._is_in_loop():
            return  # as with nearly every consumer; the look below takes ten times as long
        here = LoopRef()
        if here == self._loop_ref:
            return
        if self._loop_ref is not None and self.hub.is_read and not self._loop_ref.is_over:
            raise MisuseError(
                "this layer's consumers run in another event loop; give each loop its own "
                "InMemoryChannelLayer, or share one through a server such as Valkey"
            )
        with self._without_loop:  # whoever uses the hub without a loop ends first
            self._forget_consumers()
            self._loop_ref = here
        self._loop_begins()

    def _loop_begins(self) -> None:
        """Called in the loop that the consumers live in from now on."""

    def _loop_is_over(self) -> None:
        """Called when the consumers' loop is theirs no more, in whatever thread."""

    def _forget_consumers(self) -> None:
        """Let go of what an event loop left behind when it ended."""
        self.hub.abandon()
        self._after_outages.clear()
        self._loop_is_over()
        self._loop_ref = None

    def statistics(self) -> dict[str, Any]:
        return {
            "consumers": len(self.hub.attached),
            "groups": self.hub.group_count,
            "dropped": dict(self.hub.drops),
        }
