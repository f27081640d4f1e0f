"""Tickets: what a browser shows in a query, where it can send no header, and only once.

What stands in a query lands in the logs of servers and proxies. So a ticket is good for half a
minute and for one connection. Whoever finds it in a log finds it used.
"""

import secrets
import time
from collections.abc import Callable, Collection, Iterable
from math import inf
from typing import Any

from ..exceptions import ConfigurationError, Unauthorized
from ..layers.base import BaseChannelLayer
from ..layers.registry import get_channel_layer
from ..names import require_group_name
from .credentials import TICKET
from .identity import Identity
from .revocations import require_unrevoked
from .signed import MIN_KEY, SignedTokens

__all__ = ["Tickets"]

MAX_AGE = 30.0  # seconds; a page fetches one and connects at once
SKEW = 60.0  # seconds that the clocks of two processes may differ
PURPOSE = "ticket"


class Tickets:
    """Makes tickets for who has shown another credential, and takes each of them once.

    A connection that a ticket has opened lasts as long as that other credential, and is ended
    with it. As ``Authentication(app, verifier, tickets=tickets)``, tickets are taken in the
    query ``?ticket=``, and in the frame ``auth``.

    Args:
        keys: as of `SignedTokens`, or such an object, whose keys then serve for both: a ticket is
            no token. None for a key of this process alone, where no other one shares the layer.
        layer: remembers which were used; unless given, the default one. Processes that are
            to take each other's tickets share it.
        max_age: seconds that a ticket is good.
        clock: seconds since 1970.

    Raises:
        ConfigurationError: there is no key, or one that is too short; or no such age.
    """

    def __init__(
        self,
        keys: str | bytes | Iterable[str | bytes] | SignedTokens | None,
        layer: BaseChannelLayer | None = None,
        *,
        max_age: float = MAX_AGE,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._is_alone = keys is None
        if isinstance(keys, SignedTokens):
            keys = keys.keys
        elif keys is None:
            keys = secrets.token_bytes(MIN_KEY)
        self._signed = SignedTokens(keys, max_age=max_age, purpose=PURPOSE, clock=clock)
        self._layer = layer
        self._clock = clock

    def __repr__(self) -> str:
        """That it makes tickets, and no key."""
        return f"<Tickets, good for {self._signed.max_age:g} s>"

    @property
    def layer(self) -> BaseChannelLayer:
        """What remembers which tickets were used."""
        return self._layer or get_channel_layer()

    async def issue(
        self, identity: Identity, *, groups: Collection[str] | None = None
    ) -> tuple[str, float]:
        """A ticket for somebody, and the seconds that it is good.

        Args:
            identity: who shows it then.
            groups: the only ones that it may be used for; None for all that the user may.
                Where the identity is for some groups only, so is the ticket.

        Raises:
            ConfigurationError: the claims cannot be written as JSON, or are too many; or there is
                no key that other processes have, too, and they share the layer.
            InvalidName: no group can be called so.
            LayerUnavailable: nobody knows whether the user was revoked.
            Unauthorized: the user was, or the credential has expired.
        """
        if self._is_alone and self.layer.is_shared:
            raise ConfigurationError(
                "tickets need a key that all processes have: set ASGI_NOTIFY_TICKET_KEYS, or give "
                "Tickets(keys)"
            )
        await require_unrevoked(self.layer, identity)
        left = inf if identity.expires_at is None else identity.expires_at - self._clock()
        if left <= 0:
            raise Unauthorized("the credential has expired; get a fresh one")
        allowed = _narrowed(identity.groups, groups)
        login: dict[str, Any] = {
            "exp": identity.expires_at,
            "iat": identity.issued_at,
            "jti": identity.token_id,
            "claims": dict(identity.claims),
        }
        bound = {} if allowed is None else {"groups": sorted(allowed)}
        max_age = min(left, self._signed.max_age)
        return TICKET + self._signed.sign(
            identity.id, max_age=max_age, login=login, **bound
        ), max_age

    async def redeem(self, ticket: str) -> Identity:
        """Who a ticket was made for; nobody can show it again, in any process.

        Raises:
            LayerUnavailable: nobody knows whether it was used.
            Unauthorized: it was, or it is none, or its time is over.
        """
        if not ticket.startswith(TICKET):
            raise Unauthorized("this is no ticket")
        shown = self._signed.verify(ticket.removeprefix(TICKET))
        # Somewhat longer than it is good here, as the clock may be behind in another process.
        seconds = (shown.expires_at or 0.0) - self._clock() + SKEW
        # Clients decide how many tickets there are, and must not take the room of revocations.
        name = f"{TICKET}{shown.token_id}"
        if not await self.layer.mark(name, seconds, leave_room=True):
            raise Unauthorized("this ticket was used already; get another one for each connection")
        login, groups = shown.claims["login"], shown.claims.get("groups")
        return Identity(
            shown.id,
            login["claims"],
            expires_at=login["exp"],
            issued_at=login["iat"],
            token_id=login["jti"],
            groups=None if groups is None else frozenset(groups),
        )

    async def __call__(self, ticket: str) -> Identity:
        """`redeem`, so that this is a verifier."""
        return await self.redeem(ticket)


def _narrowed(
    allowed: Collection[str] | None, groups: Collection[str] | None
) -> frozenset[str] | None:
    if isinstance(groups, str):
        raise ConfigurationError(f"groups are a list of names: write groups=[{groups!r}]")
    if groups is None:
        return None if allowed is None else frozenset(allowed)
    chosen = frozenset(map(require_group_name, groups))
    return chosen if allowed is None else chosen & frozenset(allowed)
