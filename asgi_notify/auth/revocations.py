"""Taking back what was granted: a user, or one token, is refused from now on, on every process.

A revocation is a mark in the layer, which lasts as long as the token could, and a message to
the group of all connections that the user, or the token, has opened. A connection that is just
being opened joins that group first, and then looks for the mark. Whoever revokes does it in the
other order::

    revoke        mark ------------------> tell the group
    connect                join the group -------------> look for the mark

So whichever comes first, the connection is told, or finds the mark.
"""

import time
from collections.abc import Callable
from hashlib import blake2b
from math import inf

from ..exceptions import ConfigurationError, Unauthorized
from ..layers.base import BaseChannelLayer
from ..layers.entries import CLOSE
from .identity import Identity

__all__ = [
    "REVOKED",
    "groups_of",
    "is_login_group",
    "is_revoked",
    "login_group",
    "require_unrevoked",
    "revoke_token",
    "revoke_user",
]

_PREFIX = "logged_in."
REVOKED = "this login has been ended; log in again"


async def revoke_user(
    layer: BaseChannelLayer,
    user_id: object,
    *,
    seconds: float | None = None,
    until: float | None = None,
    clock: Callable[[], float] = time.time,
) -> None:
    """End all connections of a user, and refuse what was issued to them until now.

    A credential that is issued afterwards is good. One that does not say when it was issued, such
    as a framework's session, is refused for all that time. Times of issue are mostly whole
    seconds: who logs in within the second of the revocation has to do it again.

    Args:
        layer: the one that the user's consumers use.
        user_id: whose.
        seconds: for how long; as long as a credential could still be good.
        until: the same, in seconds since 1970. One of the two is given.
        clock: seconds since 1970.

    Raises:
        ConfigurationError: neither of the two is given, or both.
        LayerUnavailable: nobody knows whether it was done; do it again.
    """
    await _revoke(layer, login_group(user_id), _span(seconds, until, clock), clock())


async def revoke_token(
    layer: BaseChannelLayer,
    token_id: object,
    *,
    seconds: float | None = None,
    until: float | None = None,
    clock: Callable[[], float] = time.time,
) -> None:
    """End all connections that a token has opened, or renewed, and refuse it from now on.

    Args:
        layer: as of `revoke_user`, with the other arguments.
        token_id: the token's; of a JWT its claim ``jti``.
        seconds: for how long.
        until: the same, in seconds since 1970: when the token expires.
        clock: seconds since 1970.

    Raises:
        ConfigurationError: as of `revoke_user`.
        LayerUnavailable: the same.
    """
    await _revoke(layer, _name("token", token_id), _span(seconds, until, clock), None)


async def is_revoked(layer: BaseChannelLayer, identity: Identity) -> bool:
    """Whether somebody has revoked this user, after the credential was issued, or this token.

    Raises:
        LayerUnavailable: nobody knows.
    """
    return await layer.is_marked(*groups_of(identity), since=identity.issued_at)


async def require_unrevoked(layer: BaseChannelLayer, identity: Identity) -> None:
    """Refuse somebody who `is_revoked`.

    Raises:
        Unauthorized: they are.
        LayerUnavailable: nobody knows.
    """
    if await is_revoked(layer, identity):
        raise Unauthorized(REVOKED)


def login_group(user_id: object) -> str:
    """The group of all connections that a user has logged in on, whatever they watch.

    It is no group of the application's: nothing is sent to it but that they end.
    """
    return _name("user", user_id)


def is_login_group(group: str) -> bool:
    """Whether this is the name of such a group, which no client may ask for."""
    return group.startswith(_PREFIX)


def groups_of(identity: Identity) -> list[str]:
    """The groups by which an identity's connections are ended: `login_group`, and its token's.

    The mark of a revocation has the same name.
    """
    names = [login_group(identity.id)]
    if identity.token_id is not None:
        names.append(_name("token", identity.token_id))
    return names


def _name(kind: str, text: object) -> str:
    # An id may be any text, and is nobody's business on a server that many use: so its hash.
    data = str(text).encode(errors="surrogatepass")  # half of a pair, which JSON can spell
    return f"{_PREFIX}{kind}.{blake2b(data, digest_size=16).hexdigest()}"


def _span(seconds: float | None, until: float | None, clock: Callable[[], float]) -> float:
    if (seconds is None) == (until is None):
        raise ConfigurationError(
            "say for how long the credential could still be good: seconds=3600, or until=, a "
            "time in seconds since 1970"
        )
    span = inf if seconds is None else seconds
    return span if until is None else until - clock()


async def _revoke(layer: BaseChannelLayer, name: str, span: float, at: float | None) -> None:
    if span <= 0:
        return  # it is over anyway
    await layer.mark(name, span, at=at)
    message = {"type": CLOSE, "code": Unauthorized.close_code, "reason": REVOKED}
    await layer.group_send(name, message)
