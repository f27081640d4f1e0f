"""What a connection does about the login of its client: it ends with it, and is ended by it.

A connection that came through `Authentication` has a session. For each such one there is a
`Login`, and for all others nothing at all:

- At ``expires_at`` the connection is closed with 4401, unless the session was renewed before.
  From that moment on nothing more goes to the client, whichever way it would go: what a
  handler sends, from a step, a task or a thread, passes `_send`, and what goes past the handlers
  passes `_Until`. So nothing depends on how soon the alarm rings.
- The connection joins the groups by which a revocation reaches it; see `auth.revocations`. After
  an outage, in which none could, it is asked about again; see `rechecks`.
"""

from collections.abc import Callable, Sequence
from math import inf
from time import monotonic

from ..auth.identity import Identity
from ..auth.revocations import REVOKED, groups_of, require_unrevoked
from ..auth.session import EXPIRED, AuthSession
from ..exceptions import Unauthorized
from ..layers.base import BaseChannelLayer
from ..limits.counting import Rate
from ..types import Event, Message, Send
from .connection import Connection
from .direct import Direct
from .expiries import expiries_of
from .rechecks import Rechecks, rechecks_of

__all__ = ["Login"]

# A renewal is verified, and the rule is asked about each subscription, of which there may be a
# hundred: so it costs far more than the one frame that it is.
RENEWALS = Rate(
    1.0, 10.0, "credentials are renewed too fast: wait until this one expires", monotonic
)


class Login:
    """The login of one connection, from its beginning to `leave`.

    Args:
        session: what `Authentication` has put into the scope.
        connection: that came with it.
        layer: of the consumer.
    """

    def __init__(
        self, session: AuthSession, connection: Connection, layer: BaseChannelLayer
    ) -> None:
        self.session = session
        self._connection = connection
        self._layer = layer
        self._groups: set[str] = set()
        self._expiries = expiries_of(session.clock)
        self._rechecks: Rechecks | None = None  # once somebody has shown who it is
        self._shown: Identity | None = None  # whom it was asked about last
        self._renewed_until = -inf  # when the renewals so far are paid for
        self._is_guarded = self._has_left = False
        session.is_watched = True
        session.require(self._admit)
        session.follow(self._follow)
        self._follow()

    @property
    def is_awaited(self) -> bool:
        """Whether the client has to show a credential before anything else."""
        return self.session.must_authenticate and self.session.identity is None

    def is_over(self) -> bool:
        """Whether it has expired."""
        expires_at = self.session.expires_at
        return expires_at is not None and self.session.clock() >= expires_at

    @property
    def expires_in(self) -> float | None:
        """Seconds until then; None where it does not expire."""
        expires_at = self.session.expires_at
        return None if expires_at is None else max(0.0, round(expires_at - self.session.clock(), 3))

    async def begin(self) -> None:
        """Let the client in, if it has shown who it is.

        Raises:
            Unauthorized: its login has expired meanwhile, or was revoked.
            LayerUnavailable: nobody knows.
        """
        if self.session.identity is not None:
            self.require()
            await self._admit(self.session.identity)

    def require(self) -> None:
        """Raise `Unauthorized` if it has expired."""
        if self.is_over():
            raise Unauthorized(EXPIRED)

    def count_renewal(self) -> None:
        """Count that a fresh credential was shown, whatever it is worth.

        Raises:
            TooManyRequests: these come too fast.
        """
        now = RENEWALS.clock()
        until = max(self._renewed_until, now) + RENEWALS.step
        if until - now > RENEWALS.burst:
            raise RENEWALS.too_fast(until - now - RENEWALS.burst)
        self._renewed_until = until

    def expire(self) -> None:
        """End the connection."""
        self._connection.close(Unauthorized(EXPIRED))

    @property
    def identities(self) -> Sequence[Identity]:
        """Who is logged in; and, while a credential is being renewed, whom the fresh one names."""
        now, shown = self.session.identity, self._shown
        if shown is None or shown is now:
            return () if now is None else (now,)
        return (shown,) if now is None else (now, shown)

    def revoke(self) -> None:
        """End the connection, since somebody has revoked the login."""
        self._connection.close(Unauthorized(REVOKED))

    def leave(self) -> None:
        """Let go of it, since the connection has ended."""
        self._has_left = True
        self._expiries.forget(self)
        if self._rechecks is not None:
            self._rechecks.forget(self)

    async def _admit(self, identity: Identity) -> None:
        """Take an identity, unless it is revoked; in this order, so that nobody slips through."""
        channel, groups = self._connection.channel, set(groups_of(identity))
        joined = groups - self._groups
        for group in joined:
            await self._layer.group_add(group, channel)
        self._shown = identity  # an outage that begins after the answer concerns it, too
        if self._rechecks is None and not self._has_left:
            self._rechecks = rechecks_of(self._layer)
            self._rechecks.watch(self)
        try:
            await require_unrevoked(self._layer, identity)
        except Unauthorized:
            self._shown = None
            for group in joined:
                await self._layer.group_discard(group, channel)
            raise
        left, self._groups = self._groups - groups, groups
        for group in left:  # of the token before, which may be revoked now without harm
            await self._layer.group_discard(group, channel)

    def _follow(self) -> None:
        """Look after a login that is new."""
        expires_at = self.session.expires_at
        if expires_at is None or self._has_left:
            self._expiries.forget(self)
            return
        self._expiries.watch(self, expires_at)
        if not self._is_guarded:
            self._is_guarded = True
            self._connection.guard(self._guarded, lambda direct: _Until(direct, self.is_over))

    def _guarded(self, send: Send) -> Send:
        async def send_in_time(event: Event) -> None:
            if self.is_over():
                kept = self._kept(event)
                if kept is None:
                    self.expire()
                    return
                event = kept
            await send(event)

        return send_in_time

    def _kept(self, event: Event) -> Event | None:
        """What is left of an event once the login is over; None where nothing is.

        What begins an answer, and what ends it, still goes to the client.
        """
        if event["type"] == "websocket.send":
            return None
        if event["type"] == "http.response.body" and self._connection.state.is_endless:
            return None if event.get("more_body") else {**event, "body": b""}
        return event


class _Until(Direct):
    """A direct lane that takes nothing more once a login is over."""

    __slots__ = ("_direct", "_is_over")

    def __init__(self, direct: Direct, is_over: Callable[[], bool]) -> None:
        self._direct = direct
        self._is_over = is_over

    def take(self, message: Message) -> bool:
        return not self._is_over() and self._direct.take(message)
