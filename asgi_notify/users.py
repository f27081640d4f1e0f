"""What is done with a user as a whole, on whatever connections it has."""

import re
from hashlib import sha256

from .auth.revocations import login_group
from .exceptions import InvalidName
from .layers.base import BaseChannelLayer
from .layers.entries import CLOSE
from .layers.presence import Info
from .layers.results import Sent
from .names import MAX_NAME_LENGTH, require_group_name

__all__ = ["connections_of", "disconnect_user", "user_group"]

REASON = "the server has ended this connection"


_PLAIN = re.compile(r"(?!\.\.)[a-zA-Z0-9\-_.]+")
_SAFE = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")


def user_group(user_id: object) -> str:
    """The group of what is for a user: ``user_42`` for 42.

    The ids of identity providers have characters that names of groups lack: those are spelled
    as their bytes, such as ``user_..auth0.7C42`` for ``auth0|42``, and an id that is too long
    then as its SHA-256. No two ids have the same group.

    Raises:
        InvalidName: it is empty.
    """
    user = str(user_id)
    if not user:
        raise InvalidName("an empty id names no user")
    group = f"user_{user}"
    if len(group) <= MAX_NAME_LENGTH and _PLAIN.fullmatch(user):
        return group
    # Two periods are how an id that is written as it is cannot begin. Behind them stands a
    # spelling, which has another period, or a digest, which has none.
    data = user.encode(errors="surrogatepass")
    spelled = "".join(chr(byte) if byte in _SAFE else f".{byte:02X}" for byte in data)
    group = f"user_..{spelled}"
    if len(group) <= MAX_NAME_LENGTH:
        return group
    return require_group_name(f"user_..-{sha256(data).hexdigest()}")


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

    These are the members of `user_group` and, behind `Authentication`, all connections that the
    user has logged in on, whatever they watch; one that is both may count twice. A stream of
    events ends, and a poll that waits is answered 403, or 401 where the code is 4401. Nothing
    keeps the user from coming back: for that there is `auth.revocations.revoke_user`.

    Args:
        layer: the one that the user's consumers use.
        user_id: whose.
        code: what a WebSocket is closed with.
        reason: text for the client, of which a close frame holds 123 bytes.

    Raises:
        InvalidName: the id is empty.
    """
    message = {"type": CLOSE, "code": code, "reason": reason}
    watching = await layer.group_send(user_group(user_id), message)
    sent = await layer.group_send(login_group(user_id), message)
    return Sent(sent.reached + watching.reached, sent.dropped + watching.dropped)
