"""The layer of a single process: no engine, nothing between a sender and the mailboxes."""

import re
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any, Self
from urllib.parse import urlsplit

from ..codec import FrozenMessage
from ..exceptions import ConfigurationError, InvalidChannelLayerError
from ..positions import Position
from .base import CAPACITY, EXPIRY, Present
from .history import MAX_GROUPS, Histories, History, is_transient
from .hub import Lagging
from .idempotency import WINDOW, Publications
from .local import LocalChannelLayer
from .marks import MAX_MARKS, Marks
from .overflow import Overflow
from .presence import GRACE, Info, Presence
from .presence_events import PresenceEvents
from .processes import warn_of_processes
from .results import Joined, Replay, Sent
from .resuming import joined, replay_from
from .urls import OPTIONS, Options, read_options

__all__ = ["InMemoryChannelLayer"]

_OWN_OPTIONS: Options = {"history_groups": int, "max_marks": int}


class InMemoryChannelLayer(LocalChannelLayer):
    """A channel layer within one process.

    Its consumers live in one event loop: the one of the first consumer or
    reader, until that loop ends. Publishers may be in any thread and loop; what
    they send from elsewhere is handed over to the consumers' loop.

    Args:
        history: how much is kept of which groups, by glob or compiled pattern;
            the first that matches counts, and groups that match none have no history.
        history_groups: how many groups' histories are kept at once.
        idempotency_window: for how long a message's key is known, in seconds.
        presence_grace: how long a member may be away without having left, in seconds.
        max_marks: how many marks are remembered at once; one more is refused.
        clock: returns the time in seconds, for tests.
    """

    def __init__(
        self,
        *,
        capacity: int = CAPACITY,
        channel_capacity: Mapping[str | re.Pattern[str], int] | None = None,
        expiry: float = EXPIRY,
        overflow: Overflow = "disconnect",
        debug: bool = False,
        history: Mapping[str | re.Pattern[str], History] | None = None,
        history_groups: int = MAX_GROUPS,
        idempotency_window: float = WINDOW,
        presence_grace: float = GRACE,
        max_marks: int = MAX_MARKS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(
            capacity=capacity,
            channel_capacity=channel_capacity,
            expiry=expiry,
            overflow=overflow,
            debug=debug,
            clock=clock,
        )
        self._histories = Histories(history or {}, history_groups, clock)
        self._publications: Publications[Sent] = Publications(idempotency_window, clock=clock)
        self._marks = Marks(max_marks, clock)
        self._presence_events = PresenceEvents(
            Presence(presence_grace, clock), self.hub, clock, self._is_in_loop
        )
        self.hub.watcher = self._presence_events

    @classmethod
    def from_url(cls, url: str) -> Self:
        parts = urlsplit(url)
        if parts.netloc or parts.path.strip("/"):
            raise InvalidChannelLayerError(
                f"{url!r} names a place, but {parts.scheme}:// lives in this process; "
                f"leave {parts.netloc + parts.path!r} out"
            )
        options = read_options(repr(url), parts.query, {**OPTIONS, **_OWN_OPTIONS})
        try:
            return cls(**options)
        except ConfigurationError as error:
            raise InvalidChannelLayerError(f"{url!r}: {error}") from error

    async def open(self) -> None:
        warn_of_processes()  # there is nothing to connect to

    # Groups.

    async def _group_add(
        self, group: str, channel: str, since: Position | None, present: Present
    ) -> Joined:
        answer, lagging = await self._run(self._join, group, channel, since, present)
        if lagging:
            await self._let_catch_up(lagging)
        return answer

    def _join(
        self, group: str, channel: str, since: Position | None, present: Present
    ) -> tuple[Joined, Lagging]:
        owed = self.hub.owed(group, channel)
        if since is None:
            self.hub.group_add(group, channel)
            answer = Joined(owed or self._histories.top(group), None, 0)
        else:
            answer = self._resume(group, channel, since, owed)
        if present == (None, None):
            return answer, ()
        return answer, self._presence_events.join(group, channel, *present)

    def _resume(self, group: str, channel: str, since: Position, owed: Position | None) -> Joined:
        replay = self._histories.since(group, replay_from(since, owed))
        missed = replay.messages if replay.recovered else None
        if not self.hub.group_add(group, channel, missed):
            return Joined(replay.position, False, 0)
        return joined(since, owed, replay)

    async def _group_discard(self, group: str, channel: str) -> None:
        await self._run(self.hub.group_discard, group, channel)

    async def _group_send(self, group: str, message: FrozenMessage, key: str | None) -> Sent:
        ref = self._loop_ref
        if ref is not None and ref.is_here:  # as _run does, at the cost of no further call
            sent, lagging = self._publish(group, message, key)
        else:
            sent, lagging = await self._run(self._publish, group, message, key)
        if lagging:
            await self._let_catch_up(lagging)
        return sent

    def _publish(self, group: str, message: FrozenMessage, key: str | None) -> tuple[Sent, Lagging]:
        """Keep a message in its group's history, and put it into every member's mailbox.

        With a key that is known for the group it does nothing, and returns what became of
        the message that had it first.
        """
        if key is not None and (first := self._publications.first(group, key)) is not None:
            return first, ()
        histories = self._histories
        # A group that is remembered needs no look at the patterns.
        is_kept = histories.remembers(group) or histories.keeps(group)
        if is_kept and not is_transient(message["type"]):
            histories.append(group, message)
        sent, lagging = self.hub.deliver(group, message)
        if key is not None:
            self._publications.remember(group, key, sent)
        return sent, lagging

    async def _history(self, group: str, since: Position | None, limit: int | None) -> Replay:
        return await self._run(self._histories.since, group, since, limit)

    # Presence.

    async def _group_channels(self, group: str) -> dict[str, Info]:
        return await self._run(self._list, group)

    def _list(self, group: str) -> dict[str, Info]:
        said = self._presence_events.presence.members(group)
        return {box.channel: said.get(box.channel) for box in self.hub.members(group)}

    async def _presence(self, group: str) -> dict[str, Info]:
        return await self._run(self._presence_events.presence.members, group)

    async def _presence_count(self, group: str) -> int:
        await self._let_catch_up(await self._run(self._presence_events.announce))
        return await self._run(self._presence_events.presence.count, group)

    async def _presence_follow(self, group: str, channel: str) -> None:
        await self._let_catch_up(await self._run(self._presence_events.announce))
        await self._run(self._presence_events.follow, group, channel)

    async def _presence_unfollow(self, group: str, channel: str) -> None:
        await self._run(self._presence_events.unfollow, group, channel)

    # Marks.

    async def _mark(self, name: str, seconds: float, at: float, leave_room: bool) -> bool:
        return await self._run(self._marks.mark, name, seconds, at, leave_room)

    async def _is_marked(self, names: Collection[str], since: float) -> bool:
        return await self._run(self._marks.is_marked, names, since)

    # All of it.

    async def flush(self) -> None:
        await self._run(self._clear)

    def _clear(self) -> None:
        self.hub.clear()
        self._histories.clear()
        self._publications.clear()
        self._marks.clear()
        self._presence_events.clear()

    def _loop_begins(self) -> None:
        warn_of_processes()
        self._presence_events.watch()

    def _loop_is_over(self) -> None:
        self._presence_events.rest()

    def statistics(self) -> dict[str, Any]:
        return {
            **super().statistics(),
            "history_groups": len(self._histories),
            "history_messages": self._histories.held,
            "history_evicted": self._histories.evicted,
            "marks": len(self._marks),
        }
