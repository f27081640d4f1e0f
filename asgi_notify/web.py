"""What HTTP apps share, be they consumers or not.

An app for each method, a request's body with a limit, files held in memory, and the answer
to an error.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from .asgi import header, refusal, response
from .exceptions import MethodNotAllowed, NoRouteFound, TooLarge
from .routing.base import Match, Row, as_app, walk
from .types import Event, Headers, Receive, Scope, Send

__all__ = ["Body", "ByMethod", "File", "refuse", "send_all"]

_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml; charset=utf-8",
    "ts": "text/plain; charset=utf-8",  # as "video/mp2t", browsers would not show it
}


async def send_all(send: Send, events: Iterable[Event]) -> None:
    """Send the events of a whole answer, such as those of `response` or `json_response`."""
    for event in events:
        await send(event)


async def refuse(scope: Scope, send: Send, error: Exception) -> None:
    """Answer a connection that was not answered yet with an error, as `refusal` spells it."""
    await send_all(send, refusal(scope, error))


class Body:
    """The body of one request: its parts as they come in, up to a limit.

    Attributes:
        parts: those that have come and were kept; none any more after `take`.
        size: how many bytes have come, whether they were kept or not.
    """

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.size = 0  # adding up the parts at each new one would be quadratic

    def add(self, part: bytes, max_size: int, keep: bool = True) -> None:
        """Take in one more part.

        Args:
            part: of the body.
            max_size: how many bytes the whole body may have.
            keep: whether anybody will `take` it; else it is only counted.

        Raises:
            TooLarge: with this part there are more.
        """
        self.size += len(part)
        if self.size > max_size:
            raise TooLarge(f"the body is over the limit of {max_size} bytes")
        if keep:
            self.parts.append(part)

    def take(self) -> bytes:
        """The whole body, which is held by whoever has taken it alone."""
        parts, self.parts = self.parts, []
        return b"".join(parts)


class ByMethod:
    """Hands a request to the app for its method, and answers 405 to the other methods.

    Args:
        apps: an ASGI app or a consumer class for each method, such as ``"GET"``.

    Raises:
        RouteError: one of them is no app.
    """

    def __init__(self, apps: Mapping[str, object]) -> None:
        """Make an app of each."""
        self.apps = {method: as_app(app, method) for method, app in apps.items()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand over to the app for the method of one request, or refuse it."""
        app = self.apps.get(scope["method"])
        if app is not None:
            await app(scope, receive, send)
            return
        await refuse(scope, send, MethodNotAllowed(", ".join(self.apps)))

    # What makes it a router, so that `asgi-notify routes` shows each of the apps.

    def match(self, scope: Scope) -> Match:
        """Itself, for every request."""
        return Match(self, scope)

    def routes_paths(self, scope: Scope) -> bool:
        """No: the path is somebody else's."""
        return False

    def walk(self, protocol: str = "", prefix: str = "") -> Iterator[Row]:
        """Yield the rows behind each method."""
        for method, app in self.apps.items():
            yield from walk(app, protocol, prefix, method)


@dataclass(frozen=True)
class File:
    """An ASGI application that answers GET and HEAD with one file, held in memory.

    A browser asks each time whether the file has changed and gets a 304 if
    not, so that a new version of the package is a new page at once.

    Args:
        name: the file's name, whose ending decides its type.
        body: what it holds.
        headers: sent with it, beside those that say what it is.
    """

    name: str
    body: bytes = field(repr=False)
    headers: Headers = field(default_factory=list, repr=False)

    @cached_property
    def etag(self) -> str:
        """The file's version, as ``ETag`` and ``If-None-Match`` spell it."""
        return f'"{hashlib.sha256(self.body).hexdigest()[:16]}"'

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; what it carries is not read."""
        await send_all(send, self._answer(scope))

    def _answer(self, scope: Scope) -> list[Event]:
        if scope["type"] != "http":
            return refusal(scope, NoRouteFound("this path is a page, not a WebSocket"))
        if scope["method"] not in ("GET", "HEAD"):
            return refusal(scope, MethodNotAllowed("GET, HEAD"))
        headers = [
            (b"etag", self.etag.encode()),
            (b"cache-control", b"no-cache"),
            *self.headers,
        ]
        if self._is_known(header(scope, b"if-none-match")):
            return _not_modified(headers)
        kind = _TYPES[self.name.rpartition(".")[2]]
        start, body = response(200, self.body, kind, *headers)
        if scope["method"] == "HEAD":
            body["body"] = b""
        return [start, body]

    def _is_known(self, validators: str | None) -> bool:
        """Whether the client holds this version. Source: RFC 9110, section 13.1.2."""
        tags = (tag.strip().removeprefix("W/") for tag in (validators or "").split(","))
        return any(tag in (self.etag, "*") for tag in tags)


def _not_modified(headers: Headers) -> list[Event]:
    # RFC 9110 8.6: a 304 must not give a length other than that of the 200.
    return [
        {"type": "http.response.start", "status": 304, "headers": headers},
        {"type": "http.response.body", "body": b"", "more_body": False},
    ]
