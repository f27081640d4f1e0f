"""A reader of server-sent events: the algorithm of the HTML standard, word for word.

Source: HTML, section 9.2.6, "Interpreting an event stream".
"""

import re
from dataclasses import dataclass, field
from typing import NamedTuple

__all__ = ["Dispatched", "EventStream"]


class Dispatched(NamedTuple):
    """What a page's listener gets."""

    data: str
    event: str = "message"
    id: str = ""


@dataclass
class EventStream:
    """A stream as far as it has come; what `feed` returns are the events that it has completed.

    Attributes:
        comments: what stood behind a colon at the start of a line.
        last_event_id: what the client sends when it comes back.
        retry: milliseconds after which it does, once the stream has said so.
    """

    comments: list[str] = field(default_factory=list)
    last_event_id: str = ""
    retry: int | None = None
    _received: bytes = b""
    _known: int = 0

    def feed(self, chunk: bytes) -> list[Dispatched]:
        """Take what has come; reads it all from the beginning, so that no cut can matter."""
        self._received += chunk
        events = self._interpret()
        new, self._known = events[self._known :], len(events)
        return new

    def _interpret(self) -> list[Dispatched]:
        text = self._received.decode("utf-8", "replace").removeprefix("\ufeff")
        # What follows the last line end is no line yet.
        *lines, _ = re.split("\r\n|\n|\r", text)
        self.comments, self.last_event_id, self.retry = [], "", None
        events: list[Dispatched] = []
        data, event, id = "", "", ""
        for line in lines:
            name, colon, value = line.partition(":")
            value = value.removeprefix(" ")
            if line == "":
                self.last_event_id = id
                if data != "":
                    events.append(Dispatched(data.removesuffix("\n"), event or "message", id))
                data, event = "", ""
            elif colon and not name:
                self.comments.append(value)
            elif name == "event":
                event = value
            elif name == "data":
                data += value + "\n"
            elif name == "id" and "\0" not in value:
                id = value
            elif name == "retry" and re.fullmatch("[0-9]+", value):
                self.retry = int(value)
        return events
