"""What one connection has taken of what may be had, and what it may still do."""

from collections.abc import Callable
from typing import Any

from ..auth.identity import Identity
from ..auth.session import identity_now, session_of
from ..consumers.connection import Connection
from ..consumers.observing import Observer
from ..exceptions import Overloaded, TooManyRequests
from ..protocol import PROTOCOL, frames
from ..types import Event, Scope
from .bounds import Limits
from .counting import Meter, Rate, Rates, Tally

__all__ = ["Allowance", "Counters", "SocketAllowance", "allowance_of"]

_KEY = "asgi_notify.limits"
_ALL = ""  # the key of what is counted for all together


def allowance_of(scope: Scope) -> "Allowance | None":
    """What a connection may still do; None where nothing limits it."""
    allowance: Allowance | None = scope.get(_KEY)
    return allowance


class Counters:
    """What is counted for all connections that came through one `Limited`.

    Args:
        limits: how many there may be.
        clock: returns the time in seconds.
    """

    def __init__(self, limits: Limits, clock: Callable[[], float]) -> None:
        self.connections = Tally(
            limits.connections, "the server has as many connections as it takes", Overloaded
        )
        self.addresses = Tally(
            limits.connections_per_address, "there are too many connections from this address"
        )
        self.requests = Tally(
            limits.requests_per_address, "there are too many requests at once from this address"
        )
        self.users = Tally(
            limits.connections_per_user, "there are too many connections of this user"
        )
        self.groups = Tally(
            limits.groups_per_address, "there are too many subscriptions from this address"
        )
        self.user_groups = Tally(
            limits.groups_per_user, "there are too many subscriptions of this user"
        )
        self.bodies = Tally(
            limits.bodies, "the server is reading as many bodies as it takes", Overloaded
        )
        self.address_bodies = Tally(
            limits.bodies_per_address, "there are too many unfinished bodies from this address"
        )

        def rate(per_second: float | None, sentence: str) -> Rate | None:
            return None if per_second is None else Rate(per_second, limits.burst, sentence, clock)

        self.frames = rate(limits.frames_per_second, "messages came too fast")
        self.bytes = rate(limits.bytes_per_second, "messages of too many bytes came too fast")
        self.replays = rate(limits.replays_per_second, "too much of the history was asked for")
        self.connects = Rates.of(
            rate(limits.connects_per_second, "connections from this address came too fast")
        )
        self.address_replays = Rates.of(
            rate(limits.replays_per_address, "too much of the history was asked for")
        )

    def statistics(self) -> dict[str, Any]:
        """How much there is now, and how often each limit has refused somebody."""
        tallies = {
            "connections": self.connections,
            "connections_per_address": self.addresses,
            "requests_per_address": self.requests,
            "connections_per_user": self.users,
            "groups_per_address": self.groups,
            "groups_per_user": self.user_groups,
            "bodies": self.bodies,
            "bodies_per_address": self.address_bodies,
        }
        rates = {
            "connects_per_second": Rates.rate_of(self.connects),
            "frames_per_second": self.frames,
            "bytes_per_second": self.bytes,
            "replays_per_second": self.replays,
            "replays_per_address": Rates.rate_of(self.address_replays),
        }
        refused = {name: tally.refused for name, tally in tallies.items()}
        refused |= {name: rate.refused for name, rate in rates.items() if rate is not None}
        return {
            "connections": self.connections.of(_ALL),
            "bodies": self.bodies.of(_ALL),
            "addresses": len(self.addresses),
            "users": len(self.users),
            "refused": refused,
        }


class Allowance(Observer):
    """What one HTTP request has taken, to be given back, and may still do.

    It looks on at the consumer that handles the request, where one does, to know its user.

    Args:
        counters: of the limits that hold for it.
        address: that it is counted by, or None.
    """

    __slots__ = ("_counters", "_groups", "_replays", "_taken", "_user", "_user_groups", "address")

    def __init__(self, counters: Counters, address: str | None) -> None:
        self.address = address
        self._counters = counters
        self._taken: list[tuple[Tally, str]] = []
        self._user: str | None = None
        self._groups = self._user_groups = 0
        self._replays: Meter | None = None

    def admit(self, scope: Scope) -> None:
        """Take the place of a connection.

        Raises:
            TooManyRequests: its address or its user has taken all, or it came too fast.
            Overloaded: there is none left for anybody.
        """
        counters, address = self._counters, self.address
        if address is not None:
            if counters.connects is not None:
                counters.connects.spend(address)
            self._take(counters.addresses, address)
            if scope["type"] == "http":
                self._take(counters.requests, address)
        self._take(counters.connections, _ALL)
        if scope.get("user") is not None:
            self.find_user(scope)

    def put_in(self, scope: Scope) -> Scope:
        """A scope in which consumers find this."""
        return {**scope, _KEY: self, "observers": (*scope.get("observers", ()), self)}

    def give_back(self) -> None:
        """Give back all that was taken, since the connection has ended."""
        for tally, key in self._taken:
            tally.take_away(key)
        if self._groups and self.address is not None:
            self._counters.groups.take_away(self.address, self._groups)
        if self._user_groups and self._user is not None:
            self._counters.user_groups.take_away(self._user, self._user_groups)

    def _take(self, tally: Tally, key: str) -> None:
        tally.add(key)
        self._taken.append((tally, key))

    # What consumers tell.

    def opened(self, connection: Connection) -> None:
        session = session_of(connection.scope)
        if session is not None and session.identity is None:
            session.require(self._count_user)  # which a first frame may tell
        else:
            self.find_user(connection.scope)

    def find_user(self, scope: Scope) -> None:
        """Count the connection as one of its user, once that is known.

        Raises:
            TooManyRequests: the user has as many as one may have.
        """
        identity = identity_now(scope)
        if identity is not None and self._user is None:
            self._take(self._counters.users, identity.id)
            self._user = identity.id

    async def _count_user(self, identity: Identity) -> None:
        if self._user is None:
            self._take(self._counters.users, identity.id)
            self._user = identity.id

    def add_group(self) -> None:
        """Count one more subscription.

        Raises:
            TooManyRequests: the address or the user has as many as one may have.
        """
        if self._user is not None:
            self._counters.user_groups.add(self._user)
            self._user_groups += 1
        if self.address is None:
            return
        try:
            self._counters.groups.add(self.address)
        except Exception:
            if self._user is not None:
                self._counters.user_groups.take_away(self._user)
                self._user_groups -= 1
            raise
        self._groups += 1

    def remove_group(self) -> None:
        """Count one subscription less."""
        if self._user_groups and self._user is not None:
            self._counters.user_groups.take_away(self._user)
            self._user_groups -= 1
        if self._groups and self.address is not None:
            self._counters.groups.take_away(self.address)
            self._groups -= 1

    def require_replay(self) -> None:
        """Let the client ask for what is in a history.

        Raises:
            TooManyRequests: its address has asked for too much of them already.
        """
        if self.address is not None and self._counters.address_replays is not None:
            self._counters.address_replays.require(self.address)

    def count_replay(self, connection: Connection, messages: int) -> None:
        """Count what the client was given of a history; warn it, and then end its connection."""
        counters = self._counters
        if not messages:
            return
        if self.address is not None and counters.address_replays is not None:
            counters.address_replays.owe(self.address, messages)
        if counters.replays is None:
            return
        if self._replays is None:
            self._replays = Meter(counters.replays)
        try:
            if self._replays.spend(messages):
                _warn(connection, counters.replays)
        except TooManyRequests as error:
            connection.close(error)


class SocketAllowance(Allowance):
    """What one WebSocket has taken and may still do: as of a request, and how fast it may send."""

    __slots__ = ("_bytes", "_frames", "_is_over")

    def __init__(self, counters: Counters, address: str | None) -> None:
        super().__init__(counters, address)
        self._is_over = False  # and what was read ahead meanwhile says nothing new
        # Made with the first message: many clients send none.
        self._frames: Meter | None = None
        self._bytes: Meter | None = None

    def received(self, connection: Connection, event: Event) -> None:
        if event["type"] != "websocket.receive" or self._is_over:
            return
        counters = self._counters
        try:
            if counters.frames is not None:
                if self._frames is None:
                    self._frames = Meter(counters.frames)
                if self._frames.spend():
                    _warn(connection, counters.frames)
            if counters.bytes is not None:
                if self._bytes is None:
                    self._bytes = Meter(counters.bytes)
                if self._bytes.spend(_size(event)):
                    _warn(connection, counters.bytes)
        except TooManyRequests:
            self._is_over = True
            raise


def _size(event: Event) -> int:
    text = event.get("text")
    if text is None:
        return len(event.get("bytes") or b"")
    return len(text) if text.isascii() else len(text.encode(errors="replace"))


def _warn(connection: Connection, rate: Rate) -> None:
    """Tell a client of the protocol that it will be disconnected if it goes on."""
    if connection.subprotocol != PROTOCOL or connection.is_closed:
        return
    sentence = f"{rate.sentence}; go on, and this connection is closed with 4429"
    frame = frames.error("too_many", sentence)
    connection.start_soon(connection.send, {"type": "websocket.send", "text": frame})
