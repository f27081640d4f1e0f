"""The channels and groups of this process: where a group message meets its members.

Two tables say the same thing from both ends, and change in the same step::

    _groups:     "user_42" --> {mailbox, mailbox}     whom a message to the group reaches
    mailbox.groups         --> {"user_42", "news"}    what a consumer leaves when it ends

All of it belongs to the one event loop that the consumers live in, and nothing here waits.
So there is no lock, and whoever awaits between two calls must look again at what it saw.
"""

import secrets
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import count
from typing import Protocol

from ..codec import FrozenMessage
from ..exceptions import ChannelFull, LayerClosed
from ..names import require_channel_name
from ..positions import Position
from ..types import Message
from .entries import CLOSE, CloseRequest, Entry, Losses, Replayed
from .mailbox import Mailbox
from .overflow import Overflow
from .results import Sent

__all__ = ["Hub", "Lagging", "Watcher"]

_FLUSHED = "the layer was flushed; come back"

_CONSUMER = "c"  # after the "!" in the name of a consumer's channel

# The class of a named tuple makes its objects in a function written in Python. These two, of
# which each message needs one, are made without it, at a third of the cost.
_entry = partial(tuple.__new__, Entry)
_sent = partial(tuple.__new__, Sent)

SWEEP_AT = 1000  # mailboxes without a consumer before the first look for forgotten ones


Lagging = Sequence[Mailbox]
"""Those that a sender is to let catch up."""


class Watcher(Protocol):
    """Who is notified of the groups of a hub, such as an engine that carries them.

    Each call is part of the hub's step: it must not wait, fail, or call the hub.
    """

    def group_begins(self, group: str) -> None:
        """A group has got its first member in this process."""

    def group_ends(self, group: str) -> None:
        """A group has lost its last member in this process."""

    def member_left(self, group: str, channel: str) -> None:
        """A channel has left a group, or its consumer has ended."""


class Hub:
    """Mailboxes by channel, and which of them are in which group.

    Nothing here waits, so nothing is ever half done: each method is one step of the event
    loop. A send touches the mailboxes of its own group and no others, however many there are.

    Args:
        get_capacity: how many messages may wait in the mailbox of a channel.
        expiry: how long a message may wait, in seconds.
        clock: returns the time in seconds.

    Attributes:
        watcher: who is notified when groups begin and end, and who leaves them.
        drops: how many messages were lost, by reason and by group.
        process: what the names of this hub's own channels have in them, and no other's.
    """

    def __init__(
        self,
        get_capacity: Callable[[str], int],
        expiry: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.drops = Losses()
        self.process = secrets.token_hex(4)
        self.watcher: Watcher | None = None
        self._get_capacity = get_capacity
        self._expiry = min(expiry, sys.float_info.max)  # infinity stands for a client's event
        self._clock = clock
        self._mailboxes: dict[str, Mailbox] = {}
        self._groups: dict[str, set[Mailbox]] = {}
        self._attached: set[Mailbox] = set()
        self._sweep_at = SWEEP_AT
        self._numbers = count(1)

    def new_name(self, prefix: str, kind: str = "") -> str:
        """A channel name that nobody else has: ``prefix.process!number``.

        Raises:
            InvalidName: with this prefix it would be no name.
        """
        name = f"{prefix.rstrip('.')}.{self.process}!{kind}{next(self._numbers)}"
        return require_channel_name(name)

    # Consumers' mailboxes.

    @property
    def group_count(self) -> int:
        """How many groups have a member here."""
        return len(self._groups)

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
        return f".{self.process}!{_CONSUMER}" in channel and channel not in self._mailboxes

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

    def send(self, channel: str, message: Message) -> Lagging:
        """Put a message into one mailbox; one to a consumer that has left is counted as lost.

        Raises:
            ChannelFull: it did not take the message.
            LayerClosed: its consumer has been asked to end, since the layer shuts down.
        """
        if self._has_left(channel):
            self.drops["left"] += 1
            return ()
        mailbox = self.mailbox(channel)
        if message["type"] == CLOSE:
            taken: bool | None = mailbox.order(CloseRequest.of(message))
        else:
            taken = mailbox.offer(_entry((self._clock() + self._expiry, message)))
        if taken is False:
            if isinstance(mailbox.error, LayerClosed):
                raise LayerClosed(f"{channel} takes no more messages: {mailbox.error}")
            raise ChannelFull(
                f"{channel} takes no more than {mailbox.capacity} unread messages, its "
                "capacity; read it faster, send less, or raise the layer's channel_capacity"
            )
        return () if taken else (mailbox,)

    # Groups.

    def group_add(self, group: str, channel: str, missed: Sequence[Message] | None = None) -> bool:
        """Put a channel into a group, behind what it has missed; return whether it is there.

        Once is enough, and it is too late if the consumer of the channel has left.

        Args:
            group: which one.
            channel: who.
            missed: what comes first, oldest first; it takes the place of what still waits
                of the group's history. None leaves that as it is.
        """
        if self._has_left(channel):
            return False
        mailbox = self.mailbox(channel)
        if missed is not None:
            expires_at = self._clock() + self._expiry
            mailbox.replay(group, [Replayed(expires_at, message) for message in missed])
        elif group not in mailbox.groups:
            mailbox.rejoin(group)
        mailbox.groups.add(group)
        members = self._groups.get(group)
        if members is None:
            members = self._groups[group] = set()
            if self.watcher is not None:
                self.watcher.group_begins(group)
        members.add(mailbox)
        return True

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
        if self.watcher is not None:
            self.watcher.member_left(group, mailbox.channel)
            if not members:
                self.watcher.group_ends(group)

    def has_member(self, group: str, channel: str) -> bool:
        """Whether a channel is in a group, here in this process."""
        mailbox = self._mailboxes.get(channel)
        return mailbox is not None and group in mailbox.groups

    def has_members(self, group: str) -> bool:
        """Whether anybody is in a group, here in this process."""
        return group in self._groups

    def members(self, group: str) -> Iterable[Mailbox]:
        """The mailboxes in a group, here in this process."""
        return self._groups.get(group, ())

    def deliver(self, group: str, message: FrozenMessage) -> tuple[Sent, Lagging]:
        """Put a message into every member's mailbox; all of them share one entry."""
        if message["type"] == CLOSE:
            return self._order(group, CloseRequest.of(message)), ()
        entry = _entry((self._clock() + self._expiry, message))
        reached = dropped = 0
        lagging: list[Mailbox] = []
        for mailbox in self._groups.get(group, ()):
            taken = mailbox.offer(entry)
            if taken:
                reached += 1
            elif taken is None:
                reached += 1
                lagging.append(mailbox)
            else:
                dropped += 1
        return _sent((reached, dropped, message.position)), lagging

    def owed(self, group: str, channel: str) -> Position | None:
        """The position from which on a member is still owed what waits for it; see `resuming`."""
        mailbox = self._mailboxes.get(channel)
        # What waits of an earlier membership is not owed: something may be missing behind it.
        if mailbox is None or group not in mailbox.groups:
            return None
        return mailbox.owed(group)

    def lose(
        self, group: str, reason: str, lost: int | None, after: Position | None = None
    ) -> None:
        """Count messages that were lost before they came here, and tell every member that asked.

        Args:
            group: whose they were.
            reason: why they were lost.
            lost: how many, or None where nobody can say.
            after: the position right before the first of them, where it had one.
        """
        for mailbox in self._groups.get(group, ()):
            mailbox.lose(group, reason, lost, after)

    def _order(self, group: str, entry: CloseRequest) -> Sent:
        taken = [mailbox.order(entry) for mailbox in self.members(group)]
        return Sent(sum(taken), len(taken) - sum(taken))

    def clear(self) -> None:
        """Forget all groups and messages, and the channels that nobody reads; end all consumers.

        The watcher is notified that the groups end, not who was in them: whoever clears the hub
        clears what is known of its members.
        """
        for mailbox in self._mailboxes.values():
            mailbox.groups.clear()
            mailbox.forget()
        ended, self._groups = self._groups, {}
        if self.watcher is not None:
            for group in ended:
                self.watcher.group_ends(group)
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
