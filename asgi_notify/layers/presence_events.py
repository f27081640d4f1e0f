"""Who is notified that somebody came to a group or left it."""

from collections.abc import Callable
from math import inf

from ..codec import stamped
from .alarm import Alarm
from .entries import JOIN, LEAVE, followers_of
from .hub import Hub, Lagging
from .presence import Arrival, Departure, Info, Presence

__all__ = ["PresenceEvents"]

AT_ONCE = 1000  # leaves announced in one go; then the loop serves others


class PresenceEvents:
    """The presence in the groups of a hub, as those learn of it who follow it.

    A follower gets ``{"type": "presence.join" or "presence.leave", "group": ...,
    "member": ..., "info": ...}``. It need not be in the group itself.

    It watches the hub, so that whoever leaves a group leaves its presence.

    Args:
        presence: who is in which group.
        hub: whose groups.
        clock: returns the time in seconds, as the presence has it.
        has_loop: whether the event loop that runs here and now is the one to be woken in.
    """

    def __init__(
        self,
        presence: Presence,
        hub: Hub,
        clock: Callable[[], float],
        has_loop: Callable[[], bool],
    ) -> None:
        self.presence = presence
        self._hub = hub
        self._clock = clock
        self._has_loop = has_loop
        self._alarm: Alarm | None = None  # for the next leave that is to be announced

    def join(self, group: str, channel: str, member: str | None, info: Info) -> Lagging:
        """Count a channel of a group as present."""
        lagging = self.announce()
        if not self._hub.has_member(group, channel):
            return lagging  # its consumer has left
        arrival = self.presence.join(group, channel, member, info)
        return lagging if arrival is None else [*lagging, *self._announce(arrival)]

    def announce(self, limit: float = inf) -> Lagging:
        """Announce the members that left for good, at most so many."""
        lagging: list[Lagging] = [
            self._announce(departure) for departure in self.presence.due(limit)
        ]
        return [mailbox for some in lagging for mailbox in some]

    def follow(self, group: str, channel: str) -> None:
        """Tell a channel from now on who comes to a group and who leaves it."""
        self._hub.group_add(followers_of(group), channel)

    def unfollow(self, group: str, channel: str) -> None:
        """Tell a channel no more."""
        self._hub.group_discard(followers_of(group), channel)

    def group_begins(self, group: str) -> None:
        """Nothing follows from it here."""

    def group_ends(self, group: str) -> None:
        """Nothing follows from it here."""

    def member_left(self, group: str, channel: str) -> None:
        """Count a channel as gone that has left a group, and see to it that this is announced."""
        self.presence.leave(group, channel)
        self.watch()

    def clear(self) -> None:
        """Forget who is present, and announce nothing of it."""
        self.presence.clear()
        self.rest()

    def watch(self) -> None:
        """See to it that the next leave is announced in time.

        Without a loop it is announced when the presence is asked for next.
        """
        due = self.presence.next_due
        if due is not None and self._alarm is None and self._has_loop():
            self._alarm = Alarm(self._ring)
            self._alarm.set(max(0.0, due - self._clock()))

    def rest(self) -> None:
        """Wait for no leave any more."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _ring(self) -> None:
        """Announce what is due, and let the followers read, so that many leaves lose none."""
        if self._alarm is None:
            return  # it was cancelled while it rang
        for _ in range(AT_ONCE):
            due = self.presence.next_due
            if due is None or due > self._clock() or self.announce(1):
                break
        if (due := self.presence.next_due) is None:
            self._alarm = None
        else:
            self._alarm.set(max(0.0, due - self._clock()))

    def _announce(self, event: Arrival | Departure) -> Lagging:
        kind = JOIN if isinstance(event, Arrival) else LEAVE
        message = {"type": kind, **event._asdict()}
        return self._hub.deliver(followers_of(event.group), stamped(message, event.group))[1]
