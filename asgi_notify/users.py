"""What is done with a user as a whole, on whatever connections it has."""

from .layers.base import BaseChannelLayer
from .layers.entries import CLOSE
from .layers.presence import Info
from .layers.results import Sent
from .names import require_group_name

__all__ = ["connections_of", "disconnect_user", "user_group"]

REASON = "the server has ended this connection"


def user_group(user_id: object) -> str:
    """The group that all connections of a user are in: ``user_42`` for 42.

    Raises:
        InvalidName: no group can be called that.
    """
    return require_group_name(f"user_{user_id}")


async def connections_of(layer: BaseChannelLayer, user_id: object) -> dict[str, Info]:
    """The channels of a user's connections, with what each said of itself when it joined.

    That is the ``info`` of `BaseChannelLayer.group_add`, or None.

    Raises:
        InvalidName: no group can be called that.
    """
    return await layer.group_channels(user_group(user_id))


async def disconnect_user(
    layer: BaseChannelLayer, user_id: object, code: int = 4403, reason: str = REASON
) -> Sent:
    """Close all connections that a user has now, and return how many were notified.

    A stream of events ends, and a poll that waits is answered 403. Nothing keeps
    the user from coming back: that is for the consumers' own check.

    Args:
        layer: the one that the user's consumers use.
        user_id: whose.
        code: what a WebSocket is closed with.
        reason: text for the client, of which a close frame holds 123 bytes.

    Raises:
        InvalidName: no group can be called that.
    """
    message = {"type": CLOSE, "code": code, "reason": reason}
    return await layer.group_send(user_group(user_id), message)
