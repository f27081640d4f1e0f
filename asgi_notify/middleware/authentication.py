"""Finds out who is on a connection before the application sees it, whatever the transport."""

import logging
import time
from collections.abc import Callable, Iterable

from ..auth.credentials import TICKET, Shown, shown_in, without
from ..auth.identity import Identity, identity_of
from ..auth.session import AuthSession, session_of
from ..auth.verifying import Verifier, verify_with
from ..exceptions import ClientError, ConfigurationError, Forbidden, NotifyError, Unauthorized
from ..legible import MOST_OF_SENTENCE, legible
from ..protocol import PROTOCOL
from ..routing.base import as_app
from ..types import Receive, Scope, Send
from ..web import refuse
from .expiring import Expiring
from .origin import SameOriginValidator

__all__ = ["Authentication"]

logger = logging.getLogger("asgi_notify.middleware")


_HOW = "send the header 'Authorization: Bearer ...'"


class Authentication:
    """Lets through who shows a credential, and puts who that is into ``scope["user"]``.

    It stands in front of any ASGI application, for WebSockets and for HTTP. A credential may
    be shown in one of these places, in this order:

    1. the header ``Authorization: Bearer <credential>``;
    2. the query, ``?ticket=<ticket>``, where there is a verifier for tickets;
    3. of a WebSocket, a subprotocol ``asgi-notify.auth.<credential>``, beside the one that is
       spoken: the application never sees it, so that nobody answers with it;
    4. a cookie, where one is named.

    The first place that shows something decides: if that is worth nothing, the answer is 401,
    whatever the other places show. If one of those shows another user, the answer is 401, too.
    What is worth nothing there is passed over, since a browser adds its cookies by itself. So is
    a cookie that stands alone, where who shows nothing is let through. Where nothing is shown, a
    user whom a framework further out has put into the scope is taken. A
    browser adds what those are known by to requests of any page: so a cookie, or a
    framework's user, counts only for pages of the server's own origin or an allowed one.

    A verifier is an async function, or one that is run in a thread, or `SignedTokens` or
    `JWTVerifier`. If it fails unforeseen, nobody is let through: the answer is 500. Without one,
    it is the framework's user alone that counts.

    When the identity expires, the WebSocket is closed with 4401, and a stream of events ends.
    Within the application, ``session_of(scope).authenticate(credential)`` takes a fresh one.

    Args:
        application: an ASGI app, a consumer class, or a router.
        verifier: says who shows a credential; None where that is for the framework to say.
        cookie: the name of the cookie that holds one; None for none.
        tickets: a verifier for tickets in the query; None where there are none.
        required: whether who shows nothing is refused; else ``scope["user"]`` is None then.
        first_frame: whether a WebSocket that shows nothing and offers the protocol
            ``asgi-notify.v1`` is let through, to show its credential in the first frame. Only
            for applications that wait for that frame, as `NotificationConsumer` does.
        allowed_origins: further origins whose pages may use the cookie, as for
            `SameOriginValidator`.
        clock: seconds since 1970.

    Raises:
        ConfigurationError: the verifier is none, or an option can never work.
    """

    def __init__(
        self,
        application: object,
        verifier: Verifier | None = None,
        *,
        cookie: str | None = None,
        tickets: Verifier | None = None,
        required: bool = True,
        first_frame: bool = False,
        allowed_origins: Iterable[str] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Check the arguments and wrap the application."""
        self.inner = as_app(application, type(self).__name__)
        self._reads = verifier is not None  # else what is shown is for the framework to read
        self._verify = verify_with(_refuse_all if verifier is None else verifier, clock)
        self._verify_ticket = None if tickets is None else verify_with(tickets, clock)
        self._cookie = cookie
        self._required = required
        self._first_frame = first_frame
        self._origins = SameOriginValidator(self.inner, allowed_origins)
        self._clock = clock
        if cookie is not None and (not cookie or not cookie.isascii() or set(cookie) & set("=; ,")):
            raise ConfigurationError(f"no cookie can be called {cookie!r}; an example is 'session'")
        if verifier is None and (cookie is not None or first_frame):
            raise ConfigurationError("who shows a credential is for a verifier to say; give one")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand over to the application, or refuse."""
        if scope["type"] not in ("http", "websocket"):
            await self.inner(scope, receive, send)
            return
        try:
            session = await self._session(scope)
        except NotifyError as error:
            _log(scope, error)
            await refuse(scope, send, error)
            return
        if session is session_of(scope):  # of an Authentication further out, which guards it
            await self.inner(without(scope), receive, send)
            return
        inner = without(session.put_in(scope))
        await Expiring(inner, receive, send, session, self._clock).run(self.inner)

    async def _session(self, scope: Scope) -> AuthSession:
        shown = shown_in(scope, cookie=self._cookie, ticket=self._verify_ticket is not None)
        if not self._reads:
            shown = [each for each in shown if each.source == "ticket"]
        user = identity_of(scope)
        must_authenticate = self._first_frame and _offers_protocol(scope)
        is_optional = must_authenticate or not self._required
        if is_optional and [each.source for each in shown] == ["cookie"]:
            found = await self._unless_old(shown[0], scope)
        else:
            found = await self._identity(shown) if shown else None
        if found is not None and user is not None and user.id != found.id:
            raise Unauthorized("the credential is not of the user who is logged in")
        identity = user if found is None else found
        is_by_itself = found is None or shown[0].source == "cookie"
        if identity is not None and is_by_itself and not self._origins.allows(scope):
            raise Forbidden(
                "a cookie counts only for pages of this origin; name others in allowed_origins"
            )
        outer = session_of(scope)
        if identity is not None and outer is not None and outer.identity is not None:
            return outer  # of the same user, who is whom it has put into the scope
        if identity is not None:
            return AuthSession(self._verify_any, identity, clock=self._clock)
        if not is_optional:
            raise Unauthorized(f"no credential was shown; {_HOW}" if self._reads else "log in")
        must_authenticate = must_authenticate and self._required
        if outer is not None and must_authenticate <= outer.must_authenticate:
            return outer
        return AuthSession(self._verify_any, must_authenticate=must_authenticate, clock=self._clock)

    async def _identity(self, shown: list[Shown]) -> Identity:
        first, *others = shown
        if any(other.source == first.source for other in others):
            raise Unauthorized(f"different credentials were shown in one place ({first.source})")
        identity = await self._ask(first)
        for other in others:
            try:
                another = await self._ask(other)
            except ClientError:
                continue
            if another.id != identity.id:
                raise Unauthorized(
                    f"the credentials ({first.source}, {other.source}) are of different users"
                )
        return identity

    async def _unless_old(self, cookie: Shown, scope: Scope) -> Identity | None:
        """Who shows a cookie, or None if it is worth nothing, as if it had not been shown.

        A browser adds it to every request, so that one whose login has expired could not even
        load the page on which to log in again, if it were refused.
        """
        try:
            return await self._ask(cookie)
        except Unauthorized as error:
            place = legible(scope.get("path"))
            reason = legible(error, MOST_OF_SENTENCE)
            logger.debug("passed over a cookie at '%s': %s", place, reason, extra={"path": place})
            return None

    async def _verify_any(self, credential: str) -> Identity:
        """Who shows a token, or a ticket, wherever it is shown."""
        if self._verify_ticket is not None and credential.startswith(TICKET):
            return await self._verify_ticket(credential)
        return await self._verify(credential)

    async def _ask(self, shown: Shown) -> Identity:
        if shown.source == "ticket" and self._verify_ticket is not None:  # and no token
            return await self._verify_ticket(shown.credential)
        return await self._verify_any(shown.credential)


async def _refuse_all(credential: str) -> Identity | None:
    """Stands for the verifier where there is none."""
    return None


def _offers_protocol(scope: Scope) -> bool:
    return scope["type"] == "websocket" and PROTOCOL in (scope.get("subprotocols") or ())


def _log(scope: Scope, error: NotifyError) -> None:
    place = legible(scope.get("path"))
    # Who comes with an old credential is everyday business, unlike what is the server's fault.
    level = logging.INFO if isinstance(error, ClientError) else logging.ERROR
    logger.log(
        level, "refused a %s at '%s': %s", scope["type"], place,
        legible(error, MOST_OF_SENTENCE), extra={"path": place},
    )  # fmt: skip
