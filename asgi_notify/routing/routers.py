"""The routers: ASGI apps that hand each connection to another app."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from ..asgi import refusal
from ..exceptions import MisuseError, NoRouteFound, RouteError
from ..layers.registry import channel_layers
from ..legible import MOST_OF_SENTENCE, legible
from ..lifespan import serve_lifespan
from ..types import ASGIApp, Receive, Scope, Send
from .base import Entry, Match, Row, Target, as_app, find_router, walk
from .entries import as_entries, first_match

__all__ = ["ChannelNameRouter", "ProtocolTypeRouter", "URLRouter", "Unmatched"]

Unmatched = Literal["refuse", "raise"] | ASGIApp
"""What a router does with a connection that no route takes.

``"refuse"`` answers with 404 (or a close) and logs one line, ``"raise"`` raises
`NoRouteFound`, and an app takes the connection over, its scope as it came.
"""

# What is written for a scope's type, and never is one.
_MISNAMED = {
    "ws": "websocket",
    "wss": "websocket",
    "websockets": "websocket",
    "web_socket": "websocket",
    "socket": "websocket",
    "https": "http",
    "http2": "http",
    "channels": "channel",
    "lifespans": "lifespan",
}
_TYPES = ("http", "websocket", "lifespan", "channel")

_MAX_SHOWN = 200  # characters of a client's path that an error or a log line repeats

logger = logging.getLogger("asgi_notify.routing")


class _BaseRouter(ABC):
    """What all routers do once they know, or do not know, where a connection goes."""

    def __init__(self, unmatched: Unmatched) -> None:
        name = type(self).__name__
        if isinstance(unmatched, str) and unmatched not in ("refuse", "raise"):
            raise RouteError(f"{name}: unmatched is 'refuse', 'raise' or an app, not {unmatched!r}")
        self.unmatched: Unmatched = (
            unmatched if isinstance(unmatched, str) else as_app(unmatched, f"{name}'s unmatched")
        )

    @abstractmethod
    def _select(self, scope: Scope) -> Match | None:
        """Where this router itself sends the connection."""

    @abstractmethod
    def _describe(self, scope: Scope) -> str:
        """Say that nothing was found; quote what the client chose."""

    def _otherwise(self, scope: Scope) -> Match | None:
        return None if isinstance(self.unmatched, str) else Match(self.unmatched, scope)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection.

        Raises:
            NoRouteFound: no route takes it and ``unmatched`` is ``"raise"``.
            MisuseError: the scope has not what this router routes by.
        """
        match = self._select(scope) or self._otherwise(scope)
        if match is not None:
            await match.app(match.scope, receive, send)
            return
        error = NoRouteFound(self._describe(scope))
        if self.unmatched == "raise":
            raise error
        sentence, place = legible(error, MOST_OF_SENTENCE), legible(scope.get("path"))
        logger.info("%s refused: %s", scope["type"], sentence, extra={"path": place})
        for event in refusal(scope, error):
            await send(event)


class URLRouter(_BaseRouter):
    """Routes by the path, to the first entry that matches.

    As the app of a `path` it matches a prefix, and where it finds nothing, the
    outer router goes on with its next entry: only the outermost router refuses
    or raises. An app for ``unmatched`` is a match of an inner router, too.

    Args:
        routes: a list or tuple of entries, or one entry.
        unmatched: see `Unmatched`.

    Raises:
        RouteError: something in the list is no entry.

    Source: Django Channels, "Routing", section "URLRouter".
    """

    def __init__(self, routes: Entry | Sequence[Entry], *, unmatched: Unmatched = "refuse") -> None:
        super().__init__(unmatched)
        self.entries = as_entries(routes)

    def routes_paths(self, scope: Scope) -> bool:
        """Always."""
        return True

    def match(self, scope: Scope) -> Match | None:
        """Say where the connection goes, or None; runs nothing.

        Raises:
            MisuseError: the scope has no path.
        """
        return self._select(scope) or self._otherwise(scope)

    def walk(self, protocol: str = "", prefix: str = "") -> Iterator[Row]:
        """Yield the rows of each entry, then that of an app for ``unmatched``."""
        for entry in self.entries:
            yield from entry.walk(protocol, prefix)
        if not isinstance(self.unmatched, str):
            yield Row(protocol, f"{prefix}*", self.unmatched)

    def _select(self, scope: Scope) -> Match | None:
        return first_match(self.entries, scope)

    def _describe(self, scope: Scope) -> str:
        path = scope.get("path", "")
        sentence = f"nothing is served at {path[:_MAX_SHOWN]!r}"
        other = path.removesuffix("/") if path.endswith("/") else f"{path}/"
        if len(other) > _MAX_SHOWN or not self._serves(scope, other):
            return sentence
        slash = "with" if other.endswith("/") else "without"
        return f"{sentence}; ask for {other!r}, {slash} a slash at its end"

    def _serves(self, scope: Scope, path: str) -> bool:
        """Whether there is a route for this path; nothing runs."""
        other = {**scope, "path": path}
        if "path_remaining" in scope:  # of an outer router, a middleware's away
            rest = str(scope["path_remaining"])
            other["path_remaining"] = f"{rest}/" if path.endswith("/") else rest.removesuffix("/")
        return self._select(other) is not None


class _MappingRouter(_BaseRouter):
    """What the routers share that look their app up by one value of the scope.

    Attributes:
        application_mapping: the apps, classes replaced by what their ``as_asgi()`` made.
    """

    def __init__(self, application_mapping: Mapping[str, object], unmatched: Unmatched) -> None:
        super().__init__(unmatched)
        name = type(self).__name__
        if not isinstance(application_mapping, Mapping):
            raise RouteError(
                f"{name} takes a mapping of names to apps, not {application_mapping!r}"
            )
        self.application_mapping: Mapping[str, ASGIApp] = {
            key: as_app(app, f"{key!r} of {name}") for key, app in application_mapping.items()
        }
        self._targets = {
            key: Target(app, find_router(app)) for key, app in self.application_mapping.items()
        }

    @abstractmethod
    def _key(self, scope: Scope) -> str:
        """What this router looks up."""

    def routes_paths(self, scope: Scope) -> bool:
        """Whether the app for this scope would route it by path."""
        target = self._targets.get(self._key(scope))
        return target is not None and target.routes_paths(scope)

    def match(self, scope: Scope) -> Match | None:
        """Say where the connection goes, asking an inner router in turn; runs nothing."""
        target = self._targets.get(self._key(scope))
        return self._otherwise(scope) if target is None else target.match(scope)

    def _select(self, scope: Scope) -> Match | None:
        # The app itself, not its match: there is no other entry to go on with,
        # so an inner router's own ``unmatched`` decides.
        app = self.application_mapping.get(self._key(scope))
        return None if app is None else Match(app, scope)


class ProtocolTypeRouter(_MappingRouter):
    """Routes by the scope's type: ``"http"``, ``"websocket"``, ``"channel"``, ...

    Without an app for ``"lifespan"`` it answers the server itself: it opens
    the channel layers at startup, and drains and closes them at shutdown. An
    app given for ``"lifespan"`` is used alone.

    Args:
        application_mapping: ASGI apps or consumer classes by type.
        unmatched: see `Unmatched`.

    Raises:
        RouteError: something in the mapping is no app, or is under a name such as
            ``"ws"``, which no scope has for its type.

    Source: Django Channels, "Routing", section "ProtocolTypeRouter".
    """

    def __init__(
        self, application_mapping: Mapping[str, object], *, unmatched: Unmatched = "refuse"
    ) -> None:
        super().__init__(application_mapping, unmatched)
        for name in self.application_mapping:
            _require_type(name)

    def walk(self, protocol: str = "", prefix: str = "") -> Iterator[Row]:
        """Yield the rows behind each type."""
        for kind, app in self.application_mapping.items():
            yield from walk(app, kind, prefix)
        if not isinstance(self.unmatched, str):
            yield Row("*", prefix, self.unmatched)

    def _key(self, scope: Scope) -> str:
        return str(scope["type"])

    def _select(self, scope: Scope) -> Match | None:
        match = super()._select(scope)
        if match is None and scope["type"] == "lifespan":
            return Match(_open_layers, scope)
        return match

    def _describe(self, scope: Scope) -> str:
        return f"nothing is served over {scope['type']!r}"


def _require_type(name: str) -> None:
    """Refuse what is close to a scope's type; any other name may be a protocol of one's own."""
    small = str(name).lower()
    meant = small if small in _TYPES else _MISNAMED.get(small)
    if meant is not None and meant != name:
        raise RouteError(
            f"no scope is of the type {name!r}, so that nothing would reach its app; "
            f"write {meant!r}"
        )


async def _open_layers(scope: Scope, receive: Receive, send: Send) -> None:
    await serve_lifespan(receive, send, channel_layers.running())


class ChannelNameRouter(_MappingRouter):
    """Routes by ``scope["channel"]``: the name of the channel that a worker reads.

    Args:
        application_mapping: ASGI apps or consumer classes by channel name.
        unmatched: see `Unmatched`.

    Raises:
        RouteError: something in the mapping is no app.

    Source: Django Channels, "Routing", section "ChannelNameRouter".
    """

    def __init__(
        self, application_mapping: Mapping[str, object], *, unmatched: Unmatched = "refuse"
    ) -> None:
        super().__init__(application_mapping, unmatched)

    def walk(self, protocol: str = "", prefix: str = "") -> Iterator[Row]:
        """Yield a row for each channel, its name as the route."""
        for channel, app in self.application_mapping.items():
            yield from walk(app, protocol, prefix + channel)
        if not isinstance(self.unmatched, str):
            yield Row(protocol, f"{prefix}*", self.unmatched)

    def _key(self, scope: Scope) -> str:
        channel = scope.get("channel")
        if channel is None:
            raise MisuseError(
                f"a {scope.get('type')!r} scope has no channel to route by; put ChannelNameRouter "
                "under 'channel' of a ProtocolTypeRouter"
            )
        return str(channel)

    def _describe(self, scope: Scope) -> str:
        return f"nothing reads the channel {str(scope['channel'])[:_MAX_SHOWN]!r}"
