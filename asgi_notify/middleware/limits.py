"""Holds what clients do within limits, in front of any application."""

import logging
import time
from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from typing import Any

from ..exceptions import NotifyError, Overloaded, TooManyRequests
from ..limits.allowance import Allowance, Counters, SocketAllowance
from ..limits.body import LimitedBody, has_body
from ..limits.bounds import Limits
from ..limits.counting import Tally
from ..peers import UNKNOWN, Network, is_in, networks_of, peer_name
from ..routing.base import as_app
from ..types import Receive, Scope, Send
from ..web import refuse

__all__ = ["Limited"]

logger = logging.getLogger("asgi_notify.limits")

ADDRESSES = 4096  # that are known at once
LOG_EVERY = 10.0  # seconds between two lines of one reason: an attack must not fill the disk


class Limited:
    """Refuses who connects too often or too fast, and ends who says too much.

    It stands in front of everything else, so that who is refused costs little: neither a
    consumer nor a mailbox nor a task is made for it. A WebSocket or a request too many is
    answered 429, and 503 where there are too many in all, with ``Retry-After``. A WebSocket
    whose client says too much is closed with 4429. How many connections there are is counted
    for any application; what clients say and who they are, where a consumer handles it.

    Each instance counts for itself, in its own process.

    Args:
        application: an ASGI app, a consumer class, or a router.
        limits: how much is allowed; the defaults of `Limits` unless given.
        clock: returns the time in seconds, for tests.

    Raises:
        ConfigurationError: the application is none.
    """

    def __init__(
        self,
        application: object,
        limits: Limits | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Wrap the application, of which nothing has been counted yet."""
        self.inner = as_app(application, type(self).__name__)
        self.limits = limits or Limits()
        self._counters = Counters(self.limits, clock)
        # Told anew only for those who were not here lately.
        self._address_of = lru_cache(ADDRESSES)(
            partial(_counted_by, networks_of(self.limits.exempt))
        )
        self._clock = clock
        self._logged: dict[str, tuple[float, int]] = {}  # reason -> when, and how many since

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand over to the application, or refuse."""
        kind = scope["type"]
        if kind not in ("http", "websocket"):
            await self.inner(scope, receive, send)
            return
        client = scope.get("client")
        address = self._address_of(str(client[0])) if client and client[0] else None
        allowance = (SocketAllowance if kind == "websocket" else Allowance)(self._counters, address)
        try:
            try:
                allowance.admit(scope)
            except (TooManyRequests, Overloaded) as error:
                self._log(scope, error)
                await refuse(scope, send, error)
                return
            scope = allowance.put_in(scope)
            if kind == "http" and has_body(scope):
                await self._take_body(scope, receive, send, address)
            else:
                await self.inner(scope, receive, send)
        finally:
            allowance.give_back()

    def statistics(self) -> dict[str, Any]:
        """How much there is now, and how often each limit has refused somebody.

        Returns:
            ``connections``, ``bodies``, ``addresses`` and ``users`` that there are now, and
            ``refused``: for each limit, how often.
        """
        return self._counters.statistics()

    async def _take_body(
        self, scope: Scope, receive: Receive, send: Send, address: str | None
    ) -> None:
        counters = self._counters
        places: list[tuple[Tally, str]] = [(counters.bodies, "")]
        if address is not None:
            places.append((counters.address_bodies, address))
        body = LimitedBody(receive, send, places, self.limits.body_timeout)
        try:
            await self.inner(scope, body.receive, body.send)
        except Exception:
            # A framework may raise that the client has left, which it was told.
            if body.error is None or body.is_answered:
                raise
        finally:
            body.end()
        if body.error is not None and not body.is_answered:
            self._log(scope, body.error)
            if str(scope.get("http_version", "1.1")).startswith("1"):
                # What is left of the body is not to be taken for a further request.
                body.error.headers = (*body.error.headers, (b"connection", b"close"))
            await refuse(scope, send, body.error)

    def _log(self, scope: Scope, error: NotifyError) -> None:
        """Log that somebody was refused, at most one line each `LOG_EVERY` seconds and reason."""
        reason, now = str(error), self._clock()
        due, untold = self._logged.get(reason, (now, 0))
        if now < due:
            self._logged[reason] = due, untold + 1
            return
        self._logged[reason] = now + LOG_EVERY, 0
        logger.warning(
            "refused a %s from %s: %s%s", scope["type"], _name_of(scope), reason,
            f" (and {untold} others since the last such line)" if untold else "",
            extra={"reason": reason},
        )  # fmt: skip


def _counted_by(exempt: Iterable[Network], host: str) -> str | None:
    return None if is_in(exempt, host) else peer_name(host)


def _name_of(scope: Scope) -> str:
    client = scope.get("client")
    return peer_name(str(client[0])) if client else UNKNOWN
