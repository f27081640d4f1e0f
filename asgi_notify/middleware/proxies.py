"""Who the client is behind proxies: told by those that are trusted, and by nobody else."""

from collections.abc import Iterable

from ..asgi import header
from ..exceptions import ConfigurationError
from ..peers import UNKNOWN, address_in, forwarded_for, is_in, networks_of
from ..routing.base import as_app
from ..types import Receive, Scope, Send

__all__ = ["TrustedProxies"]

UNIX = "unix"  # who comes over a UNIX socket, which has no address
HEADERS = ("x-forwarded-for", "forwarded")
MOST = 20  # hops that are looked at; a chain of trusted proxies is much shorter


class TrustedProxies:
    """Puts the client's own address into ``scope["client"]``, where a trusted proxy tells it.

    Each proxy adds whom it has the request from, behind what was there. So the entries are
    read from the last one on, as long as the one who has added it is trusted, and the first
    address that is not a trusted proxy's is the client's. What stands before that, a client may
    have written itself. Where the next entry is no address, or there is none, the client is the
    last one that is known: a proxy, whose clients are then counted together. Where the header
    says nothing at all that can be read, the client has an unknown address, which all such share.

    Only one header is read, that which the proxies set: another one they pass on as it came.
    A server that has put the client's address into the scope itself, as uvicorn does for
    ``--forwarded-allow-ips``, leaves nothing to do here, unless that is a trusted proxy's.

    Args:
        application: an ASGI app, a consumer class, or a router.
        trusted: addresses and networks of the proxies, such as ``["10.0.0.0/8"]``; ``unix`` for
            one that connects over a UNIX socket.
        header: ``x-forwarded-for`` or ``forwarded`` (RFC 7239).

    Raises:
        ConfigurationError: one of them is no address or network, or the header is another one.
    """

    def __init__(
        self, application: object, trusted: Iterable[str], *, header: str = HEADERS[0]
    ) -> None:
        """Check the addresses and wrap the application."""
        self.inner = as_app(application, type(self).__name__)
        if isinstance(trusted, str | bytes) or not isinstance(trusted, Iterable):
            raise ConfigurationError(
                f"trusted must be a list of networks, such as ['10.0.0.0/8'], not {trusted!r}"
            )
        names = list(trusted)
        try:
            self._networks = networks_of(name for name in names if name != UNIX)
        except ValueError as error:
            raise ConfigurationError(
                f"trusted proxies are addresses, networks such as '10.0.0.0/8', or 'unix': {error}"
            ) from error
        self._trusts_unix = UNIX in names
        self._header = header.lower()
        if self._header not in HEADERS:
            raise ConfigurationError(f"header is one of {', '.join(HEADERS)}, not {header!r}")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand over to the application, with the client in the scope."""
        if scope["type"] in ("http", "websocket") and self._is_from_proxy(scope):
            client = self._client(scope)
            if client is not None:
                scope = {**scope, "client": client}
        await self.inner(scope, receive, send)

    def _is_from_proxy(self, scope: Scope) -> bool:
        client = scope.get("client")
        return is_in(self._networks, str(client[0])) if client else self._trusts_unix

    def _client(self, scope: Scope) -> tuple[str, int] | None:
        """The one whom the trusted proxies name; None where they name nobody."""
        known: tuple[str, int] | None = None
        for entry in reversed(forwarded_for(scope, self._header)[-MOST:]):
            found = address_in(entry)
            if found is None:
                break
            known = found
            if not is_in(self._networks, known[0]):
                break
        if known is None and header(scope, self._header.encode()):
            # Not the proxy itself, whose connections may be exempt from limits: a client that
            # sends a header that nobody can read would share in that.
            return UNKNOWN, 0
        return known
