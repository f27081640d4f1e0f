"""Lets pages of other origins read what an application answers (CORS).

A browser has a page of another origin send a request, but does not show it the answer unless
the answer says that this origin may read it. Before a request that a form could not make, such
as one with JSON, it asks first, with OPTIONS: a preflight. A WebSocket is not asked about this
way: for those, and for who may publish at all, there is `OriginValidator`.

Source: Fetch, section 3.3, "CORS protocol".
"""

from collections.abc import Collection, Iterable

from ..asgi import header
from ..exceptions import ConfigurationError
from ..routing.base import as_app
from ..types import Event, Headers, Receive, Scope, Send
from ..web import send_all
from .origin import OriginValidator

__all__ = ["CrossOrigin"]

METHODS = ("GET", "HEAD", "POST")
REQUEST_HEADERS = ("authorization", "content-type", "idempotency-key", "last-event-id")
EXPOSED = ("location", "retry-after", "www-authenticate")  # those that a page may want to read
MAX_AGE = 7200  # seconds; no browser remembers a preflight for longer


class CrossOrigin:
    """Has pages of the allowed origins read the answers of an application, and no others.

    It only adds headers, and answers preflights; nobody is refused by it. So it stands in
    front of what refuses, such as `SameOriginValidator` and `Authentication`, whose refusals
    a page can then read, too.

    Cookies come with requests of the origins that are named. Where ``*`` is allowed, all pages
    may read what is answered to requests without cookies.

    Args:
        application: an ASGI app, a consumer class, or a router.
        allowed_origins: a list of patterns, as for `OriginValidator`.
        methods: what a page may ask for with.
        headers: what a page may send, beside what every page may.
        max_age: seconds for which a browser remembers the answer to a preflight.

    Raises:
        ConfigurationError: a pattern can never match, there is no list, or ``max_age`` is
            below 0.
    """

    def __init__(
        self,
        application: object,
        allowed_origins: Iterable[str],
        *,
        methods: Collection[str] = METHODS,
        headers: Collection[str] = REQUEST_HEADERS,
        max_age: int = MAX_AGE,
    ) -> None:
        """Check the arguments and wrap the application."""
        self.inner = as_app(application, type(self).__name__)
        patterns = allowed_origins if isinstance(allowed_origins, str) else list(allowed_origins)
        self._is_open = "*" in patterns
        self._origins = OriginValidator(self.inner, patterns)
        if isinstance(methods, str) or isinstance(headers, str):
            raise ConfigurationError("methods and headers are lists, such as ['GET', 'POST']")
        if max_age < 0:
            raise ConfigurationError(f"max_age is a number of seconds from 0 on, not {max_age}")
        self._preflight: Headers = [
            (b"access-control-allow-methods", ", ".join(methods).encode()),
            (b"access-control-allow-headers", ", ".join(headers).encode()),
            (b"access-control-max-age", str(max_age).encode()),
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand over to the application, or answer a preflight."""
        if scope["type"] != "http":
            await self.inner(scope, receive, send)
            return
        added = self._added(scope)
        if scope["method"] == "OPTIONS" and header(scope, b"access-control-request-method"):
            # Also to a page that is not allowed: what the answer lacks tells its browser so.
            more = self._preflight if len(added) > 1 else []
            # 204 has no body, nor a length (RFC 9110, section 8.6).
            start = {"type": "http.response.start", "status": 204, "headers": [*added, *more]}
            await send_all(send, [start, {"type": "http.response.body", "body": b""}])
            return

        async def send_readable(event: Event) -> None:
            if event["type"] == "http.response.start":
                event = {**event, "headers": [*event.get("headers", ()), *added]}
            await send(event)

        await self.inner(scope, receive, send_readable)

    def _added(self, scope: Scope) -> Headers:
        """What an answer to this request gets; caches must know that it depends on the origin."""
        vary = (b"vary", b"Origin")
        origin = header(scope, b"origin")
        if not origin or not self._origins.allows(scope):
            return [vary]
        if self._is_open:
            return [vary, (b"access-control-allow-origin", b"*"), *_EXPOSING]
        return [
            vary,
            (b"access-control-allow-origin", origin.encode("latin-1")),
            (b"access-control-allow-credentials", b"true"),
            *_EXPOSING,
        ]


_EXPOSING: Headers = [(b"access-control-expose-headers", ", ".join(EXPOSED).encode())]
