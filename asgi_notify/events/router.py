"""The application that routes each event of a connection, and how the consumers are run."""

import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any

import anyio

from ..asgi import accept
from ..consumers.http import AsyncHttpConsumer
from ..consumers.threads import SyncConsumer
from ..exceptions import MisuseError, NoRouteFound, StopConsumer
from ..layers.base import BaseChannelLayer
from ..layers.registry import channel_layers
from ..lifespan import serve_lifespan
from ..sync import LoopRef
from ..types import Message, Receive, Scope, Send
from .consumer import EventConsumer
from .message import AsyncMessage, SyncMessage
from .routes import Found, Routing, as_routes, channel_names, first_match

__all__ = ["EventRouter"]

logger = logging.getLogger("asgi_notify.events")

_MAX_SHOWN = 200  # characters of a client's path that an error or a log line repeats


class EventRouter:
    """Leads each event of a connection to the function or class whose route matches.

    What is routed are the client's events and the messages of the layer that
    arrive at the connection's channel, all by their type; in a ``channel``
    scope, what a worker reads, by the channel's name. The message that the
    routes see has the keys of the scope and of the event, the event's winning.

    One consumer at a time runs for a connection, and all that `Consumer`
    promises of handlers holds: ``websocket.disconnect`` once, a bounded
    mailbox, an error logged once and told with 1011.

    - A WebSocket that the consumer of ``websocket.connect`` neither accepted
      nor closed is accepted afterwards.
    - A connection whose first event no route matches is refused with 404, and
      none of its events are routed. Of other messages that no route matches,
      one line is logged for each type; an unmatched end is nothing unusual.
    - ``http.request`` comes once, with the whole body, and ``http.disconnect``
      if it did.
    - It answers ``lifespan`` as `ProtocolTypeRouter` does, so it can be the
      application itself.

    Args:
        routes: a list or tuple of routes, or one; see `Routing`.
        channel_layer: the layer to use, rather than that of the scope or the default.
        max_body_size: bytes of a request's body, over which it is answered 413.

    Raises:
        RouteError: something in the list is no route.
    """

    def __init__(
        self,
        routes: Routing | Sequence[Routing],
        *,
        channel_layer: BaseChannelLayer | None = None,
        max_body_size: int = AsyncHttpConsumer.max_body_size,
    ) -> None:
        self.routes = as_routes(routes, type(self).__name__)
        self._app = _Events.as_asgi(
            channel_layer=channel_layer, router=self, max_body_size=max_body_size
        )

    def match(self, message: Message) -> Found | None:
        """The consumer for a message and the kwargs to call it with, or None; runs nothing."""
        return first_match(self.routes, message)

    def channel_names(self) -> set[str]:
        """The channels whose messages can match: what a worker has to read."""
        return channel_names(self.routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "lifespan":
            await serve_lifespan(receive, send, channel_layers.running())
            return
        await self._app(scope, receive, send)


class _Events(AsyncHttpConsumer):
    """The consumer behind an `EventRouter`: passes on by route, not by the name of a method."""

    def __init__(self, router: EventRouter, max_body_size: int) -> None:
        super().__init__()
        self.max_body_size = max_body_size
        self.router = router
        self.state: dict[str, Any] = {}
        self._is_passed_over = False  # with all that may still come
        self._is_last = False  # the disconnect event is handled

    async def dispatch(self, message: Message) -> None:
        if message["type"] == "http.request":
            self._is_passed_over = True  # until the body is whole
            await self.http_request(dict(message))  # which gathers it for `handle`
        elif not self._is_passed_over:
            await self._route(message)

    async def _handle_last(self, event: Message, /) -> None:
        self._is_last = True
        with anyio.CancelScope(shield=True):
            await self.dispatch(event)

    async def handle(self, body: bytes) -> None:
        self._is_passed_over = False
        try:
            await self._route({"type": "http.request", "body": body, "more_body": False})
        except StopConsumer:
            if self._connection.is_answered:
                raise
        if not self._connection.is_answered:
            raise MisuseError(
                "the consumer of http.request sent no response: call message.respond(200), "
                "or reply({'type': 'http.response.start', ...}) and go on later"
            )

    async def _route(self, event: Message) -> None:
        content = {**self.scope, **event}
        kind = event["type"]
        channel = self._channel(kind)
        # Named here, so that a key "channel" of somebody's own in the event is not its route.
        found = self.router.match({**content, "channel": channel})
        if found is None:
            self._pass_over(kind, channel)
            return
        consumer, captured = found
        await self._run(_function(consumer, channel), content, channel, captured)
        if kind == "websocket.connect" and not self._connection.is_answered:
            await self.send(accept())

    def _channel(self, kind: str) -> str:
        """What an event is routed by: its type, but what a worker has read by where it was read."""
        if self.scope["type"] != "channel" or kind == "channel.disconnect":
            return kind
        return str(self.scope["channel"])

    async def _run(
        self,
        function: Callable[..., Any],
        content: Message,
        channel: str,
        captured: Mapping[str, Any],
    ) -> None:
        if _is_async(function):
            call = partial(function, **captured)
            message = AsyncMessage(content, channel, self, self.state)
            await (self._in_time(call, message) if self._is_last else call(message))
            return
        thread = _Thread(self, partial(_call, function, captured))
        handle = thread._handle_last if self._is_last else thread.dispatch
        handling = handle(SyncMessage(content, channel, thread, self.state))
        if handling is not None:
            await handling

    def _pass_over(self, kind: str, channel: str) -> None:
        if kind in ("websocket.connect", "http.request"):
            self._is_passed_over = True
            path = str(self.scope.get("path", ""))[:_MAX_SHOWN]
            raise NoRouteFound(f"no route takes {kind} at {path!r}")
        if not kind.endswith(".disconnect"):
            _log_unmatched(self.router, kind, channel)


class _Thread(SyncConsumer):
    """Runs one plain function in a worker thread, and is its way back to the connection."""

    def __init__(self, events: _Events, function: Callable[[Message], None]) -> None:
        super().__init__()
        self.scope = events.scope
        self.channel_layer = events.channel_layer
        self.channel_name = events.channel_name
        self._connection = events._connection
        self._loop_ref = LoopRef()
        self._function = function

    def _handler(self, message: Message) -> Callable[[Message], None]:
        return self._function


def _function(consumer: Callable[..., Any], channel: str) -> Callable[..., Any]:
    """What handles the message: a method of a class-based consumer, else the consumer."""
    if isinstance(consumer, type) and issubclass(consumer, EventConsumer):
        return consumer().get_handler(channel)
    return consumer


def _is_async(function: Callable[..., Any]) -> bool:
    while isinstance(function, partial):
        function = function.func
    # An object with "async def __call__" is asynchronous, too.
    call = type(function).__call__
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)


def _call(function: Callable[..., Any], captured: Mapping[str, Any], message: Message) -> None:
    result = function(message, **captured)
    if inspect.iscoroutine(result):
        result.close()
        raise MisuseError(
            f"{function!r} is no async function, but returned a coroutine, which nothing awaits "
            "in its thread: make it `async def`"
        )


@lru_cache(maxsize=256)  # once for each router and type, so that a flood logs one line
def _log_unmatched(router: EventRouter, kind: str, channel: str) -> None:
    logger.warning(
        "a message of type %r was passed over: no route takes it; add route(%r, ...), "
        "or look at the filters of those there are", kind, channel,
    )  # fmt: skip
