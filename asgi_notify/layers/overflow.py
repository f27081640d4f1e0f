"""The names of what a full mailbox may do, and their check; the mailbox does it."""

from typing import Literal, get_args

from ..exceptions import ConfigurationError

__all__ = ["Overflow", "require_overflow"]

Overflow = Literal["disconnect", "drop_oldest", "drop_newest"]
"""What a full mailbox does: close its connection, forget the oldest, refuse the newest."""


_POLICIES: tuple[Overflow, ...] = get_args(Overflow)


def require_overflow(policy: str) -> Overflow:
    """Return the policy, or raise `ConfigurationError` if there is none by that name."""
    for known in _POLICIES:
        if policy == known:
            return known
    raise ConfigurationError(f"overflow is one of {', '.join(_POLICIES)}, not {policy!r}")
