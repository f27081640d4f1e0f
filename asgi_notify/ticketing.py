"""The HTTP endpoint that hands out tickets: a POST by somebody who has shown a credential."""

import json
from typing import Any

from .asgi import json_response
from .auth.session import identity_now
from .auth.tickets import Tickets
from .consumers.http import AsyncHttpConsumer
from .exceptions import ClientError, ConfigurationError, InvalidName, MethodNotAllowed, Unauthorized
from .legible import legible

__all__ = ["TicketConsumer"]

MAX_GROUPS = 20  # of one ticket, which goes into a URL

_EXAMPLE = 'send nothing, or JSON such as {"groups": ["user_42"]}'


class TicketConsumer(AsyncHttpConsumer):
    """Answers a POST with a ticket for who has sent it, ``{"ticket": ..., "expires_in": 30}``.

    It stands behind `Authentication`, which says who that is, and which takes tickets elsewhere,
    with the same `Tickets`::

        tickets = Tickets(keys)
        desk = Authentication(TicketConsumer.as_asgi(tickets=tickets), verifier)
        live = Authentication(NotificationConsumer, verifier, tickets=tickets)

    A body ``{"groups": ["user_42"]}`` asks for a ticket that is good for these groups alone.

    Args:
        tickets: makes them.
    """

    max_body_size = 4 * 1024  # bytes

    def __init__(self, *, tickets: Tickets | None = None) -> None:
        super().__init__()
        if tickets is None:
            raise ConfigurationError(
                "TicketConsumer needs to know the Tickets: as_asgi(tickets=...)"
            )
        self._tickets = tickets

    async def handle(self, body: bytes) -> None:
        if self.scope["method"] != "POST":
            raise MethodNotAllowed("POST")
        identity = identity_now(self.scope)
        if identity is None:
            raise Unauthorized("a ticket is for who has logged in; show a credential")
        try:
            ticket, seconds = await self._tickets.issue(identity, groups=_groups(body))
        except InvalidName as error:
            raise ClientError(str(error)[:300]) from error
        no_store = (b"cache-control", b"no-store")
        content = {"ticket": ticket, "expires_in": seconds}
        await self._emit(*json_response(200, content, no_store))


def _groups(body: bytes) -> list[str] | None:
    if not body:
        return None
    try:
        content: Any = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ClientError(f"the body is no JSON; {_EXAMPLE}") from error
    if not isinstance(content, dict):
        raise ClientError(f"the body is no JSON object; {_EXAMPLE}")
    if unknown := content.keys() - {"groups"}:  # a misspelled bound would bind to nothing
        raise ClientError(f"{legible(min(unknown))!r} is nothing to ask for; {_EXAMPLE}")
    groups = content.get("groups")
    if groups is None:
        return None
    if not isinstance(groups, list) or len(groups) > MAX_GROUPS:
        raise ClientError(f"'groups' is a list of at most {MAX_GROUPS} names; {_EXAMPLE}")
    return groups
