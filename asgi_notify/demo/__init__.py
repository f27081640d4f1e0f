"""Serves the demo page and the JavaScript client: their files, and the headers of each.

The page has no build step and takes nothing from elsewhere: ``index.html``
says what there is, ``room.js`` draws one room (with ``text.js``, ``command.js``,
and ``recall.js`` for what was sent before it was opened), and ``page.js`` opens
and closes rooms and holds the client, which is the package's
``js/asgi-notify.js``. All of its addresses are relative, so that it works under
any prefix that ends with a slash.
"""

from importlib.resources import files

from ..routing.entries import path
from ..types import Headers
from ..web import File

__all__ = ["PUBLIC_HEADERS", "SECURITY_HEADERS", "urlpatterns"]

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

PUBLIC_HEADERS: Headers = [
    (b"access-control-allow-origin", b"*"),
    (b"cross-origin-resource-policy", b"cross-origin"),
    (b"x-content-type-options", b"nosniff"),
]
"""What the client is sent with: it holds no secret, and pages of any origin may import it."""


_PAGE = ("page.css", "page.js", "room.js", "recall.js", "text.js", "command.js", "mark.svg")
_CLIENT = ("asgi-notify.js", "asgi-notify.d.ts")


def _read(name: str) -> File:
    if name in _CLIENT:
        return File(
            name,
            files("asgi_notify").joinpath("js", name).read_bytes(),
            PUBLIC_HEADERS,
        )
    return File(name, files(__name__).joinpath(name).read_bytes(), SECURITY_HEADERS)


# Each file is a route of its own, read when the module is imported. No request
# ever names a file, so that there is no way out of this folder.
urlpatterns = [
    path("", _read("index.html")),
    *(path(name, _read(name)) for name in (*_PAGE, *_CLIENT)),
]
"""The routes of the page and the client, for ``include("asgi_notify.demo")`` in any router."""
