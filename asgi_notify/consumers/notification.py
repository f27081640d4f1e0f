"""How a WebSocket brings notifications: as plain text, or in the frames of the protocol.

Also how a client of the protocol subscribes, and how one that has fallen silent is noticed.
"""

import json
import logging
from collections.abc import Awaitable
from typing import Any, ClassVar

import anyio

from .. import asgi
from ..exceptions import (
    ClientError,
    Forbidden,
    LayerClosed,
    StopConsumer,
    Unauthorized,
)
from ..layers.results import Joined
from ..limits.allowance import allowance_of
from ..positions import Position
from ..protocol import PROTOCOL, BadFrame, Request, frames, read
from ..spelling import as_text, last_frame, last_text
from ..types import Event, Message, Receive, Scope, Send
from .client_publishing import publish
from .direct import Direct, direct_of
from .handlers import awaitable
from .passing import is_ours
from .peer import Peer
from .rooms import room_group, since_of
from .subscriptions import Notifications
from .websocket import AsyncWebsocketConsumer

__all__ = ["NotificationConsumer", "Notifications", "as_text", "room_group"]

logger = logging.getLogger("asgi_notify.notifications")


class NotificationConsumer(Notifications, AsyncWebsocketConsumer):
    """Sends its client what the group ``user_<room_name>`` is sent, and others if it may.

    A client that offers the subprotocol ``asgi-notify.v1`` speaks the protocol
    of ``docs/protocol.md``: it subscribes to groups, resumes where it was, and
    is told of what it has lost. Any other gets the notifications of its path's
    group as text frames: text as it is, anything else as JSON. It may send
    ``ping``, which is answered with ``pong``. What else it sends goes to
    `client_message`, which publishes nothing, since a client does not speak
    for the server.

    Who may watch, and how a notification reads, is decided in `Notifications`.

    Behind `Authentication`, a client of the protocol may show its credential in the first frame,
    where that is allowed, and a fresh one in later frames, so that its connection goes on. A
    class with a ``connect`` or ``receive`` of its own waits for no first frame.

    Attributes:
        auth_timeout: seconds in which that first frame has to come; else the connection is
            closed with 4401.
        ping_interval: seconds between two pings to a client of the protocol.
        pong_timeout: seconds after which one that has not sent anything, or reads
            nothing, is closed with 4408.
        max_subscriptions: how many groups one connection may subscribe to.
    """

    max_message_size = 16 * 1024  # bytes; a client has little to say here
    ping_interval: float = 25.0  # proxies commonly cut what is silent for 30 or 60
    pong_timeout: float = 10.0
    max_subscriptions: int = 100
    auth_timeout: float = 10.0  # as long as a page may take to fetch a token
    helpers: ClassVar[frozenset[str]] = frozenset({"client_message", "send_error"})
    _awaits_login = True

    _subscriptions: set[str]  # the groups of a client of the protocol
    _peer: Peer

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # Any other method of these would be called for a client that nobody knows.
        cls._awaits_login = is_ours(
            cls, "connect", "dispatch", "receive", "websocket_connect", "websocket_receive"
        )

    async def connect(self) -> None:
        if not _offers_protocol(self.scope):
            await self._enter()
            if not self.room_group_name:
                raise ClientError(
                    f"nothing is watched at this path: offer the subprotocol {PROTOCOL} and "
                    "subscribe, or name a group, such as ?group=user_42"
                )
            await self.accept()
            return
        self._since = since_of(self.scope)
        self._subscriptions = set()
        is_awaited = self._login is not None and self._login.is_awaited
        if not is_awaited:
            await self._enter()
        await self.accept(PROTOCOL)
        self.speaks_protocol = True
        auth_timeout = self.auth_timeout if is_awaited else None
        expires_in = None if self._login is None else self._login.expires_in
        await self._send_frame(
            frames.welcome(
                self.channel_name, self.ping_interval, self.pong_timeout, auth_timeout, expires_in
            )
        )
        if is_awaited:
            self.start_soon(self._require_login)
        else:
            await self._tell_subscribed()
        self.start_soon(self._peer.watch)

    async def _tell_subscribed(self) -> None:
        """Tell the client that it is subscribed to the group of its path, if that has one."""
        if self.room_group_name:
            # What is replayed waits in the mailbox, and is handled when this handler has
            # returned: so this frame comes first. The same holds for every subscription.
            self._count_group()
            self._subscriptions.add(self.room_group_name)
            await self._send_frame(self._subscribed())

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        if self.speaks_protocol:
            await self._answer(text_data)
        elif text_data == "ping":
            await self.send(text_data="pong")
        elif text_data is None:
            await self.send_error("binary frames are not read here; send text")
        else:
            await awaitable(self, "client_message", self.client_message(text_data))

    async def client_message(self, text: str) -> None:
        """Called with what a plain client sends, but for ``ping``; answers that it is not read.

        Override it to let clients do more.
        """
        await self.send_error("this socket brings notifications; all it understands is 'ping'")

    async def send_error(self, sentence: str) -> None:
        """Tell a plain client, in a frame ``{"error": ...}``, what was wrong."""
        await self.send(text_data=json.dumps({"error": sentence}))

    # The protocol.

    async def _answer(self, text: str | None) -> None:
        try:
            if text is None:
                raise BadFrame("bad_frame", "binary frames are not read here; send text")
            request = read(text)
            if self._login is not None:
                self._login.require()  # where the clock was set, the alarm may ring late
            if request.type == "auth":
                await self._authenticate(request)
            elif self._login is not None and self._login.is_awaited:
                self._refuse_stranger(request)
            elif request.type == "subscribe":
                await self._subscribe(request)
            elif request.type == "unsubscribe":
                await self._unsubscribe(request)
            elif request.type == "publish":
                await self._publish(request)
            elif request.type == "ping":
                await self._send_frame(frames.pong(request.ref))
            # A pong has done its work by being heard.
        except BadFrame as error:
            await self._send_frame(frames.error(error.code, str(error), error.ref, error.group))

    # Who the client is.

    async def _require_login(self) -> None:
        """Close the connection of a client that does not show in time who it is."""
        await anyio.sleep(self.auth_timeout)
        if self._login is not None and self._login.is_awaited:
            self._connection.close(
                Unauthorized(f"no credential was shown within {self.auth_timeout:g} s")
            )

    def _refuse_stranger(self, request: Request) -> None:
        if request.type != "pong":
            raise BadFrame(
                "unauthorized",
                'show a credential first: {"type": "auth", "token": ...}',
                request.ref,
                request.group or None,
            )

    async def _authenticate(self, request: Request) -> None:
        login = self._login
        if login is None:
            raise BadFrame("bad_request", "no credentials are taken at this path", request.ref)
        is_first = login.is_awaited
        try:
            if not is_first:
                login.count_renewal()
            identity = await login.session.authenticate(request.token)
        except Exception as error:
            if is_first:
                raise  # there is nobody to go on with
            raise self._failed(error, request, "authenticating") from error
        self.scope = login.session.put_in(self.scope)
        expires_at, expires_in = identity.expires_at, login.expires_in
        await self._send_frame(
            frames.authenticated(identity.id, expires_at, expires_in, request.ref)
        )
        if is_first:
            await self._join_own_groups()
            await self._enter()
            await self._tell_subscribed()
        else:
            for group in tuple(self._subscriptions):
                await self._ask_again(group)

    async def _ask_again(self, group: str) -> None:
        """End a subscription that the renewed login has no right to any more.

        Raises:
            Exception: it was that of the path, so that the connection has nothing left to bring.
        """
        try:
            await self._require_still_allowed(group)
        except (StopConsumer, LayerClosed):
            raise
        except Exception as error:
            if group == self.room_group_name:
                raise
            failed = self._failed(error, Request("auth", group), f"asking again about {group}")
            await self._send_frame(frames.error(failed.code, str(failed), None, group))
            await self._unsubscribe(Request("unsubscribe", group))

    async def _subscribe(self, request: Request) -> None:
        group, since, ref = request.group, request.since, request.ref
        is_known = group in self._subscriptions
        if not is_known and len(self._subscriptions) >= self.max_subscriptions:
            raise BadFrame(
                "too_many",
                f"a connection has at most {self.max_subscriptions} subscriptions: "
                "unsubscribe from others, or open another connection",
                ref,
                group,
            )
        if since is not None:
            self._require_replay()
        try:
            await self._require_allowed(group)
            mailbox = self._connection.mailbox
            is_member = group in mailbox.groups  # else the client left, or the layer was flushed
            if not is_member or (group == self.room_group_name and not is_known):
                mailbox.replay(group, ())  # nothing: what waits of it is of before
            joined = await (self._add if is_known else self._add_counted)(group, since)
        except (StopConsumer, LayerClosed):
            raise
        except Exception as error:
            raise self._failed(error, request, f"subscribing to {group}") from error
        self._subscriptions.add(group)
        await self._send_frame(
            frames.subscribed(group, joined.position, joined.recovered, joined.replayed, ref)
        )

    async def _add_counted(self, group: str, since: Position | None) -> Joined:
        self._count_group()
        try:
            return await self._add(group, since)
        except Exception:
            self._count_group(gone=True)
            raise

    def _count_group(self, gone: bool = False) -> None:
        """Count one subscription more, or less.

        Raises:
            TooManyRequests: the client's address, or its user, has as many as one may have.
        """
        allowance = allowance_of(self.scope)
        if allowance is not None:
            (allowance.remove_group if gone else allowance.add_group)()

    def _failed(self, error: Exception, request: Request, what: str) -> BadFrame:
        code, group = frames.error_code(error), request.group or None
        sentence = str(error) or "this is not allowed"
        if code == "failed":
            self._connection.log_failed(what, error, logger, group=group)
            sentence = "the server failed; try again later"
        return BadFrame(code, sentence, request.ref, group)

    async def _unsubscribe(self, request: Request) -> None:
        group = request.group
        if group not in self._subscriptions:
            raise BadFrame(
                "not_subscribed", f"there is no subscription to {group}", request.ref, group
            )
        self._subscriptions.remove(group)
        self._count_group(gone=True)
        if group != self.room_group_name:  # in which it can still be disconnected as a user
            await self.channel_layer.group_discard(group, self.channel_name)
        await self._send_frame(frames.unsubscribed(group, request.ref))

    async def _publish(self, request: Request) -> None:
        try:
            if self.rule is None:
                raise Forbidden("clients publish nothing here: no rule lets them")
            await self._require("publish", request.group)
            sent = await publish(request, self.identity, self.channel_layer)
        except (BadFrame, LayerClosed):
            raise
        except Exception as error:
            raise self._failed(error, request, f"publishing to {request.group}") from error
        await self._send_frame(frames.published(request.group, sent.position, request.ref))

    async def _deliver(self, text: str, event: Message) -> None:
        if self.speaks_protocol:
            if self._login is not None and self._login.is_awaited:
                return
            group = getattr(event, "group", None)
            if group not in self._subscriptions and not self._is_wanted(group):
                return  # the client has left the group meanwhile
        await self.send(text_data=text)

    def _is_wanted(self, group: str | None) -> bool:
        """Whether the client gets what comes from a group that it has not subscribed to."""
        # A subclass may have joined groups that the client knows nothing of.
        is_joined = group in self._connection.mailbox.groups and group != self.room_group_name
        return group is None or is_joined

    def _direct(self, send: Send) -> Direct | None:
        if not self._only_passes_on:
            return super()._direct(send)
        may_differ = _offers_protocol(self.scope) or self.speaks_protocol or self._renderings
        if may_differ or not is_ours(type(self), "connect"):
            return direct_of(self.scope, send, self._text_at_once)
        # One function for all: of thousands of consumers, each one lies in slow memory.
        return direct_of(self.scope, send, _plain_text)

    def _text_at_once(self, message: Message) -> str | None:
        if not self._only_passes_on or message["type"] != "send.notification":
            return super()._text_at_once(message)
        if not self.speaks_protocol:
            return _plain_text(message)
        if getattr(message, "group", None) in self._subscriptions:
            known, text = last_frame.known
            return text if known is message else last_frame.find(message)
        return None

    async def _tell_gap(self, group: str, reason: str, lost: int | None) -> None:
        if self.speaks_protocol and group in self._subscriptions:
            await self._send_frame(frames.gap(group, reason, lost))

    async def ping_due(self, event: Event) -> None:
        """Handle that it is time to ask whether the client is still there."""
        self._peer.note_pinged()
        await self._send_frame(frames.ping())

    def _send_frame(self, frame: str) -> Awaitable[None]:
        return self._connection.send({"type": "websocket.send", "text": frame})

    def closing_events(self, error: Exception) -> list[Event]:
        frame = self._farewell(error)
        return [] if frame is None else [asgi.send_text(frame)]

    def tells_gaps(self) -> bool:
        return _offers_protocol(self.scope)

    def may_subscribe(self) -> bool:
        return _offers_protocol(self.scope)

    def wrap_receive(self, receive: Receive) -> Receive:
        receive = super().wrap_receive(receive)
        if not _offers_protocol(self.scope):
            return receive
        self._peer = Peer(self._connection, self.ping_interval, self.pong_timeout)
        return self._peer.hears(receive)


def _plain_text(message: Message) -> str | None:
    """The text that any client without the protocol gets; None where a handler has to decide."""
    if message["type"] != "send.notification":
        return None
    known, text = last_text.known
    return text if known is message else last_text.find(message)


def _offers_protocol(scope: Scope) -> bool:
    return PROTOCOL in (scope.get("subprotocols") or ())
