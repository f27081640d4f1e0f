"""The frames that a server sends in the notification protocol: how they are spelled.

Each is one JSON object with a ``"type"``. What they mean is told in
``docs/protocol.md``, and their shapes in ``schema.json`` beside this file.
"""

import json
from collections.abc import Iterable
from json import JSONEncoder
from typing import Any, Literal

from ..exceptions import (
    ClientError,
    DenyConnection,
    Forbidden,
    InvalidMessage,
    InvalidName,
    NoRouteFound,
    TooManyRequests,
    Unauthorized,
)
from ..jsontext import json_text
from ..positions import Position

__all__ = [
    "MAX_DEPTH",
    "PROTOCOL",
    "ErrorCode",
    "Ref",
    "answer",
    "authenticated",
    "error",
    "error_code",
    "gap",
    "going_away",
    "notification",
    "ping",
    "pong",
    "published",
    "require_shallow",
    "subscribed",
    "unsubscribed",
    "welcome",
]

PROTOCOL = "asgi-notify.v1"
"""The name of the WebSocket subprotocol, and of ``?protocol=`` over HTTP."""

VERSION = 1
MAX_DEPTH = 100  # lists and objects inside each other; many readers of JSON stop at 128

ErrorCode = Literal[
    "bad_frame",
    "unknown_type",
    "bad_request",
    "unauthorized",
    "forbidden",
    "not_found",
    "not_subscribed",
    "too_many",
    "failed",
]
"""What an error frame may say in its ``code``."""

Ref = str | int | float | None
"""What a client marks a request with, to know its answer by; None where it does not."""

# Made once: json.dumps with options of its own makes an encoder at each call. What it spells
# is this library's own, or short, and the same with and without msgspec.
_spell = JSONEncoder(allow_nan=False, separators=(",", ":")).encode


def welcome(
    connection: str,
    ping_interval: float | None = None,
    pong_timeout: float | None = None,
    auth_timeout: float | None = None,
    expires_in: float | None = None,
) -> str:
    """The first frame.

    Args:
        connection: the name of this connection, as the server's log has it.
        ping_interval: seconds between two pings; None where none come.
        pong_timeout: seconds that the client has to answer one.
        auth_timeout: seconds that the client has to show a credential; None where it need not.
        expires_in: seconds until the connection ends unless a fresh credential is shown before;
            None where it does not.
    """
    frame: dict[str, object] = {
        "type": "welcome",
        "version": VERSION,
        "connection": connection,
        "ping_interval": ping_interval,
        "pong_timeout": pong_timeout,
    }
    if auth_timeout is not None:
        frame["auth_timeout"] = auth_timeout
    if expires_in is not None:
        frame["expires_in"] = expires_in
    return _spell(frame)


def authenticated(
    user: str, expires_at: float | None, expires_in: float | None, ref: Ref = None
) -> str:
    """The answer to a credential that was taken.

    Args:
        user: the id of whom it shows.
        expires_at: when the connection ends unless another one is shown before, in seconds
            since 1970; None for never.
        expires_in: how many seconds that is from now on, for clients whose clock is wrong.
        ref: of the request.
    """
    frame: dict[str, object] = {
        "type": "authenticated",
        "user": user,
        "expires_at": expires_at,
        "expires_in": expires_in,
    }
    return _spell(_with_ref(frame, ref))


def subscribed(
    group: str,
    position: Position | None,
    recovered: bool | None = None,
    replayed: int = 0,
    ref: Ref = None,
) -> str:
    """The answer to a subscription: what comes after a position follows.

    Args:
        group: which one.
        position: where the client stands; None where the group has no history.
        recovered: whether nothing is missing since the position it named; None
            where it named none.
        replayed: how many notifications follow from the history.
        ref: of the request.
    """
    frame: dict[str, object] = {
        "type": "subscribed",
        "group": group,
        "position": position and str(position),
    }
    if recovered is not None:
        frame["recovered"] = recovered
    frame["replayed"] = replayed
    return _spell(_with_ref(frame, ref))


def unsubscribed(group: str, ref: Ref = None) -> str:
    """The answer to the end of a subscription: nothing of the group follows."""
    return _spell(_with_ref({"type": "unsubscribed", "group": group}, ref))


def notification(
    group: str | None, position: Position | None, data: object, user: str | None = None
) -> str:
    """A notification.

    Args:
        group: that it was sent to; None where it was sent to this connection alone.
        position: its id; None where the group has no history.
        data: whatever JSON can spell, with `plain` for what it lacks, at most `MAX_DEPTH`
            levels deep.
        user: the id of the user who has published it; None where a back end has.

    Raises:
        InvalidMessage: JSON cannot spell the data, or it is too deep.
    """
    frame = {"type": "notification", "group": group, "id": position and str(position), "data": data}
    if user is not None:
        frame["user"] = user
    try:
        text = json_text(frame)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidMessage(f"its data cannot be sent as JSON: {error}") from error
    require_shallow(text, MAX_DEPTH + 1)
    return text


def require_shallow(text: str, levels: int = MAX_DEPTH) -> None:
    """Refuse what a client may be unable to read: what one Python spells another may not read.

    Args:
        text: data, spelled as JSON.
        levels: how many lists and objects may be inside each other.

    Raises:
        InvalidMessage: there are more.
    """
    # Fast path: with so few brackets it is not, and counting them costs next to nothing.
    if text.count("[") + text.count("{") <= levels:
        return
    try:
        nests = _nests([json.loads(text)])
        for _ in range(levels):
            nests = [deeper for nest in nests for deeper in _nests(nest)]
    except RecursionError:
        pass  # it is much deeper
    else:
        if not nests:
            return
    raise InvalidMessage(
        f"its data is nested more than {MAX_DEPTH} levels deep, which not every client can read"
    )


def _nests(nest: list[Any] | dict[str, Any]) -> list[list[Any] | dict[str, Any]]:
    """The lists and objects one level below one."""
    items = nest.values() if isinstance(nest, dict) else nest
    return [item for item in items if isinstance(item, list | dict)]


def published(group: str, position: Position | None, ref: Ref = None) -> str:
    """The answer to what a client has published.

    Args:
        group: that it was sent to.
        position: its id; None where the group has no history.
        ref: of the request.
    """
    frame: dict[str, object] = {"type": "published", "group": group}
    return _spell(_with_ref({**frame, "position": position and str(position)}, ref))


def gap(group: str, reason: str, lost: int | None) -> str:
    """Notifications of a group were lost to this client here.

    Args:
        group: which one.
        reason: ``full``, ``expired``, ``unrecovered`` or ``unreadable``.
        lost: how many; None where nobody knows.
    """
    return _spell({"type": "gap", "group": group, "reason": reason, "lost": lost})


def ping() -> str:
    """A question whether the client is still there; any frame answers it."""
    return '{"type":"ping"}'


def pong(ref: Ref = None) -> str:
    """The answer to the client's ping."""
    return _spell(_with_ref({"type": "pong"}, ref))


def error(code: ErrorCode, message: str, ref: Ref = None, group: str | None = None) -> str:
    """A request that was not fulfilled; the connection goes on.

    Args:
        code: for programs.
        message: for people; says the way out.
        ref: of the request.
        group: that it was about.
    """
    frame = {"type": "error", "code": code, "message": message, "ref": ref}
    return _spell(frame if group is None else {**frame, "group": group})


def going_away(retry_after: float) -> str:
    """The server closes the connection now; the client comes back in so many seconds."""
    return _spell({"type": "going_away", "retry_after": retry_after})


def answer(frames: Iterable[str], position: str | None) -> str:
    """The body of the answer to a poll: frames, and where the next poll begins."""
    return f'{{"frames":[{",".join(frames)}],"position":{_spell(position)}}}'


def error_code(failure: Exception) -> ErrorCode:
    """What an error frame calls this failure of a request."""
    for kind, code in _CODES.items():
        if isinstance(failure, kind):
            return code
    return "failed"


_CODES: dict[type[Exception], ErrorCode] = {
    Unauthorized: "unauthorized",
    Forbidden: "forbidden",
    DenyConnection: "forbidden",
    NoRouteFound: "not_found",
    InvalidName: "not_found",
    TooManyRequests: "too_many",
    ClientError: "bad_request",  # the other errors of clients, so it stands last
}


def _with_ref(frame: dict[str, object], ref: Ref) -> dict[str, object]:
    return frame if ref is None else {**frame, "ref": ref}
