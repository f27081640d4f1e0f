"""Who is revoked is disconnected on every process, and refused for as long as it lasts."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import anyio
import pytest

from asgi_notify import (
    AsyncWebsocketConsumer,
    InMemoryChannelLayer,
    NotificationConsumer,
    NotificationHttpConsumer,
    URLRouter,
    WebsocketConsumer,
    path,
)
from asgi_notify.auth import Identity, is_revoked, revoke_token, revoke_user
from asgi_notify.consumers.rechecks import rechecks_of
from asgi_notify.exceptions import ConfigurationError, LayerUnavailable
from asgi_notify.layers import BaseChannelLayer
from asgi_notify.protocol import PROTOCOL
from asgi_notify.users import disconnect_user
from tests.consumers.harness import CONNECT, Wire, assert_nothing_left, left, text
from tests.consumers.streams import LEFT, Stream, until
from tests.frames import Client
from tests.layers.double import DoubleEngine, DoubleLayer, Place

from .tools import NOW, Clock, LoggedIn, closed, credential

pytestmark = pytest.mark.anyio

ENDED = (4401, "this login has been ended; log in again")
HOUR = 3600.0
ANN = Identity("ann", issued_at=NOW - 10, token_id="token 1")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def layer(clock: Clock) -> InMemoryChannelLayer:
    return InMemoryChannelLayer(clock=clock)


class Everything(NotificationConsumer):
    async def authorize(self, group: str) -> bool:
        return True


class EverythingOverHttp(NotificationHttpConsumer):
    async def authorize(self, group: str) -> bool:
        return True


def at(consumer: Any, layer: BaseChannelLayer) -> URLRouter:
    app = consumer.as_asgi(channel_layer=layer)
    return URLRouter([path("notifications/", app)])


def wire_of(speaks_protocol: bool = True, query: str = "") -> Wire:
    wire = Wire(CONNECT, path="/notifications/")
    wire.scope["subprotocols"] = [PROTOCOL] if speaks_protocol else []
    wire.scope["query_string"] = query.encode()
    wire.scope["extensions"] = {"websocket.http.response": {}}
    return wire


@asynccontextmanager
async def running(*pairs: tuple[Any, Wire]) -> AsyncIterator[None]:
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            for app, wire in pairs:
                tasks.start_soon(wire.run, app)
            yield
            for _, wire in pairs:
                wire.tell(LEFT if wire.scope["type"] == "http" else left())


def is_open(wire: Wire) -> bool:
    return any(event["type"] == "websocket.accept" for event in wire.sent)


def status(wire: Wire) -> int | None:
    return wire.sent[0].get("status") if wire.sent else None


async def shows_up(layer: BaseChannelLayer, clock: Clock, identity: Identity = ANN) -> bool:
    """Whether somebody is let in now; else the answer was 401."""
    wire = wire_of()
    app = LoggedIn(at(Everything, layer), clock, identity)
    async with running((app, wire)):
        await until(lambda: bool(wire.sent))
        if not is_open(wire):
            assert status(wire) == 401
        return is_open(wire)


@pytest.mark.parametrize(
    "revoke",
    [
        lambda layer, clock: revoke_user(layer, "ann", seconds=HOUR, clock=clock),
        lambda layer, clock: revoke_token(layer, "token 1", until=NOW + HOUR, clock=clock),
    ],
    ids=["user", "token"],
)
async def test_whatever_is_open_of_who_is_revoked_ends(
    revoke: Callable[..., Awaitable[None]], layer: InMemoryChannelLayer, clock: Clock
) -> None:
    lobby, elsewhere, plain = wire_of(), wire_of(query="group=news"), wire_of(False, "group=news")
    own, threaded, other = wire_of(False), wire_of(False), wire_of()
    stream = Stream((b"accept", b"text/event-stream"), path="/notifications/", query="group=news")
    poll = Stream(path="/notifications/", query="group=news")
    consumers = [
        (Everything, lobby), (Everything, elsewhere), (Everything, plain),
        (AsyncWebsocketConsumer, own), (WebsocketConsumer, threaded),
        (EverythingOverHttp, stream), (EverythingOverHttp, poll),
    ]  # fmt: skip
    pairs: list[tuple[Any, Wire]] = [
        (LoggedIn(at(kind, layer), clock, ANN), wire) for kind, wire in consumers
    ]
    bob = Identity("bob", issued_at=NOW - 10, token_id="token 2")
    pairs.append((LoggedIn(at(Everything, layer), clock, bob), other))
    async with running(*pairs):
        await until(lambda: all(is_open(w) for w in (lobby, elsewhere, plain, own, threaded)))
        await until(lambda: is_open(other) and bool(stream.chunks))
        await until(lambda: len(list(layer.hub.members("news"))) == 4)
        await revoke(layer, clock)
        await until(lambda: bool(poll.chunks) and not stream.sent[-1].get("more_body", True))
        await until(lambda: all(w.close for w in (lobby, elsewhere, plain, own, threaded)))
        for wire in (lobby, elsewhere, plain, own, threaded):
            assert closed(wire) == ENDED
        assert status(poll) == 401
        assert status(stream) == 200
        assert other.close is None
        assert not await shows_up(layer, clock)
        assert await shows_up(layer, clock, bob)
    assert_nothing_left(layer, "news")


async def test_a_login_after_the_revocation_is_good_and_one_before_is_not(
    layer: InMemoryChannelLayer, clock: Clock
) -> None:
    await revoke_user(layer, "ann", seconds=HOUR, clock=clock)
    assert not await shows_up(layer, clock, Identity("ann", issued_at=NOW))
    assert not await shows_up(layer, clock, Identity("ann"))  # nobody knows when it was issued
    clock.move(1)
    assert await shows_up(layer, clock, Identity("ann", issued_at=NOW + 1))
    await revoke_user(layer, "ann", seconds=HOUR, clock=clock)
    assert not await shows_up(layer, clock, Identity("ann", issued_at=NOW + 1))
    clock.move(HOUR)
    assert await shows_up(layer, clock, Identity("ann"))


async def test_a_token_is_revoked_alone(layer: InMemoryChannelLayer, clock: Clock) -> None:
    await revoke_token(layer, "token 1", seconds=HOUR, clock=clock)
    assert not await shows_up(layer, clock)
    assert not await is_revoked(layer, Identity("ann", issued_at=NOW - 10, token_id="token 2"))
    assert not await is_revoked(layer, Identity("token 1", issued_at=NOW - 10))
    later = Identity("ann", issued_at=NOW + 10, token_id="token 1")
    assert await is_revoked(layer, later)  # the same name, whatever it says
    clock.move(HOUR)
    assert await shows_up(layer, clock)


@pytest.mark.parametrize("user_id", ["ann@example.org", "auth0|5", "ä", "\ud800", "x" * 300, 7])
async def test_ids_of_any_kind(user_id: object, layer: InMemoryChannelLayer, clock: Clock) -> None:
    wire, there = wire_of(), Identity(str(user_id), issued_at=NOW)
    async with running((LoggedIn(at(Everything, layer), clock, there), wire)):
        await until(lambda: is_open(wire))
        await revoke_user(layer, user_id, seconds=HOUR, clock=clock)
        await until(lambda: closed(wire) == ENDED)
    assert not await shows_up(layer, clock, there)


async def test_disconnecting_a_user_reaches_whatever_they_watch(
    layer: InMemoryChannelLayer, clock: Clock
) -> None:
    wire = wire_of()
    async with running((LoggedIn(at(Everything, layer), clock, ANN), wire)):
        await until(lambda: is_open(wire))
        assert (await disconnect_user(layer, "ann")).reached == 1
        await until(lambda: wire.close is not None)
    assert wire.close is not None
    assert wire.close["code"] == 4403
    assert await shows_up(layer, clock)


# Renewal.


async def test_a_connection_belongs_to_the_token_that_it_was_renewed_with(
    layer: InMemoryChannelLayer, clock: Clock
) -> None:
    wire = wire_of()
    app = LoggedIn(at(Everything, layer), clock, ANN)
    async with running((app, wire)):
        await until(lambda: is_open(wire))
        renewed = credential("ann", issued_at=NOW, token_id="token 2")
        await app.sessions[0].authenticate(renewed)
        await revoke_token(layer, "token 1", seconds=HOUR, clock=clock)
        await anyio.wait_all_tasks_blocked()
        assert wire.close is None
        await revoke_token(layer, "token 2", seconds=HOUR, clock=clock)
        await until(lambda: closed(wire) == ENDED)


async def test_a_revoked_credential_renews_nothing(
    layer: InMemoryChannelLayer, clock: Clock
) -> None:
    await revoke_token(layer, "token 2", seconds=HOUR, clock=clock)
    app = LoggedIn(at(Everything, layer), clock, ANN)
    async with Client(app) as client:
        await client.welcome()
        await client.say(type="auth", token=credential("ann", token_id="token 2"))
        assert (await client.expect("error"))["code"] == "unauthorized"
        assert app.sessions[0].identity == ANN
        await client.say(type="ping")
        await client.expect("pong")
        await revoke_token(layer, "token 1", seconds=HOUR, clock=clock)
        assert (await client.receive_output())["code"] == 4401


async def test_a_revoked_credential_is_no_first_one(
    layer: InMemoryChannelLayer, clock: Clock
) -> None:
    await revoke_user(layer, "ann", seconds=HOUR, clock=clock)
    app = LoggedIn(at(Everything, layer), clock, must_authenticate=True)
    async with Client(app) as client:
        await client.welcome()
        await client.say(type="auth", token=credential("ann", issued_at=NOW - 10))
        assert (await client.receive_output())["code"] == 4401
        await until(lambda: not layer.hub.attached)


# While it happens.


class Stepping(InMemoryChannelLayer):
    """Does something at one of the places where a connection that is being opened waits."""

    def __init__(self, place: int, act: Callable[[BaseChannelLayer], Awaitable[None]]) -> None:
        super().__init__()
        self.left = place
        self.is_done = False
        self._act = act

    async def _step(self) -> None:
        self.left -= 1
        if self.left == -1 and not self.is_done:
            self.is_done = True
            await self._act(self)

    async def _group_add(self, *args: Any) -> Any:
        if self.is_done:
            return await super()._group_add(*args)
        await self._step()
        joined = await super()._group_add(*args)
        await self._step()
        return joined

    async def _is_marked(self, *args: Any) -> bool:
        if self.is_done:
            return await super()._is_marked(*args)
        await self._step()
        found = await super()._is_marked(*args)
        await self._step()
        return found


@pytest.mark.parametrize("by", ["user", "token"])
@pytest.mark.parametrize("when", ["connecting", "renewing"])
@pytest.mark.parametrize("place", range(6))
async def test_nobody_slips_through_who_connects_while_the_revocation_happens(
    place: int, when: str, by: str, clock: Clock
) -> None:
    async def revoke(layer: BaseChannelLayer) -> None:
        if by == "user":
            await revoke_user(layer, "ann", seconds=HOUR, clock=clock)
        else:
            await revoke_token(layer, "token 1", seconds=HOUR, clock=clock)

    layer = Stepping(place, revoke)
    wire = wire_of()
    must = when == "renewing"
    app = LoggedIn(at(Everything, layer), clock, None if must else ANN, must_authenticate=must)
    async with running((app, wire)):
        if must:
            await until(lambda: is_open(wire))
            shown = credential("ann", issued_at=NOW - 10, token_id="token 1")
            wire.tell(text(json.dumps({"type": "auth", "token": shown})))
        await until(lambda: status(wire) == 401 or wire.close is not None)
    assert layer.is_done


async def test_while_nobody_can_tell_who_is_revoked_nobody_is_let_in(clock: Clock) -> None:
    class Away(InMemoryChannelLayer):
        async def _is_marked(self, *args: Any) -> bool:
            raise LayerUnavailable("10.0.0.5: away")

    wire = wire_of()
    async with running((LoggedIn(at(Everything, Away()), clock, ANN), wire)):
        await until(lambda: bool(wire.sent))
    assert status(wire) == 503
    assert b"10.0.0.5" not in b"".join(event.get("body", b"") for event in wire.sent)


# On every process.


async def test_every_process_ends_and_refuses_them(clock: Clock) -> None:
    place = Place(clock)
    async with AsyncExitStack() as stack:
        one, two = [
            await stack.enter_async_context(DoubleLayer(place, clock=clock)) for _ in range(2)
        ]
        wires = [wire_of() for _ in range(4)]
        apps = [LoggedIn(at(Everything, layer), clock, ANN) for layer in (one, two, two)]
        bob = LoggedIn(at(Everything, two), clock, Identity("bob", issued_at=NOW - 10))
        async with running(*zip([*apps, bob], wires, strict=True)):
            await until(lambda: all(is_open(wire) for wire in wires))
            await revoke_user(one, "ann", seconds=HOUR, clock=clock)
            await until(lambda: all(wire.close for wire in wires[:3]))
            assert [closed(wire) for wire in wires] == [ENDED, ENDED, ENDED, None]
            for layer in (one, two):
                assert not await shows_up(layer, clock)


# After an outage.


def engine_of(layer: DoubleLayer) -> DoubleEngine:
    assert layer._link is not None
    assert isinstance(layer._link.engine, DoubleEngine)
    return layer._link.engine


@asynccontextmanager
async def two_processes(
    clock: Clock, kind: type[DoubleLayer] = DoubleLayer
) -> AsyncIterator[tuple[DoubleLayer, DoubleLayer]]:
    place = Place(clock)
    async with DoubleLayer(place, clock=clock) as one, kind(place, clock=clock) as two:
        yield one, two


@pytest.mark.parametrize("by", ["user", "token"])
async def test_a_process_that_was_cut_off_meanwhile_ends_them_when_it_is_back(
    by: str, clock: Clock
) -> None:
    lobby, plain, own, threaded = wire_of(), wire_of(False), wire_of(False), wire_of(False)
    stream = Stream((b"accept", b"text/event-stream"), path="/notifications/", query="group=news")
    poll = Stream(path="/notifications/", query="group=news")
    kinds = [
        (Everything, lobby), (Everything, plain), (AsyncWebsocketConsumer, own),
        (WebsocketConsumer, threaded), (EverythingOverHttp, stream), (EverythingOverHttp, poll),
    ]  # fmt: skip
    others = [
        (Identity("bob", issued_at=NOW - 10, token_id="token 2"), wire_of()),
        (Identity("ann", issued_at=NOW + 10, token_id="token 3"), wire_of()),  # came back since
        (Identity("cleo"), wire_of(False)),
    ]
    async with two_processes(clock) as (one, two):
        pairs: list[tuple[Any, Wire]] = [
            (LoggedIn(at(kind, two), clock, ANN), wire) for kind, wire in kinds
        ]
        pairs += [(LoggedIn(at(Everything, two), clock, who), wire) for who, wire in others]
        async with running(*pairs):
            sockets = [lobby, plain, own, threaded]
            staying = [wire for _, wire in others]
            await until(lambda: all(map(is_open, sockets + staying)) and bool(stream.chunks))
            await until(lambda: len(list(two.hub.members("news"))) == 2)
            engine_of(two).cut()
            if by == "user":
                await revoke_user(one, "ann", seconds=HOUR, clock=clock)
            else:
                await revoke_token(one, "token 1", seconds=HOUR, clock=clock)
            await anyio.wait_all_tasks_blocked()
            assert not any(wire.close for wire in sockets)  # nobody could tell
            engine_of(two).mend()
            await until(lambda: all(closed(wire) == ENDED for wire in sockets))
            await until(lambda: bool(poll.chunks) and not stream.sent[-1].get("more_body", True))
            assert status(poll) == 401
            await anyio.wait_all_tasks_blocked()
            assert not any(wire.close for wire in staying)
            assert len(rechecks_of(two)) == len(others)
        assert not two._after_outages
        assert not len(rechecks_of(two))


async def test_a_process_that_is_cut_off_again_asks_again(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asgi_notify.consumers.rechecks.PAUSE", 0.01)

    class Busy(DoubleLayer):
        refused = 0

        async def _is_marked(self, *args: Any) -> bool:
            if self.refused:
                self.refused -= 1
                if not self.refused:
                    engine_of(self).cut()
                raise LayerUnavailable("not just now")
            return await super()._is_marked(*args)

    wire = wire_of()
    async with two_processes(clock, Busy) as (one, two):
        assert isinstance(two, Busy)
        async with running((LoggedIn(at(Everything, two), clock, ANN), wire)):
            await until(lambda: is_open(wire))
            engine_of(two).cut()
            await revoke_user(one, "ann", seconds=HOUR, clock=clock)
            two.refused = 3
            engine_of(two).mend()
            await until(lambda: engine_of(two).is_cut)
            assert wire.close is None
            engine_of(two).mend()
            await until(lambda: closed(wire) == ENDED)


@pytest.mark.parametrize("when", ["connecting", "renewing"])
async def test_an_outage_right_after_the_answer_lets_nobody_slip_through(
    when: str, clock: Clock
) -> None:
    class Cut(DoubleLayer):
        other: DoubleLayer | None = None

        async def _is_marked(self, *args: Any) -> bool:
            found = await super()._is_marked(*args)
            if self.other is not None:
                other, self.other = self.other, None
                engine_of(self).cut()
                await revoke_token(other, "token 2", seconds=HOUR, clock=clock)
                engine_of(self).mend()
                await until(lambda: not rechecks_of(self)._due)
            return found

    two_ = Identity("ann", issued_at=NOW - 10, token_id="token 2")
    wire = wire_of()
    async with two_processes(clock, Cut) as (one, two):
        assert isinstance(two, Cut)
        if when == "connecting":
            two.other = one
            who = two_
        else:
            who = ANN
        app = LoggedIn(at(Everything, two), clock, who)
        async with running((app, wire)):
            if when == "renewing":
                await until(lambda: is_open(wire))
                two.other = one
                shown = credential("ann", issued_at=NOW - 10, token_id="token 2")
                wire.tell(text(json.dumps({"type": "auth", "token": shown})))
            await until(lambda: status(wire) == 401 or closed(wire) == ENDED)


# Arguments.


@pytest.mark.parametrize("span", [{}, {"seconds": 1, "until": NOW}])
async def test_for_how_long_is_said_once(span: Any, layer: InMemoryChannelLayer) -> None:
    with pytest.raises(ConfigurationError, match=r"seconds=3600, or until="):
        await revoke_user(layer, "ann", **span)
    with pytest.raises(ConfigurationError, match=r"seconds=3600, or until="):
        await revoke_token(layer, "token 1", **span)


async def test_what_is_over_anyway_is_not_remembered(
    layer: InMemoryChannelLayer, clock: Clock
) -> None:
    await revoke_token(layer, "token 1", until=NOW, clock=clock)
    assert layer.statistics()["marks"] == 0


async def test_nothing_that_is_kept_names_the_user(
    layer: InMemoryChannelLayer, clock: Clock
) -> None:
    await revoke_user(layer, "ann", seconds=HOUR, clock=clock)
    await revoke_token(layer, "ann", seconds=HOUR, clock=clock)
    assert len(layer._marks) == 2
    assert "ann" not in repr(layer._marks._known)
