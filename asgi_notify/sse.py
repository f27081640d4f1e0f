"""How server-sent events are spelled on the wire; awaits nothing.

Source: HTML, section 9.2, "Server-sent events", where "Parsing an event
stream" says what a browser makes of each line.
"""

import re

from .exceptions import InvalidMessage
from .types import Headers

__all__ = ["CONTENT_TYPE", "HEADERS", "comment", "event"]

CONTENT_TYPE = "text/event-stream"

HEADERS: Headers = [
    (b"content-type", f"{CONTENT_TYPE}; charset=utf-8".encode()),
    # RFC 9111 5.2.2.6: a proxy that compresses would hold events back.
    (b"cache-control", b"no-cache, no-transform"),
    # nginx, ngx_http_proxy_module, "proxy_buffering": it would collect them, too.
    (b"x-accel-buffering", b"no"),
]
"""What a stream of events is sent with."""

# These three and no others end a line. str.splitlines() knows eight more,
# which a browser takes for part of the text.
_LINE_END = re.compile("\r\n|\r|\n")


def event(
    data: str | None,
    *,
    event: str | None = None,
    id: str | None = None,
    retry: int | None = None,
) -> bytes:
    """One whole event, with the empty line that has a browser dispatch it.

    A browser gives the data back as it was, but for its line ends, each of
    which is then a line feed. Empty data is an event, too. Where there is no
    data, nothing is dispatched, but ``id`` and ``retry`` are remembered.

    Args:
        data: any text.
        event: the name that listeners ask for; ``message`` where it is None.
        id: what the browser sends as ``Last-Event-ID`` when it comes back. An
            empty one has it forget the last.
        retry: milliseconds that it waits before it comes back.

    Raises:
        InvalidMessage: one of these cannot be carried by an event.
        TypeError: one of these is no text, or ``retry`` is no whole number.
    """
    # Fast path: nearly all events are one line of text, perhaps with an id.
    if event is None and retry is None and type(data) is str and _is_line(data):
        if id is None:
            return _encode(f"data: {data}\n")
        return _encode(f"id: {_without_nul(_one_line('id', id))}\ndata: {data}\n")
    fields: list[tuple[str, str]] = []
    if event is not None:
        fields.append(("event", _one_line("event", event)))
    if id is not None:
        fields.append(("id", _without_nul(_one_line("id", id))))
    if retry is not None:
        fields.append(("retry", str(_milliseconds(retry))))
    if data is not None:
        fields += [("data", line) for line in _lines("data", data)]
    # A browser takes one space after the colon away: with it, a space that
    # begins the text stays.
    return _encode("".join(f"{name}: {value}\n" for name, value in fields))


def comment(text: str = "") -> bytes:
    """Lines that a browser passes over: they show all in between that the stream lives.

    Raises:
        InvalidMessage: it is no Unicode text.
        TypeError: it is no text.
    """
    lines = _lines("a comment", text)
    return _encode("".join(f": {line}\n" if line else ":\n" for line in lines))


def _is_line(text: str) -> bool:
    return "\n" not in text and "\r" not in text


def _lines(name: str, text: str) -> list[str]:
    return _LINE_END.split(_require_text(name, text))


def _one_line(name: str, text: str) -> str:
    if not _is_line(_require_text(name, text)):
        raise InvalidMessage(
            f"{name} is one line, and {text[:50]!r} has a line break: put such text into the data"
        )
    return text


def _without_nul(id: str) -> str:
    if "\0" in id:
        raise InvalidMessage(
            f"a browser ignores an id with NUL, such as {id[:50]!r}: leave it out, or use "
            "digits and letters"
        )
    return id


def _milliseconds(retry: int) -> int:
    if not isinstance(retry, int) or isinstance(retry, bool):
        raise TypeError(f"retry is a whole number of milliseconds, not {retry!r}")
    if retry < 0:
        raise InvalidMessage(f"retry is a number of milliseconds from 0 on, not {retry}")
    return retry


def _require_text(name: str, text: str) -> str:
    if not isinstance(text, str):
        raise TypeError(
            f"{name} is text, not {type(text).__name__}: use json.dumps(), or .decode() for bytes"
        )
    return text


def _encode(lines: str) -> bytes:
    try:
        return f"{lines}\n".encode()
    except UnicodeEncodeError as error:
        raise InvalidMessage(
            f"half of a surrogate pair cannot be sent as UTF-8 ({error.reason}): send whole "
            "characters, or JSON, which can spell it"
        ) from error
