"""The channels and groups of this process: where a group message meets its members."""

import secrets
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import count

from ..codec import FrozenMessage
from ..exceptions import ChannelFull, LayerClosed
from ..names import require_channel_name
from ..positions import Position
from ..types import Message
from .entries import CLOSE, Entry, Losses, Order
from .history import PASSING, Histories
from .idempotency import Publications
from .mailbox import Mailbox
from .overflow import Overflow
from .presence import Info, Presence
from .results import Joined, Sent
from .resuming import resume

__all__ = ["Hub", "Late"]

_FLUSHED = "the layer was flushed; come back"

_CONSUMER = "c"  # after the "!" in the name of a consumer's channel

# These at a third of their cost.
_entry = partial(tuple.__new__, Entry)
_sent = partial(tuple.__new__, Sent)

SWEEP_AT = 1000  # mailboxes without a consumer before the first look for forgotten ones


Late = Sequence[Mailbox]
"""Those that a sender is to let catch up."""


class Hub:
    """Mailboxes by channel, and which of them are in which group.

    Nothing here waits, so nothing is ever half done: each method is one step
    of the event loop. A send touches the mailboxes of its own group alone.

    Args:
        get_capacity: how many messages may wait in the mailbox of a channel.
        expiry: how long a message may wait, in seconds.
        clock: tells the time in seconds.
        histories: what is kept of which groups; nothing where it is not given.
        publications: which messages were published already.
        presence: who is in which group.

    Attributes:
        drops: how many messages were lost, by reason and by group.
    """

    def __init__(
        self,
        get_capacity: Callable[[str], int],
        expiry: float,
        clock: Callable[[], float] = time.monotonic,
        histories: Histories | None = None,
        publications: Publications[Sent] | None = None,
        presence: Presence | None = None,
    ) -> None:
        self.drops = Losses()
        self.histories = Histories({}, clock=clock) if histories is None else histories
        self.publications = Publications(clock=clock) if publications is None else publications
        self.presence = Presence(clock=clock) if presence is None else presence
        self._get_capacity = get_capacity
        self._expiry = min(expiry, sys.float_info.max)  # infinity stands for a client's event
        self._clock = clock
        self._mailboxes: dict[str, Mailbox] = {}
        self._groups: dict[str, set[Mailbox]] = {}
        self._attached: set[Mailbox] = set()
        self._sweep_at = SWEEP_AT
        self._process = secrets.token_hex(4)
        self._numbers = count(1)

    def new_name(self, prefix: str, kind: str = "") -> str:
        """A channel name that nobody else has: ``prefix.process!number``.

        Raises:
            InvalidName: with this prefix it would be no name.
        """
        name = f"{prefix.rstrip('.')}.{self._process}!{kind}{next(self._numbers)}"
        return require_channel_name(name)

    # Consumers' mailboxes.

    @property
    def attached(self) -> frozenset[Mailbox]:
        """The mailboxes of the consumers that live."""
        return frozenset(self._attached)

    def attach(self, prefix: str, overflow: Overflow, tell_gaps: bool = False) -> Mailbox:
        """Make the mailbox of one consumer; it lives until `detach`."""
        mailbox = self._make(self.new_name(prefix, _CONSUMER), overflow, tell_gaps)
        self._attached.add(mailbox)
        return mailbox

    def is_attached(self, mailbox: Mailbox) -> bool:
        """Whether it is that of a consumer that lives."""
        return mailbox in self._attached

    def _has_left(self, channel: str) -> bool:
        """Whether the channel is one of a consumer that was detached."""
        return f".{self._process}!{_CONSUMER}" in channel and channel not in self._mailboxes

    def detach(self, mailbox: Mailbox) -> None:
        """Take a consumer's mailbox out of all its groups and forget it; once is enough."""
        if mailbox not in self._attached:
            return
        for group in tuple(mailbox.groups):
            self._leave(group, mailbox)
        mailbox.leave()
        self._attached.remove(mailbox)
        del self._mailboxes[mailbox.channel]

    def abandon(self) -> None:
        """Let go of all consumers and of all who wait, since their event loop has ended."""
        for mailbox in self._mailboxes.values():
            mailbox.abandon()
        for mailbox in self.attached:
            self.detach(mailbox)

    # Channels.

    @property
    def is_read(self) -> bool:
        """Whether a consumer lives or somebody waits for a message."""
        return bool(self._attached) or any(box.is_read for box in self._mailboxes.values())

    def mailbox(self, channel: str) -> Mailbox:
        """The mailbox of a channel, made where there is none."""
        return self._mailboxes.get(channel) or self._make(channel, "drop_newest")

    def release(self, mailbox: Mailbox) -> None:
        """Forget a mailbox without a consumer that is empty, unread and in no group."""
        idle = not (mailbox.unread or mailbox.is_read or mailbox.groups)
        if idle and mailbox not in self._attached:
            self._mailboxes.pop(mailbox.channel, None)

    def entry(self, message: Message) -> Entry:
        """The message as it waits in mailboxes, from now on."""
        return _entry((self._clock() + self._expiry, message))

    def send(self, channel: str, message: Message) -> Late:
        """Put a message into one mailbox; one to a consumer that has left is counted as lost.

        Raises:
            ChannelFull: it did not take the message.
            LayerClosed: its consumer is told to end, since the layer shuts down.
        """
        if self._has_left(channel):
            self.drops["left"] += 1
            return ()
        mailbox = self.mailbox(channel)
        if message["type"] == CLOSE:
            taken: bool | None = mailbox.order(Order.of(message))
        else:
            taken = mailbox.offer(self.entry(message))
        if taken is False:
            if isinstance(mailbox.error, LayerClosed):
                raise LayerClosed(f"{channel} takes no more messages: {mailbox.error}")
            raise ChannelFull(
                f"{channel} takes no more than {mailbox.capacity} unread messages, its "
                "capacity; read it faster, send less, or raise the layer's channel_capacity"
            )
        return () if taken else (mailbox,)

    # Groups.

    def group_add(self, group: str, channel: str, since: Position | None = None) -> Joined:
        """Put a channel into a group, behind what it has missed since a position.

        Once is enough, and it is too late if the consumer of the channel has left.
        A member that asks again loses nothing that it is still owed.
        """
        if self._has_left(channel):
            return Joined(self.histories.top(group), None if since is None else False, 0)
        mailbox = self.mailbox(channel)
        joined = resume(self.histories, mailbox, group, since, self._clock() + self._expiry)
        mailbox.groups.add(group)
        self._groups.setdefault(group, set()).add(mailbox)
        return joined

    def group_discard(self, group: str, channel: str) -> None:
        """Take a channel out of a group, if it is there."""
        mailbox = self._mailboxes.get(channel)
        if mailbox is not None and group in mailbox.groups:
            self._leave(group, mailbox)
            self.release(mailbox)

    def _leave(self, group: str, mailbox: Mailbox) -> None:
        mailbox.groups.discard(group)
        members = self._groups[group]
        members.discard(mailbox)
        if not members:
            del self._groups[group]
        self.presence.leave(group, mailbox.channel)

    def has_member(self, group: str, channel: str) -> bool:
        """Whether a channel is in a group, here in this process."""
        mailbox = self._mailboxes.get(channel)
        return mailbox is not None and group in mailbox.groups

    def members(self, group: str) -> Iterable[Mailbox]:
        """The mailboxes in a group, here in this process."""
        return self._groups.get(group, ())

    def group_channels(self, group: str) -> dict[str, Info]:
        """The channels of a group, with the info of those that gave one."""
        told = self.presence.members(group)
        return {mailbox.channel: told.get(mailbox.channel) for mailbox in self.members(group)}

    def publish(
        self, group: str, message: FrozenMessage, key: str | None = None
    ) -> tuple[Sent, Late]:
        """Keep a message in its group's history, and put it into every member's mailbox.

        All members share one entry. With a key that is known for the group it
        does nothing, and returns what became of the message that had it first.
        """
        if key is not None and (first := self.publications.first(group, key)) is not None:
            return first, ()
        if self.histories.keeps(group) and message["type"] not in PASSING:
            message = self.histories.append(group, message)
        if message["type"] == CLOSE:
            sent, late = self._order(group, Order.of(message)), list[Mailbox]()
        else:
            sent, late = self._spread(group, message)
        if key is not None:
            self.publications.remember(group, key, sent)
        return sent, late

    def _spread(self, group: str, message: FrozenMessage) -> tuple[Sent, list[Mailbox]]:
        entry = self.entry(message)
        reached = dropped = 0
        late: list[Mailbox] = []
        for mailbox in self._groups.get(group, ()):
            taken = mailbox.offer(entry)
            if taken:
                reached += 1
            elif taken is None:
                reached += 1
                late.append(mailbox)
            else:
                dropped += 1
        return _sent((reached, dropped, message.position)), late

    def _order(self, group: str, entry: Order) -> Sent:
        taken = [mailbox.order(entry) for mailbox in self.members(group)]
        return Sent(sum(taken), len(taken) - sum(taken))

    def clear(self) -> None:
        """Forget all groups and messages, and the channels that nobody reads; end all consumers."""
        self.histories.clear()
        self.publications.clear()
        self.presence.clear()
        for mailbox in self._mailboxes.values():
            mailbox.groups.clear()
            mailbox.forget()
        self._groups.clear()
        for mailbox in self.attached:
            mailbox.close(LayerClosed(_FLUSHED))
        self._mailboxes = {
            channel: mailbox
            for channel, mailbox in self._mailboxes.items()
            if mailbox in self._attached or mailbox.is_read
        }

    def _make(self, channel: str, overflow: Overflow, tell_gaps: bool = False) -> Mailbox:
        if len(self._mailboxes) - len(self._attached) >= self._sweep_at:
            self._sweep()
        capacity = self._get_capacity(channel)
        mailbox = Mailbox(channel, capacity, overflow, self.drops, self._clock, tell_gaps)
        self._mailboxes[channel] = mailbox
        return mailbox

    def _sweep(self) -> None:
        """Let go of what was sent to channels that nobody reads, once it has expired."""
        unread = [box for box in self._mailboxes.values() if box not in self._attached]
        for mailbox in unread:
            mailbox.expire()
            self.release(mailbox)
        # Twice what is left: each new mailbox then pays for a constant part of a sweep.
        self._sweep_at = max(SWEEP_AT, 2 * (len(self._mailboxes) - len(self._attached)))
