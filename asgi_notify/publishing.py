"""The HTTP door for publishers: a POST to a room's path reaches the browsers that watch it."""

import hmac
import json
from ipaddress import ip_address
from typing import Any, ClassVar
from urllib.parse import urlsplit

from .asgi import header, json_response
from .consumers.http import AsyncHttpConsumer
from .consumers.watching import as_text, room_group
from .exceptions import ClientError, InvalidMessage, InvalidName, MethodNotAllowed, Unauthorized
from .layers.idempotency import require_key
from .settings import MAX_BODY_SIZE
from .types import Scope

__all__ = ["PublishConsumer", "is_loopback"]

_PROXY_HEADERS = (b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-real-ip")

_EXAMPLE = 'send JSON such as {"data": "Your order has shipped"}'


class PublishConsumer(AsyncHttpConsumer):
    """Publishes the body of a POST, ``{"data": ...}``, to the room of its path.

    Answers 202 and ``{"reached": N, "position": ...}``: how many connections of
    this process took the notification, and its place in the history, or null
    where none is kept. One who is not sure that a request has arrived sends it
    again with the same ``Idempotency-Key``, or the same ``"idempotency_key"`` in
    the body: it is published once, and answered like the first time.

    With a publish key, the request shows it in ``Authorization: Bearer KEY``.
    Without one, only a request that came over the loopback interface, for a
    loopback host name, is served.

    Args:
        key: what a publisher has to show, or None.
        max_body_size: in bytes; a longer body is answered 413.
    """

    helpers: ClassVar[frozenset[str]] = frozenset({"authorize"})

    def __init__(self, *, key: str | None = None, max_body_size: int = MAX_BODY_SIZE) -> None:
        super().__init__()
        self.key = key
        self.max_body_size = max_body_size

    async def handle(self, body: bytes) -> None:
        if self.scope["method"] != "POST":
            raise MethodNotAllowed("POST")
        self.authorize()
        group = room_group(self.scope["url_route"]["kwargs"]["room_name"])
        content = _read(body)
        message = {"type": "send.notification", "data": content["data"]}
        key = _idempotency_key(self.scope, content)
        sent = await self.channel_layer.group_send(group, message, idempotency_key=key)
        position = None if sent.position is None else str(sent.position)
        await self._emit(*json_response(202, {"reached": sent.reached, "position": position}))

    def authorize(self) -> None:
        """Let the request pass, or raise.

        Raises:
            Unauthorized: the key is missing or wrong, or needed and not set.
        """
        if self.key is None:
            if not _is_local(self.scope):
                raise Unauthorized(
                    "publishing from outside this machine needs a key: "
                    "set ASGI_NOTIFY_PUBLISH_KEY where the server runs"
                )
            return
        given = header(self.scope, b"authorization") or ""
        scheme, _, shown = given.partition(" ")
        # Compared as the bytes that came, in a time that does not tell how much of it was right.
        is_right = hmac.compare_digest(shown.strip().encode("latin-1"), self.key.encode())
        # RFC 9110 11.1: the name of a scheme is in either case.
        if scheme.lower() != "bearer" or not is_right:
            raise Unauthorized("show the publish key in the header 'Authorization: Bearer KEY'")


def is_loopback(host: str) -> bool:
    """Whether a host name or address leads to this machine alone."""
    name = host.strip("[]").rstrip(".").lower()
    # RFC 6761 6.3: names under localhost resolve to the loopback address.
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ip_address(name)
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def _is_local(scope: Scope) -> bool:
    server = scope.get("server")
    if not server or not is_loopback(server[0]):
        return False
    # A proxy on this machine lets in whoever reaches it, under a loopback name at that.
    if any(header(scope, name) is not None for name in _PROXY_HEADERS):
        return False
    host = header(scope, b"host")
    # A page elsewhere may have its own name resolve to the loopback address.
    return host is None or is_loopback(_hostname(host))


def _hostname(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _read(body: bytes) -> dict[str, Any]:
    try:
        content = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ClientError(f"the body is no JSON ({error}); {_EXAMPLE}") from error
    if not isinstance(content, dict) or "data" not in content:
        raise ClientError(f"the body has no 'data'; {_EXAMPLE}")
    try:
        as_text(content["data"])
    except InvalidMessage as error:
        raise ClientError(str(error)) from error
    return content


def _idempotency_key(scope: Scope, content: dict[str, Any]) -> str | None:
    shown = [header(scope, b"idempotency-key"), content.get("idempotency_key")]
    keys = [key for key in shown if key is not None]
    try:
        for key in keys:
            require_key(key)
    except InvalidName as error:
        raise ClientError(str(error)[:300]) from error
    if len(keys) == 2 and keys[0] != keys[1]:
        raise ClientError("the header and the body have different idempotency keys: send one")
    return keys[0] if keys else None
