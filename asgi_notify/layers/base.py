"""The contract of a channel layer: what consumers and publishers may count on."""

import fnmatch
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import TracebackType
from typing import NamedTuple, Self, TypeVar

from ..codec import FrozenMessage, encode
from ..exceptions import ConfigurationError
from ..names import handler_name
from ..types import Message
from .mailbox import Mailbox, Overflow, require_overflow

__all__ = ["BaseChannelLayer", "Sent"]

CAPACITY = 100  # messages; Channels' default
EXPIRY = 60.0  # seconds; Channels' default

N = TypeVar("N", int, float)


class Sent(NamedTuple):
    """What became of a message to a group, as far as this process can tell."""

    reached: int
    """How many mailboxes took it."""
    dropped: int
    """How many lost it, or lost it together with their connection."""


class BaseChannelLayer(ABC):
    """Carries messages to channels, and to groups of channels.

    What every layer promises:

    - Messages from one publisher to one group arrive in the order sent.
    - A membership lives as long as the consumer that holds the channel, and no
      longer; it never expires under a live connection.
    - A send to a group never waits for its readers. A mailbox that is full
      follows its overflow policy, and every loss is counted and logged.
    - A message belongs to the layer once it is sent: it is copied one level
      deep, and all who receive it share the one read-only copy.
    - Every method may be awaited in any event loop and thread, apart from
      `attach` and `receive`, which belong to the loop of the consumers.

    A layer is opened by ``async with layer`` or by the lifespan of the
    application, and otherwise opens itself when it is first used.

    Args:
        capacity: how many messages may wait in one channel.
        channel_capacity: the same for channels by name; the first glob
            (``"thumbnails.*"``) or compiled pattern that matches counts.
        expiry: how long a message may wait unread, in seconds.
        overflow: what a consumer's full mailbox does, unless its class says.
        debug: check at each send that the message could travel between processes.

    Raises:
        ConfigurationError: one of these makes no sense.
    """

    def __init__(
        self,
        *,
        capacity: int = CAPACITY,
        channel_capacity: Mapping[str | re.Pattern[str], int] | None = None,
        expiry: float = EXPIRY,
        overflow: Overflow = "disconnect",
        debug: bool = False,
    ) -> None:
        self.capacity = _positive("capacity", capacity)
        self.channel_capacity = [
            (_pattern(name), _positive(f"channel_capacity[{name!r}]", value))
            for name, value in (channel_capacity or {}).items()
        ]
        self.expiry = _positive("expiry", expiry)
        self.overflow = require_overflow(overflow)
        self.debug = debug

    def get_capacity(self, channel: str) -> int:
        """How many messages may wait in the channel."""
        for pattern, capacity in self.channel_capacity:
            if pattern.match(channel):
                return capacity
        return self.capacity

    def seal(self, message: Message) -> FrozenMessage:
        """The message as it goes on its way: checked, copied and read-only.

        Raises:
            InvalidMessage: it has no usable ``"type"`` or, under ``debug``,
                holds what cannot be encoded.
        """
        handler_name(message)
        if self.debug:
            encode(message)
        return FrozenMessage(message)

    @abstractmethod
    async def open(self) -> None:
        """Connect to what the layer needs; doing it twice is doing it once."""

    @abstractmethod
    async def close(self) -> None:
        """Close the consumers' mailboxes, wait for the consumers to end, let go of the rest.

        The layer opens itself again when it is used again.
        """

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    @abstractmethod
    async def attach(self, prefix: str = "specific", overflow: Overflow | None = None) -> Mailbox:
        """Make a channel of its own for one consumer, and return its mailbox.

        Raises:
            ConfigurationError: there is no such policy.
            InvalidName: the prefix has characters that a name may not have.
            LayerClosed: the layer is shutting down.
            MisuseError: the layer's consumers live in another event loop.
        """

    @abstractmethod
    def detach(self, mailbox: Mailbox) -> None:
        """Take a consumer's channel out of all groups and forget it. Never fails or waits."""

    @abstractmethod
    async def new_channel(self, prefix: str = "specific") -> str:
        """A name for a channel that nobody else has.

        Raises:
            InvalidName: the prefix has characters that a name may not have.
        """

    @abstractmethod
    async def send(self, channel: str, message: Message) -> None:
        """Put a message into one channel.

        Raises:
            InvalidName: the channel cannot be called that.
            InvalidMessage: the message has no usable type or cannot be encoded.
            ChannelFull: the channel is at its capacity.
            LayerClosed: it is a consumer's, and the layer is shutting down.
        """

    @abstractmethod
    async def receive(self, channel: str) -> Message:
        """Wait for the next message of a channel; of several who wait, one gets it.

        Raises:
            InvalidName: the channel cannot be called that.
            MisuseError: the layer's consumers live in another event loop.
        """

    @abstractmethod
    async def group_add(self, group: str, channel: str) -> None:
        """Put a channel into a group; a second time changes nothing.

        Raises:
            InvalidName: the group or the channel cannot be called that.
        """

    @abstractmethod
    async def group_discard(self, group: str, channel: str) -> None:
        """Take a channel out of a group; where it is not in it, nothing happens.

        Raises:
            InvalidName: the group or the channel cannot be called that.
        """

    @abstractmethod
    async def group_send(self, group: str, message: Message) -> Sent:
        """Send a message to every channel of a group, without waiting for any.

        Raises:
            InvalidName: the group cannot be called that.
            InvalidMessage: the message has no usable type or cannot be encoded.
        """

    @abstractmethod
    async def flush(self) -> None:
        """Forget all messages and groups; the consumers that live keep their channels."""


def _positive(name: str, value: N) -> N:
    if isinstance(value, int | float) and value > 0:
        return value
    raise ConfigurationError(f"{name} is a number above 0, not {value!r}")


def _pattern(name: str | re.Pattern[str]) -> re.Pattern[str]:
    return name if isinstance(name, re.Pattern) else re.compile(fnmatch.translate(name))
