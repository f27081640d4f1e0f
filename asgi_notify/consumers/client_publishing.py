"""What clients publish themselves, once it is clear that they may."""

from ..auth.identity import Identity
from ..exceptions import InvalidMessage
from ..layers.base import BaseChannelLayer
from ..layers.results import Sent
from ..protocol import BadFrame, Request
from ..spelling import PUBLISHED_BY, as_text
from ..users import user_group

__all__ = ["publish"]

NOBODY = "-"  # in place of a user's id, which is never empty


async def publish(request: Request, identity: Identity | None, layer: BaseChannelLayer) -> Sent:
    """Send what a client has published to its group, with the id of its user.

    A client's key is its user's own: another's cannot take its place.

    Raises:
        BadFrame: the data cannot be sent.
    """
    try:
        as_text(request.data)
    except InvalidMessage as error:
        raise BadFrame("bad_request", str(error), request.ref, request.group) from error
    message = {"type": "send.notification", "data": request.data}
    if identity is not None:
        message[PUBLISHED_BY] = identity.id
    return await layer.group_send(request.group, message, idempotency_key=_key(request, identity))


def _key(request: Request, identity: Identity | None) -> str | None:
    if request.key is None:
        return None
    # The group's name of a user is made of characters that a key may have, whatever the id is.
    user = NOBODY if identity is None else user_group(identity.id)
    return f"{user}:{request.key}"
