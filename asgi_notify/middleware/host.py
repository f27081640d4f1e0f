"""Under which host names a server answers, so that no page can call it by a name of its own.

A page may have its own host name resolve to the address of a server that only
its visitor reaches, such as one on the loopback interface (DNS rebinding). To
the browser both are the same origin then, and the page reads all answers. What
distinguishes the two is the Host header, which the page cannot choose.
"""

import logging
import re
from collections.abc import Iterable
from ipaddress import ip_address

from ..exceptions import ConfigurationError, Forbidden
from ..hosts import arrived_over_loopback, is_loopback, requested_host
from ..legible import legible
from ..routing.base import as_app
from ..types import Receive, Scope, Send
from ..web import refuse

__all__ = ["HostValidator"]

logger = logging.getLogger("asgi_notify.middleware")

_MAX_SHOWN = 200  # characters of what a client sent that an error or a log line repeats

_NAME = re.compile(r"\.?[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?")


class HostValidator:
    """Lets requests and WebSockets through whose Host header names the server.

    Loopback names and addresses always do. Of the others

    - those in ``allowed_hosts`` do, where there are any: ``example.com``,
      ``.example.com`` for the subdomains too, or ``*`` for all; on any port;
    - else all do, unless the connection arrived over the loopback interface,
      where only this machine's own programs connect, or a proxy on it, whose
      public name has to be allowed.

    Who is refused is told why, with 403, and the log has one line. A request
    without a Host header passes: no browser has sent it.

    Args:
        application: an ASGI app, a consumer class, or a router.
        allowed_hosts: a list of host names, as above.

    Raises:
        ConfigurationError: one of them can never match, or there is no list.
    """

    def __init__(self, application: object, allowed_hosts: Iterable[str] = ()) -> None:
        """Check the names and wrap the application."""
        self.inner = as_app(application, type(self).__name__)
        if isinstance(allowed_hosts, str | bytes) or not isinstance(allowed_hosts, Iterable):
            raise ConfigurationError(
                f"allowed_hosts must be a list, such as ['example.com'], not {allowed_hosts!r}"
            )
        self._names = [_as_name(text) for text in allowed_hosts]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand over to the application, or refuse."""
        if scope["type"] not in ("http", "websocket") or self.allows(scope):
            await self.inner(scope, receive, send)
            return
        host = (requested_host(scope) or "")[:_MAX_SHOWN]
        error = Forbidden(
            f"no host {host!r} is served here; to serve it, name it in allowed_hosts "
            "(--allowed-host, ASGI_NOTIFY_ALLOWED_HOSTS)"
        )
        place = legible(scope.get("path"))
        logger.warning(
            "refused a %s at '%s': %s", scope["type"], place, error, extra={"path": place}
        )
        await refuse(scope, send, error)

    def allows(self, scope: Scope) -> bool:
        """Whether the server answers to the name that this connection asks for."""
        host = requested_host(scope)
        if host is None or is_loopback(host):
            return True
        if not self._names:
            return not arrived_over_loopback(scope)
        host = host.removesuffix(".")
        return any(_covers(name, host) for name in self._names)


def _covers(name: str, host: str) -> bool:
    if name == "*":
        return True
    return host == name.removeprefix(".") or (name.startswith(".") and host.endswith(name))


def _as_name(text: str) -> str:
    name = text.lower() if isinstance(text, str) else ""
    if name == "*":
        return name
    try:
        return str(ip_address(name.strip("[]")))
    except ValueError:
        pass
    if _NAME.fullmatch(name) is None:
        raise ConfigurationError(
            f"{text!r} can match no host; write 'example.com', '.example.com' for its "
            "subdomains too, or '*' for any: without a scheme, a port or a path, in ASCII "
            "(xn--...)"
        )
    return name.removesuffix(".")
