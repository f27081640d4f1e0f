"""What every consumer is: a class whose methods handle one connection's events and messages."""

import logging
from abc import ABCMeta, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from functools import partial
from types import CoroutineType
from typing import Any, ClassVar, Generic, Self, TypeVar

import anyio

from ..auth.session import session_of
from ..exceptions import ConfigurationError, LayerClosed
from ..layers.base import BaseChannelLayer
from ..layers.overflow import Overflow
from ..layers.registry import DEFAULT_CHANNEL_LAYER, get_channel_layer
from ..types import Event, Message, Receive, Scope, Send
from ..web import refuse
from .connection import Connection
from .direct import Direct
from .handlers import awaitable, blamed, find_handler
from .login import Login
from .observing import run_observed

__all__ = ["AsyncConsumer", "Consumer", "pass_over"]

logger = logging.getLogger("asgi_notify.connections")

Done = TypeVar("Done")
"""What a helper such as ``send`` returns: an awaitable, or None in a synchronous consumer."""


class _Prototypes(ABCMeta):
    """Notes what ``__init__`` has set in each instance, so that what is set later is known."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        consumer = super().__call__(*args, **kwargs)
        consumer._made = (args, kwargs, vars(consumer).copy())
        return consumer


class Consumer(Generic[Done], metaclass=_Prototypes):
    """Handles one connection: each event and message through the method named after its type.

    ``websocket.connect`` is handled by ``websocket_connect``, ``chat.message`` by
    ``chat_message``. One handler runs at a time. The client's events come in the
    client's order, the layer's messages in the layer's. A type that no method
    handles is logged and passed over.

    A class, an instance and ``as_asgi(...)`` are all applications. An instance is
    a prototype: each connection gets a new one, made with the same arguments,
    and with the attributes that were set on the prototype since.
    Whatever ends the connection, the handler of its disconnect event runs once,
    and then the channel leaves all its groups.

    Attributes:
        scope: what is known of the connection.
        channel_layer: the layer given to ``as_asgi``, else the one in
            ``scope["channel_layer"]``, else the one of `channel_layer_alias`.
        channel_name: the address of this consumer's mailbox.
        groups: groups to join before the first event is handled.
        overflow: what happens when more messages wait than the layer's capacity;
            None leaves it to the layer.
        leave_grace: seconds that a running handler may go on once the client
            has left; then it is cancelled. A thread cannot be: it is waited for.
        send_timeout: seconds that a send may wait for a client that reads nothing;
            then its connection is closed with 4408. `math.inf` for no limit.
        disconnect_timeout: seconds that the handler of the disconnect event may
            take, from when it begins.
    """

    scope: Scope
    channel_layer: BaseChannelLayer
    channel_name: str
    channel_layer_alias: ClassVar[str] = DEFAULT_CHANNEL_LAYER
    groups: Sequence[str] = ()
    overflow: Overflow | None = None
    leave_grace: float = 0.5  # long enough to finish the work of the client's last message
    send_timeout: float = 30.0  # a slow line moves within that; an idle one is dead
    disconnect_timeout: float = 10.0  # a server waits about that long for its connections

    helpers: ClassVar[frozenset[str]] = frozenset(
        {"as_asgi", "closing_events", "dispatch", "send", "tells_gaps", "wrap_receive", "wrap_send"}
    )
    """Methods that no message type reaches, since they are for the consumer's own use."""

    _made: tuple[tuple[Any, ...], dict[str, Any], dict[str, Any]]
    """A prototype's arguments, and its attributes when it was made."""

    _given_layer: BaseChannelLayer | None = None
    _connection: Connection
    _login: Login | None = None  # of a connection that came through `Authentication`
    _by_steps: ClassVar[bool] = True
    _ends_with_login: ClassVar[bool] = False  # else whoever stands in front sees to it
    _awaits_login: ClassVar[bool] = False  # its client may show a credential in a first frame
    _handlers: ClassVar[dict[str, str]]  # message type -> name of its method, once found

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Takes any arguments, for subclasses to use."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._handlers = {}
        _require_list(cls, cls.groups)

    @classmethod
    def as_asgi(cls, *, channel_layer: BaseChannelLayer | None = None, **initkwargs: Any) -> Self:
        """An application that makes a consumer for each connection.

        Args:
            channel_layer: the layer to use, rather than the default one.
            initkwargs: arguments of the class.
        """
        prototype = cls(**initkwargs)
        prototype._given_layer = channel_layer
        return prototype

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection from beginning to end."""
        await self._renew()._live(scope, receive, send)

    def _renew(self) -> Self:
        """A consumer like this one, with a state of its own.

        A copy of the prototype would share what its ``__init__`` has made: all connections
        would have the same list. So ``__init__`` runs again with the same arguments, and
        only what somebody has set on the prototype since then is carried over::

            prototype = Chat("red")    __init__ sets seen = []     noted: {"seen": [...]}
            prototype.limit = 3        set later, so not noted
            consumer = Chat("red")     __init__ sets another seen = []
            consumer.limit = 3         carried over
        """
        args, kwargs, made = self._made
        # Past _Prototypes, whose note nobody would read: it would cost each connection a dict.
        consumer: Self = type.__call__(type(self), *args, **kwargs)
        for name, value in vars(self).items():
            if name not in made or value is not made[name]:  # it was set on the prototype later
                setattr(consumer, name, value)
        return consumer

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        given = self._given_layer or scope.get("channel_layer")
        self.scope = scope
        self.channel_layer = given or get_channel_layer(self.channel_layer_alias)
        try:
            mailbox = await self.channel_layer.attach(
                overflow=self.overflow, tell_gaps=self.tells_gaps()
            )
        except LayerClosed as error:
            await refuse(scope, send, error)
            return
        try:
            self.channel_name = mailbox.channel
            send = self.wrap_send(send)
            leave_groups = partial(self.channel_layer.detach, mailbox)
            connection = Connection(scope, send, mailbox, self, leave_groups)
            self._connection = connection
            try:
                connection.direct = self._direct(send)
                self._begin_login()
                observers = scope.get("observers")
                if observers:
                    await run_observed(connection, observers, receive, self.wrap_receive)
                else:
                    await connection.run(self.wrap_receive(receive))
            finally:
                connection.let_go()
        finally:
            if self._login is not None:
                self._login.leave()
            self.channel_layer.detach(mailbox)

    def _begin_login(self) -> None:
        session = session_of(self.scope)
        if session is None or not self._ends_with_login:
            return
        is_awaited = session.must_authenticate and session.identity is None
        if not is_awaited or self._awaits_login:  # else `Authentication` refuses it
            self._login = Login(session, self._connection, self.channel_layer)

    def _direct(self, send: Send) -> Direct | None:
        """The direct lane of the connection, where there is one."""
        return None

    def _join_groups(self) -> Awaitable[None] | None:
        if self._login is None:
            return self._join_own_groups() if self.groups else None
        return self._join_with_login(self._login)

    async def _join_with_login(self, login: Login) -> None:
        if login.is_awaited:
            return  # it joins once its client has shown who it is
        await login.begin()
        await self._join_own_groups()

    async def _join_own_groups(self) -> None:
        _require_list(type(self), self.groups)
        for group in self.groups or ():  # Channels' classes may say None
            await self.channel_layer.group_add(group, self.channel_name)

    def _handle_last(self, event: Message, /) -> Awaitable[None] | None:
        return self._in_time(self.dispatch, event)

    async def _in_time(self, handle: Callable[[Any], Awaitable[None]], event: Message) -> None:
        """Handle the disconnect event, for as long as that may take."""
        with anyio.move_on_after(self.disconnect_timeout, shield=True) as scope:
            await handle(event)
        if scope.cancelled_caught:
            self._log_cut_off(event)

    def _log_cut_off(self, event: Message) -> None:
        logger.error(
            "%s: %s was cut off after %g s",
            self._connection, event["type"], self.disconnect_timeout,
            extra=self._connection.log_fields,
        )  # fmt: skip

    # Hooks for a protocol or a transport of one's own; an override of a wrap_ one calls super().

    def wrap_receive(self, receive: Receive) -> Receive:
        """What the connection takes its client's events with, instead of ``receive``.

        Called once for each connection, in its task, when its `scope` and its
        `channel_name` are known and nothing has been received. An event that is
        returned is handled in its turn, whether a client sent it or not; what is
        raised is raised to the server, once the connection has ended.
        """
        return receive

    def wrap_send(self, send: Send) -> Send:
        """What the connection sends its events with, instead of ``send``.

        Called once for each connection, just before `wrap_receive`. Each event has
        been found to be in its turn; after the end of the connection there is none.
        """
        return send

    def tells_gaps(self) -> bool:
        """Whether this connection gets a ``group.gap`` message for what its mailbox loses.

        Called once, when the `scope` is known. Unless overridden, it does where
        there is a method `group_gap` to handle it.
        """
        return hasattr(type(self), "group_gap")

    def closing_events(self, error: Exception) -> Iterable[Event]:
        """The events to send before those that end the connection for this reason.

        Called once at most, in the event loop, and only of a connection that was
        answered and that this side ends, so not where the client has left.
        """
        return ()

    @abstractmethod
    def dispatch(self, message: Message) -> Coroutine[Any, Any, None]:
        """Pass an event or a message to its handler."""

    @abstractmethod
    def send(self, message: Event) -> Done:
        """Send an event to the client; after the end of the connection, do nothing.

        Raises:
            MisuseError: it is not the turn of this event.
        """

    @abstractmethod
    def _emit(self, *events: Event) -> Done:
        """Send events, one after the other."""

    def _handler(self, message: Message) -> Callable[[Message], Any] | None:
        """The method that handles a message; where there is none, the log says so."""
        name = self._handlers.get(message.get("type", "")) or self._find_handler(message)
        return getattr(self, name) if name is not None else None

    def _find_handler(self, message: Message) -> str | None:
        name = find_handler(type(self), message)
        if name is not None:
            self._handlers[message["type"]] = name  # of this very class: its methods are known now
        return name


def _require_list(cls: type, groups: object) -> None:
    if isinstance(groups, str):
        raise ConfigurationError(
            f"{cls.__name__}.groups is a list of names: write groups = [{groups!r}]"
        )


class AsyncConsumer(Consumer[Awaitable[None]]):
    """A consumer whose handlers are ``async def`` and run in the event loop."""

    helpers: ClassVar[frozenset[str]] = frozenset({"start_soon"})

    def start_soon(self, func: Callable[..., Awaitable[None]], *args: object) -> None:
        """Start a task of the consumer's own, which is cancelled when the connection ends.

        It runs beside the handlers. What it sends goes between what they send, one
        whole event at a time where the server takes them so. What it raises ends the
        connection, as what a handler raises does.

        Args:
            func: an async function.
            args: its arguments.
        """
        self._connection.start_soon(func, *args)

    def dispatch(self, message: Message) -> Coroutine[Any, Any, None]:
        # What _handler does, without the cost of a call for each message.
        name = self._handlers.get(message.get("type", "")) or self._find_handler(message)
        if name is None:
            return pass_over()
        handling = getattr(self, name)(message)
        if type(handling) is CoroutineType:
            return handling
        return _wait_for(awaitable(self, blamed(type(self), name), handling))

    def send(self, message: Event) -> Awaitable[None]:
        return self._connection.send(message)

    def _emit(self, *events: Event) -> Awaitable[None]:
        if len(events) == 1:
            return self._connection.send(events[0])
        return self._emit_each(events)

    async def _emit_each(self, events: Iterable[Event]) -> None:
        for event in events:
            await self._connection.send(event)


async def _wait_for(handling: Awaitable[None]) -> None:
    await handling


async def pass_over() -> None:
    """Handle what no method is there for."""
