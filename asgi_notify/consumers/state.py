"""What has been said on one connection, and what may be said next: no I/O, no waiting."""

from collections.abc import Callable, Iterable

from ..asgi import close, refusal, sentence_of
from ..exceptions import DenyConnection, StopConsumer
from ..types import Event, Scope
from .protocol import CLOSED, MORE_BODY, protocol_of

__all__ = ["ConnectionState", "StateAhead"]


class ConnectionState:
    """Where one connection stands in the table of its protocol.

    Whoever sends asks `advance` first; whoever learns that the client has left,
    or that all is over, calls `close`. Nothing else changes it, but for `end`, which
    the server's own disconnect event replaces.

    Attributes:
        protocol: the table, see `protocol_of`.
        steady: the type of the event that may be sent now again and again, without
            asking, or `MORE_BODY`; empty where there is none, and so always once it is closed.
        end: the disconnect event that the consumer gets, as far as it is known.
        is_endless: whether a stream of events may end anywhere between two of them.
        subprotocol: that a WebSocket was accepted with, if any.
    """

    __slots__ = ("_name", "end", "is_endless", "protocol", "scope", "steady", "subprotocol")

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.protocol = protocol_of(scope["type"])
        self._name = self.protocol.start
        self.steady = ""
        self.end: Event = {"type": self.protocol.leaving, "code": 1006, "reason": ""}
        self.is_endless = False
        self.subprotocol: str | None = None

    @property
    def is_answered(self) -> bool:
        """Whether the client has got a first answer, such as an accept."""
        return self._name != self.protocol.start

    @property
    def is_closed(self) -> bool:
        """Whether nothing that is sent goes anywhere any more."""
        return self._name == CLOSED

    @property
    def is_direct(self) -> bool:
        """Whether this is where messages are passed on: an open WebSocket, or a body under way."""
        return self.steady in ("websocket.send", MORE_BODY)

    def is_part(self, event: Event) -> bool:
        """Whether this is a part of a body that may be sent now, and that further parts follow."""
        is_body = event["type"] == "http.response.body" and self.steady == MORE_BODY
        return is_body and event.get("more_body") is True

    def advance(self, event: Event) -> bool:
        """Go to the state after an event is sent; return whether it is another one.

        Raises:
            MisuseError: it is not the turn of this event; the state stays what it was.
        """
        before, self._name = self._name, self.protocol.next_state(self._name, event)
        if self._name == before:
            return False
        self.steady = self.protocol.steady(self._name)
        if event["type"] == "websocket.close":
            self.end["code"] = event.get("code", 1000)
            self.end["reason"] = event.get("reason") or ""
        elif event["type"] == "websocket.accept":
            self.subprotocol = event.get("subprotocol")
        return True

    def close(self) -> None:
        """Have nothing go anywhere any more."""
        self._name, self.steady = CLOSED, ""

    def last_words(
        self, error: Exception, closing_events: Callable[[Exception], Iterable[Event]]
    ) -> list[Event]:
        """The events that tell the client why its connection ends, in this state.

        Args:
            error: the reason.
            closing_events: what the consumer has to say of it, where it was answered.
        """
        if not self.is_answered:
            if isinstance(error, StopConsumer) and self.scope["type"] == "websocket":
                error = DenyConnection()
            return refusal(self.scope, error)
        moves = self.protocol.moves[self._name]
        if "http.response.body" in moves and self.is_endless:
            end = {"type": "http.response.body", "body": b"", "more_body": False}
            return [*closing_events(error), end]
        if "websocket.close" not in moves:
            return []  # a response cut short is how a client learns that it is not whole
        if isinstance(error, StopConsumer):
            return [*closing_events(error), close()]
        code = getattr(error, "close_code", 1011)
        reason = sentence_of(error) if code != 1011 else "Internal Server Error"
        return [*closing_events(error), close(code, reason)]


class StateAhead:
    """The state of a connection once all is sent that one handler wants sent.

    A handler in a thread does not wait for each event to be sent; it is told of its mistakes
    all the same.
    """

    __slots__ = ("_name", "_state", "_steady")

    def __init__(self, state: ConnectionState) -> None:
        self._state = state
        self._name = state._name
        self._steady = state.steady

    def advance(self, event: Event) -> bool:
        """Go to the state after an event is sent; return whether it goes anywhere.

        Raises:
            MisuseError: it is not the turn of this event; the state stays what it was.
        """
        if self._name == CLOSED or self._state.is_closed:
            return False
        if event["type"] != self._steady:
            self._name = self._state.protocol.next_state(self._name, event)
            self._steady = self._state.protocol.steady(self._name)
        return True
