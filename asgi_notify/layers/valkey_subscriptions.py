"""What a process subscribes to, whatever becomes of its connections.

What is wanted changes at once; what the server knows follows, all that was asked for
meanwhile in one go. So hundreds of groups that are joined in a moment are one command,
and a subscription and its end can never overtake each other.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from typing import TypeAlias

import anyio

from .valkey_link import Link

__all__ = ["Subscriptions", "Take"]

Take: TypeAlias = Callable[[bytes], None]
"""Called with each message of a pub/sub channel."""


class _Change:
    """Channels whose subscription begins or ends, and who waits for that."""

    def __init__(self, channels: Collection[str]) -> None:
        self.channels = channels
        self.done = anyio.Event()


class Subscriptions:
    """The pub/sub channels that are wanted, each with its taker.

    Create it in the event loop that uses it.
    """

    def __init__(self) -> None:
        self._takers: dict[bytes, Take] = {}
        self._waiting: Counter[str] = Counter()  # calls of `add` that wait for each channel
        self._unproven: set[str] = set()  # channels that no call of `add` has returned for yet
        self._changes: list[_Change] = []
        self._changed = anyio.Event()

    def __len__(self) -> int:
        return len(self._takers)

    def deliver(self, channel: bytes, message: bytes) -> None:
        """Bring a message to its taker; one of a channel that is not wanted any more is let go."""
        take = self._takers.get(channel)
        if take is not None:
            take(message)

    async def add(self, takers: Mapping[str, Take]) -> None:
        """Want these too, and wait until the server has confirmed it.

        Cancelled, it leaves those channels as they were that nobody else wants.
        """
        for channel, take in takers.items():
            if channel.encode() not in self._takers:
                self._unproven.add(channel)
            self._takers[channel.encode()] = take
        self._waiting.update(takers.keys())
        try:
            change = _Change(takers)
            self._ask(change)
            await change.done.wait()
            self._unproven.difference_update(takers)
        except BaseException:
            self.discard(
                [name for name in takers if name in self._unproven and self._waiting[name] == 1]
            )
            raise
        finally:
            for channel in takers:
                self._waiting[channel] -= 1
                if not self._waiting[channel]:
                    del self._waiting[channel]

    def discard(self, channels: Collection[str]) -> None:
        """Want these no more; the server is told in time."""
        for channel in channels:
            self._takers.pop(channel.encode(), None)
            self._unproven.discard(channel)
        if channels:
            self._ask(_Change(channels))

    async def resume(self, link: Link) -> None:
        """Subscribe to all that is wanted, on a link that knows nothing of it."""
        changes, self._changes = self._changes, []
        try:
            await link.subscribe([channel.decode() for channel in self._takers])
        except BaseException:
            self._changes[:0] = changes
            raise
        self._finish(changes)

    async def follow(self, link: Link) -> None:
        """Pass changes on to a link, until that fails or is cancelled."""
        while True:
            await self._changed.wait()
            self._changed = anyio.Event()
            changes, self._changes = self._changes, []
            asked = {channel for change in changes for channel in change.channels}
            wanted = {channel for channel in asked if channel.encode() in self._takers}
            try:
                await link.unsubscribe(asked - wanted)
                await link.subscribe(wanted)
            except BaseException:
                self._changes[:0] = changes
                raise
            self._finish(changes)

    def _ask(self, change: _Change) -> None:
        self._changes.append(change)
        self._changed.set()

    def _finish(self, changes: Collection[_Change]) -> None:
        for change in changes:
            change.done.set()
