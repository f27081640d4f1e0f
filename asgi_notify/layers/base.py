"""The contract of a channel layer: what consumers and publishers may count on."""

import re
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Collection, Mapping
from math import inf
from types import TracebackType
from typing import Any, ClassVar, NamedTuple, Self, TypeAlias

from ..codec import FrozenMessage, spelled, stamped
from ..exceptions import InvalidChannelLayerError
from ..names import handler_name, require_channel_name, require_group_name
from ..positions import Position
from ..types import Message
from .delivery import Delivery
from .idempotency import require_key
from .mailbox import Mailbox
from .marks import require_mark
from .options import PatternMap, positive
from .overflow import Overflow, require_overflow
from .presence import Info, require_info, require_member
from .results import Joined, Replay, Sent

__all__ = ["BaseChannelLayer", "Present", "Sent"]

CAPACITY = 100  # messages; Channels' default
EXPIRY = 60.0  # seconds; Channels' default

AfterOutage: TypeAlias = Callable[[Callable[[str], bool]], Awaitable[object]]
"""Called after an outage, with a function that says which groups it concerned, by their names."""


class Present(NamedTuple):
    """What a channel says of itself when it joins a group; both None: it is not listed."""

    member: str | None
    info: Info


class BaseChannelLayer(ABC):
    """Carries messages to channels, and to groups of channels.

    What every layer promises:

    - Messages from one publisher to one group arrive in the order sent.
    - A membership lives as long as the consumer that holds the channel, and no
      longer; it never expires under a live connection.
    - A send to a group does not wait for readers that are slow. A mailbox that is full
      follows its overflow policy, and every loss is counted and logged. Readers that
      were woken and had no turn yet are not slow: a burst larger than their capacity
      waits until they had it.
    - Where a group has a history, all its members get its messages in the one
      order of their positions, and one that comes back with its last position
      gets what it missed, or learns that it cannot.
    - A message belongs to the layer once it is sent: it is copied one level
      deep, and all who receive it share the one read-only copy.
    - Every method may be awaited in any event loop and thread, apart from
      `attach` and `receive`, which belong to the loop of the consumers.

    A layer is opened by ``async with layer`` or by the lifespan of the
    application, and otherwise opens itself when it is first used.

    The public methods check what they are given, once, and pass it on to the method of the
    same name with an underscore, which is what a layer writes.

    Args:
        capacity: how many messages may wait in one channel.
        channel_capacity: the same for channels by name; the first glob
            (``"thumbnails.*"``) or compiled pattern that matches counts.
        expiry: how long a message may wait unread, in seconds.
        overflow: what a consumer's full mailbox does, unless its class says.
        debug: check at each send that the message could travel between processes.

    Attributes:
        is_shared: whether other processes that name the same layer get its messages.

    Raises:
        ConfigurationError: one of these makes no sense.
    """

    is_shared: ClassVar[bool] = False

    def __init__(
        self,
        *,
        capacity: int = CAPACITY,
        channel_capacity: Mapping[str | re.Pattern[str], int] | None = None,
        expiry: float = EXPIRY,
        overflow: Overflow = "disconnect",
        debug: bool = False,
    ) -> None:
        self.capacity = positive("capacity", capacity)
        self.channel_capacity = PatternMap(
            {
                name: positive(f"channel_capacity[{name!r}]", value)
                for name, value in (channel_capacity or {}).items()
            }
        )
        self.expiry = positive("expiry", expiry)
        self.overflow = require_overflow(overflow)
        self.debug = debug
        self._after_outages: list[AfterOutage] = []

    @classmethod
    def from_url(cls, url: str) -> Self:
        """Make the layer that a URL describes; see `layer_from_url`.

        Raises:
            InvalidChannelLayerError: an option is not known, or its value makes no sense.
        """
        raise InvalidChannelLayerError(f"{cls.__name__} is made by its class, not by a URL")

    @property
    def least_capacity(self) -> int:
        """How many messages may wait in any channel, whatever it is called."""
        return min([self.capacity, *(capacity for _, capacity in self.channel_capacity.choices)])

    def get_capacity(self, channel: str) -> int:
        """How many messages may wait in the channel."""
        return self.channel_capacity.get(channel) or self.capacity

    def freeze(self, message: Message, group: str | None = None) -> FrozenMessage:
        """The message as it goes on its way: checked, copied and read-only.

        Args:
            message: what is sent.
            group: which group to, or None.

        Raises:
            InvalidMessage: it has no usable ``"type"`` or, under ``debug``,
                holds what cannot be encoded.
        """
        handler_name(message)
        if self.debug:
            spelled(message)
        return FrozenMessage(message) if group is None else stamped(message, group)

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

    async def attach(
        self, prefix: str = "specific", overflow: Overflow | None = None, tell_gaps: bool = False
    ) -> Mailbox:
        """Make a channel of its own for one consumer, and return its mailbox.

        Args:
            prefix: what its name begins with.
            overflow: what it does when it is full; None for the layer's own policy.
            tell_gaps: whether a message ``{"type": "group.gap", "group": ...,
                "reason": "full" or "expired", "lost": n}`` stands where messages
                of a group were lost.

        Raises:
            ConfigurationError: there is no such policy.
            InvalidName: the prefix has characters that a name may not have.
            LayerClosed: the layer is shutting down.
            MisuseError: the layer's consumers live in another event loop.
        """
        require_channel_name(prefix)
        policy = require_overflow(overflow or self.overflow)
        return await self._attach(prefix, policy, tell_gaps)

    @abstractmethod
    def detach(self, mailbox: Mailbox) -> None:
        """Take a consumer's channel out of all groups and forget it. Never fails or waits."""

    async def new_channel(self, prefix: str = "specific") -> str:
        """A name for a channel that nobody else has.

        Raises:
            InvalidName: the prefix has characters that a name may not have.
        """
        return await self._new_channel(require_channel_name(prefix))

    async def send(self, channel: str, message: Message) -> None:
        """Put a message into one channel.

        Raises:
            InvalidName: the channel cannot be called that.
            InvalidMessage: the message has no usable type or cannot be encoded.
            ChannelFull: the channel is at its capacity.
            LayerClosed: it is a consumer's, and the layer is shutting down.
        """
        require_channel_name(channel)
        await self._send(channel, self.freeze(message))

    async def receive(self, channel: str) -> Message:
        """Wait for the next message of a channel; of several who wait, one gets it.

        Raises:
            InvalidName: the channel cannot be called that.
            MisuseError: it is a consumer's, or the layer's consumers live in another loop.
        """
        return await self._receive(require_channel_name(channel))

    async def take(self, channel: str) -> Delivery:
        """Wait for the next message of a channel with a fixed name, and say when it was handled.

        Unlike `receive`, which may lose a message with the process that received it, a layer
        that processes share gives back what was not handled: each message is handled at
        least once. See `Delivery`.

        Raises:
            InvalidName: the channel cannot be called that.
            MisuseError: it is a consumer's, or the layer's consumers live in another loop.
        """
        return await self._take(require_channel_name(channel))

    async def group_add(
        self,
        group: str,
        channel: str,
        *,
        since: Position | str | None = None,
        member: str | None = None,
        info: Mapping[str, Any] | None = None,
    ) -> Joined:
        """Put a channel into a group; a second time changes no more than is asked for.

        What the group was sent since a position comes first, beyond the
        capacity of the channel's mailbox. Then comes what is sent from now on:
        nothing is missing in between, and nothing comes twice. Of a member that
        asks again, what still waits in its mailbox is not lost, wherever it
        asks from: the replay begins no later than that.

        Args:
            group: which one.
            channel: who.
            since: the last position that the channel's client has seen.
            member: who stands behind the channel, to be listed by `presence`.
            info: what `presence` says of the channel. One that is given
                neither of the two is not listed.

        Raises:
            ClientError: ``since`` is no position.
            InvalidName: the group, the channel or the member cannot be called that.
        """
        require_group_name(group)
        require_channel_name(channel)
        present = Present(require_member(member), require_info(info))
        if self.debug and info is not None:
            spelled(info)
        return await self._group_add(group, channel, _position(since), present)

    async def group_discard(self, group: str, channel: str) -> None:
        """Take a channel out of a group; where it is not in it, nothing happens.

        Raises:
            InvalidName: the group or the channel cannot be called that.
        """
        require_group_name(group)
        require_channel_name(channel)
        await self._group_discard(group, channel)

    async def group_send(
        self, group: str, message: Message, *, idempotency_key: str | None = None
    ) -> Sent:
        """Send a message to every channel of a group, without waiting for any.

        Args:
            group: which one.
            message: what.
            idempotency_key: 1 to 200 visible ASCII characters, the same when the
                same message is sent again because nobody knows whether it was
                sent. Within the layer's ``idempotency_window`` it is sent once,
                and what became of it then is returned.

        Raises:
            InvalidName: the group or the key cannot be called that.
            InvalidMessage: the message has no usable type or cannot be encoded.
        """
        require_group_name(group)
        if idempotency_key is not None:
            require_key(idempotency_key)
        return await self._group_send(group, self.freeze(message, group), idempotency_key)

    async def history(
        self, group: str, *, since: Position | str | None = None, limit: int | None = None
    ) -> Replay:
        """What a group was sent after a position, oldest first; all that is kept where None.

        Args:
            group: which one.
            since: where the asker stands.
            limit: at most so many messages; ask for more from the last one's position.

        Raises:
            ClientError: ``since`` is no position.
            InvalidName: the group cannot be called that.
        """
        return await self._history(require_group_name(group), _position(since), limit)

    async def group_channels(self, group: str) -> dict[str, Info]:
        """All channels of a group, with the info of those that gave one.

        Raises:
            InvalidName: the group cannot be called that.
        """
        return await self._group_channels(require_group_name(group))

    async def presence(self, group: str) -> dict[str, Info]:
        """The channels that joined a group with a member or info, and that info.

        Raises:
            InvalidName: the group cannot be called that.
        """
        return await self._presence(require_group_name(group))

    async def presence_count(self, group: str) -> int:
        """How many members a group has; several channels of one member count once.

        One that left counts until its leave is told, ``presence_grace`` seconds later.

        Raises:
            InvalidName: the group cannot be called that.
        """
        return await self._presence_count(require_group_name(group))

    async def presence_follow(self, group: str, channel: str) -> None:
        """Tell a channel of each member that comes to a group, and that leaves it for good.

        By messages ``{"type": "presence.join" or "presence.leave", "group": ...,
        "member": ..., "info": ...}``.

        Raises:
            InvalidName: the group or the channel cannot be called that.
        """
        require_group_name(group)
        require_channel_name(channel)
        await self._presence_follow(group, channel)

    async def presence_unfollow(self, group: str, channel: str) -> None:
        """Tell a channel no more of who comes and leaves.

        Raises:
            InvalidName: the group or the channel cannot be called that.
        """
        require_group_name(group)
        require_channel_name(channel)
        await self._presence_unfollow(group, channel)

    async def mark(
        self, name: str, seconds: float, *, at: float | None = None, leave_room: bool = False
    ) -> bool:
        """Remember a name for a while, on all processes, and return whether it is new.

        Of several that mark the same name at the same time, one is told that it is new. So
        something can be used once, wherever it is shown. A name that is marked already is
        remembered for longer where that is asked for, and never for less.

        Args:
            name: 1 to 200 visible ASCII characters.
            seconds: for how long.
            at: a moment that the mark stands for, in seconds since 1970; of several, the latest
                counts. None stands for a moment later than all others.
            leave_room: refuse it where a layer in memory is nearly full, so that what clients
                cause takes no room from what the application has to remember.

        Raises:
            ConfigurationError: the time makes no sense.
            InvalidName: no mark can be called that.
            LayerUnavailable: nobody knows whether it is remembered, or there is no room.
        """
        require_mark(name)
        moment = inf if at is None else at
        return await self._mark(name, positive("seconds", seconds), moment, leave_room)

    async def is_marked(self, *names: str, since: float | None = None) -> bool:
        """Whether one of these names is remembered now.

        Args:
            names: which ones.
            since: marks that stand for an earlier moment than this do not count.

        Raises:
            InvalidName: no mark can be called that.
            LayerUnavailable: nobody knows.
        """
        if not names:
            return False
        for name in names:
            require_mark(name)
        return await self._is_marked(names, -inf if since is None else since)

    def watch_outages(self, after: AfterOutage) -> None:
        """Have an async function called whenever this process was cut off from the others.

        What groups were sent meanwhile is read from their histories, and lost where there is
        none. Whoever must not miss such a message looks elsewhere for what it would have said.

        The function is called in the consumers' loop, as this method is, once the others can be
        reached again, in a task that is cancelled when the layer closes. It may be called again
        before it has returned. It is forgotten with that loop. A layer in memory never calls it.

        Args:
            after: what is called.
        """
        self._after_outages.append(after)

    def unwatch_outages(self, after: AfterOutage) -> None:
        """Have this function called no more; where it is not known, nothing happens."""
        if after in self._after_outages:
            self._after_outages.remove(after)

    @abstractmethod
    async def flush(self) -> None:
        """Make the layer as new: forget all messages, groups, histories, presence and marks.

        A consumer that lives would be in no group any more, and its client would
        not know what it has missed. So it is closed, with 1012; the client comes
        back, joins, and learns that it cannot resume. Who waits in `receive` stays.
        """

    def statistics(self) -> dict[str, Any]:
        """What the layer counts in this process, by name, as plain numbers; costs little."""
        return {}

    # What a layer writes. Names, messages and positions are checked by then.

    @abstractmethod
    async def _attach(self, prefix: str, overflow: Overflow, tell_gaps: bool) -> Mailbox: ...

    @abstractmethod
    async def _new_channel(self, prefix: str) -> str: ...

    @abstractmethod
    async def _send(self, channel: str, message: FrozenMessage) -> None: ...

    @abstractmethod
    async def _receive(self, channel: str) -> Message: ...

    async def _take(self, channel: str) -> Delivery:
        return Delivery(await self.receive(channel))

    @abstractmethod
    async def _group_add(
        self, group: str, channel: str, since: Position | None, present: Present
    ) -> Joined: ...

    @abstractmethod
    async def _group_discard(self, group: str, channel: str) -> None: ...

    @abstractmethod
    async def _group_send(self, group: str, message: FrozenMessage, key: str | None) -> Sent: ...

    @abstractmethod
    async def _history(self, group: str, since: Position | None, limit: int | None) -> Replay: ...

    @abstractmethod
    async def _group_channels(self, group: str) -> dict[str, Info]: ...

    @abstractmethod
    async def _presence(self, group: str) -> dict[str, Info]: ...

    @abstractmethod
    async def _presence_count(self, group: str) -> int: ...

    @abstractmethod
    async def _presence_follow(self, group: str, channel: str) -> None: ...

    @abstractmethod
    async def _presence_unfollow(self, group: str, channel: str) -> None: ...

    @abstractmethod
    async def _mark(self, name: str, seconds: float, at: float, leave_room: bool) -> bool: ...

    @abstractmethod
    async def _is_marked(self, names: Collection[str], since: float) -> bool: ...


def _position(since: Position | str | None) -> Position | None:
    return Position.parse(since) if isinstance(since, str) else since
