"""Clients from wherever a test says, and the limits that they meet."""

from typing import Any

import anyio
from anyio.lowlevel import checkpoint

from asgi_notify import Limits
from asgi_notify.asgi import DENIAL
from asgi_notify.types import Event
from tests.consumers.harness import CONNECT, Wire

ANYBODY = "203.0.113.7"
NONE = Limits(
    connections=None, connections_per_address=None, requests_per_address=None,
    connections_per_user=None, connects_per_second=None, groups_per_address=None,
    groups_per_user=None, frames_per_second=None, bytes_per_second=None, replays_per_second=None,
    replays_per_address=None, bodies=None, bodies_per_address=None, body_timeout=None,
    head_timeout=None, half_open=None,
)  # fmt: skip


class Clock:
    """Shows what it is set to."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def socket(*events: Event, host: str | None = ANYBODY, path: str = "/", user: Any = None) -> Wire:
    """A WebSocket of a client that has an address."""
    wire = Wire(CONNECT, *events, path=path)
    wire.scope.update({"query_string": b"", "extensions": {DENIAL: {}}})
    return _from(wire, host, user)


def request(
    *events: Event,
    host: str | None = ANYBODY,
    path: str = "/",
    user: Any = None,
    method: str = "GET",
    headers: dict[str, str] | None = None,
    query: str = "",
) -> Wire:
    """An HTTP request of one; without a body unless events are given."""
    events = events or ({"type": "http.request", "body": b"", "more_body": False},)
    wire = Wire(*events, kind="http", path=path)
    sent = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    wire.scope.update({
        "method": method, "query_string": query.encode(), "http_version": "1.1", "headers": sent
    })  # fmt: skip
    return _from(wire, host, user)


def _from(wire: Wire, host: str | None, user: Any) -> Wire:
    if host is not None:
        wire.scope["client"] = (host, 50000)
    if user is not None:
        wire.scope["user"] = user
    return wire


def status(wire: Wire) -> int | None:
    """What a request was answered, or a WebSocket refused with."""
    return next((event["status"] for event in wire.sent if "status" in event), None)


def headers(wire: Wire) -> dict[bytes, bytes]:
    return next(dict(event["headers"]) for event in wire.sent if "status" in event)


def is_accepted(wire: Wire) -> bool:
    return bool(wire.sent) and wire.sent[0]["type"] == "websocket.accept"


async def until(condition: Any) -> None:
    with anyio.fail_after(20):
        while not condition():
            await checkpoint()
