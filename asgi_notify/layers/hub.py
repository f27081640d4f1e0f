"""The channels and groups of this process: where a group message meets its members."""

import secrets
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from itertools import count

from ..exceptions import ChannelFull, LayerClosed
from ..names import require_channel_name
from ..types import Message
from .mailbox import Entry, Mailbox, Overflow

__all__ = ["Hub", "Offered"]

_CONSUMER = "c"  # after the "!" in the name of a consumer's channel

_entry = partial(tuple.__new__, Entry)  # Entry(...) at a third of its cost

SWEEP_AT = 1000  # mailboxes without a consumer before the first look for forgotten ones


Offered = tuple[int, int, list[Mailbox]]
"""How many mailboxes took a message, how many lost it, and who is to be asked again."""


class Hub:
    """Mailboxes by channel, and which of them are in which group.

    Nothing here waits, so nothing is ever half done: each method is one step
    of the event loop. A send touches the mailboxes of its own group alone.

    Args:
        get_capacity: how many messages may wait in the mailbox of a channel.
        expiry: how long a message may wait, in seconds.
        clock: tells the time in seconds.

    Attributes:
        drops: how many messages were lost, by reason.
    """

    def __init__(
        self,
        get_capacity: Callable[[str], int],
        expiry: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.drops: Counter[str] = Counter()
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

    def attach(self, prefix: str, overflow: Overflow) -> Mailbox:
        """Make the mailbox of one consumer; it lives until `detach`."""
        mailbox = self._make(self.new_name(prefix, _CONSUMER), overflow)
        self._attached.add(mailbox)
        return mailbox

    def _has_left(self, channel: str) -> bool:
        """Whether the channel is one of a consumer that was detached."""
        return f".{self._process}!{_CONSUMER}" in channel and channel not in self._mailboxes

    def detach(self, mailbox: Mailbox) -> None:
        """Take a consumer's mailbox out of all its groups and forget it; once is enough."""
        if mailbox not in self._attached:
            return
        for group in tuple(mailbox.groups):
            self._leave(group, mailbox)
        if mailbox.unread:
            self.drops["left"] += mailbox.unread
        self._attached.remove(mailbox)
        del self._mailboxes[mailbox.channel]

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

    def send(self, channel: str, entry: Entry) -> bool:
        """Put a message into one mailbox; False asks to do it again after a turn of the loop.

        A message to a consumer that has left is counted as lost.

        Raises:
            ChannelFull: it did not take the message.
            LayerClosed: its consumer is told to end, since the layer shuts down.
        """
        if self._has_left(channel):
            self.drops["left"] += 1
            return True
        mailbox = self.mailbox(channel)
        taken = mailbox.offer(entry)
        if taken is False:
            if isinstance(mailbox.error, LayerClosed):
                raise LayerClosed(f"{channel} takes no more messages: {mailbox.error}")
            raise ChannelFull(
                f"{channel} takes no more than {mailbox.capacity} unread messages, its "
                "capacity; read it faster, send less, or raise the layer's channel_capacity"
            )
        return taken is True

    # Groups.

    def group_add(self, group: str, channel: str) -> None:
        """Put a channel into a group; once is enough, and too late if its consumer has left."""
        if self._has_left(channel):
            return
        mailbox = self.mailbox(channel)
        mailbox.groups.add(group)
        self._groups.setdefault(group, set()).add(mailbox)

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

    def members(self, group: str) -> Iterable[Mailbox]:
        """The mailboxes in a group, here in this process."""
        return self._groups.get(group, ())

    def group_send(self, group: str, entry: Entry) -> Offered:
        """Put a message into the mailbox of every member of a group."""
        return self.offer(self._groups.get(group, ()), entry)

    @staticmethod
    def offer(members: Iterable[Mailbox], entry: Entry) -> Offered:
        """Put a message into every mailbox, all sharing the one entry."""
        reached = dropped = 0
        late: list[Mailbox] = []
        for mailbox in members:
            taken = mailbox.offer(entry)
            if taken:
                reached += 1
            elif taken is None:
                late.append(mailbox)
            else:
                dropped += 1
        return reached, dropped, late

    def clear(self) -> None:
        """Forget all groups and messages, and the channels that nobody reads."""
        for mailbox in self._mailboxes.values():
            mailbox.groups.clear()
            mailbox.forget()
        self._groups.clear()
        self._mailboxes = {
            channel: mailbox
            for channel, mailbox in self._mailboxes.items()
            if mailbox in self._attached or mailbox.is_read
        }

    def _make(self, channel: str, overflow: Overflow) -> Mailbox:
        if len(self._mailboxes) - len(self._attached) >= self._sweep_at:
            self._sweep()
        capacity = self._get_capacity(channel)
        mailbox = Mailbox(channel, capacity, overflow, self.drops, self._clock)
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
