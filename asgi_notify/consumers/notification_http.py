"""How HTTP brings notifications: as a stream of events, or as answers to polls."""

import json
import math
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

import anyio

from .. import sse
from ..asgi import json_response, query_value, response
from ..codec import FrozenMessage
from ..exceptions import ClientError, MisuseError
from ..positions import Position
from ..protocol import PROTOCOL, frames
from ..spelling import LastSpelled, frame_of, text_of
from ..types import Event, Message, Scope, Send
from .direct import Direct, direct_of
from .passing import is_ours
from .rooms import since_of
from .sse import SENDING, AsyncSseConsumer
from .subscriptions import Notifications

__all__ = ["NotificationHttpConsumer"]

_NUMBER = re.compile(r"[0-9]{1,9}(\.[0-9]{0,9})?|\.[0-9]{1,9}")

_REFUSED = re.compile(r";\s*q=0(\.0*)?\s*(;|$)", re.IGNORECASE)

_last_text = LastSpelled(lambda message: _event(text_of, message))
_last_frame = LastSpelled(lambda message: _event(frame_of, message))

_ANSWER = "poll.answer"  # this consumer's own event, behind what waits in its mailbox


class NotificationHttpConsumer(Notifications, AsyncSseConsumer):
    """Brings the notifications of the group ``user_<room_name>`` over HTTP.

    At a path without a ``room_name``, ``?group=`` names the group. A GET that
    accepts ``text/event-stream``, as a browser's ``EventSource`` does, gets a
    stream: one event for each notification, named ``message``, its data the
    text that a WebSocket gets and its id the position, from which a browser
    resumes by itself. What was lost is told in an event named ``gap``.

    Any other GET is a long poll. It is answered with ``{"notifications":
    [text, ...], "position": ...}`` at the first notification, or with an empty
    list when the client's ``?timeout=`` is over. The position is the
    ``?since=`` of the next poll, which is then answered with what was sent
    meanwhile, where the group has a history.

    With ``?protocol=asgi-notify.v1`` both bring the frames of the protocol
    instead. Who may watch, and how a notification reads, is decided in
    `Notifications`.

    Attributes:
        is_polling: whether this request is a long poll.
        poll_timeout: seconds that a poll waits, unless it says how long.
        max_poll_timeout: seconds that a poll may ask for.
    """

    retry = 2000  # milliseconds; browsers' own are 3000 to 5000
    poll_timeout: float = 25.0  # proxies commonly give up at 30 or 60
    max_poll_timeout: float = 60.0

    is_polling = False
    _has_answer = False  # and it is on its way
    _is_lost = False  # the client resumes from what is no position of ours
    _has_missed = False  # a message was lost to this poll; the next one gets it
    _brought: Position | None = None  # the last one that this poll brings

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._only_passes_on = cls._only_passes_on and is_ours(cls, *SENDING)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._texts: list[str] = []

    async def connect(self) -> None:
        self.speaks_protocol = _names_protocol(self.scope)
        self._find_position()
        await self._enter()
        if not self.room_group_name:
            raise ClientError("name the group to watch, such as ?group=user_42")

    async def handle(self, body: bytes) -> None:
        self.is_polling = not _accepts_stream(self.scope)
        await super().handle(body)
        if not (self.is_polling or self._connection.is_closed):
            await self._announce()  # also where connect() of a subclass has sent something first

    def _find_position(self) -> None:
        if self.is_polling or self.last_event_id is None:
            self._since = since_of(self.scope)
            return
        try:
            self._since = Position.parse(self.last_event_id)
        except ClientError:
            # The server was another one when the browser got that id. It is not to
            # blame, and a browser whose stream is refused never comes back.
            self._is_lost = True

    @property
    def _is_recovered(self) -> bool | None:
        return False if self._is_lost else super()._is_recovered

    async def _open(self) -> None:
        if not self.is_polling:
            return  # it is announced, and that opens it
        self.start_soon(self._answer_after, self._timeout())
        if self._is_recovered is False:
            await self._answer()

    # A stream.

    async def _announce(self) -> None:
        """Tell the client at once where it stands, so that it can resume from there."""
        position = _id(self._position)
        if self.speaks_protocol:
            await self.send_event(frames.welcome(self.channel_name), retry=self.retry)
            await self.send_event(self._subscribed(), id=position)
            return
        if position is not None:
            await self.send_event(None, id=position, retry=self.retry)
        else:
            await super()._open()
        if self._is_recovered is False:
            await self._tell_gap(self.room_group_name, "unrecovered", None)

    def closing_events(self, error: Exception) -> list[Event]:
        frame = self._farewell(error)
        if frame is None:
            return []
        return [{"type": "http.response.body", "body": sse.event(frame), "more_body": True}]

    def _direct(self, send: Send) -> Direct | None:
        if not self._only_passes_on:
            return super()._direct(send)
        return direct_of(self.scope, send, self._event_at_once)

    def _event_at_once(self, message: Message) -> bytes | None:
        if not self._only_passes_on or message["type"] != "send.notification":
            return super()._event_at_once(message)
        if getattr(message, "group", None) != self.room_group_name:
            return None  # it has no id, since a browser can resume in one group only
        return self._find(_last_frame if self.speaks_protocol else _last_text, message)

    # Both.

    async def _deliver(self, text: str, event: Message) -> None:
        is_own = getattr(event, "group", None) == self.room_group_name
        position: Position | None = event.position if is_own else None  # type: ignore[attr-defined]
        if not self.is_polling:
            await self.send_event(text, id=_id(position))
        elif not self._has_missed:
            self._texts.append(text)
            self._brought = position or self._brought
            await self._answer()

    async def _tell_gap(self, group: str, reason: str, lost: int | None) -> None:
        if self.is_polling:
            await self._end_before_gap(group, reason, lost)
        elif self.speaks_protocol:
            await self.send_event(frames.gap(group, reason, lost))
        else:
            content = {"group": group, "reason": reason, "lost": lost}
            await self.send_event(json.dumps(content), event="gap")

    # A poll.

    async def _end_before_gap(self, group: str, reason: str, lost: int | None) -> None:
        if self._position is not None and group == self.room_group_name:
            self._has_missed = True  # the next poll goes on before the gap, from the history
        elif self.speaks_protocol:
            self._texts.append(frames.gap(group, reason, lost))
        await self._answer()

    async def poll_answer(self, event: Event) -> None:
        """Handle the end of a poll: answer with what has come."""
        if not self.is_polling:
            return
        if self._login is not None:
            self._login.require()
        position = _id(self._brought or self._position)
        no_store = (b"cache-control", b"no-store")
        if self.speaks_protocol:
            body = frames.answer([self._subscribed(), *self._texts], position)
            await self._emit(*response(200, body.encode(), "application/json", no_store))
            return
        content: dict[str, object] = {"notifications": self._texts, "position": position}
        if self._is_recovered is not None:
            content["recovered"] = self._is_recovered
        await self._emit(*json_response(200, content, no_store))

    async def _answer_after(self, seconds: float) -> None:
        await anyio.sleep(seconds)
        await self._answer()

    async def _answer(self) -> None:
        # An event of the connection's own, so that what already waits goes along.
        if not self._has_answer:
            self._has_answer = True
            await self._connection.mailbox.put_event({"type": _ANSWER})

    async def _write(self, chunk: bytes) -> None:
        if self.is_polling:
            raise MisuseError(
                "the answer of a poll holds notifications alone: send events and comments "
                "where is_polling is False"
            )
        await super()._write(chunk)

    def _require_response(self) -> None:
        if not self.is_polling:
            super()._require_response()

    def _timeout(self) -> float:
        query = self.scope.get("query_string", b"").decode("latin-1")
        values = parse_qs(query, keep_blank_values=True).get("timeout")
        if values is None:
            return self.poll_timeout
        seconds = float(values[0]) if _NUMBER.fullmatch(values[0]) else math.inf
        if len(values) > 1 or seconds > self.max_poll_timeout:
            raise ClientError(
                "timeout is one number of seconds, from 0 to "
                f"{self.max_poll_timeout:g}, such as timeout=25"
            )
        return seconds


def _names_protocol(scope: Scope) -> bool:
    name = query_value(scope, "protocol")
    if name not in (None, PROTOCOL):
        raise ClientError(f"protocol is {PROTOCOL}, or left out for plain text")
    return name is not None


def _event(spell: Callable[[FrozenMessage], str], message: FrozenMessage) -> bytes:
    """The event that a stream of the message's group brings."""
    return sse.event(spell(message), id=_id(message.position))


def _id(position: Position | None) -> str | None:
    return None if position is None else str(position)


def _accepts_stream(scope: Scope) -> bool:
    """Whether the Accept header names the type of a stream.

    Source: RFC 9110, sections 12.5.1 and, for a weight of 0, 12.4.2.
    """
    accepted = [value for name, value in scope.get("headers", ()) if name.lower() == b"accept"]
    ranges = b",".join(accepted).decode("latin-1").split(",")
    return any(
        part.partition(";")[0].strip().lower() == sse.CONTENT_TYPE and not _REFUSED.search(part)
        for part in ranges
    )
