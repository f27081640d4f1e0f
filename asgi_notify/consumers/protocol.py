"""What an application may send on a connection, and when: one table for each protocol."""

from typing import NamedTuple

from ..exceptions import MisuseError
from ..types import Event

__all__ = ["Protocol", "protocol_of"]


class Protocol(NamedTuple):
    """The life of one kind of connection, seen from the application.

    Attributes:
        moves: state -> type of a sent event -> next state. A connection begins
            in the first state; what it sends in the last one goes nowhere.
        leaving: the type of the event that tells that the client is gone.
    """

    moves: dict[str, dict[str, str]]
    leaving: str

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
        following = self.moves[state].get(kind)
        if following is not None:
            last_part = kind.endswith("response.body") and not event.get("more_body", False)
            return CLOSED if last_part else following
        turns = [turn for turn, moves in self.moves.items() if kind in moves]
        if not turns:
            return state  # an extension of the server's: it knows whether this is right
        raise MisuseError(
            f"{kind} cannot be sent while the connection is {state}; it can while it is "
            f"{' or '.join(turns)}{_HINTS.get((state, kind), '')}"
        )


CLOSED = "closed"

# ASGI, HTTP & WebSocket: the order of send events, and "WebSocket Denial Response".
WEBSOCKET = Protocol(
    {
        "connecting": {
            "websocket.accept": "open",
            "websocket.close": CLOSED,
            "websocket.http.response.start": "denying",
        },
        "denying": {"websocket.http.response.body": "denying"},
        "open": {"websocket.send": "open", "websocket.close": CLOSED},
        CLOSED: {},
    },
    "websocket.disconnect",
)
HTTP = Protocol(
    {
        "requested": {"http.response.start": "responding"},
        "responding": {"http.response.body": "responding"},
        CLOSED: {},
    },
    "http.disconnect",
)
OTHER = Protocol({"open": {}, CLOSED: {}}, "")

_HINTS = {
    ("connecting", "websocket.send"): ": call accept() first",
    ("open", "websocket.accept"): ": it was accepted already",
    ("requested", "http.response.body"): ": call send_headers() first",
}


def protocol_of(scope_type: str) -> Protocol:
    """The protocol of a scope type; of an unknown one, a protocol without rules."""
    return {"websocket": WEBSOCKET, "http": HTTP}.get(scope_type, OTHER)
