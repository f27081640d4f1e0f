"""How the messages of fixed-name channels come out of an engine, and back into it.

::

                     pull                     the reader says that it is done
    waiting in the --------> held by a reader --------------------------------> settled
    engine      <---------   '---- its process holds on to it while it lives
                 the reader was cancelled, or its process died

A process tells the engine every now and then that it still has what it holds. So a handler
may take as long as it needs, and what a dead process held comes back after one
``visibility_timeout``. A message whose readers die again and again is dropped in the end,
since it may be what kills them.
"""

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeAlias

import anyio

from ..codec import FrozenMessage
from ..exceptions import LayerUnavailable
from ..types import Message
from .delivery import Delivery
from .engine import Engine, Held
from .hub import Hub
from .packing import TO_MEMBERS, Packing
from .tasks import at_a_time

__all__ = ["Deliveries"]

logger = logging.getLogger("asgi_notify.layers")

UNREADABLE, UNDELIVERABLE = "unreadable", "undeliverable"  # reasons of a loss


Tell: TypeAlias = Callable[[str, object], Awaitable[None]]
"""Tells the engine something of the message of a channel that has this token."""


class Deliveries:
    """The fixed-name channels that this process reads.

    Args:
        hub: the mailboxes of this process, where a channel that joins groups has one too.
        engine: where messages wait.
        packing: makes messages of payloads.
        hold: seconds after which a message that nobody holds on to is given back.
        limit: how many readers may die of one message.
    """

    def __init__(self, hub: Hub, engine: Engine, packing: Packing, hold: float, limit: int) -> None:
        self._hub = hub
        self._engine = engine
        self._packing = packing
        self._hold = hold
        self._limit = limit
        self._held: set[tuple[str, object]] = set()  # channel and token

    async def receive(self, channel: str) -> Message:
        """Wait for the next message of a channel, and settle it before it is handled."""
        while True:
            found = await self._next(channel)
            if not isinstance(found, Held):
                return found
            with anyio.CancelScope(shield=True):
                await self._engine.settle(channel, found.token)
            message = self._read(channel, found)
            if message is not None:
                return message

    async def take(self, channel: str) -> Delivery:
        """Wait for the next message of a channel, and hold on to it until it is handled."""
        while True:
            found = await self._next(channel)
            if not isinstance(found, Held):
                return Delivery(found)
            message = self._read(channel, found) if self._may_try(channel, found) else None
            if message is not None:
                self._held.add((channel, found.token))
                settle = partial(self._end, self._engine.settle, channel, found.token)
                release = partial(self._end, self._engine.release, channel, found.token)
                return Delivery(message, found.attempt, settle, release)
            with anyio.CancelScope(shield=True):
                await self._engine.settle(channel, found.token)

    async def hold_on(self) -> None:
        """A task: tell the engine again and again what this process still holds."""
        while True:
            await anyio.sleep(self._hold / 3)
            try:
                await at_a_time(self._extend, list(self._held))
            except LayerUnavailable:
                continue  # others may be given them; that is what "at least once" means

    async def _extend(self, held: tuple[str, object]) -> None:
        if held in self._held:
            channel, token = held
            await self._engine.extend(channel, token, self._hold)

    async def _end(self, tell: Tell, channel: str, token: object) -> None:
        self._held.discard((channel, token))
        await tell(channel, token)

    async def _next(self, channel: str) -> Message | Held:
        """Wait for what a channel got as a member of groups, or for what the engine has for it."""
        mailbox = self._hub.mailbox(channel)
        pulled: list[Held] = []
        errors: list[LayerUnavailable] = []  # raised below, since a task group would wrap it

        async def pull() -> None:
            try:
                pulled.append(await self._engine.pull(channel, self._hold))
            except LayerUnavailable as error:
                errors.append(error)
            waiting.cancel_scope.cancel()

        try:
            while (entry := mailbox.pop()) is None and not (pulled or errors):
                async with anyio.create_task_group() as waiting:
                    waiting.start_soon(pull)
                    await mailbox.wait()
                    waiting.cancel_scope.cancel()
        except BaseException:
            with anyio.CancelScope(shield=True):
                for held in pulled:  # in the moment in which the reader was cancelled
                    await self._engine.release(channel, held.token)
            raise
        finally:
            self._hub.release(mailbox)
        if entry is not None:
            for held in pulled:
                await self._engine.release(channel, held.token)
            return entry.message
        if errors:
            raise errors[0]
        return pulled[0]

    def _may_try(self, channel: str, held: Held) -> bool:
        if held.attempt <= self._limit:
            return True
        self._hub.drops.count(UNDELIVERABLE, None)
        logger.error(
            "a message of %s is dropped: all %d processes that were to handle it died or hung; "
            "see what it holds with delivery_limit raised, and nothing else reading",
            channel, self._limit, extra={"channel": channel, "reason": UNDELIVERABLE},
        )  # fmt: skip
        return False

    def _read(self, channel: str, held: Held) -> Message | None:
        unpacked = self._packing.unpack(held.payload, channel, TO_MEMBERS)
        if unpacked is None:
            self._hub.drops.count(UNREADABLE, None)
            return None
        return FrozenMessage(unpacked.content)
