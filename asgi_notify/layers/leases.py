"""How a process keeps its channels present in groups, and announces who joined and who left.

The engine knows who is present in a group, in all processes. Each entry is a lease: it expires
unless the process of the channel renews it, so the channels of a process that died disappear.

That a member has joined is announced by the process in which it joined. That a member has left
may be found out by any process, since the one where it was may be dead: all of them ask the
engine, which hands each departure to one of them, and that one announces it.
"""

from collections import deque
from collections.abc import Awaitable, Callable, Collection, Mapping
from math import inf
from typing import Any

import anyio

from ..exceptions import LayerUnavailable
from .engine import Engine, Lease
from .entries import JOIN, LEAVE, followers_of
from .hub import Hub
from .presence import Info

__all__ = ["LEASE", "Leases"]

LEASE = 30.0  # seconds; a process that died is present for no longer
BATCH = 512  # leases in one call of the engine
SWEEP = 1.0  # seconds between two questions to the engine who is gone


class Leases:
    """The leases of the channels of this process, and the announcements of who left.

    Args:
        hub: who is in which group here.
        engine: where presence is kept.
        announce: sends a message ``{"type": "presence.join" or "presence.leave", ...}`` to those
            who follow a group.
        encode: encodes the info of a channel.
        decode: decodes it; None if it cannot be read.
        clock: returns the time in seconds.
        grace: seconds that a member may be away before it counts as gone, so that reloading
            a page is not announced.
        lease: seconds for which a channel is present without being renewed.
    """

    def __init__(
        self,
        hub: Hub,
        engine: Engine,
        announce: Callable[[str, Mapping[str, Any]], Awaitable[object]],
        encode: Callable[[Mapping[str, Any], str], bytes],
        decode: Callable[[bytes, str], Info],
        clock: Callable[[], float],
        grace: float,
        lease: float = LEASE,
    ) -> None:
        self._hub = hub
        self._engine = engine
        self._announce = announce
        self._encode = encode
        self._decode = decode
        self._clock = clock
        self._grace = grace
        self._seconds = lease
        self._leases: dict[tuple[str, str], Lease] = {}
        self._left: deque[tuple[str, str, float]] = deque()
        self._leaving: dict[
            str, float
        ] = {}  # until when leaves of a group may have to be announced
        self._followed: set[str] = set()
        self._work = anyio.Event()
        self._reporting = anyio.Lock()

    async def enter(
        self, group: str, channel: str, member: str | None, info: Mapping[str, Any] | None
    ) -> None:
        """Count a channel of a group as present, for all processes.

        Raises:
            LayerUnavailable: the engine is away.
        """
        if not self._hub.has_member(group, channel):
            return  # its consumer has left
        who = channel if member is None else member
        # If the engine did not know yet that this channel had left before, it would take this
        # for a change of its info or member. The report of the leave would then end it.
        await self._report_left()
        lease = Lease(group, channel, who, None if info is None else self._encode(info, group))
        self._leases[group, channel] = lease
        is_new = await self._engine.enter(lease, self._seconds)
        if not self._hub.has_member(group, channel):
            self.left(group, channel)  # it left while the engine was entering it
        if is_new:
            await self._announce_of(JOIN, group, who, lease.info)

    def left(self, group: str, channel: str) -> None:
        """Note that a channel has left a group, if it was present there.

        Never waits, since it is part of a step of the hub. `sweep` reports it to the engine.
        """
        if self._leases.pop((group, channel), None) is not None:
            self._left.append((group, channel, self._clock()))
            self._work.set()

    def follow(self, group: str) -> None:
        """Ask from now on who leaves a group, for as long as somebody here follows it."""
        self._followed.add(group)

    async def settle(self, *groups: str) -> None:
        """Report to the engine who left here, and announce the members that are gone.

        The engine is asked about three kinds of groups: those given, those that a channel of
        this process has left within the last ``grace`` seconds, and those followed here.

        Raises:
            LayerUnavailable: the engine is away.
        """
        await self._report_left()
        now = self._clock()
        over = [group for group, until in self._leaving.items() if until <= now]
        await self._announce_gone({*groups, *self._leaving, *self._still_followed()})
        for group in over:
            if self._leaving.get(group, inf) <= now:
                del self._leaving[group]

    async def _report_left(self) -> None:
        async with self._reporting:
            while self._left:
                left = group, channel, at = self._left[0]
                # The grace began when the channel left, not now: the engine may have been away.
                away = self._clock() - at
                await self._engine.leave(group, channel, max(0.0, self._grace - away))
                # Not before: whoever reports may be cancelled, and the engine may be away.
                if self._left and self._left[0] is left:  # else all was cleared meanwhile
                    self._left.popleft()
                    self._leaving[group] = at + self._grace

    def _still_followed(self) -> set[str]:
        self._followed = {
            group for group in self._followed if self._hub.has_members(followers_of(group))
        }
        return self._followed

    async def _announce_gone(self, groups: Collection[str]) -> None:
        if groups:
            for group, member, info in await self._engine.gone(groups, self._grace):
                await self._announce_of(LEAVE, group, member, info)

    async def present(self, group: str) -> dict[str, Info]:
        """The channels that are present in a group, in all processes, with their info."""
        return {
            lease.channel: self._said(group, lease.info)
            for lease in await self._engine.present(group)
        }

    def clear(self) -> None:
        """Forget who is present here, and announce nothing."""
        self._leases.clear()
        self._left.clear()
        self._leaving.clear()

    async def renew(self) -> None:
        """A task: renew the leases, again and again."""
        while True:
            await anyio.sleep(self._seconds / 3)
            leases = list(self._leases.values())
            for start in range(0, len(leases), BATCH):
                there = [
                    lease
                    for lease in leases[start : start + BATCH]
                    if (lease.group, lease.channel) in self._leases
                ]
                await self._try(self._renew, there)
                # Members of a process that died are announced by one that is in their group.
                await self._try(self._announce_gone, {lease.group for lease in there})

    async def _renew(self, leases: Collection[Lease]) -> None:
        """Renew leases, and announce the members that come back by it.

        While the engine was away, or this process had no turn, their leases ran out, and others
        were told that they left.
        """
        for lease in await self._engine.renew(leases, self._seconds):
            await self._announce_of(JOIN, lease.group, lease.member, lease.info)

    async def sweep(self) -> None:
        """A task: report who left, and announce who is gone.

        It does so every `SWEEP` seconds. Where the grace is shorter, and somebody has left, it
        does so as soon as that is over.
        """
        while True:
            with anyio.move_on_after(SWEEP):
                await self._work.wait()
            if self._work.is_set():
                self._work = anyio.Event()
                await self._try(self.settle)
                await anyio.sleep(min(self._grace, SWEEP))
            await self._try(self.settle)

    async def _announce_of(self, kind: str, group: str, member: str, info: bytes | None) -> None:
        said = self._said(group, info)
        await self._announce(group, {"type": kind, "group": group, "member": member, "info": said})

    def _said(self, group: str, info: bytes | None) -> Info:
        return None if info is None else self._decode(info, group)

    async def _try(self, func: Callable[..., Awaitable[object]], *args: object) -> None:
        try:
            await func(*args)
        except LayerUnavailable:
            return  # all callers try again: they are loops, and what is still to do is kept
