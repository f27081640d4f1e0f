"""What a connection knows of its user: found out once, and renewed while it lasts."""

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from ..exceptions import Forbidden
from ..types import Scope
from .identity import Identity

__all__ = ["AuthSession", "Verify", "session_of"]

Verify: TypeAlias = Callable[[str], Awaitable[Identity]]
"""Who shows this credential; raises `Unauthorized` where it is worth nothing."""

_KEY = "asgi_notify.auth"


class AuthSession:
    """Stands in the scope of a connection that came through `Authentication`.

    Args:
        verify: asked about each credential.
        identity: who showed one when the connection began; None if nobody has yet.

    Attributes:
        identity: who is there now.
    """

    def __init__(self, verify: Verify, identity: Identity | None = None) -> None:
        self.identity = identity
        self._verify = verify

    async def authenticate(self, credential: str) -> Identity:
        """Take a credential for the first time, or a fresh one of the same user.

        Raises:
            Unauthorized: it is worth nothing; the one before goes on to count.
            Forbidden: it is another user's.
        """
        identity = await self._verify(credential)
        if self.identity is not None and self.identity.id != identity.id:
            raise Forbidden("this is another user's credential; open a connection for that user")
        self.identity = identity
        return identity

    def put_in(self, scope: Scope) -> Scope:
        """A scope in which consumers find this session and its user."""
        return {**scope, "user": self.identity, _KEY: self}


def session_of(scope: Scope) -> AuthSession | None:
    """The session of a connection; None where no `Authentication` stands in front."""
    session: AuthSession | None = scope.get(_KEY)
    return session
