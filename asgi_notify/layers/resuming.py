"""Where a member of a group goes on: with what it has missed, and all that it is still owed.

A replay takes the place of what waits of the history in the member's mailbox, and loses
nothing by that: it begins at the earlier of two positions, the one that is asked for and
the one from which on the member is owed the rest. Where the history does not reach back so
far, what waits stays as it is.
"""

from ..positions import Position
from .results import Joined, Replay

__all__ = ["joined", "replay_from"]


def replay_from(since: Position, owed: Position | None) -> Position:
    """Where the replay begins.

    Args:
        since: the position that is asked for.
        owed: the one that a member is owed the rest from, or None.
    """
    return since if owed is None or since.is_within(owed) else owed


def joined(since: Position, owed: Position | None, replay: Replay) -> Joined:
    """What the member is answered, whose replay began where `replay_from` says."""
    start, top = replay_from(since, owed), replay.position
    # All behind what is owed waits or is told lost, whatever the history still holds.
    is_owed = top is not None and since.is_within(top)
    is_recovered = replay.recovered if start == since else is_owed
    if is_recovered:
        return Joined(start, True, len(replay.messages))
    return Joined(owed or top, False, 0)
