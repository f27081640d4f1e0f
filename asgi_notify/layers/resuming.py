"""From which position a channel is sent a group's history again, when it joins with ``since``.

For a channel that is new in the group, this is the position that it asks for. A channel that is
a member already may ask again, while messages of the group still wait in its mailbox. Those are
owed to it: it has been promised all that follows a certain position, and has not read it yet.

The replay replaces what waits of the group's history in the mailbox, or the same messages would
come twice. So it begins at the earlier of the two positions, the one that is asked for and the
one from which on the member is owed messages, and none of these is lost. Where the history does
not reach back so far, there is no replay, and what waits stays as it is.
"""

from ..positions import Position
from .results import Joined, Replay

__all__ = ["joined", "replay_from"]


def replay_from(since: Position, owed: Position | None) -> Position:
    """The position after which the replay begins.

    If the two are of different histories, neither is the earlier one, and it begins at what is
    owed, since that was promised.

    Args:
        since: the position that is asked for.
        owed: the position after which a member is owed all messages; None if it is owed none.
    """
    return since if owed is None or since.is_within(owed) else owed


def joined(since: Position, owed: Position | None, replay: Replay) -> Joined:
    """What the member is answered, after a replay that began where `replay_from` says.

    Args:
        since: the position that was asked for.
        owed: as for `replay_from`.
        replay: what was found in the history after the beginning of the replay.
    """
    start, top = replay_from(since, owed), replay.position
    # Where the replay began at what is owed, its messages wait already, or their loss is
    # reported in its place. So the member misses nothing after `since`, even if the history
    # does not hold it any more.
    is_owed = top is not None and since.is_within(top)
    is_recovered = replay.recovered if start == since else is_owed
    if is_recovered:
        return Joined(start, True, len(replay.messages))
    return Joined(owed or top, False, 0)
