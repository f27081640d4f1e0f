"""What a connection knows of its user: found out once, and renewed while it lasts."""

import time
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from ..exceptions import Forbidden
from ..types import Scope
from .identity import Identity, identity_of

__all__ = ["AuthSession", "Verify", "identity_now", "session_of"]

Verify: TypeAlias = Callable[[str], Awaitable[Identity]]
"""Who shows this credential; raises `Unauthorized` where it is worth nothing."""

EXPIRED = "the credential has expired; come back with a fresh one"

_KEY = "asgi_notify.auth"


class AuthSession:
    """Stands in the scope of a connection that came through `Authentication`.

    Args:
        verify: asked about each credential.
        identity: who showed one when the connection began; None if nobody has yet.
        must_authenticate: whether the connection was let in only so that its client shows a
            credential in its first frame. Where `is_watched` is not set before the first event
            is received, `Authentication` refuses it.
        clock: seconds since 1970.

    Attributes:
        identity: who is there now.
        must_authenticate: as above.
        is_watched: set by an application that itself ends the connection at `expires_at`, before
            it receives the first event. `Authentication` ends those of any other application.
    """

    def __init__(
        self,
        verify: Verify,
        identity: Identity | None = None,
        *,
        must_authenticate: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.identity = identity
        self.clock = clock
        self.must_authenticate = must_authenticate
        self.is_watched = False
        self._verify = verify
        self._checks: list[Callable[[Identity], Awaitable[object]]] = []
        self._followers: list[Callable[[], object]] = []

    @property
    def expires_at(self) -> float | None:
        """From when on nobody is there any more, in seconds since 1970; None for never."""
        return None if self.identity is None else self.identity.expires_at

    async def authenticate(self, credential: str) -> Identity:
        """Take a credential for the first time, or a fresh one of the same user.

        Raises:
            Unauthorized: it is worth nothing; the one before goes on to count.
            Forbidden: it is another user's.
            NotifyError: a check of `require` has refused it.
        """
        identity = await self._verify(credential)
        if self.identity is not None and self.identity.id != identity.id:
            raise Forbidden("this is another user's credential; open a connection for that user")
        for check in self._checks:
            await check(identity)
        self.identity = identity
        for follower in self._followers:
            follower()
        return identity

    def require(self, check: Callable[[Identity], Awaitable[object]]) -> None:
        """Have an async function asked about each identity before it is taken; it may raise."""
        self._checks.append(check)

    def follow(self, follower: Callable[[], object]) -> None:
        """Have a function called, in the event loop, whenever a credential was taken."""
        self._followers.append(follower)

    def put_in(self, scope: Scope) -> Scope:
        """A scope in which consumers find this session and its user.

        A framework's own user object is left where it is, if it is the one who is there.
        """
        user = scope.get("user") if identity_of(scope) == self.identity else self.identity
        return {**scope, "user": user, _KEY: self}


def session_of(scope: Scope) -> AuthSession | None:
    """The session of a connection; None where no `Authentication` stands in front."""
    session: AuthSession | None = scope.get(_KEY)
    return session


def identity_now(scope: Scope) -> Identity | None:
    """Who is on a connection at this moment: what its session knows, else what the scope says."""
    session: AuthSession | None = scope.get(_KEY)
    return identity_of(scope) if session is None else session.identity
