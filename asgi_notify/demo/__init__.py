"""Serves the demo page and the JavaScript client: their files, and the headers of each.

The page has no build step and takes nothing from elsewhere: ``index.html``
says what there is, ``room.js`` draws one room (with ``text.js``, ``command.js``,
and ``recall.js`` for what was sent before it was opened), and ``page.js`` opens
and closes rooms and holds the client, which is the package's
``js/asgi-notify.js``. All of its addresses are relative, so that it works under
any prefix that ends with a slash.
"""

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from importlib.resources import files

from ..asgi import header, refusal, response
from ..exceptions import MethodNotAllowed, NoRouteFound
from ..routing.entries import path
from ..types import Event, Headers, Receive, Scope, Send

__all__ = ["PUBLIC_HEADERS", "SECURITY_HEADERS", "File", "urlpatterns"]

_POLICY = (
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self'",
    # CSP 3: 'self' covers ws: and wss: of the same host and port. The last
    # browser to follow was Safari, with 16 (2022).
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    # No text ever becomes markup: the browser itself refuses innerHTML and its kin.
    "require-trusted-types-for 'script'",
    "trusted-types 'none'",
)

SECURITY_HEADERS: Headers = [
    (b"content-security-policy", "; ".join(_POLICY).encode()),
    (b"x-content-type-options", b"nosniff"),
    # Not "no-referrer", under which a browser may send "Origin: null" with a POST.
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
]
"""What each file is sent with, so that the page runs its own code and no one else's."""

_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml; charset=utf-8",
    "ts": "text/plain; charset=utf-8",  # as "video/mp2t", browsers would not show it
}


PUBLIC_HEADERS: Headers = [
    (b"access-control-allow-origin", b"*"),
    (b"cross-origin-resource-policy", b"cross-origin"),
    (b"x-content-type-options", b"nosniff"),
]
"""What the client is sent with: it holds no secret, and pages of any origin may import it."""


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
    headers: Headers = field(default_factory=lambda: SECURITY_HEADERS, repr=False)

    @cached_property
    def etag(self) -> str:
        """The file's version, as ``ETag`` and ``If-None-Match`` spell it."""
        return f'"{hashlib.sha256(self.body).hexdigest()[:16]}"'

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; what it carries is not read."""
        for event in self._answer(scope):
            await send(event)

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


_PAGE = ("page.css", "page.js", "room.js", "recall.js", "text.js", "command.js", "mark.svg")
_CLIENT = ("asgi-notify.js", "asgi-notify.d.ts")


def _read(name: str) -> File:
    if name in _CLIENT:
        return File(
            name,
            files("asgi_notify").joinpath("js", name).read_bytes(),
            PUBLIC_HEADERS,
        )
    return File(name, files(__name__).joinpath(name).read_bytes())


# Each file is a route of its own, read when the module is imported. No request
# ever names a file, so that there is no way out of this folder.
urlpatterns = [
    path("", _read("index.html")),
    *(path(name, _read(name)) for name in (*_PAGE, *_CLIENT)),
]
"""The routes of the page and the client, for ``include("asgi_notify.demo")`` in any router."""
