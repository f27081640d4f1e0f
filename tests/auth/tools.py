"""What the tests of logins share: a clock they move, credentials they write, a session in front."""

import json
from typing import Any

from asgi_notify.auth import AuthSession, Identity
from asgi_notify.exceptions import Unauthorized
from asgi_notify.types import ASGIApp, Receive, Scope, Send
from tests.consumers.harness import Wire

NOW = 1_700_000_000.0  # seconds since 1970


class Clock:
    """The time of logins, which stands still until the test moves it."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now

    def move(self, seconds: float) -> None:
        self.now += seconds


def credential(user: str = "ann", **more: Any) -> str:
    """What `verify` takes for a credential of that user."""
    return json.dumps({"id": user, **more}, separators=(",", ":"))


async def verify(shown: str) -> Identity:
    try:
        return Identity(**json.loads(shown))
    except (ValueError, TypeError):
        raise Unauthorized("this credential is worth nothing here") from None


class LoggedIn:
    """An application behind a session, as `Authentication` would put it there.

    Attributes:
        sessions: those of all connections so far.
    """

    def __init__(
        self,
        app: Any,
        clock: Clock,
        identity: Identity | None = None,
        *,
        must_authenticate: bool = False,
    ) -> None:
        self._app: ASGIApp = app() if isinstance(app, type) else app
        self._clock = clock
        self._identity = identity
        self._must = must_authenticate
        self.sessions: list[AuthSession] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        session = AuthSession(
            verify, self._identity, must_authenticate=self._must, clock=self._clock
        )
        self.sessions.append(session)
        await self._app(session.put_in(scope), receive, send)


def closed(wire: Wire) -> tuple[int, str] | None:
    """The code and the reason that a WebSocket was closed with, or None."""
    return None if wire.close is None else (wire.close["code"], wire.close["reason"])
