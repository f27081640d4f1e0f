"""What one subscriber of a client reads from."""

import logging
import math
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from inspect import isawaitable
from types import TracebackType
from typing import Self

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from .items import Gap, Notification, printable
from .recovery import Follower

__all__ = ["OnGap", "Reader", "Subscription"]

logger = logging.getLogger("asgi_notify.client")

OnGap = Callable[[Gap], Awaitable[None] | None]
"""What is called, between two notifications, where some are missing."""


class Reader(Follower):
    """The client's end of a subscription: a follower with a bounded queue.

    Args:
        group: that it follows.
        since: the position from where on.
        capacity: how many items wait for the subscriber.
    """

    def __init__(self, group: str, since: str | None, capacity: int) -> None:
        super().__init__(group, since)
        self.error: Exception | None = None
        self.start = since
        self.items: MemoryObjectReceiveStream[Notification | Gap]
        self._put: MemoryObjectSendStream[Notification | Gap]
        self._put, self.items = anyio.create_memory_object_stream[Notification | Gap](math.inf)
        self._capacity = capacity
        self._is_over = False
        self._moved = anyio.Event()
        self._settled = anyio.Event()

    def put(self, item: Notification | Gap) -> None:
        """Hand over an item, also where there is no room. One that the subscriber left is dropped.

        It is for the caller to look for room before, and to wait for it.
        """
        with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
            self._put.send_nowait(item)

    def has_room(self, ahead: int) -> bool:
        """Whether it holds less than its capacity and so many more; also where it is over."""
        used = self._put.statistics().current_buffer_used
        return self._is_over or used < self._capacity + ahead

    async def moved(self) -> None:
        """Wait until `wake` is called, as it is where an item was read."""
        self._moved = anyio.Event()
        await self._moved.wait()

    def wake(self) -> None:
        """Let the one who waits for room look again."""
        self._moved.set()

    def settle(self) -> None:
        """The server has confirmed the subscription."""
        if not self._settled.is_set():
            self.start = self.position
            self._settled.set()

    def end(self, error: Exception | None = None) -> None:
        """Nothing more comes, after what has come already."""
        self.error = self.error or error
        self._is_over = True
        self._put.close()
        self._settled.set()
        self.wake()

    def close(self) -> None:
        """Nothing more is read."""
        self.end()
        self.items.close()

    async def wait(self) -> None:
        """Wait until the server has confirmed the subscription.

        Raises:
            NotifyError: it refused.
        """
        await self._settled.wait()
        if self.error is not None:
            raise self.error


class Subscription:
    """The notifications of one group, to be read by ``async for``.

    Made by ``Client.subscribe``. Leaving the loop ends the subscription on
    CPython, where nothing else holds it. ``async with`` ends it for sure, and
    has waited before its first line until the server confirmed it: what is
    published from then on arrives.

    ::

        async with client.subscribe("user_42") as notifications:
            async for notification in notifications:
                ...
    """

    def __init__(
        self, reader: Reader, leave: Callable[[Reader], None], on_gap: OnGap | None
    ) -> None:
        self.group = reader.group
        self._reader = reader
        self._leave = leave
        self._on_gap = on_gap
        self._thread = threading.get_ident()
        self._last: str | None = None

    @property
    def position(self) -> str | None:
        """Where one who stops reading now goes on: the ``since`` of another subscription.

        The id of the last notification that was read, or else where the
        subscription began. None before the server confirmed it, and where the
        group has no history.
        """
        return self._last or self._reader.start

    async def __aenter__(self) -> Self:
        try:
            await self._reader.wait()
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Notification:
        while True:
            item = await self._next()
            if isinstance(item, Notification):
                self._last = item.id or self._last
                return item
            await self._tell(item)

    async def aclose(self) -> None:
        """End the subscription; the loop that reads it ends, too."""
        self._leave(self._reader)

    def __del__(self) -> None:
        # Left by a break. Where the garbage collector finds it in another thread, it
        # stays until the client is closed: nothing of a loop may be touched from there.
        if threading.get_ident() == self._thread:
            self._leave(self._reader)

    async def _next(self) -> Notification | Gap:
        try:
            item = await self._reader.items.receive()
        except (anyio.EndOfStream, anyio.ClosedResourceError):
            if self._reader.error is not None:
                raise self._reader.error from None
            raise StopAsyncIteration from None
        self._reader.wake()
        return item

    async def _tell(self, gap: Gap) -> None:
        if self._on_gap is None:
            lost = "an unknown number of" if gap.lost is None else gap.lost
            reason = printable(gap.reason)
            logger.warning("%s: %s notifications are missing (%s)", gap.group, lost, reason)
            return
        result = self._on_gap(gap)
        if isawaitable(result):
            await result
