"""Who may connect, hear and say: identities, the credentials that show them, and rules."""

from .identity import Identity, identity_of
from .session import AuthSession, session_of

__all__ = ["AuthSession", "Identity", "identity_of", "session_of"]
