"""Who is on a connection: what a verifier has found out, or a framework further out knows."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..types import Scope

__all__ = ["Identity", "identity_of"]


@dataclass(frozen=True)
class Identity:
    """A user, as a credential has shown.

    Times are seconds since 1970, as in RFC 7519, section 2.

    Attributes:
        id: the user's; the group ``user_<id>`` is theirs.
        claims: what else the credential says, such as roles. Never in the repr.
        expires_at: from when on the credential is worth nothing; None if it always is.
        issued_at: when it was made, if it says so.
        token_id: what distinguishes it from others of the user, to revoke it alone.
        groups: the only groups that it may be used for, as a ticket may say; None for all that
            the user may do something with.
    """

    id: str
    claims: Mapping[str, Any] = field(default_factory=dict, repr=False)
    expires_at: float | None = None
    issued_at: float | None = None
    token_id: str | None = None
    groups: frozenset[str] | None = None

    is_authenticated = True
    """As the users of Django and Starlette have it."""


def identity_of(scope: Scope) -> Identity | None:
    """Who is on a connection; None for somebody who has not said.

    Whoever stands further out has put it in ``scope["user"]``: `Authentication`, or a
    framework. Of a framework's user the id is taken from its ``id``, ``pk`` or ``identity``,
    where its ``is_authenticated`` does not say no.
    """
    user = scope.get("user")
    if user is None or isinstance(user, Identity):
        return user
    if not getattr(user, "is_authenticated", True):
        return None
    known = next((value for value in _ids(user) if value is not None and value != ""), None)
    return None if known is None else Identity(str(known))


def _ids(user: object) -> list[object]:
    found: list[object] = []
    for name in ("id", "pk", "identity"):
        try:
            found.append(getattr(user, name, None))
        except NotImplementedError:  # a property that Starlette's own users leave to others
            continue
    return found
