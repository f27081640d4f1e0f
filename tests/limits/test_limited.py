"""Who may connect, how often and how fast: above each limit, from one address and from many."""

import logging
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import anyio
import pytest

from asgi_notify import (
    AsyncHttpConsumer,
    AsyncSseConsumer,
    AsyncWebsocketConsumer,
    InMemoryChannelLayer,
    Limited,
    Limits,
    ProtocolTypeRouter,
)
from asgi_notify.auth import Identity
from asgi_notify.types import Receive, Scope, Send
from asgi_notify.web import Body
from tests.consumers.harness import Wire, left
from tests.limits.harness import (
    ANYBODY,
    NONE,
    Clock,
    headers,
    is_accepted,
    request,
    socket,
    status,
    until,
)

pytestmark = pytest.mark.anyio

KINDS = {"socket": socket, "request": request}


async def stays(scope: Scope, receive: Receive, send: Send) -> None:
    """Any application: it answers, and stays until the client leaves."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
    else:
        await send({"type": "http.response.start", "status": 200, "headers": []})
    while not (await receive())["type"].endswith("disconnect"):
        pass


class Sockets(AsyncWebsocketConsumer):
    """One of ours."""


class Streams(AsyncSseConsumer):
    """Another one."""


class App:
    """Clients that stay in an application behind limits, until the block ends."""

    def __init__(self, limits: Limits, inner: Any = stays) -> None:
        self.clock = Clock()
        self.limited = Limited(inner, limits, clock=self.clock)
        self._there: list[Wire] = []

    @asynccontextmanager
    async def open(self) -> AsyncIterator["App"]:
        async with anyio.create_task_group() as self._tasks:
            yield self
            for wire in list(self._there):
                self.leave(wire)
        statistics = self.limited.statistics()
        del statistics["refused"]
        assert set(statistics.values()) == {0}, statistics

    async def enter(self, wire: Wire) -> int | None:
        """Connect, and say with what it was refused, if it was."""
        self._there.append(wire)
        self._tasks.start_soon(wire.run, self.limited)
        await until(lambda: wire.sent)
        return None if is_accepted(wire) or status(wire) == 200 else status(wire)

    def leave(self, wire: Wire) -> None:
        if wire in self._there:
            self._there.remove(wire)
            wire.tell(left() if wire.scope["type"] == "websocket" else {"type": "http.disconnect"})


@asynccontextmanager
async def limited(inner: Any = stays, **limits: Any) -> AsyncIterator[App]:
    async with App(replace(NONE, **limits), inner).open() as app:
        yield app


INNER: list[Any] = [stays, ProtocolTypeRouter({"websocket": Sockets, "http": Streams})]


@pytest.mark.parametrize("inner", INNER, ids=["any", "ours"])
@pytest.mark.parametrize("kind", KINDS)
async def test_one_address_has_so_many_connections_and_others_have_theirs(
    kind: str, inner: Any
) -> None:
    async with limited(inner, connections_per_address=2) as app:
        one, two, three = (KINDS[kind]() for _ in range(3))
        assert [await app.enter(wire) for wire in (one, two, three)] == [None, None, 429]
        assert headers(three)[b"retry-after"] == b"5"
        assert await app.enter(KINDS[kind](host="203.0.113.8")) is None
        app.leave(one)
        await until(lambda: app.limited.statistics()["connections"] == 2)
        assert await app.enter(KINDS[kind]()) is None
        statistics = app.limited.statistics()
        assert (statistics["connections"], statistics["addresses"]) == (3, 2)
        assert statistics["refused"]["connections_per_address"] == 1


@pytest.mark.parametrize("kind", KINDS)
async def test_all_addresses_have_so_many_together(kind: str) -> None:
    async with limited(connections=3) as app:
        for number in range(3):
            assert await app.enter(KINDS[kind](host=f"203.0.113.{number}")) is None
        refused = KINDS[kind](host="203.0.113.100")
        assert await app.enter(refused) == 503
        assert headers(refused)[b"retry-after"] == b"5"
        assert await app.enter(KINDS[kind](host="127.0.0.1")) == 503  # exempt from the other ones


async def test_a_server_without_denials_closes_before_the_accept() -> None:
    async with limited(connections_per_address=1) as app:
        assert await app.enter(socket()) is None
        wire = socket()
        del wire.scope["extensions"]
        await app.enter(wire)
        assert wire.close is not None
        assert wire.close["code"] == 4429


async def test_streams_and_polls_of_one_address_are_so_many() -> None:
    async with limited(requests_per_address=2) as app:
        assert [await app.enter(request()) for _ in range(3)] == [None, None, 429]
        assert await app.enter(socket()) is None  # which is no request
        assert await app.enter(request(host="203.0.113.8")) is None


@pytest.mark.parametrize("kind", KINDS)
async def test_one_address_may_connect_so_often_a_second(kind: str) -> None:
    async with limited(connects_per_second=2, burst=2) as app:
        for _ in range(4):
            wire = KINDS[kind]()
            assert await app.enter(wire) is None
            app.leave(wire)
        assert await app.enter(KINDS[kind]()) == 429
        assert await app.enter(KINDS[kind](host="203.0.113.8")) is None
        app.clock.now += 0.5
        assert [await app.enter(KINDS[kind]()) for _ in range(2)] == [None, 429]


@pytest.mark.parametrize("inner", INNER, ids=["any", "ours"])
@pytest.mark.parametrize("kind", KINDS)
async def test_one_user_has_so_many_from_whatever_address(kind: str, inner: Any) -> None:
    async with limited(inner, connections_per_user=2) as app:
        ann, bob = Identity("ann"), Identity("bob")
        wires = [KINDS[kind](host=f"203.0.113.{number}", user=ann) for number in range(3)]
        assert [await app.enter(wire) for wire in wires] == [None, None, 429]
        assert await app.enter(KINDS[kind](user=bob)) is None
        assert await app.enter(KINDS[kind]()) is None  # nobody's
        assert app.limited.statistics()["users"] == 2


@pytest.mark.parametrize("kind", KINDS)
async def test_a_user_that_is_found_out_behind_the_limits_counts_too(kind: str) -> None:
    inner = INNER[1]

    async def knowing(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            scope = {**scope, "user": Identity("ann")}
        await inner(scope, receive, send)

    async with limited(knowing, connections_per_user=2) as app:
        wires = [KINDS[kind](host=f"203.0.113.{number}") for number in range(3)]
        assert [await app.enter(wire) for wire in wires] == [None, None, 429]


@pytest.mark.parametrize(
    ("hosts", "are_one"),
    [
        (["2001:db8::1", "2001:db8::2"], True),
        (["2001:db8::1", "2001:db8:0:0:ffff::1"], True),
        (["2001:db8::1", "2001:db8:0:1::1"], False),
        (["::ffff:203.0.113.7", "203.0.113.7"], True),
        (["::ffff:203.0.113.7", "::ffff:203.0.113.8"], False),
        (["fe80::1%eth0", "fe80::2"], True),
        (["no address", "nor this"], True),
    ],
)
async def test_who_has_one_address_of_a_network_has_all(hosts: list[str], are_one: bool) -> None:
    async with limited(connections_per_address=1) as app:
        answers = [await app.enter(socket(host=host)) for host in hosts]
        assert answers == [None, 429 if are_one else None]


@pytest.mark.parametrize("host", [None, "127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"])
async def test_this_machine_and_unix_sockets_are_not_counted_by_address(host: str | None) -> None:
    limits = {"connections_per_address": 1, "requests_per_address": 1, "connects_per_second": 0.1}
    async with limited(**limits) as app:
        for kind in KINDS.values():
            assert [await app.enter(kind(host=host)) for _ in range(3)] == [None] * 3


async def test_what_is_exempt_is_for_the_limits_to_say() -> None:
    async with limited(connections_per_address=1, exempt=("203.0.113.0/24",)) as app:
        assert [await app.enter(socket()) for _ in range(3)] == [None] * 3
        assert [await app.enter(socket(host="127.0.0.1")) for _ in range(2)] == [None, 429]


async def test_what_ends_with_an_error_is_given_back() -> None:
    async def fails(scope: Scope, receive: Receive, send: Send) -> None:
        raise LookupError("why")

    app = Limited(fails, Limits(connections=1))
    for wire in socket(), request(), socket():
        with pytest.raises(LookupError):
            await wire.run(app)
    assert app.statistics()["connections"] == 0


async def test_limits_inside_each_other_all_hold() -> None:
    inner = Limited(stays, replace(NONE, connections_per_address=1))
    async with limited(inner, connections=2) as app:
        assert await app.enter(socket()) is None
        assert await app.enter(socket()) == 429
        assert await app.enter(socket(host="203.0.113.8")) is None
        assert await app.enter(socket(host="203.0.113.9")) == 503


async def test_the_life_of_the_server_passes() -> None:
    seen: list[str] = []

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])

    await Wire(kind="lifespan").run(Limited(inner, Limits(connections=1)))
    assert seen == ["lifespan"]


# What a refusal costs.


async def test_who_is_refused_has_no_mailbox_and_no_task(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = InMemoryChannelLayer()
    app = Limited(Sockets.as_asgi(channel_layer=layer), replace(NONE, connections_per_address=1))
    made: list[Any] = []
    monkeypatch.setattr(Sockets, "__init__", lambda self: made.append(self))
    async with anyio.create_task_group() as tasks:
        first = socket()
        tasks.start_soon(first.run, app)
        await until(lambda: first.sent)
        assert (len(made), len(layer.hub.attached)) == (1, 1)
        for _ in range(100):
            wire = socket()
            run = app(wire.scope, wire.receive, wire.send)
            with pytest.raises(StopIteration):
                run.send(None)  # it never waits, so it needs no task
            assert status(wire) == 429
            assert wire.received == 0
        assert (len(made), len(layer.hub.attached)) == (1, 1)
        first.tell(left())


async def test_refusals_are_logged_at_a_limited_rate(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "asgi_notify")
    async with limited(connections_per_address=1) as app:
        await app.enter(socket())
        for _ in range(500):
            await app.enter(socket())
        (line,) = caplog.messages
        reason = "there are too many connections from this address"
        assert line == f"refused a websocket from {ANYBODY}: {reason}"
        app.clock.now += 10
        await app.enter(request(path="/secret"))
        assert caplog.messages[1:] == [
            f"refused a http from {ANYBODY}: {reason} (and 499 others since the last such line)"
        ]


async def test_what_is_no_address_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with limited(connections_per_address=1) as app:
        for _ in range(2):
            await app.enter(socket(host="x\nERROR all is lost"))
    assert re.fullmatch("refused a websocket from an unknown address: .*", caplog.messages[0])


# Bodies.


class Reads(AsyncHttpConsumer):
    """Answers with the size of a body that is there."""

    async def handle(self, body: bytes) -> None:
        await self.send_response(200, str(len(body)).encode())


async def reads(scope: Scope, receive: Receive, send: Send) -> None:
    """Any application that does; like a framework's, it fails where the client has left."""
    body = Body()
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            raise ConnectionError("the client has left")
        body.add(event["body"], 1000)
        if not event["more_body"]:
            break
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(body.size).encode()})


READERS = pytest.mark.parametrize("inner", [reads, Reads], ids=["any", "ours"])


def part(body: bytes = b"12345", more: bool = True) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


def post(*events: Any, host: str = ANYBODY, **more: Any) -> Wire:
    sent = {"content-length": "10"}
    return request(*events, host=host, method="POST", **{"headers": sent, **more})


async def answered(wire: Wire) -> int | None:
    await until(lambda: wire.sent and not wire.sent[-1].get("more_body", False))
    return status(wire)


@READERS
async def test_unfinished_bodies_are_so_many_in_all_and_of_one_address(inner: Any) -> None:
    app = Limited(inner, replace(NONE, bodies=3, bodies_per_address=2))
    async with anyio.create_task_group() as tasks:
        unfinished = [post(part()), post(part()), post(part(), host="203.0.113.8")]
        for wire in unfinished:
            tasks.start_soon(wire.run, app)
            await until(lambda wire=wire: wire.received)
        await until(lambda: app.statistics()["bodies"] == 3)
        for host, code in (ANYBODY, 503), ("203.0.113.9", 503):
            wire = post(part(), host=host)
            tasks.start_soon(wire.run, app)
            assert await answered(wire) == code
            assert wire.received == 0  # none of it was taken
            assert headers(wire)[b"connection"] == b"close"
        unfinished[2].tell(part(more=False))
        assert await answered(unfinished[2]) == 200
        assert app.statistics()["bodies"] == 2
        wire = post(part())
        tasks.start_soon(wire.run, app)
        assert await answered(wire) == 429  # its address has two of its own
        for wire in unfinished[:2]:
            wire.tell(part(more=False))
            assert await answered(wire) == 200
            assert wire.sent[1]["body"] == b"10"
        assert app.statistics()["bodies"] == 0
        tasks.cancel_scope.cancel()


@READERS
async def test_a_body_that_does_not_come_is_not_waited_for(
    inner: Any, caplog: pytest.LogCaptureFixture
) -> None:
    app = Limited(inner, replace(NONE, body_timeout=0.05))
    wire = post(part())
    with anyio.fail_after(20):
        await wire.run(app)
    assert status(wire) == 408
    assert headers(wire)[b"connection"] == b"close"
    assert app.statistics()["bodies"] == 0
    assert [line for line in caplog.messages if "0.05 s" in line] == [
        f"refused a http from {ANYBODY}: the body was not there after 0.05 s"
    ]
    assert not [record for record in caplog.records if record.exc_info]


@READERS
@pytest.mark.parametrize("pieces", [1, 3])
async def test_a_body_that_is_there_waits_for_its_answer_as_long_as_it_takes(
    inner: Any, pieces: int
) -> None:
    app = Limited(inner, replace(NONE, body_timeout=30, bodies=1))
    wire = post(*[part() for _ in range(pieces - 1)], part(more=False))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wire.run, app)
        assert await answered(wire) == 200
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("sent", "version", "is_counted"),
    [
        ({}, "1.1", False),
        ({"content-length": "0"}, "1.1", False),
        ({"content-length": "5"}, "1.1", True),
        ({"transfer-encoding": "chunked"}, "1.1", True),
        ({}, "2", True),
    ],
)
async def test_only_a_request_that_may_have_a_body_is_counted(
    sent: dict[str, str], version: str, is_counted: bool
) -> None:
    app = Limited(stays, NONE)
    wire = request(part(), headers=sent)
    wire.scope["http_version"] = version
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wire.run, app)
        await until(lambda: wire.sent)
        await anyio.wait_all_tasks_blocked()
        assert app.statistics()["bodies"] == is_counted
        tasks.cancel_scope.cancel()


async def test_an_answer_that_has_begun_is_not_answered_again() -> None:
    async def answers_first(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while (await receive())["type"] != "http.disconnect":
            pass

    wire = post(part())
    await wire.run(Limited(answers_first, replace(NONE, body_timeout=0.01)))
    assert [event["type"] for event in wire.sent] == ["http.response.start"]
