"""Where a client shows its credentials, in which order these count, and what may be one at all."""

import re
from typing import NamedTuple

from ..asgi import header_values, query_value
from ..exceptions import Unauthorized
from ..types import Scope

__all__ = [
    "MAX_CREDENTIAL",
    "SUBPROTOCOL",
    "TICKET",
    "Shown",
    "require_readable",
    "shown_in",
    "without",
]

SUBPROTOCOL = "asgi-notify.auth."
"""A subprotocol that begins so carries a credential; browsers can send no header of their own."""

TICKET = "ticket."
"""What a ticket begins with, and no token does: theirs begin with base64 of JSON."""

MAX_CREDENTIAL = 8 * 1024
"""Characters; a cookie holds 4096, and a token with many claims somewhat more."""

_READABLE = re.compile(r"[\x21-\x7e]+")  # visible ASCII, of which all tokens and cookies are made


class Shown(NamedTuple):
    """One credential, and where it was shown."""

    source: str
    credential: str


def require_readable(credential: str) -> None:
    """Refuse, at little cost, what can be no credential.

    Raises:
        Unauthorized: it is empty, too long, or has other characters than visible ASCII.
    """
    if len(credential) > MAX_CREDENTIAL:
        raise Unauthorized(f"a credential has at most {MAX_CREDENTIAL} characters")
    if _READABLE.fullmatch(credential) is None:
        raise Unauthorized("a credential is made of visible ASCII characters, without spaces")


def shown_in(scope: Scope, *, cookie: str | None = None, ticket: bool = False) -> list[Shown]:
    """The credentials of a request, the one that counts first.

    The order is: the header ``Authorization: Bearer``, the parameter ``ticket`` of the query, a
    subprotocol ``asgi-notify.auth.<credential>`` of a WebSocket, and a cookie. It goes from what
    a program says on purpose to what a browser sends by itself. A credential that one source
    shows twice is one; several different ones are all returned.

    Args:
        scope: of a WebSocket or an HTTP request.
        cookie: the name of the cookie that holds a credential, or None.
        ticket: whether a ticket in the query is read.

    Raises:
        Unauthorized: there are several Authorization headers.
        ClientError: the query has several tickets.
    """
    shown = [Shown("authorization", value) for value in _bearer(scope)]
    if ticket and b"ticket" in scope.get("query_string", b""):
        value = query_value(scope, "ticket")
        shown += [] if value is None else [Shown("ticket", value)]
    if scope["type"] == "websocket":
        offered = scope.get("subprotocols") or ()
        shown += [Shown("subprotocol", _token(name)) for name in offered if _is_token(name)]
    if cookie is not None:
        shown += [Shown("cookie", value) for value in _cookies(scope, cookie)]
    return list(dict.fromkeys(shown))


def without(scope: Scope) -> Scope:
    """A scope whose subprotocols carry no credential, so that no application answers with one."""
    if not any(map(_is_token, scope.get("subprotocols") or ())):
        return scope
    names = [name for name in scope["subprotocols"] if not _is_token(name)]
    headers = [pair for pair in scope["headers"] if pair[0].lower() != b"sec-websocket-protocol"]
    if names:
        headers.append((b"sec-websocket-protocol", ", ".join(names).encode("latin-1")))
    return {**scope, "subprotocols": names, "headers": headers}


def _is_token(subprotocol: str) -> bool:
    return subprotocol.startswith(SUBPROTOCOL)


def _token(subprotocol: str) -> str:
    return subprotocol[len(SUBPROTOCOL) :]


def _bearer(scope: Scope) -> list[str]:
    values = header_values(scope, b"authorization")
    if len(values) > 1:  # RFC 9110 5.3: a header that is no list stands there once
        raise Unauthorized("there are several Authorization headers; send one")
    found = []
    for value in values:
        scheme, _, credential = value.partition(" ")
        if scheme.lower() == "bearer":  # any other is not for us, such as a proxy's Basic
            found.append(credential.strip())
    return found


def _cookies(scope: Scope, wanted: str) -> list[str]:
    """The values of a cookie; there may be several, of other paths or from another host.

    Source: RFC 6265, section 4.2.
    """
    found = []
    for part in ";".join(header_values(scope, b"cookie")).split(";"):
        name, equals, value = part.strip().partition("=")
        if equals and name == wanted:
            found.append(value.strip('"'))
    return found
