"""What an application may send on a connection, and when: one table for each protocol."""

from typing import NamedTuple

from ..exceptions import MisuseError
from ..types import Event

__all__ = ["MORE_BODY", "Protocol", "protocol_of"]

MORE_BODY = "http.response.body..."
"""A part of a body that further parts follow, in the tables below."""


class Protocol(NamedTuple):
    """The life of one kind of connection, seen from the application.

    Attributes:
        moves: state -> type of a sent event -> next state. A connection begins
            in the first state; what it sends in the last one goes nowhere. A
            type with ``...`` stands for an event that says that more follows.
        leaving: the type of the event that tells that the client is gone.
        has_client: whether somebody is at the other end. Else what tells of the
            end stands behind the last event, and hurries nobody.
        has_answers: whether it is known how to tell of an error. Else an error
            is raised to whoever runs the connection.
    """

    moves: dict[str, dict[str, str]]
    leaving: str
    has_client: bool = True
    has_answers: bool = True

    @property
    def start(self) -> str:
        """The state of a connection that was not answered yet."""
        return next(iter(self.moves))

    def next_state(self, state: str, event: Event) -> str:
        """The state after the event was sent.

        Raises:
            MisuseError: the event's turn is another one; the sentence says which.
        """
        kind = event["type"]
        moves = self.moves[state]
        following = moves.get(kind)
        if following is not None:
            going_on = moves.get(f"{kind}...")
            if going_on is None or not any(event.get(key, False) for key in _MORE):
                return following
            return going_on
        # The first word of a turn is all that a reader of the error needs.
        turns = dict.fromkeys(
            turn.split()[0] for turn, moves in self.moves.items() if kind in moves
        )
        if not turns:
            return state  # an extension of the server's: it knows whether this is right
        raise MisuseError(
            f"{kind} cannot be sent while the connection is {state}; it can while it is "
            f"{' or '.join(turns)}{_HINTS.get((state, kind), '')}"
        )

    def steady(self, state: str) -> str:
        """The event that may be sent in this state again and again, or none: its name here."""
        return next((kind for kind, to in self.moves[state].items() if to == state), "")


CLOSED = "closed"

# The keys of events that say that more follows.
_MORE = ("more_body", "more_trailers", "trailers")

# ASGI, HTTP & WebSocket: the order of send events. Extensions: "WebSocket Denial
# Response", "Path Send", "Zero Copy Send", "HTTP Trailers". What may be sent at
# any time, such as "http.response.push", is in no table.
WEBSOCKET = Protocol(
    {
        "connecting": {
            "websocket.accept": "open",
            "websocket.close": CLOSED,
            "websocket.http.response.start": "denying",
        },
        "denying": {
            "websocket.http.response.body": CLOSED,
            "websocket.http.response.body...": "denying",
        },
        "open": {"websocket.send": "open", "websocket.close": CLOSED},
        CLOSED: {},
    },
    "websocket.disconnect",
)
HTTP = Protocol(
    {
        "requested": {
            "http.response.start": "responding",
            "http.response.start...": "responding before trailers",
        },
        "responding": {
            "http.response.body": CLOSED,
            "http.response.body...": "responding",
            "http.response.zerocopysend": CLOSED,
            "http.response.zerocopysend...": "responding",
            "http.response.pathsend": CLOSED,
        },
        "responding before trailers": {
            "http.response.body": "trailing",
            "http.response.body...": "responding before trailers",
            "http.response.zerocopysend": "trailing",
            "http.response.zerocopysend...": "responding before trailers",
            "http.response.pathsend": "trailing",
        },
        "trailing": {
            "http.response.trailers": CLOSED,
            "http.response.trailers...": "trailing",
        },
        CLOSED: {},
    },
    "http.disconnect",
)
# What a worker runs for one message; an error has been told when it is in the log.
CHANNEL = Protocol({"open": {}, CLOSED: {}}, "channel.disconnect", has_client=False)

_HINTS = {
    ("connecting", "websocket.send"): ": call accept() first",
    ("open", "websocket.accept"): ": it was accepted already",
    ("requested", "http.response.body"): ": call send_headers() first",
}


_KNOWN = {"websocket": WEBSOCKET, "http": HTTP, "channel": CHANNEL}


def protocol_of(scope_type: str) -> Protocol:
    """The protocol of a scope type.

    Of an unknown one, such as ``"line"``, a protocol without rules, whose
    client is gone when ``line.disconnect`` comes.
    """
    return _KNOWN.get(scope_type) or Protocol(
        {"open": {}, CLOSED: {}}, f"{scope_type}.disconnect", has_answers=False
    )
