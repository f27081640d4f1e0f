"""A ticket lets one connection in, once over all processes, for half a minute."""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from urllib.parse import quote

import anyio
import pytest

from asgi_notify import (
    ConfigurationError,
    InMemoryChannelLayer,
    InvalidName,
    LayerUnavailable,
    NotificationConsumer,
    NotificationHttpConsumer,
    Unauthorized,
    URLRouter,
    path,
)
from asgi_notify.auth import Identity, SignedTokens, Tickets, revoke_token, revoke_user
from asgi_notify.middleware import Authentication
from asgi_notify.protocol import PROTOCOL
from asgi_notify.testing import HttpCommunicator, WebsocketCommunicator
from asgi_notify.ticketing import MAX_GROUPS, TicketConsumer
from tests.consumers.conftest import layer as layer
from tests.consumers.streams import until
from tests.frames import Client
from tests.layers.double import DoubleLayer, Place

from .tools import NOW, Clock, credential, verify

pytestmark = pytest.mark.anyio

KEY = "k" * 32
ANN = Identity(
    "ann", {"role": "admin"}, expires_at=NOW + 3600, issued_at=NOW - 10, token_id="token 1"
)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tickets(layer: InMemoryChannelLayer, clock: Clock) -> Tickets:
    return Tickets(KEY, clock=clock)


async def ticket_of(tickets: Tickets, identity: Identity = ANN, **options: Any) -> str:
    ticket, _ = await tickets.issue(identity, **options)
    return ticket


# Made and taken.


async def test_a_ticket_is_taken_once_and_shows_who_it_was_made_for(tickets: Tickets) -> None:
    ticket, seconds = await tickets.issue(ANN)
    assert seconds == 30
    assert await tickets.redeem(ticket) == ANN
    for _ in range(2):
        with pytest.raises(Unauthorized, match="used already"):
            await tickets.redeem(ticket)


async def test_a_ticket_of_somebody_of_whom_little_is_known(tickets: Tickets) -> None:
    assert await tickets.redeem(await ticket_of(tickets, Identity("7"))) == Identity("7")


async def test_a_ticket_is_good_for_its_time(tickets: Tickets, clock: Clock) -> None:
    early, late = await ticket_of(tickets), await ticket_of(tickets)
    clock.move(29.9)
    assert await tickets.redeem(early) == ANN
    clock.move(0.2)
    with pytest.raises(Unauthorized, match="expired"):
        await tickets.redeem(late)


async def test_a_ticket_lasts_no_longer_than_the_login(tickets: Tickets, clock: Clock) -> None:
    short = Identity("ann", expires_at=NOW + 10)
    ticket, seconds = await tickets.issue(short)
    assert seconds == 10
    clock.move(10)
    with pytest.raises(Unauthorized):
        await tickets.redeem(ticket)
    with pytest.raises(Unauthorized, match="expired"):
        await tickets.issue(short)


async def test_a_used_ticket_stays_used_where_the_clock_is_behind(clock: Clock) -> None:
    passing, late = Clock(), Clock()
    late.now -= 50  # seconds; a process whose clock is wrong
    layer = InMemoryChannelLayer(clock=passing)
    one, other = Tickets(KEY, layer, clock=clock), Tickets(KEY, layer, clock=late)
    ticket = await ticket_of(one)
    await one.redeem(ticket)
    for by in (clock, passing, late):
        by.move(79)
    with pytest.raises(Unauthorized, match="used already"):
        await other.redeem(ticket)


@pytest.mark.parametrize("change", ["token", "cut", "other key", "other purpose", "no ticket"])
async def test_what_is_no_ticket_is_refused(change: str, tickets: Tickets, clock: Clock) -> None:
    ticket = await ticket_of(tickets)
    shown = {
        "token": f"ticket.{SignedTokens(KEY, clock=clock).sign('ann')}",
        "cut": ticket[:-1],
        "other key": await ticket_of(Tickets("o" * 32, tickets.layer, clock=clock)),
        "other purpose": f"ticket.{SignedTokens(KEY, purpose='mail', clock=clock).sign('ann')}",
        "no ticket": ticket.removeprefix("ticket."),
    }[change]
    with pytest.raises(Unauthorized):
        await tickets.redeem(shown)
    assert await tickets.redeem(ticket) == ANN


def test_a_ticket_is_no_token(tickets: Tickets, clock: Clock) -> None:
    ticket = tickets._signed.sign("ann")
    with pytest.raises(Unauthorized):
        SignedTokens(KEY, clock=clock).verify(ticket)


async def test_keys_are_changed_as_of_tokens(layer: InMemoryChannelLayer, clock: Clock) -> None:
    old, new = "o" * 32, "n" * 32
    ticket = await ticket_of(Tickets(old, clock=clock))
    assert await Tickets([new, old], clock=clock).redeem(ticket) == ANN
    with pytest.raises(ConfigurationError, match="32 bytes"):
        Tickets("short")


async def test_of_many_in_several_processes_one_has_it(clock: Clock) -> None:
    place = Place(clock)
    had: list[Identity] = []
    refused: list[Unauthorized] = []

    async def redeem(tickets: Tickets, ticket: str) -> None:
        try:
            had.append(await tickets.redeem(ticket))
        except Unauthorized as error:
            refused.append(error)

    async with AsyncExitStack() as stack:
        processes = [
            Tickets(
                KEY, await stack.enter_async_context(DoubleLayer(place, clock=clock)), clock=clock
            )
            for _ in range(2)
        ]
        ticket = await ticket_of(processes[0])
        async with anyio.create_task_group() as tasks:
            for tickets in processes * 5:
                tasks.start_soon(redeem, tickets, ticket)
    assert had == [ANN]
    assert len(refused) == 9


async def test_a_ticket_that_nobody_can_mark_lets_nobody_in(clock: Clock) -> None:
    full = Tickets(KEY, InMemoryChannelLayer(max_marks=1), clock=clock)
    await full.redeem(await ticket_of(full))
    with pytest.raises(LayerUnavailable):
        await full.redeem(await ticket_of(full))


async def test_tickets_leave_room_to_revoke_somebody(clock: Clock) -> None:
    layer = InMemoryChannelLayer(max_marks=20, clock=clock)
    tickets = Tickets(KEY, layer, clock=clock)
    for _ in range(18):
        await tickets.redeem(await ticket_of(tickets))
    with pytest.raises(LayerUnavailable, match="no room"):
        await tickets.redeem(await ticket_of(tickets))
    await revoke_user(layer, "bob", seconds=3600, clock=clock)
    await revoke_user(layer, "cleo", seconds=3600, clock=clock)
    with pytest.raises(LayerUnavailable, match="no room"):
        await revoke_user(layer, "dan", seconds=3600, clock=clock)
    clock.move(600)  # no ticket is good any more
    await revoke_user(layer, "dan", seconds=3600, clock=clock)
    await tickets.redeem(await ticket_of(tickets))


async def test_who_is_revoked_gets_no_ticket(tickets: Tickets, clock: Clock) -> None:
    await revoke_user(tickets.layer, "ann", seconds=3600, clock=clock)
    with pytest.raises(Unauthorized, match="ended"):
        await tickets.issue(ANN)


async def test_no_repr_shows_a_key_or_a_ticket(tickets: Tickets) -> None:
    assert KEY not in repr(tickets)
    assert repr(tickets) == "<Tickets, good for 30 s>"


# Groups.


async def test_a_ticket_may_be_for_some_groups_and_never_for_more(tickets: Tickets) -> None:
    bound = await tickets.redeem(await ticket_of(tickets, groups=["news", "user_ann"]))
    assert bound.groups == frozenset({"news", "user_ann"})
    assert (await tickets.redeem(await ticket_of(tickets, bound))).groups == bound.groups
    narrower = await tickets.redeem(await ticket_of(tickets, bound, groups=["news", "sport"]))
    assert narrower.groups == frozenset({"news"})
    assert (await tickets.redeem(await ticket_of(tickets, groups=[]))).groups == frozenset()
    with pytest.raises(InvalidName):
        await tickets.issue(ANN, groups=["no name"])
    with pytest.raises(ConfigurationError, match=r"groups=\['news'\]"):
        await tickets.issue(ANN, groups="news")


# Over each transport.


class Open(NotificationConsumer):
    async def authorize(self, group: str) -> bool:
        return True


class OpenHttp(NotificationHttpConsumer):
    async def authorize(self, group: str) -> bool:
        return True


def guarded(tickets: Tickets, clock: Clock, **options: Any) -> Authentication:
    on = {"websocket": Open, "http": OpenHttp}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        router = URLRouter([path("notifications/", on[scope["type"]])])
        await router(scope, receive, send)

    return Authentication(app, verify, tickets=tickets, clock=clock, **options)


class Door:
    """One way in, which says what it is answered."""

    def __init__(self, app: Any, way: str) -> None:
        self._app = app
        self._way = way

    async def status(self, ticket: str, group: str = "news") -> int:
        """200, or what was refused with."""
        if self._way == "frame":
            return await self._by_frame(ticket, group)
        target = f"/notifications/?ticket={quote(ticket)}&group={group}&timeout=0"
        if self._way in ("socket", "plain socket"):
            offered = [PROTOCOL] if self._way == "socket" else []
            async with WebsocketCommunicator(
                self._app, target, subprotocols=offered, denial_response=True
            ) as client:
                is_open, code = await client.connect()
                return 200 if is_open else int(str(code))
        accept = b"text/event-stream" if self._way == "stream" else b"application/json"
        headers = [(b"accept", accept)]
        async with HttpCommunicator(self._app, "GET", target, headers=headers) as http:
            if self._way == "poll":
                return int((await http.get_response())["status"])
            await http.send_input({"type": "http.request"})
            return int((await http.receive_output())["status"])

    async def _by_frame(self, ticket: str, group: str) -> int:
        async with Client(self._app, "/notifications/") as client:
            await client.welcome()
            await client.say(type="auth", token=ticket)
            event = await client.receive_output()
            if event["type"] == "websocket.close":
                return int(event["code"]) - 4000
            await client.say(type="subscribe", group=group)
            frame = await client.frame()
            return 200 if frame["type"] == "subscribed" else 403


@pytest.fixture(params=["socket", "plain socket", "frame", "stream", "poll"])
def door(request: pytest.FixtureRequest, tickets: Tickets, clock: Clock) -> Door:
    return Door(guarded(tickets, clock, first_frame=True), request.param)


async def test_a_ticket_opens_one_connection(door: Door, tickets: Tickets) -> None:
    ticket = await ticket_of(tickets)
    assert [await door.status(ticket) for _ in range(3)] == [200, 401, 401]


async def test_a_ticket_opens_nothing_after_its_time(
    door: Door, tickets: Tickets, clock: Clock
) -> None:
    ticket = await ticket_of(tickets)
    clock.move(30)
    assert await door.status(ticket) == 401


async def test_a_ticket_opens_nothing_but_its_groups(door: Door, tickets: Tickets) -> None:
    assert await door.status(await ticket_of(tickets, groups=["news"])) == 200
    assert await door.status(await ticket_of(tickets, groups=["news"]), "user_7") == 403


async def test_a_forged_ticket_opens_nothing(door: Door, tickets: Tickets, clock: Clock) -> None:
    ticket = await ticket_of(Tickets("o" * 32, tickets.layer, clock=clock))
    assert await door.status(ticket) == 401
    assert await door.status("ticket.") == 401


async def test_a_ticket_of_somebody_revoked_opens_nothing(
    door: Door, tickets: Tickets, clock: Clock
) -> None:
    ticket = await ticket_of(tickets)
    await revoke_token(tickets.layer, "token 1", seconds=3600, clock=clock)
    assert await door.status(ticket) == 401


@asynccontextmanager
async def opened(tickets: Tickets, clock: Clock, query: str = "") -> AsyncIterator[Client]:
    ticket = quote(await ticket_of(tickets))
    app = guarded(tickets, clock)
    async with Client(app, f"/notifications/?ticket={ticket}{query}") as client:
        await client.welcome()
        yield client


async def test_what_a_ticket_has_opened_lasts_as_long_as_the_login(
    tickets: Tickets, clock: Clock, layer: InMemoryChannelLayer
) -> None:
    async with opened(tickets, clock) as client:
        await client.subscribe("news")
        clock.move(3599)
        await layer.group_send("news", {"type": "send.notification", "data": "in time"})
        assert await client.data(1) == ["in time"]
        clock.move(1)
        await layer.group_send("news", {"type": "send.notification", "data": "late"})
        assert (await client.receive_output())["code"] == 4401


async def test_what_a_ticket_has_opened_ends_with_the_token_behind_it(
    tickets: Tickets, clock: Clock
) -> None:
    async with opened(tickets, clock) as client:
        await revoke_token(tickets.layer, "token 1", seconds=3600, clock=clock)
        assert (await client.receive_output())["code"] == 4401


async def test_a_ticket_renews_too_and_once(tickets: Tickets, clock: Clock) -> None:
    later = Identity("ann", expires_at=NOW + 7200, groups=frozenset({"news"}))
    ticket = await ticket_of(tickets, later)
    async with opened(tickets, clock) as client:
        await client.subscribe("sport")
        await client.say(type="auth", token=ticket)
        assert (await client.expect("authenticated"))["expires_at"] == NOW + 7200
        error = await client.expect("error")  # the ticket is for another group alone
        assert (error["code"], error["group"]) == ("forbidden", "sport")
        await client.expect("unsubscribed")
        await client.say(type="auth", token=ticket)
        assert (await client.expect("error"))["code"] == "unauthorized"
        await client.say(type="subscribe", group="user_7")
        assert (await client.expect("error"))["code"] == "forbidden"
        await client.subscribe("news")


@pytest.mark.parametrize("name", ["authorization", "sec-websocket-protocol"])
async def test_a_ticket_may_stand_in_a_header_too(
    name: str, tickets: Tickets, clock: Clock
) -> None:
    ticket = await ticket_of(tickets)
    headers, offered = [(b"authorization", f"Bearer {ticket}".encode())], [PROTOCOL]
    if name != "authorization":
        headers, offered = [], [PROTOCOL, f"asgi-notify.auth.{ticket}"]
    for expected in True, False:
        async with WebsocketCommunicator(
            guarded(tickets, clock), "/notifications/", headers, offered
        ) as client:
            assert (await client.connect())[0] is expected


# The desk.


def desk(tickets: Tickets, clock: Clock) -> Authentication:
    return Authentication(TicketConsumer.as_asgi(tickets=tickets), verify, clock=clock)


async def ask(
    app: Any, body: bytes = b"", *, shown: str | None = None, method: str = "POST"
) -> tuple[int, Any, dict[bytes, bytes]]:
    headers = [] if shown is None else [(b"authorization", f"Bearer {shown}".encode())]
    async with HttpCommunicator(app, method, "/tickets", body=body, headers=headers) as http:
        response = await http.get_response()
    return response["status"], json.loads(response["body"]), dict(response["headers"])


async def test_who_is_logged_in_gets_a_ticket(tickets: Tickets, clock: Clock) -> None:
    shown = credential("ann", expires_at=NOW + 3600, token_id="1")
    status, content, headers = await ask(desk(tickets, clock), shown=shown)
    assert status == 200
    assert content["expires_in"] == 30
    assert headers[b"cache-control"] == b"no-store"
    redeemed = await tickets.redeem(content["ticket"])
    assert redeemed == Identity("ann", expires_at=NOW + 3600, token_id="1")


async def test_a_ticket_for_groups_is_asked_for_in_the_body(tickets: Tickets, clock: Clock) -> None:
    body = b'{"groups": ["news"]}'
    _, content, _ = await ask(desk(tickets, clock), body, shown=credential("ann"))
    assert (await tickets.redeem(content["ticket"])).groups == frozenset({"news"})


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b'{"groups": "news"}',
        b'{"groups": [7]}',
        b'{"group": ["news"]}',
        b'{"groups": ["no name"]}',
        json.dumps({"groups": ["g"] * (MAX_GROUPS + 1)}).encode(),
    ],
)
async def test_a_body_that_makes_no_sense_is_refused(
    body: bytes, tickets: Tickets, clock: Clock
) -> None:
    status, _, _ = await ask(desk(tickets, clock), body, shown=credential("ann"))
    assert status == 400


async def test_who_is_not_logged_in_gets_none(tickets: Tickets, clock: Clock) -> None:
    app = TicketConsumer.as_asgi(tickets=tickets)
    assert (await ask(app))[0] == 401  # nobody in front of it
    assert (await ask(desk(tickets, clock)))[0] == 401
    assert (await ask(desk(tickets, clock), shown=await ticket_of(tickets)))[0] == 401
    assert (await ask(desk(tickets, clock), shown=credential("ann"), method="GET"))[0] == 405
    await revoke_user(tickets.layer, "ann", seconds=60, clock=clock)
    assert (await ask(desk(tickets, clock), shown=credential("ann", issued_at=NOW - 1)))[0] == 401


def test_the_desk_needs_to_know_the_tickets() -> None:
    with pytest.raises(ConfigurationError, match=r"as_asgi\(tickets=\.\.\.\)"):
        TicketConsumer.as_asgi()


async def test_nothing_is_left_of_connections_that_were_refused(
    tickets: Tickets, layer: InMemoryChannelLayer, clock: Clock
) -> None:
    door = Door(guarded(tickets, clock), "socket")
    ticket = await ticket_of(tickets)
    for _ in range(3):
        await door.status(ticket)
    await until(lambda: not layer.hub.attached)
