"""The HTTP endpoint of publishers: a POST to a room's path reaches the browsers that watch it."""

import hmac
import inspect
import json
from collections.abc import Awaitable
from typing import Any, ClassVar

import anyio

from .asgi import header, json_response
from .consumers.handlers import require_yes
from .consumers.http import AsyncHttpConsumer
from .consumers.rooms import captured_by_path, room_group
from .exceptions import (
    ClientError,
    ConfigurationError,
    Forbidden,
    InvalidMessage,
    InvalidName,
    MethodNotAllowed,
    Unauthorized,
)
from .hosts import arrived_over_loopback, is_loopback, is_proxied, requested_host
from .layers.idempotency import require_key
from .settings import MAX_BODY_SIZE
from .spelling import as_text
from .types import Event, Message, Receive, Scope

__all__ = ["PublishConsumer"]

_BEFORE_BODY = "publish.admission"  # this consumer's own event, the first of each request

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
    loopback host name and past no proxy, is served. Who may not publish is
    answered before any of the body is read.

    Args:
        key: what a publisher has to show, or None.
        max_body_size: in bytes; a longer body is answered 413.
    """

    helpers: ClassVar[frozenset[str]] = frozenset({"authorize"})

    def __init__(self, *, key: str | None = None, max_body_size: int = MAX_BODY_SIZE) -> None:
        super().__init__()
        self.key = key
        self.max_body_size = max_body_size

    def wrap_receive(self, receive: Receive) -> Receive:
        receive = super().wrap_receive(receive)
        if self.scope["type"] != "http":
            return receive
        self._is_admitted = anyio.Event()
        is_first = True

        async def receive_once_admitted() -> Event:
            nonlocal is_first
            if is_first:
                is_first = False
                return {"type": _BEFORE_BODY}
            # To ask a server for the body is to have it read, or to have the client told
            # to send it (RFC 9110 10.1.1, "Expect: 100-continue").
            await self._is_admitted.wait()
            return await receive()

        return receive_once_admitted

    async def publish_admission(self, message: Message) -> None:
        """Handle that a request begins: ask `authorize`, and only then have its body read."""
        captured = captured_by_path(self)
        if "room_name" not in captured:
            raise ConfigurationError(
                f"{type(self).__qualname__} publishes to the room_name of its path: write "
                "path('notifications/<int:room_name>/', ...)"
            )
        if self.scope["method"] != "POST":
            raise MethodNotAllowed("POST")
        answer = self.authorize()
        if inspect.isawaitable(answer):
            answer = await answer
        require_yes(self, "authorize", answer)
        self._is_admitted.set()

    async def handle(self, body: bytes) -> None:
        group = room_group(self.scope["url_route"]["kwargs"]["room_name"])
        content = _read(body)
        message = {"type": "send.notification", "data": content["data"]}
        key = _idempotency_key(self.scope, content)
        sent = await self.channel_layer.group_send(group, message, idempotency_key=key)
        position = None if sent.position is None else str(sent.position)
        await self._emit(*json_response(202, {"reached": sent.reached, "position": position}))

    def authorize(self) -> Awaitable[bool | None] | bool | None:
        """Let the request pass, or raise; an override may be ``async``.

        Anything that it returns but None and True refuses the request, too.

        Raises:
            Unauthorized: the key is missing or wrong.
            Forbidden: no key is set, and the request may come from another machine.
        """
        if self.key is None:
            if not _is_local(self.scope):
                raise Forbidden(
                    "publishing from outside this machine needs a key: "
                    "set ASGI_NOTIFY_PUBLISH_KEY where the server runs"
                )
            return None
        scheme, _, shown = (header(self.scope, b"authorization") or "").partition(" ")
        # RFC 9110 11.1: the name of a scheme is in either case.
        if scheme.lower() != "bearer" or not shown.strip():
            raise Unauthorized(
                "no publish key was shown; send it in the header 'Authorization: Bearer KEY'"
            )
        # As the bytes that came, in a time that does not depend on how much of it is right.
        if not hmac.compare_digest(shown.strip().encode("latin-1"), self.key.encode()):
            raise Unauthorized(
                "the publish key is wrong; the header 'Authorization: Bearer KEY' has to show "
                "the one that is set where the server runs"
            )
        return None


def _is_local(scope: Scope) -> bool:
    # A proxy on this machine lets in whoever reaches it, under a loopback name at that.
    if not arrived_over_loopback(scope) or is_proxied(scope):
        return False
    host = requested_host(scope)
    # A page elsewhere may have its own name resolve to the loopback address.
    return host is None or is_loopback(host)


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
