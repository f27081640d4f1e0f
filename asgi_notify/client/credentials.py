"""What a client shows who it is with: fresh tokens, from a function of the application's."""

import inspect
from collections.abc import Awaitable, Callable
from random import uniform
from typing import TypeAlias

import anyio.to_thread

from ..exceptions import ConfigurationError, Unauthorized
from .backoff import Backoff
from .errors import ServerUnavailable

__all__ = ["Credentials", "GetToken"]

GetToken: TypeAlias = Callable[[], "str | Awaitable[str | None] | None"]
"""Returns a token or a ticket; None where nobody is logged in any more."""

EARLY = 0.8, 0.9  # of a login's time: spread, so that many who came together do not renew together
SHORTEST = 0.05  # seconds, whatever the server says
LONGEST = 24 * 3600.0  # seconds; a login may last for years


class Credentials:
    """Asks the function for tokens.

    Args:
        get_token: the function.
        backoff: how long to wait before it is asked again where that failed.

    Attributes:
        is_over: whether it has said that nobody is logged in.
    """

    def __init__(self, get_token: GetToken, backoff: Backoff) -> None:
        self.is_over = False
        self._get_token = get_token
        self._backoff = backoff

    async def get(self) -> str:
        """A fresh token.

        Raises:
            ConfigurationError: the function has returned what is none.
            ServerUnavailable: there is none now; the function has failed.
            Unauthorized: there will be none.
        """
        try:
            if inspect.iscoroutinefunction(self._get_token):
                asked: object = self._get_token()
            else:  # it may ask a server, and wait for that
                # In a list, as trio lets no thread return what is to be awaited.
                [asked] = await anyio.to_thread.run_sync(
                    lambda: [self._get_token()], abandon_on_cancel=True
                )
            token = await asked if inspect.isawaitable(asked) else asked
        except Exception as error:
            kind = type(error).__name__
            raise ServerUnavailable(f"there is no token: {kind}: {error}") from error
        self.is_over = token is None
        if token is None:
            raise Unauthorized("nobody is logged in: the function for tokens returned None")
        if not isinstance(token, str):
            raise ConfigurationError(
                f"the function for tokens returns a str, or None, not a {type(token).__name__}"
            )
        return token

    def pause(self, expires_in: float, attempt: int) -> float:
        """Seconds until the login is renewed; after attempts that failed, soon again."""
        if attempt:
            return max(self._backoff.delay(attempt - 1), SHORTEST)
        return min(max(expires_in * uniform(*EARLY), SHORTEST), LONGEST)
