"""How HTTP brings notifications: as a stream of events, or as answers to polls."""

import math
import re
from typing import Any
from urllib.parse import parse_qs

import anyio

from ..asgi import json_response
from ..exceptions import ClientError, MisuseError
from ..sse import CONTENT_TYPE
from ..types import Event, Scope
from .notification import Notifications
from .sse import AsyncSseConsumer

__all__ = ["NotificationHttpConsumer"]

_NUMBER = re.compile(r"[0-9]{1,9}(\.[0-9]{0,9})?|\.[0-9]{1,9}")

_REFUSED = re.compile(r";\s*q=0(\.0*)?\s*(;|$)", re.IGNORECASE)

_ANSWER = "poll.answer"  # this consumer's own event, behind what waits in its mailbox


class NotificationHttpConsumer(Notifications, AsyncSseConsumer):
    """Brings the notifications of the group ``user_<room_name>`` over HTTP.

    A GET that accepts ``text/event-stream``, as a browser's ``EventSource``
    does, gets a stream: one event for each notification, named ``message``, its
    data the text that a WebSocket gets.

    Any other GET is a long poll. It is answered, at the first notification,
    with ``{"notifications": [text, ...]}``, or with an empty list when the
    client's ``?timeout=`` is over. What is sent while nobody polls is lost to it.

    Who may watch, and how a notification reads, is decided in `Notifications`.

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

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._texts: list[str] = []

    async def connect(self) -> None:
        await self._enter()

    async def handle(self, body: bytes) -> None:
        self.is_polling = not _accepts_stream(self.scope)
        await super().handle(body)

    async def poll_answer(self, event: Event) -> None:
        """Handle the end of a poll: answer with what has come."""
        if not self.is_polling:
            return
        no_store = (b"cache-control", b"no-store")
        await self._emit(*json_response(200, {"notifications": self._texts}, no_store))

    async def _open(self) -> None:
        if not self.is_polling:
            await super()._open()
            return
        self._tasks.start_soon(self._answer_after, self._timeout())

    async def _deliver(self, text: str) -> None:
        if not self.is_polling:
            await self.send_event(text)
            return
        self._texts.append(text)
        await self._answer()

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


def _accepts_stream(scope: Scope) -> bool:
    """Whether the Accept header names the type of a stream.

    Source: RFC 9110, sections 12.5.1 and, for a weight of 0, 12.4.2.
    """
    accepted = [value for name, value in scope.get("headers", ()) if name.lower() == b"accept"]
    ranges = b",".join(accepted).decode("latin-1").split(",")
    return any(
        part.partition(";")[0].strip().lower() == CONTENT_TYPE and not _REFUSED.search(part)
        for part in ranges
    )
