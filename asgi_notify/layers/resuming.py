"""Where a member of a group goes on: with what it has missed, and all that it is still owed."""

from ..positions import Position
from .entries import Replayed
from .history import Histories
from .mailbox import Mailbox
from .results import Joined

__all__ = ["resume"]


def resume(
    histories: Histories, mailbox: Mailbox, group: str, since: Position | None, expires_at: float
) -> Joined:
    """Put what a group was sent since a position into a mailbox, which loses nothing by that.

    The replay begins at the earlier of two positions: the one that is asked for,
    and the one that a member is owed the rest from. So it holds all that waits of
    the history, and takes its place. Where the history does not reach back so
    far, what waits stays as it is.

    Args:
        histories: of all groups.
        mailbox: of the channel that asks.
        group: which one.
        since: the position; None for from now on.
        expires_at: until when a replayed message waits, on the mailbox's clock.
    """
    # What waits of an earlier membership is not owed: something may be missing behind it.
    owed = mailbox.owed(group) if group in mailbox.groups else None
    if since is None:
        return Joined(owed or histories.top(group), None, 0)
    start = since if owed is None or since.is_within(owed) else owed
    messages, reaches, top = histories.since(group, start)
    if reaches:
        mailbox.replay(group, [Replayed(expires_at, message) for message in messages])
    # All behind what is owed waits or is told lost, whatever the history still holds.
    is_recovered = reaches if start is since else top is not None and since.is_within(top)
    return Joined(start, True, len(messages)) if is_recovered else Joined(owed or top, False, 0)
