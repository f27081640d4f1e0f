"""What a user may do with a group: rules, which can be combined.

::

    rule = own_group | groups_in_claim("groups") | public("news_*")

Each answers for one identity, one action and one group. ``a | b`` allows what either does,
``a & b`` what both do. Nothing is remembered: a rule is asked at each subscription, at each
publication, and again when a user shows a fresh credential.
"""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Collection
from fnmatch import fnmatchcase
from inspect import isawaitable
from typing import Any, Literal, TypeAlias, get_args

from ..exceptions import ConfigurationError
from ..users import user_group
from .identity import Identity

__all__ = ["Action", "Rule", "anybody", "groups_in_claim", "own_group", "public", "rule"]

Action: TypeAlias = Literal["watch", "publish", "presence", "history"]
"""Watch: get what is sent to a group from now on. History: get what it missed, with ``since``.
Presence: see who is in it. Publish: send to it."""

ACTIONS: frozenset[str] = frozenset(get_args(Action))
TO_READ: Collection[str] = ("watch", "history")


def _known(actions: Collection[str]) -> frozenset[str]:
    chosen = frozenset([actions] if isinstance(actions, str) else actions)
    unknown = chosen - ACTIONS
    if unknown or not chosen:
        raise ConfigurationError(
            f"actions are some of {', '.join(sorted(ACTIONS))}, not {', '.join(sorted(unknown))!r}"
        )
    return chosen


class Rule(ABC):
    """Whether somebody may do something with a group."""

    @abstractmethod
    async def allows(self, identity: Identity | None, action: Action, group: str) -> bool:
        """Decide.

        Args:
            identity: who asks; None for somebody who has not said.
            action: what for.
            group: which one.
        """

    def __or__(self, other: "Rule") -> "Rule":
        """What at least one of two allows."""
        return _Either(self, other) if isinstance(other, Rule) else NotImplemented

    def __and__(self, other: "Rule") -> "Rule":
        """What both allow."""
        return _Both(self, other) if isinstance(other, Rule) else NotImplemented


class _Either(Rule):
    def __init__(self, one: Rule, other: Rule) -> None:
        self._one, self._other = one, other

    async def allows(self, identity: Identity | None, action: Action, group: str) -> bool:
        return await self._one.allows(identity, action, group) or await self._other.allows(
            identity, action, group
        )

    def __repr__(self) -> str:
        return f"({self._one} | {self._other})"


class _Both(Rule):
    def __init__(self, one: Rule, other: Rule) -> None:
        self._one, self._other = one, other

    async def allows(self, identity: Identity | None, action: Action, group: str) -> bool:
        return await self._one.allows(identity, action, group) and await self._other.allows(
            identity, action, group
        )

    def __repr__(self) -> str:
        return f"({self._one} & {self._other})"


class _OwnGroup(Rule):
    async def allows(self, identity: Identity | None, action: Action, group: str) -> bool:
        return action in TO_READ and identity is not None and group == user_group(identity.id)

    def __repr__(self) -> str:
        return "own_group"


own_group: Rule = _OwnGroup()
"""Every user may watch ``user_<id>``, and resume there, and nothing else."""


class _InClaim(Rule):
    def __init__(self, claim: str, actions: Collection[str]) -> None:
        self._claim, self._actions = claim, actions

    async def allows(self, identity: Identity | None, action: Action, group: str) -> bool:
        if identity is None or action not in self._actions:
            return False
        globs = identity.claims.get(self._claim)
        if not isinstance(globs, list | tuple):
            return False  # nothing is granted by a claim of another shape
        return any(isinstance(glob, str) and fnmatchcase(group, glob) for glob in globs)

    def __repr__(self) -> str:
        return f"groups_in_claim({self._claim!r})"


def groups_in_claim(claim: str, actions: Collection[str] = TO_READ) -> Rule:
    """Groups that a credential names itself: a list of names, or of globs such as ``team_7_*``.

    Args:
        claim: of the identity, such as ``"groups"``.
        actions: what may be done with these groups.

    Raises:
        ConfigurationError: there is no such action.
    """
    return _InClaim(claim, _known(actions))


class _Public(Rule):
    def __init__(self, globs: tuple[str, ...], actions: Collection[str]) -> None:
        self._globs, self._actions = globs, actions

    async def allows(self, identity: Identity | None, action: Action, group: str) -> bool:
        return action in self._actions and any(fnmatchcase(group, glob) for glob in self._globs)

    def __repr__(self) -> str:
        return f"public({', '.join(map(repr, self._globs))})"


def public(*globs: str, actions: Collection[str] = TO_READ) -> Rule:
    """Groups that are for everybody, also for those who have not said who they are.

    Args:
        globs: names of groups, or patterns such as ``news_*``.
        actions: what may be done with these groups.

    Raises:
        ConfigurationError: there is no glob, or no such action.
    """
    if not globs or not all(isinstance(glob, str) and glob for glob in globs):
        raise ConfigurationError("name the groups that are public, such as public('news_*')")
    return _Public(globs, _known(actions))


anybody: Rule = public("*")
"""Everybody may watch everything: for a server that only your own programs reach."""


class _Asked(Rule):
    def __init__(self, ask: Callable[..., object]) -> None:
        self._ask = ask

    async def allows(self, identity: Identity | None, action: Action, group: str) -> bool:
        answer = self._ask(identity, action, group)
        if isawaitable(answer):
            answer = await answer
        if answer is True or answer is False:
            return answer
        name = getattr(self._ask, "__qualname__", repr(self._ask))
        raise ConfigurationError(f"{name}() returned {answer!r}: a rule returns True or False")

    def __repr__(self) -> str:
        return f"rule({getattr(self._ask, '__qualname__', self._ask)})"


def rule(ask: Callable[[Identity | None, Action, str], bool | Awaitable[Any]]) -> Rule:
    """A rule of your own, out of a function; also as a decorator.

    Args:
        ask: called with identity, action and group; plain or ``async``. It returns True or
            False. What it raises refuses too, as a failure.

    Raises:
        ConfigurationError: it cannot be called.
    """
    if not callable(ask):
        raise ConfigurationError(
            f"a rule is made of a function of identity, action and group, not of {ask!r}"
        )
    return _Asked(ask)
