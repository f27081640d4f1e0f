"""How a worker's message is taken from an engine, held while it is handled, and given back.

These are the messages of channels with a fixed name, which wait in the engine until one reader
of any process takes them.

::

                     pull                     the reader says that it is done
    waiting in the --------> held by a reader --------------------------------> settled
    engine      <---------   '---- its process extends the hold while it lives
                 the reader was cancelled, or its process died

A process extends the hold on its messages three times in each ``visibility_timeout``. So a
handler may take as long as it needs, and the messages of a process that died are given to other
readers after one ``visibility_timeout``. A message whose readers die again and again is dropped
after ``delivery_limit`` of them, since it may be what makes them die.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import TypeAlias

import anyio

from ..codec import FrozenMessage
from ..exceptions import LayerUnavailable
from ..types import Message
from .delivery import Delivery
from .engine import Engine, Held
from .hub import Hub
from .packing import TO_MEMBERS, Packing, place_of_channel
from .tasks import at_a_time

__all__ = ["Deliveries"]

logger = logging.getLogger("asgi_notify.layers")

UNREADABLE, UNDELIVERABLE = "unreadable", "undeliverable"  # reasons of a loss


Tell: TypeAlias = Callable[[str, object], Awaitable[None]]
"""`Engine.settle` or `Engine.release`, which take a channel and the token of a message."""


class Deliveries:
    """The fixed-name channels that this process reads.

    Args:
        hub: the mailboxes of this process. A fixed-name channel has one too, for what it is
            sent as a member of groups.
        engine: where messages wait.
        packing: decodes payloads into messages.
        hold: seconds after which a message whose hold is not extended is given to others.
        limit: to how many readers a message is given at most, apart from those that gave it
            back.
    """

    def __init__(self, hub: Hub, engine: Engine, packing: Packing, hold: float, limit: int) -> None:
        self._hub = hub
        self._engine = engine
        self._packing = packing
        self._hold = hold
        self._limit = limit
        self._held: set[tuple[str, object]] = set()  # channel and token

    async def receive(self, channel: str) -> Message:
        """Wait for the next message of a channel, and settle it before it is handled.

        So it comes at most once, and is lost if its reader dies. See `take` for the other way.
        """
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
        """Wait for the next message of a channel, and hold it until the reader settles it.

        So it comes at least once: if its reader dies, another one gets it. A message that came
        through a group is not held: it never was in the engine's queue.
        """
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
        """A task: extend, again and again, the hold on what this process has not settled."""
        while True:
            await anyio.sleep(self._hold / 3)
            try:
                await at_a_time(self._extend, list(self._held))
            except LayerUnavailable:
                continue  # other readers may get them too: "at least once" allows that

    async def _extend(self, held: tuple[str, object]) -> None:
        if held in self._held:
            channel, token = held
            await self._engine.extend(channel, token, self._hold)

    async def _end(self, tell: Tell, channel: str, token: object) -> None:
        self._held.discard((channel, token))
        await tell(channel, token)

    async def _next(self, channel: str) -> Message | Held:
        """Wait for the next message of a channel: from its mailbox, or held, from the engine.

        Both are waited for at once, and both may come in the same moment. Then the one from the
        mailbox is returned, and the other is given back to the engine.
        """
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
            await self._give_back(channel, pulled)  # it came as the reader was cancelled
            raise
        finally:
            self._hub.release(mailbox)
        if entry is not None:
            await self._give_back(channel, pulled)
            return entry.message
        if errors:
            raise errors[0]
        return pulled[0]

    async def _give_back(self, channel: str, pulled: Sequence[Held]) -> None:
        """Give back what was pulled in vain; what comes of it concerns nobody here."""
        with anyio.CancelScope(shield=True):
            for held in pulled:
                # Else it comes back by itself, when the time is over for which it is held.
                with suppress(LayerUnavailable):
                    await self._engine.release(channel, held.token)

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
        unpacked = self._packing.unpack(held.payload, place_of_channel(channel), TO_MEMBERS)
        if unpacked is None:
            self._hub.drops.count(UNREADABLE, None)
            return None
        return FrozenMessage(unpacked.content)
