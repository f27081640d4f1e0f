"""The layer of a single process: no engine, nothing between a sender and the mailboxes."""

import logging
import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from threading import Lock
from typing import Any, ParamSpec, TypeVar

import anyio
import anyio.to_thread

from ..codec import encode
from ..exceptions import LayerClosed, MisuseError
from ..names import require_channel_name, require_group_name
from ..positions import Position
from ..sync import Home
from ..types import Message
from .attendance import Attendance
from .base import CAPACITY, EXPIRY, BaseChannelLayer
from .history import MAX_GROUPS, Histories, History
from .hub import Hub, Late
from .idempotency import WINDOW, Publications, require_key
from .mailbox import Mailbox
from .overflow import Overflow, require_overflow
from .presence import GRACE, Info, Presence, require_info, require_member
from .results import Joined, Replay, Sent

__all__ = ["InMemoryChannelLayer"]

logger = logging.getLogger("asgi_notify.layers")

_SHUT_DOWN = "the server is shutting down; come back in a moment"

DRAIN_TIMEOUT = 10.0  # seconds that consumers get to end when the layer closes

P = ParamSpec("P")
T = TypeVar("T")


class InMemoryChannelLayer(BaseChannelLayer):
    """A channel layer within one process.

    Its consumers live in one event loop: the one of the first consumer or
    reader, until that loop ends. Publishers may be in any thread and loop; what
    they send from elsewhere is handed over to the consumers' loop.

    Args:
        history: how much is kept of which groups, by glob or compiled pattern;
            the first that matches counts, and groups that match none have no history.
        history_groups: how many groups' histories are kept at once.
        idempotency_window: for how long a message's key is known, in seconds.
        presence_grace: how long a member may be away without having left, in seconds.
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
        history: Mapping[str | re.Pattern[str], History] | None = None,
        history_groups: int = MAX_GROUPS,
        idempotency_window: float = WINDOW,
        presence_grace: float = GRACE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(
            capacity=capacity,
            channel_capacity=channel_capacity,
            expiry=expiry,
            overflow=overflow,
            debug=debug,
        )
        self.hub = Hub(
            self.get_capacity,
            self.expiry,
            clock,
            Histories(history or {}, history_groups, clock),
            Publications(idempotency_window, clock=clock),
            Presence(presence_grace, clock),
        )
        self._attendance = Attendance(self.hub, clock, self._is_at_home)
        self._home: Home | None = None
        self._homeless = Lock()  # held by whoever uses the hub while no loop has it
        self._closing: anyio.Event | None = None

    async def open(self) -> None:
        pass  # there is nothing to connect to

    async def close(self) -> None:
        home = self._home
        if home is None or home.is_over:
            await self._run(self._forget_consumers)
        elif home.is_here:
            await self._drain()
        else:
            with suppress(anyio.RunFinishedError):  # they ended with it
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

    async def attach(
        self, prefix: str = "specific", overflow: Overflow | None = None, tell_gaps: bool = False
    ) -> Mailbox:
        if self._closing is not None:
            raise LayerClosed(_SHUT_DOWN)
        policy = require_overflow(overflow or self.overflow)
        self._settle()
        return self.hub.attach(require_channel_name(prefix), policy, tell_gaps)

    def detach(self, mailbox: Mailbox) -> None:
        self.hub.detach(mailbox)
        self._attendance.watch()
        if self._closing is not None and not self.hub.attached:
            self._closing.set()

    async def new_channel(self, prefix: str = "specific") -> str:
        return self.hub.new_name(require_channel_name(prefix))

    async def send(self, channel: str, message: Message) -> None:
        require_channel_name(channel)
        await self._let_catch_up(await self._run(self.hub.send, channel, self.seal(message)))

    async def receive(self, channel: str) -> Message:
        self._settle()
        mailbox = self.hub.mailbox(require_channel_name(channel))
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

    async def group_add(
        self,
        group: str,
        channel: str,
        *,
        since: Position | str | None = None,
        member: str | None = None,
        info: Mapping[str, Any] | None = None,
    ) -> Joined:
        names = require_group_name(group), require_channel_name(channel)
        present = require_member(member), require_info(info)
        if self.debug and info is not None:
            encode(info)
        joined, late = await self._run(self._join, names, _position(since), present)
        await self._let_catch_up(late)
        return joined

    def _join(
        self, names: tuple[str, str], since: Position | None, present: tuple[str | None, Info]
    ) -> tuple[Joined, Late]:
        joined = self.hub.group_add(*names, since)
        late = () if present == (None, None) else self._attendance.join(*names, *present)
        return joined, late

    async def group_discard(self, group: str, channel: str) -> None:
        names = require_group_name(group), require_channel_name(channel)
        await self._run(self._discard, *names)

    def _discard(self, group: str, channel: str) -> None:
        self.hub.group_discard(group, channel)
        self._attendance.watch()

    async def group_send(
        self, group: str, message: Message, *, idempotency_key: str | None = None
    ) -> Sent:
        require_group_name(group)
        if idempotency_key is not None:
            require_key(idempotency_key)
        sealed = self.seal(message, group)
        home = self._home
        if home is not None and home.is_here:  # as _run does, at the cost of no further call
            sent, late = self.hub.publish(group, sealed, idempotency_key)
        else:
            sent, late = await self._run(self.hub.publish, group, sealed, idempotency_key)
        if late:
            await self._let_catch_up(late)
        return sent

    async def _let_catch_up(self, late: Late) -> None:
        """Wait while consumers that were woken have had no turn: then a burst loses nothing."""
        home = self._home
        if not late or home is None:
            return
        if home == Home():
            await _catch_up(late)
            return
        with suppress(anyio.RunFinishedError):  # those in it are late no more
            await anyio.to_thread.run_sync(home.wait_for, _catch_up, late)

    async def history(
        self, group: str, *, since: Position | str | None = None, limit: int | None = None
    ) -> Replay:
        asked = require_group_name(group), _position(since)
        return await self._run(self.hub.histories.since, *asked, limit)

    async def group_channels(self, group: str) -> dict[str, Info]:
        return await self._run(self.hub.group_channels, require_group_name(group))

    async def presence(self, group: str) -> dict[str, Info]:
        return await self._run(self.hub.presence.members, require_group_name(group))

    async def presence_count(self, group: str) -> int:
        await self._let_catch_up(await self._run(self._attendance.tell))
        return await self._run(self.hub.presence.count, require_group_name(group))

    async def presence_follow(self, group: str, channel: str) -> None:
        names = require_group_name(group), require_channel_name(channel)
        await self._let_catch_up(await self._run(self._attendance.tell))
        await self._run(self._attendance.follow, *names)

    async def presence_unfollow(self, group: str, channel: str) -> None:
        names = require_group_name(group), require_channel_name(channel)
        await self._run(self._attendance.unfollow, *names)

    async def flush(self) -> None:
        await self._run(self._clear)

    def _clear(self) -> None:
        self.hub.clear()
        self._attendance.rest()

    async def _run(self, func: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a step of the hub: in the loop of the consumers or, where there is none, here."""
        while True:
            home = self._home
            if home is not None:
                if home.is_here:
                    return func(*args, **kwargs)
                try:
                    return await home.call(func, *args, **kwargs)
                except anyio.RunFinishedError:
                    pass
            with self._homeless:
                if self._home == home:
                    if home is not None:
                        self._forget_consumers()
                    return func(*args, **kwargs)
            # Meanwhile a loop has taken it.

    def _is_at_home(self) -> bool:
        return self._home is not None and self._home.is_here and not self._home.is_over

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
        with self._homeless:  # whoever uses the hub without a loop ends first
            self._forget_consumers()
            self._home = here
        self._attendance.watch()

    def _forget_consumers(self) -> None:
        """Let go of what an event loop left behind when it ended."""
        self.hub.abandon()
        self._attendance.rest()
        self._home = None


async def _catch_up(late: Late) -> None:
    for mailbox in late:
        await mailbox.catch_up()


def _position(since: Position | str | None) -> Position | None:
    return Position.parse(since) if isinstance(since, str) else since
