"""Who follows which group from which position: what one connection owes the next.

Nothing waits here. `Recovery` says which frames to send, and takes those that come.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

from ..exceptions import NotifyError
from .errors import refused_subscription
from .items import Frame, Gap, Notification, is_repeated, text_of

__all__ = ["Delivery", "Follower", "Recovery"]

# Reasons of a gap that the server tells after it has looked into the history. Who asked again
# would lose what follows the gap, too, since an answer that recovers nothing begins behind it.
LOST_FOR_GOOD = {"unrecovered", "unreadable"}


@dataclass(eq=False)
class Follower:
    """One subscriber of one group."""

    group: str
    position: str | None = None
    """All up to here was delivered or never asked for; None: the server has not said yet,
    or keeps no history."""
    is_live: bool = False
    """Whether the server has confirmed it on this connection; until then nothing is taken."""
    was_live: bool = False
    """Whether it ever was confirmed, so that what is missed since then is a gap."""


Delivery = tuple[Follower, Notification | Gap | NotifyError]
"""What is for whom. An error ends the subscription."""


class Recovery:
    """The followers of one client, over all its connections."""

    def __init__(self) -> None:
        self._followers: dict[str, list[Follower]] = {}
        # By the ref of the request: the position that it names, and for whom.
        self._asked: dict[int, tuple[str | None, list[Follower]]] = {}
        self._refs = count(1)

    @property
    def followers(self) -> list[Follower]:
        """All of them."""
        return [each for group in self._followers.values() for each in group]

    def follow(self, follower: Follower) -> Frame:
        """Take in a follower; returns the frame that asks for its group."""
        group = self._followers.setdefault(follower.group, [])
        group.append(follower)
        return self._ask([follower], _earliest(follower, group))

    def leave(self, follower: Follower) -> Frame | None:
        """Let a follower go; returns the frame to send if it was its group's last."""
        group = self._followers.get(follower.group, [])
        if follower not in group:
            return None
        group.remove(follower)
        if group:
            return None
        del self._followers[follower.group]
        return {"type": "unsubscribe", "group": follower.group}

    def resume(self) -> list[Frame]:
        """A new connection begins; returns the frames that ask for all that is missing."""
        self._asked.clear()
        frames = []
        for group in self._followers.values():
            for follower in group:
                follower.is_live = False
            frames += self._ask_by_position(group)
        return frames

    def take(self, frame: Frame) -> tuple[list[Delivery], list[Frame]]:
        """What a frame of the server's brings to whom, and the frames to answer with."""
        match frame["type"]:
            case "notification":
                return list(self._notify(frame)), []
            case "subscribed":
                return self._confirm(frame)
            case "gap":
                return self._lose(frame)
            case "error":
                return list(self._refuse(frame)), []
        return [], []

    def lose_sight(self) -> list[Delivery]:
        """Something came that cannot be read: it may have been for any of those who are live."""
        return [
            (each, Gap(each.group, "unreadable", None)) for each in self.followers if each.is_live
        ]

    def live(self, group: str) -> list[Follower]:
        """The followers of a group who are confirmed."""
        return [each for each in self._followers.get(group, []) if each.is_live]

    def _notify(self, frame: Frame) -> Iterator[Delivery]:
        group, id = frame.get("group"), frame.get("id")
        if not isinstance(group, str) or not isinstance(id, str | None):
            return
        notification = Notification(group, id, frame.get("data"), text_of(frame, "user") or None)
        for follower in self.live(group):
            if not is_repeated(id, follower.position):
                follower.position = id or follower.position
                yield follower, notification

    def _confirm(self, frame: Frame) -> tuple[list[Delivery], list[Frame]]:
        position, recovered = frame.get("position"), frame.get("recovered")
        since, followers = self._answered(frame)
        gaps: list[Delivery] = []
        again: list[Follower] = []
        for follower in followers:
            if recovered is False and follower.position != since:
                again.append(follower)  # what it needs itself may be there
                continue
            # One without a position has nothing to recover from, so it missed what there was.
            missed = recovered is False or (follower.was_live and recovered is None)
            if recovered is not True:  # else it may stand further on than was asked for
                follower.position = position if isinstance(position, str) else None
            follower.is_live = follower.was_live = True
            if missed:
                gaps.append((follower, Gap(follower.group, "unrecovered", None)))
        return gaps, self._ask_by_position(again)

    def _lose(self, frame: Frame) -> tuple[list[Delivery], list[Frame]]:
        group, reason, lost = text_of(frame, "group"), text_of(frame, "reason"), frame.get("lost")
        followers = self.live(group)
        again: list[Follower] = []
        if reason not in LOST_FOR_GOOD:
            # Where there is a history, it may still hold what did not fit on the way.
            again = [each for each in followers if each.position is not None]
        for follower in again:
            follower.is_live = False
        gap = Gap(group, reason, lost if type(lost) is int else None)
        gaps: list[Delivery] = [(each, gap) for each in followers if each.is_live]
        return gaps, self._ask_by_position(again)

    def _refuse(self, frame: Frame) -> Iterator[Delivery]:
        _, followers = self._answered(frame)
        code, message = text_of(frame, "code"), text_of(frame, "message")
        if frame.get("ref") is None and code != "not_subscribed":  # it is about all of the group
            followers = list(self._followers.get(text_of(frame, "group"), []))
        for follower in followers:
            self.leave(follower)
            yield follower, refused_subscription(follower.group, code, message)

    def _answered(self, frame: Frame) -> tuple[str | None, list[Follower]]:
        """The position that this is the answer to, and for whom, without those who left."""
        ref = frame.get("ref")
        since, asked = self._asked.pop(ref, (None, [])) if type(ref) is int else (None, [])
        return since, [each for each in asked if each in self._followers.get(each.group, [])]

    def _ask_by_position(self, followers: list[Follower]) -> list[Frame]:
        """Ask once for those whose question is the same.

        Those who are live are left out: they get the rest in any case, also where the
        server has said that it cannot go back to where they stand.
        """
        places: dict[tuple[str | None, bool], list[Follower]] = {}
        for follower in followers:
            waiting = [each for each in self._followers[follower.group] if not each.is_live]
            place = _earliest(follower, waiting), follower.was_live
            places.setdefault(place, []).append(follower)
        return [self._ask(together, since) for (since, _), together in places.items()]

    def _ask(self, followers: list[Follower], since: str | None) -> Frame:
        ref = next(self._refs)
        self._asked[ref] = since, followers
        frame: Frame = {"type": "subscribe", "group": followers[0].group, "ref": ref}
        return frame if since is None else {**frame, "since": since}


def _earliest(follower: Follower, others: list[Follower]) -> str | None:
    """Where to ask from: no later than what another of the group still needs.

    A connection stands at one place in a group. What a server owes the others it
    sends in any case, if it keeps the protocol to the letter. Asked from here, one
    that replaces what waits by what it is asked for does so, too.
    """
    since = follower.position
    for other in others:
        if is_repeated(other.position, since):
            since = other.position
    return since
