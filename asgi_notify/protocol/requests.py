"""The frames that a client sends in the notification protocol: how they are read."""

import math
import re
from json import JSONDecodeError, JSONDecoder
from typing import Any, NamedTuple, NoReturn

from ..exceptions import ClientError, InvalidName
from ..names import require_group_name
from ..positions import Position
from .frames import ErrorCode, Ref

__all__ = ["BadFrame", "Request", "read"]


class Request(NamedTuple):
    """A frame of the client's."""

    type: str
    group: str = ""
    since: Position | None = None
    ref: Ref = None
    token: str = ""
    data: object = None
    key: str | None = None

    def __repr__(self) -> str:
        """What it is, without a token or data, which are nobody's business."""
        return f"<{self.type} {self.group}>" if self.group else f"<{self.type}>"


class BadFrame(ClientError):
    """A frame of the client's that nothing can be done with; the connection goes on.

    Args:
        code: for the error frame.
        sentence: what to send instead.
        ref: of the request, where it could be read.
        group: the same.
    """

    def __init__(
        self, code: ErrorCode, sentence: str, ref: Ref = None, group: str | None = None
    ) -> None:
        super().__init__(sentence)
        self.code: ErrorCode = code
        self.ref = ref
        self.group = group


def read(text: str) -> Request:
    """What a frame of the client's asks for.

    Raises:
        BadFrame: nothing that there is; the error frame to answer with is in it.
    """
    try:
        frame = _decode(text)
    except (ValueError, RecursionError) as failure:
        place = f" ({failure.msg})" if isinstance(failure, JSONDecodeError) else ""
        raise BadFrame("bad_frame", f"the frame is no JSON{place}; {_EXAMPLE}") from failure
    if not isinstance(frame, dict) or not isinstance(frame.get("type"), str):
        raise BadFrame("bad_frame", f"a frame is a JSON object with a 'type'; {_EXAMPLE}")
    return _request(frame, _ref(frame))


def _request(frame: dict[str, Any], ref: Ref) -> Request:
    kind = frame["type"]
    if kind in ("ping", "pong"):
        return Request(kind, ref=ref)
    if kind == "auth":
        token = frame.get("token")
        if not isinstance(token, str):
            raise BadFrame("bad_request", "'token' is missing, or no text", ref)
        return Request(kind, token=token, ref=ref)
    if kind == "publish":
        return _publication(frame, ref)
    if kind not in ("subscribe", "unsubscribe"):
        known = "subscribe, unsubscribe, publish, auth, ping and pong"
        raise BadFrame("unknown_type", f"{kind[:50]!r} is no type of frame; known are {known}", ref)
    group = _group(frame, ref)
    since = frame.get("since") if kind == "subscribe" else None
    try:
        return Request(kind, group, None if since is None else Position.parse(since), ref)
    except ClientError as failure:
        raise BadFrame("bad_request", str(failure), ref, group) from failure


def _publication(frame: dict[str, Any], ref: Ref) -> Request:
    group, key = _group(frame, ref), frame.get("key")
    if "data" not in frame:
        raise BadFrame("bad_request", f"'data' is missing; {_EXAMPLE_OF_DATA}", ref, group)
    if key is not None and not (isinstance(key, str) and _KEY.fullmatch(key)):
        sentence = "'key' is 1 to 64 visible ASCII characters, such as a UUID"
        raise BadFrame("bad_request", sentence, ref, group)
    return Request("publish", group, ref=ref, data=frame["data"], key=key)


def _group(frame: dict[str, Any], ref: Ref) -> str:
    group = frame.get("group")
    if not isinstance(group, str):
        raise BadFrame("bad_request", f"'group' is missing, or no text; {_EXAMPLE}", ref)
    try:
        return require_group_name(group)
    except InvalidName as failure:
        raise BadFrame("not_found", _shortened(str(failure)), ref, group[:100]) from failure


def _ref(frame: dict[str, Any]) -> Ref:
    ref = frame.get("ref")
    is_whole = isinstance(ref, int) and not isinstance(ref, bool)
    if ref is None or isinstance(ref, str) or is_whole:
        return ref
    if isinstance(ref, float) and math.isfinite(ref):
        return ref
    raise BadFrame("bad_request", "'ref' is a text or a number of your own, such as 1")


_KEY = re.compile(r"[!-~]{1,64}")  # a layer's may be longer, and has the user's id in front
_EXAMPLE_OF_DATA = 'send such as {"type": "publish", "group": "chat", "data": "hello"}'
_EXAMPLE = 'send such as {"type": "subscribe", "group": "user_42"}'


def _shortened(sentence: str) -> str:
    return sentence if len(sentence) <= 300 else f"{sentence[:150]}...{sentence[-150:]}"


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


# Python alone knows NaN and Infinity. Made once: json.loads with an option makes a decoder for
# each frame, which takes longer than to read one.
_decode = JSONDecoder(parse_constant=_refuse_constant).decode
