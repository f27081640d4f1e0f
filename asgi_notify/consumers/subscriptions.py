"""What all consumers of notifications share: who may get which, and from where on.

How the text travels (WebSocket, server-sent events) is in `notification` and `notification_http`,
and how it is spelled in `spelling`.
"""

import logging
import re
from abc import abstractmethod
from collections.abc import Mapping
from random import uniform
from typing import Any, ClassVar

from ..auth.identity import Identity
from ..auth.revocations import is_login_group
from ..auth.rules import Action, Rule
from ..auth.session import identity_now
from ..codec import FrozenMessage
from ..exceptions import ConfigurationError, Forbidden, InvalidMessage, LayerClosed, Unauthorized
from ..layers.results import Joined
from ..legible import legible
from ..limits.allowance import allowance_of
from ..positions import Position
from ..protocol import frames
from ..spelling import PUBLISHED_BY, as_text, frame_of, text_of
from ..types import Message
from ..users import user_group
from .base import AsyncConsumer
from .handlers import awaitable, require_yes
from .passing import is_ours
from .rooms import captured_by_path, named_group, room_group

__all__ = ["Notifications"]

logger = logging.getLogger("asgi_notify.notifications")

_OF_A_USER = re.compile(r"user_(0|[1-9][0-9]*)")


class Notifications(AsyncConsumer):
    """The part of a notification consumer that is the same for every transport.

    Override its methods in one class, and use that with each transport::

        class Own(Notifications):
            async def authorize(self, group):
                if group != f"user_{self.scope['user'].id}":
                    raise Forbidden("these are another user's notifications")

        class OwnSocket(Own, NotificationConsumer): ...
        class OwnHttp(Own, NotificationHttpConsumer): ...

    A message ``{"type": "send.notification", "data": ...}`` to the group reaches
    the client. A path with a ``room_name`` is about the group ``user_<room_name>``;
    at a path without one, the client names a group in ``?group=``, or subscribes
    over its WebSocket.

    Who may watch what is said by a `Rule`, as in ``OwnSocket.as_asgi(rule=own_group)``,
    or decided in `authorize`.

    Args:
        rule: what each user may do with a group; None leaves that to `authorize`.

    Attributes:
        room_name: what the path captured under that name, or None.
        room_group_name: the group that `join` joins; empty where there is none.
        speaks_protocol: whether the client is sent frames of the protocol
            ``asgi-notify.v1``, rather than plain text.
        presence_info: the info that this connection gives to the presence of its groups, such
            as ``{}``; None keeps it out of the presence.
        retry_spread: seconds over which the clients of a server that ends are asked to
            spread their reconnects.
    """

    helpers: ClassVar[frozenset[str]] = frozenset({"authorize", "join", "may_subscribe", "render"})

    room_name: object = None
    room_group_name: str = ""
    speaks_protocol: bool = False
    retry_spread: float = 5.0
    presence_info: Mapping[str, Any] | None = None  # a kilobyte for each connection
    rule: Rule | None = None

    _has_own_text: ClassVar[bool] = False  # render() is overridden
    _only_passes_on: ClassVar[bool] = False  # no overridden method has to see each notification
    _since: Position | None = None  # up to where the client has seen notifications, as it says
    _joined: Joined | None = None  # the answer when the group of the path was joined

    def __init__(self, *args: Any, rule: Rule | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if rule is not None:
            self.rule = rule

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._has_own_text = cls.render is not Notifications.render
        cls._only_passes_on = is_ours(cls, "dispatch", "render", "send", "send_notification")

    async def authorize(self, group: str) -> bool | None:
        """Decide whether the client may watch a group; called for every group that it asks for.

        The default asks the `rule`. Where there is none, it allows the group of the path's
        room, and at a path without a room every group ``user_<number>``.

        Returns:
            None or True to let the client watch. Anything else refuses it, as `Forbidden` does.

        Raises:
            Forbidden: the client may not watch the group, and is told why. `Unauthorized` and
                `NoRouteFound` do the same with another status.
        """
        if self.rule is not None:
            await self._require("watch", group)
            return True
        if self.room_name is not None:
            is_right = group == self.room_group_name
            way_out = f"only {self.room_group_name} can"
        elif type(self).join is not Notifications.join:
            # An overridden join() may be what protects the rooms. At a path without a room, a
            # client can subscribe without a call of it, so all groups of users would be open.
            raise Forbidden(
                f"{type(self).__qualname__}.join() decides about rooms, and this path has none: "
                "override authorize(group), which is asked about every group"
            )
        else:
            is_right = _OF_A_USER.fullmatch(group) is not None
            way_out = "groups are called user_<number>, such as user_42"
        if not is_right:
            raise Forbidden(f"{group} cannot be watched here; {way_out}")
        return True

    async def join(self) -> bool | None:
        """Join the group of the path, if `authorize` allows it.

        An override refuses a client by raising `Forbidden`, `Unauthorized` or `DenyConnection`,
        or by returning False.
        """
        await self._require_allowed(self.room_group_name)
        self._joined = await self._add(self.room_group_name, self._since)
        return True

    async def _require_allowed(self, group: str) -> None:
        self._require_bound(group)
        answer = await awaitable(self, "authorize", self.authorize(group))
        require_yes(self, "authorize", answer)

    async def _require_still_allowed(self, group: str) -> None:
        """Raise where the client may not watch a group any more, by what it has shown since."""
        is_asked = self.rule is not None or type(self).authorize is not Notifications.authorize
        has_own_join = type(self).join is not Notifications.join
        if has_own_join and not is_asked and group == self.room_group_name:
            self._require_bound(group)  # join() alone has decided, and cannot be asked anew
            return
        await self._require_allowed(group)

    def _require_bound(self, group: str) -> None:
        """Raise `Forbidden` where nobody may use a group, or not with the ticket that was shown."""
        if is_login_group(group):
            # Who subscribes to it could leave it, and then be reached by no revocation.
            raise Forbidden(f"{group} is the server's own")
        identity = self.identity
        if identity is not None and identity.groups is not None and group not in identity.groups:
            raise Forbidden(f"this ticket is not for {group}")

    @property
    def identity(self) -> Identity | None:
        """Who is on this connection, as far as anybody in front of this consumer knows."""
        return identity_now(self.scope)

    async def _require(self, action: Action, group: str) -> None:
        """Ask the rule, where there is one.

        Raises:
            Forbidden: the user may not do that.
            Unauthorized: whoever is there has not said who it is, and may not do that.
        """
        self._require_bound(group)
        if self.rule is None:
            return
        identity = self.identity
        if await self.rule.allows(identity, action, group) is not True:
            what = "publish to" if action == "publish" else action
            refused = f"to {what} {group} is not allowed"
            if action == "history":
                refused = f"what {group} was sent before is not shown: leave 'since' out"
            raise Unauthorized(f"log in: {refused}") if identity is None else Forbidden(refused)

    async def _add(self, group: str, since: Position | None) -> Joined:
        if since is not None:
            await self._require("history", group)
        joined = await self.channel_layer.group_add(
            group, self.channel_name, since=since, info=self.presence_info
        )
        if joined.replayed and (allowance := allowance_of(self.scope)) is not None:
            allowance.count_replay(self._connection, joined.replayed)
        return joined

    def _require_replay(self) -> None:
        """Raise `TooManyRequests` where too much of the histories was asked for already."""
        if (allowance := allowance_of(self.scope)) is not None:
            allowance.require_replay()

    def render(self, data: object) -> str:
        """The text that the client gets for a notification's data.

        Where this is not overridden, a client of the protocol gets the data as it is, in a
        frame, and not this text.

        Raises:
            InvalidMessage: the data cannot be sent as text. The notification is logged and
                passed over.
        """
        return as_text(data)

    async def send_notification(self, event: Message, /) -> None:
        """Handle a message to the group: pass its ``data`` on to the client."""
        if "data" not in event:
            logger.error(
                "a notification to %s has no 'data'; it was passed over",
                legible(self.scope["path"]), extra=self._log_fields(event),
            )  # fmt: skip
            return
        try:
            text = self._frame(event) if self.speaks_protocol else self._text(event)
        except InvalidMessage as error:
            # It is the sender's mistake, so the connections of its readers go on.
            logger.error(
                "a notification to %s was passed over: %s", legible(self.scope["path"]), error,
                extra=self._log_fields(event),
            )  # fmt: skip
            return
        await self._deliver(text, event)

    def _log_fields(self, event: Message) -> dict[str, object]:
        return {**self._connection.log_fields, "group": getattr(event, "group", None)}

    def _text(self, event: Message) -> str:
        return self.render(event["data"]) if self._has_own_text else text_of(event)

    def _frame(self, event: Message) -> str:
        if not isinstance(event, FrozenMessage) or event.group is None:
            # It was sent to this channel alone, so there is nobody to share its frame with.
            text = self.render(event["data"]) if self._has_own_text else event["data"]
            return frames.notification(self.room_group_name or None, None, text)
        if self._has_own_text:  # the text may differ from client to client, so it is not shared
            text = self.render(event["data"])
            return frames.notification(event.group, event.position, text, event.get(PUBLISHED_BY))
        return frame_of(event)

    async def group_gap(self, event: Message, /) -> None:
        """Handle a report that messages of a group were lost: tell the client, if possible."""
        await self._tell_gap(event["group"], event["reason"], event["lost"])

    async def _enter(self) -> None:
        """Find out which group the path, or ``?group=``, asks for, and join it."""
        captured = captured_by_path(self)
        if "room_name" in captured:
            self.room_name = captured["room_name"]
            self.room_group_name = room_group(self.room_name)
        else:
            self.room_group_name = named_group(self.scope) or self._own_group()
            self._require_own_check(captured)
        if self.room_group_name:
            if self._since is not None:
                self._require_replay()
            require_yes(self, "join", await awaitable(self, "join", self.join()))

    def _own_group(self) -> str:
        """The group of a path that names none: the user's own, for a client that cannot choose."""
        identity = None if self.may_subscribe() else self.identity
        return "" if identity is None else user_group(identity.id)

    def may_subscribe(self) -> bool:
        """Whether the client can say in frames which groups it watches."""
        return False

    def _require_own_check(self, captured: Mapping[str, object]) -> None:
        # A path that captures something under another name was meant to name a room. Without
        # this check it would count as a path without a room, at which every user can be watched.
        args = self.scope["url_route"]["args"]
        is_decided = type(self).authorize is not Notifications.authorize
        is_decided = is_decided or self.rule is not None
        if is_decided or type(self).join is not Notifications.join or not (captured or args):
            return
        names = ", ".join(captured) or "a part without a name"
        raise ConfigurationError(
            f"the path captures {names}, and {type(self).__qualname__} reads room_name: write "
            "path('notifications/<int:room_name>/', ...), or override authorize(group) to decide "
            "by what is captured"
        )

    @property
    def _position(self) -> Position | None:
        """From where on the client gets the group of its path; None before it has joined."""
        return self._joined.position if self._joined is not None else None

    @property
    def _is_recovered(self) -> bool | None:
        """Whether nothing is missing after `_since`; None if the client gave no position."""
        if self._since is None:
            return None
        return self._joined is not None and bool(self._joined.recovered)

    def _subscribed(self) -> str:
        """The frame that tells the client that it is subscribed to the group of its path."""
        replayed = self._joined.replayed if self._joined is not None else 0
        return frames.subscribed(self.room_group_name, self._position, self._is_recovered, replayed)

    def _farewell(self, error: Exception) -> str | None:
        """The last frame before the connection ends for this reason, or None."""
        if not self.speaks_protocol or not isinstance(error, LayerClosed):
            return None
        return frames.going_away(round(uniform(0, self.retry_spread), 3))

    @abstractmethod
    async def _deliver(self, text: str, event: Message) -> None:
        """Bring the client the text of a notification."""

    @abstractmethod
    async def _tell_gap(self, group: str, reason: str, lost: int | None) -> None:
        """Tell the client that messages of a group were lost to it."""
