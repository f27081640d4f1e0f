"""What carries messages between processes: the contract of an engine.

A layer knows the channels and groups of its own process. What all processes know is in an
engine: the histories of the groups, which messages were published already, who is present,
what waits for workers, and names that are marked. Whoever writes an engine writes one class;
the rest of a layer on it is `EngineChannelLayer`'s, and the layers' contract suite tests it.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple, Protocol

from ..positions import Position
from .history import History

__all__ = [
    "Engine",
    "Gone",
    "Held",
    "Lease",
    "Published",
    "Read",
    "Receiver",
]


class Published(NamedTuple):
    """What became of a publication."""

    receivers: int
    """How many processes followed the topic; those that came to it twice count twice."""
    position: Position | None
    """Where it stands in the history of its group, or None where it is not kept."""


class Read(NamedTuple):
    """What the history of a group holds after a position."""

    entries: Sequence[tuple[int, bytes]]
    """Offset and payload, oldest first: all that is left, even where some are missing."""
    is_whole: bool
    """Whether nothing is missing between the position asked for and the first of them."""
    top: Position
    """Where the group stands: the position of the newest message that it ever was sent."""


class Lease(NamedTuple):
    """One channel's place in the presence of a group, which its process renews."""

    group: str
    channel: str
    member: str
    """Who stands behind the channel."""
    info: bytes | None
    """What `Engine.present` says of it, encoded."""


class Gone(NamedTuple):
    """A member that has left a group for good, everywhere."""

    group: str
    member: str
    info: bytes | None
    """What its last channel said of itself."""


class Held(NamedTuple):
    """A message of a fixed-name channel, handed to one reader."""

    token: object
    """What to give to `Engine.settle` when it was handled."""
    payload: bytes
    attempt: int = 1
    """How many readers have had it, this one included and those not that gave it back."""


class Receiver(Protocol):
    """Whom an engine brings what it carries: the layer. Called in the engine's event loop."""

    def receive(self, topic: str, payload: bytes, position: Position | None) -> None:
        """Take a message of a topic that this process subscribes to. Never waits or fails."""

    def went_down(self, reason: str, part: str = "") -> None:
        """The engine cannot be reached; once for each time.

        An engine of several servers names the one as ``part``; see `Engine.part_of`.
        """

    def came_up(self, part: str = "") -> None:
        """It can be reached again, and all subscriptions stand; messages may be missed."""


class Engine(ABC):
    """Carries publications between processes, and keeps what all of them know.

    An engine object belongs to one layer, and is opened and used in one event loop at a
    time. What every engine promises:

    - A publication with a history is one step: nobody sees the position without the
      message, and the subscribers of a topic get what is kept in the order of the
      positions, apart from what is lost on the way.
    - Once `subscribe` has returned, every publication from then on comes, until the
      connection breaks; then `Receiver.went_down` and `Receiver.came_up` are called.
    - It reconnects and subscribes again by itself. A call while it is away waits no longer
      than the engine's ``timeout`` seconds and raises `LayerUnavailable`.
    - It holds nothing for longer than it was told to: histories for their ``ttl``, keys for
      their window, presence for the lease, what waits for workers for its ``expiry``, marks
      for their time. Times are in seconds.

    Topics are the names of groups, and names that the layer makes, of printable ASCII
    characters. How they are spelled as keys is the engine's own matter.
    """

    @abstractmethod
    async def open(self, receiver: Receiver) -> None:
        """Connect, in the event loop that runs; what comes is for the receiver.

        Raises:
            LayerUnavailable: it could not be reached in time.
        """

    @abstractmethod
    async def close(self) -> None:
        """Let go of the connection and of all tasks; doing it twice is doing it once."""

    def part_of(self, name: str) -> str:
        """Which part of the engine a topic, a group or a channel lives on; "" where it is one.

        While that part is down, only what lives there fails.
        """
        return ""

    # Topics.

    @abstractmethod
    async def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        keep: History | None = None,
        key: str | None = None,
        window: float = 0.0,
    ) -> Published:
        """Send a message to all who subscribe to the topic, and keep it where that is asked for.

        Args:
            topic: where to.
            payload: what.
            keep: how much of the topic's past is kept, this message included; None: nothing.
            key: the same for a message that is sent again; within ``window`` seconds after
                the first one nothing is sent or kept, and the first one's answer comes back.
            window: seconds.

        Raises:
            LayerUnavailable: nobody knows whether it was sent.
        """

    @abstractmethod
    async def subscribe(self, topics: Collection[str]) -> None:
        """Have the receiver get what is published to these from now on, besides the others.

        Where it raises or is cancelled, those that were not subscribed to before still are not.
        """

    @abstractmethod
    async def unsubscribe(self, topics: Collection[str]) -> None:
        """Have the receiver get no more of these; a message on its way may still come."""

    # Histories.

    @abstractmethod
    async def read(
        self, topic: str, keep: History, after: Position | None = None, limit: int | None = None
    ) -> Read:
        """What is kept of a topic after a position, or all of it; with its top.

        With a ``limit``, at most so many, the oldest of them.
        """

    @abstractmethod
    async def tops(self, topics: Mapping[str, History]) -> dict[str, Position]:
        """Where each of these topics stands. Asking keeps nothing in memory.

        Topics of a part that cannot be reached are missing; if all are, it raises.
        """

    # Presence.

    @abstractmethod
    async def enter(self, lease: Lease, seconds: float) -> bool:
        """Count a channel as present for so long; once more replaces its info and member.

        Returns whether its member had no channel in the group, here or in another process.
        """

    @abstractmethod
    async def renew(self, leases: Collection[Lease], seconds: float) -> list[Lease]:
        """Count channels as present for so long from now on; one that was lost is entered.

        Returns those of them that were lost and whose member had no other channel in the group,
        so that it was gone, or nobody knows any more that it was there.
        """

    @abstractmethod
    async def leave(self, group: str, channel: str, grace: float) -> None:
        """Count a channel as present no more; its member is gone ``grace`` seconds later."""

    @abstractmethod
    async def gone(self, groups: Collection[str], grace: float) -> list[Gone]:
        """Take out the members of these groups that are gone by now: each is told to one caller.

        A channel whose lease ran out left at that moment, and its member ``grace`` seconds
        later.
        """

    @abstractmethod
    async def present(self, group: str) -> list[Lease]:
        """The channels that are present, in the order in which they entered."""

    @abstractmethod
    async def count(self, group: str) -> int:
        """How many members a group has, those included that left and are not gone yet."""

    # Channels with a fixed name.

    @abstractmethod
    async def push(self, channel: str, payload: bytes, capacity: int, expiry: float) -> bool:
        """Let a message wait for one reader; False where as many wait already as may."""

    @abstractmethod
    async def pull(self, channel: str, hold: float) -> Held:
        """Wait for the next message of a channel, for no more than one reader at a time.

        One that is not settled within ``hold`` seconds is given to another reader. Whoever
        is cancelled has none.
        """

    @abstractmethod
    async def extend(self, channel: str, token: object, hold: float) -> None:
        """Give a message to nobody else for so long from now on, if its reader still has it."""

    @abstractmethod
    async def settle(self, channel: str, token: object) -> None:
        """Forget a message that was handled."""

    @abstractmethod
    async def release(self, channel: str, token: object) -> None:
        """Give back a message that was not handled: the next reader gets it, before all others."""

    # Marks.

    @abstractmethod
    async def mark(self, name: str, seconds: float, at: float) -> bool:
        """Remember a name for so long, in one step; return whether it was not remembered yet.

        Of one that is, the time is made longer and never shorter, and of the moments that it
        stands for, the latest is kept. ``at`` is in seconds since 1970, or infinity.
        """

    @abstractmethod
    async def is_marked(self, names: Collection[str], since: float) -> bool:
        """Whether one of these is remembered with a moment that is not earlier.

        Raises:
            LayerUnavailable: nobody knows; then it never returns that none is.
        """

    # All of it.

    @abstractmethod
    async def forget(self) -> None:
        """Forget all histories, keys, presence, what waits, and marks."""

    @abstractmethod
    def statistics(self) -> Mapping[str, float]:
        """What the engine counts, by name: at least ``reconnects``."""
