"""What a client raises when it cannot go on.

::

    NotifyError
    +-- ServerUnavailable   no server, or one that is busy: later it may work
    +-- WrongServer         what answers speaks another protocol
    +-- ClientError         what the server refused
        +-- Unauthorized    it wants a key or a login
        +-- Forbidden
        +-- NoRouteFound    no such path, or no such group
"""

import json

from ..exceptions import ClientError, Forbidden, NoRouteFound, NotifyError, Unauthorized

__all__ = [
    "ServerUnavailable",
    "WrongServer",
    "refusal",
    "refused_publication",
    "refused_subscription",
    "sentence_of",
]

# HTTP statuses of 400 and above that another attempt may be spared from: a
# request that came too late, too early or too often.
PASSING = {408, 425, 429}

WAY_OUT = {
    401: "pass token=..., or headers={'Authorization': ...}",
    403: "ask for a group or an origin that is allowed",
    404: "the address has to lead to notifications, such as ws://HOST/notifications/",
}

_KINDS: dict[int, type[ClientError]] = {401: Unauthorized, 403: Forbidden, 404: NoRouteFound}
_CODES = {"unauthorized": Unauthorized, "forbidden": Forbidden, "not_found": NoRouteFound}


class ServerUnavailable(NotifyError, ConnectionError):
    """There is no connection, but a later attempt may bring one."""

    close_code = 1012
    http_status = 503


class WrongServer(NotifyError):
    """What answers at this address is no server of notifications."""


def refusal(url: str, status: int, sentence: str) -> NotifyError:
    """The error of a server that did not let the client in, or put it out.

    Args:
        url: where the server is.
        status: of HTTP; for a WebSocket's close code, that code less 4000.
        sentence: what the server said.
    """
    said = f"{url} answered {status}: {sentence}" if sentence else f"{url} answered {status}"
    if status >= 500 or status in PASSING:
        return ServerUnavailable(said)
    if status < 400:
        return WrongServer(f"{said}; give an address that is answered with a WebSocket")
    way_out = f"; {WAY_OUT[status]}" if status in WAY_OUT else ""
    return _KINDS.get(status, ClientError)(f"{said}{way_out}")


def refused_subscription(group: str, code: str, sentence: str) -> NotifyError:
    """The error of one subscription that the server refused."""
    kind = _CODES.get(code, ClientError)
    return kind(f"{group!r} cannot be followed: {sentence or 'the server does not say why'}")


def refused_publication(group: str, code: str, sentence: str) -> NotifyError:
    """The error of one publication that the server refused, or failed at."""
    said = f"not published to {group!r}: {sentence or 'the server does not say why'}"
    if code == "failed":
        return ServerUnavailable(said)
    return _CODES.get(code, ClientError)(said)


def sentence_of(body: bytes, otherwise: str) -> str:
    """What an answer over HTTP says went wrong."""
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return otherwise
