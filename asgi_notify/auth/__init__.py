"""Who may connect, hear and say: identities, the credentials that show them, and rules."""

from .identity import Identity, identity_of
from .session import AuthSession, session_of
from .signed import SignedTokens
from .verifying import Verifier

__all__ = ["AuthSession", "Identity", "SignedTokens", "Verifier", "identity_of", "session_of"]
