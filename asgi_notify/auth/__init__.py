"""Who may connect, hear and say: identities, the credentials that show them, and rules."""

from .identity import Identity, identity_of
from .revocations import is_revoked, revoke_token, revoke_user
from .rules import Action, Rule, anybody, groups_in_claim, own_group, public, rule
from .session import AuthSession, session_of
from .signed import SignedTokens
from .tickets import Tickets
from .verifying import Verifier

__all__ = [
    "Action",
    "AuthSession",
    "Identity",
    "Rule",
    "SignedTokens",
    "Tickets",
    "Verifier",
    "anybody",
    "groups_in_claim",
    "identity_of",
    "is_revoked",
    "own_group",
    "public",
    "revoke_token",
    "revoke_user",
    "rule",
    "session_of",
]
