"""Spells ASGI events, and reads what a scope says; awaits nothing.

Also the one place where an error becomes an answer: a response, a denial or a close.
"""

import json
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs

from .exceptions import ClientError
from .types import Event, Headers, Scope

__all__ = [
    "DENIAL",
    "DIRECT",
    "accept",
    "client_address",
    "close",
    "header",
    "header_values",
    "json_response",
    "query_value",
    "refusal",
    "response",
    "send_bytes",
    "send_text",
    "sentence_of",
]

DENIAL = "websocket.http.response"
"""The extension that lets a WebSocket be refused with a whole HTTP response.

Source: ASGI, "Extensions", section "WebSocket Denial Response".
"""

DIRECT = "asgi_notify.direct"
"""The extension that takes a WebSocket message at once, or says that it cannot: docs/direct.md."""

_PHRASES = {status.value: status.phrase for status in HTTPStatus}

# RFC 6455 5.5: a control frame carries at most 125 bytes, two of them the code.
_MAX_REASON = 123


def header(scope: Scope, name: bytes) -> str | None:
    """The value of the first header of that lower-case name, or None.

    Bytes outside ASCII are read as Latin-1, so that no value fails to decode.

    Source: RFC 9110, section 5.5.
    """
    for key, value in scope.get("headers", ()):
        if key.lower() == name:
            return bytes(value).decode("latin-1")
    return None


def header_values(scope: Scope, name: bytes) -> list[str]:
    """The values of all headers of that lower-case name, read as `header` reads them."""
    return [
        bytes(value).decode("latin-1")
        for key, value in scope.get("headers", ())
        if key.lower() == name
    ]


def client_address(scope: Scope) -> str:
    """Who a connection comes from, for a log: ``203.0.113.7:50000``.

    Source: ASGI, HTTP & WebSocket, section "HTTP Connection Scope", which lets
    servers leave it away; over a Unix socket there is none.
    """
    client = scope.get("client")
    return f"{client[0]}:{client[1]}" if client else "an unknown address"


def query_value(scope: Scope, name: str) -> str | None:
    """The value of a parameter of the query; None where it is missing or empty.

    Raises:
        ClientError: it is there more than once.
    """
    query = scope.get("query_string", b"").decode("latin-1")
    values = parse_qs(query).get(name, [])
    if len(values) > 1:
        raise ClientError(f"{name} is given {len(values)} times in the query; give it once")
    return values[0] if values else None


def accept(subprotocol: str | None = None, headers: Iterable[tuple[bytes, bytes]] = ()) -> Event:
    """Take the WebSocket. Source: ASGI, HTTP & WebSocket, section "Accept - send event"."""
    return {"type": "websocket.accept", "subprotocol": subprotocol, "headers": list(headers)}


def send_text(text: str) -> Event:
    """One text frame. Source: ASGI, HTTP & WebSocket, section "Send - send event"."""
    return {"type": "websocket.send", "text": text}


def send_bytes(data: bytes) -> Event:
    """One binary frame. Source: ASGI, HTTP & WebSocket, section "Send - send event"."""
    return {"type": "websocket.send", "bytes": data}


def close(code: int = 1000, reason: str | None = None) -> Event:
    """End the WebSocket; a reason over 123 bytes is cut, since a close frame holds no more.

    Source: RFC 6455, section 5.5.1.
    """
    # A half of a character, such as JSON can hold, must not keep a connection from its end.
    text = (reason or "").encode(errors="replace")[:_MAX_REASON].decode(errors="ignore")
    return {"type": "websocket.close", "code": code, "reason": text}


def response(
    status: int,
    body: bytes = b"",
    content_type: str = "text/plain; charset=utf-8",
    *extra: tuple[bytes, bytes],
) -> list[Event]:
    """A whole HTTP response, with its type, its length and any further headers."""
    headers: Headers = [
        (b"content-type", content_type.encode("latin-1")),
        (b"content-length", str(len(body)).encode()),
        *extra,
    ]
    return [
        {"type": "http.response.start", "status": status, "headers": headers},
        {"type": "http.response.body", "body": body, "more_body": False},
    ]


def json_response(status: int, content: Any, *extra: tuple[bytes, bytes]) -> list[Event]:
    """A whole HTTP response that carries JSON."""
    return response(status, json.dumps(content).encode(), "application/json", *extra)


def sentence_of(error: Exception) -> str:
    """What the other side of a connection is told of an error that is not the server's fault."""
    return getattr(error, "public", None) or str(error)


def refusal(scope: Scope, error: Exception) -> list[Event]:
    """The events that tell the other side of a connection, not yet answered, why it ends.

    The one place where an error becomes a response, a denial or a close. An
    HTTP request is answered in JSON, ``{"error": ...}``. A WebSocket gets the
    same as a denial, with the error's ``headers``, where the server offers that; else
    a close before the accept, which servers turn into a bare 403. Any other scope
    gets nothing.
    What an error of the server's own says stays in the server's log.
    """
    status = getattr(error, "http_status", 500)
    phrase = _PHRASES.get(status, "Refused")
    text = phrase if status == 500 else sentence_of(error) or phrase
    events = json_response(status, {"error": text}, *getattr(error, "headers", ()))
    if scope["type"] == "http":
        return events
    if scope["type"] != "websocket":
        return []
    if DENIAL in (scope.get("extensions") or {}):
        return [
            {**event, "type": event["type"].replace("http", "websocket.http", 1)}
            for event in events
        ]
    return [close(getattr(error, "close_code", 1011), text)]
