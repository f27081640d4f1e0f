"""How those who were revoked during an outage are found: by asking again about all logins.

A revocation is a mark in the layer and a message to the groups of a login. No history keeps that
message, so a process that was cut off from the others has missed it for good. The mark stays::

    revoke    mark --> tell the group (lost)
    process   ~~~~~~~~~~~~ cut off ~~~~~~~~~~~~ is back, all groups stand --> look for the marks

A revocation that comes later than the look is told by the group again.

Thousands may be logged in, on many processes that come back in the same second. So one question is
about many logins, and a process has one on its way at a time. The answer is nearly always that
nobody is marked; otherwise each half of them is asked about alone.
"""

from collections import deque
from collections.abc import Callable, Sequence
from itertools import count
from math import inf
from random import uniform
from typing import NamedTuple, Protocol

import anyio
from anyio.lowlevel import RunVar

from ..auth.identity import Identity
from ..auth.revocations import groups_of
from ..exceptions import LayerUnavailable
from ..layers.base import BaseChannelLayer

__all__ = ["Rechecks", "Revocable", "rechecks_of"]

BATCH = 100  # logins in one question; with two names each, one script of a server
PAUSE = 1.0  # seconds at most until what could not be answered is asked again


class Revocable(Protocol):
    """A login."""

    @property
    def identities(self) -> Sequence[Identity]:
        """Whose it is: one, or two while it is renewed."""

    def revoke(self) -> None:
        """End: somebody has revoked it. Never waits or fails."""


class _Question(NamedTuple):
    login: Revocable
    names: Sequence[str]
    since: float


class Rechecks:
    """Asks again who of the consumers of one layer is revoked, in one event loop.

    Args:
        layer: of these consumers.
    """

    def __init__(self, layer: BaseChannelLayer) -> None:
        self._layer = layer
        self._logins: set[Revocable] = set()
        # Which call of `ask_again` is to ask about a login: the one after the latest outage.
        self._due: dict[Revocable, int] = {}
        self._calls = count()

    def __len__(self) -> int:
        """How many are asked about after an outage."""
        return len(self._logins)

    def watch(self, login: Revocable) -> None:
        """Ask about this login after an outage."""
        if not self._logins:
            self._layer.watch_outages(self.ask_again)
        self._logins.add(login)

    def forget(self, login: Revocable) -> None:
        """Ask about this login no more."""
        self._logins.discard(login)
        self._due.pop(login, None)
        if not self._logins:
            self._layer.unwatch_outages(self.ask_again)
            _all_here().pop(self._layer, None)

    async def ask_again(self, is_concerned: Callable[[str], bool]) -> None:
        """End those who are revoked by now; return once all have been asked about.

        Args:
            is_concerned: whether a revocation by this name may have been missed.
        """
        call, left = next(self._calls), deque(self._logins)
        self._due.update(dict.fromkeys(left, call))
        while left:
            batch = [left.popleft() for _ in range(min(BATCH, len(left)))]
            # Others have ended, or a later outage has begun, and its call asks about them.
            batch = [login for login in batch if self._due.get(login) == call]
            try:
                await self._end_revoked(
                    [question for login in batch for question in _about(login, is_concerned)]
                )
            except LayerUnavailable:  # away again, or too busy: nobody knows
                left.extend(batch)
                await anyio.sleep(uniform(PAUSE / 2, PAUSE))
                continue
            for login in batch:
                if self._due.get(login) == call:
                    del self._due[login]

    async def _end_revoked(self, questions: Sequence[_Question]) -> None:
        names = {name for question in questions for name in question.names}
        since = min((question.since for question in questions), default=inf)
        if not await self._layer.is_marked(*names, since=since):
            return
        if len(questions) == 1:
            questions[0].login.revoke()
            return
        middle = len(questions) // 2
        await self._end_revoked(questions[:middle])
        await self._end_revoked(questions[middle:])


def _about(login: Revocable, is_concerned: Callable[[str], bool]) -> list[_Question]:
    questions = []
    for identity in login.identities:
        names = [name for name in groups_of(identity) if is_concerned(name)]
        if names:
            since = -inf if identity.issued_at is None else identity.issued_at
            questions.append(_Question(login, names, since))
    return questions


_of_loop: RunVar[dict[BaseChannelLayer, Rechecks]] = RunVar("asgi_notify_rechecks")


def _all_here() -> dict[BaseChannelLayer, Rechecks]:
    try:
        found = _of_loop.get()
    except LookupError:
        found = {}
        _of_loop.set(found)
    return found


def rechecks_of(layer: BaseChannelLayer) -> Rechecks:
    """The layer's, in the event loop that runs; it lasts as long as somebody is logged in."""
    found = _all_here()
    if layer not in found:
        found[layer] = Rechecks(layer)
    return found[layer]
