"""The backend for Django Channels: its consumers, unchanged, on Valkey or Redis.

::

    CHANNEL_LAYERS = {
        "default": {
            "BACKEND": "asgi_notify.django_channels.ChannelLayer",
            "CONFIG": {"url": "valkey://127.0.0.1:6379/0"},
        },
    }

Two things are otherwise than with this package's own consumers. Nobody says when a consumer of
Channels has ended: its channel is let go when nothing holds its name any more. And views and
commands call by asgiref's ``async_to_sync``, which makes an event loop for a single call: a
connection that was opened there would end with it. So such a loop only asks one that stays.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from copy import deepcopy
from functools import partial
from typing import Any, ParamSpec, TypeVar
from weakref import finalize, ref

from asgiref.sync import AsyncToSync
from channels.exceptions import ChannelFull as TheirChannelFull

from .codec import FrozenMessage
from .exceptions import ChannelFull
from .layers.base import Present
from .layers.results import Joined
from .layers.valkey_layer import ValkeyChannelLayer
from .positions import Position
from .sync import process_portal
from .types import Message

__all__ = ["ChannelLayer", "Event"]

P = ParamSpec("P")
T = TypeVar("T")


class Event(dict[str, Any]):
    """A message as a consumer gets it: its own copy, which it may change.

    Attributes:
        position: where it stands in the history of its group; None where none is kept.
    """

    position: Position | None = None


class _Full(ChannelFull, TheirChannelFull):  # type: ignore[misc]  # theirs has no types
    """A channel is at its capacity, for those who catch Channels' error."""


class _Name(str):
    """The name of a channel, which is told apart from its copies: they may be forgotten."""


class ChannelLayer(ValkeyChannelLayer):
    """A layer for the setting ``CHANNEL_LAYERS`` of Django Channels.

    A channel from ``new_channel`` leaves all its groups when the text that was returned is no
    longer held by anybody, as when the consumer that asked for it has ended.

    Args:
        url: where the server is, with options, as `ValkeyChannelLayer` has them.
        group_expiry: taken for the sake of settings that have it, and not used: a membership
            lives as long as its consumer.
        options: those of the URL, too: ``capacity``, ``channel_capacity``, ``expiry`` and so on.

    Raises:
        InvalidChannelLayerError: the URL or an option makes no sense.
    """

    extensions = ("groups", "flush")

    def __init__(
        self,
        url: str = "valkey://127.0.0.1:6379/0",
        *,
        group_expiry: float | None = None,
        **options: Any,
    ) -> None:
        super().__init__(url, **{**self.options_of(url), **options})
        self._home: asyncio.AbstractEventLoop | None = None
        self._lasting: asyncio.AbstractEventLoop | None = None  # that of the process

    async def send(self, channel: str, message: Message) -> None:
        try:
            await super().send(channel, message)
        except ChannelFull as error:
            raise _Full(str(error)) from error

    async def receive(self, channel: str) -> Message:
        message = await super().receive(channel)
        event = Event((key, deepcopy(value)) for key, value in message.items())
        if isinstance(message, FrozenMessage):
            event.position = message.position
        return event

    # Channels that nobody holds.

    async def _new_channel(self, prefix: str) -> str:
        name = _Name(await super()._new_channel(prefix))
        finalize(name, _let_go, ref(self), str(name)).atexit = False
        return name

    # The layer itself holds copies of the names, made by str().

    async def _group_add(
        self, group: str, channel: str, since: Position | None, present: Present
    ) -> Joined:
        return await super()._group_add(group, str(channel), since, present)

    async def _presence_follow(self, group: str, channel: str) -> None:
        await super()._presence_follow(group, str(channel))

    async def _send(self, channel: str, message: FrozenMessage) -> None:
        await super()._send(str(channel), message)

    async def _forget_channel(self, channel: str) -> None:
        mailbox = self.hub.mailbox(channel)
        if not mailbox.is_read:  # else somebody reads it by a copy of the name
            for group in tuple(mailbox.groups):
                self.hub.group_discard(group, channel)
            mailbox.forget()
        self.hub.release(mailbox)

    # Whose loop.

    def _loop_begins(self) -> None:
        super()._loop_begins()
        self._home = asyncio.get_running_loop()

    async def _there(self, func: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        await self._find_home()
        if self._home is not None and self._home is self._lasting and _is_passing():
            # It ends with the process alone, so nothing has to watch it: that halves the CPU.
            return await _ask(self._home, func, *args, **kwargs)
        return await super()._there(func, *args, **kwargs)

    async def _receive(self, channel: str) -> Message:
        channel = str(channel)
        if self._link is None or self._loop_ref is None or self._loop_ref.is_over:
            await self.open()  # for what is sent to the channel from elsewhere
        home = self._loop_ref
        is_free = home is None or home.is_here or not self.hub.is_read
        if is_free and not _is_passing():
            return await super()._receive(channel)
        # Not in a thread, as other calls are: one that waits for a message must be cancelled.
        assert self._home is not None
        return await _ask(self._home, super()._receive, channel)

    async def _find_home(self) -> None:
        """Have a loop that stays, where there is none and the running one passes."""
        home = self._loop_ref
        if (home is None or home.is_over) and _is_passing():
            await asyncio.wrap_future(process_portal().start_task_soon(self.open))
            self._lasting = self._home


async def _ask(
    loop: asyncio.AbstractEventLoop,
    func: Callable[P, Awaitable[T]],
    *args: P.args,
    **kwargs: P.kwargs,
) -> T:
    """Run an async function in another loop, and wait for it in this one."""

    async def call() -> T:
        return await func(*args, **kwargs)

    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(call(), loop))


def _is_passing() -> bool:
    """Whether ``async_to_sync`` has made the running loop for a single call."""
    return asyncio.get_running_loop() in AsyncToSync.loop_thread_executors


def _let_go(layer_ref: "ref[ChannelLayer]", channel: str) -> None:
    """Forget a channel whose name nobody holds. Called wherever the garbage collector runs."""
    layer = layer_ref()
    if layer is not None and layer._loop_ref is not None:
        with suppress(RuntimeError):  # the loop is closed
            layer._loop_ref.start(partial(layer._forget_channel, channel))
