"""The same promises under every ASGI server, each a process of its own."""

import json
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Close
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin, Subprotocol

from asgi_notify.protocol import PROTOCOL
from tests.frames import check
from tests.servers import KINDS, Exit, Server, ServerError, skip_where_it_waits_for_clients

pytestmark = pytest.mark.slow

WAIT = 10  # seconds until something that is on its way counts as lost
ROOMS = ["async/1/", "sync/2/"]


@dataclass(frozen=True)
class Facts:
    """What a server makes of what the application and the client say."""

    denial: bool = True
    """It lets a WebSocket be refused with a response of the application's own."""
    tells_code: bool = True
    """It tells the application which close code the client sent."""
    sends_reason: bool = True
    """It passes the reason of the application's close on to the client."""
    too_large_code: int = 1009
    """What 1009 becomes where a server sends no code below 3000."""
    shutdown_code: int | None = 1012
    """What clients get when it shuts down; None: the connection just ends."""
    exit_code: int = 0
    """Of a server that ended as asked by SIGTERM."""
    waits: bool = True
    """Told to stop, it waits until all applications have ended, rather than the first one.

    Of one that it does not wait for, a thread may stay behind, which keeps the process alive.
    """
    settles: float = 0
    """Seconds that a finished request stays in its books, in which it cannot shut down well."""


UVICORN = Facts(exit_code=-15)  # it ends by the signal that it was sent
FACTS = {
    "uvicorn-websockets": UVICORN,
    "uvicorn-websockets-sansio": UVICORN,
    "uvicorn-wsproto": UVICORN,
    "uvicorn-bounded": UVICORN,
    "uvicorn-ungathered": UVICORN,
    "hypercorn-asyncio": Facts(tells_code=False),
    "hypercorn-trio": Facts(tells_code=False),
    # Told to stop while a finished request is still in its books, which it looks
    # through once a second, it fails with a KeyError and cancels no application.
    "daphne": Facts(
        denial=False,
        sends_reason=False,
        too_large_code=4009,
        shutdown_code=4012,
        waits=False,
        settles=1.5,
    ),
    "granian": Facts(shutdown_code=None),
}


class Running:
    """A server that runs ``tests.apps.recorded``, and what that has written down."""

    def __init__(self, server: Server, record: Path) -> None:
        self.server = server
        self.facts = FACTS[server.kind]
        self._record = record

    def connect(self, room: str, origin: str | None = None) -> ClientConnection:
        sent = Origin(origin) if origin else None
        return connect(f"{self.server.ws}/{room}", origin=sent, close_timeout=WAIT)

    def publish(self, room: str, **message: object) -> int:
        """Send a message to the group of a room; return how many sockets it reached."""
        number = room.split("/")[1]
        response = httpx.post(f"{self.server.http}/publish/{number}/", json=message, timeout=WAIT)
        assert response.status_code == 202, response.text
        return int(response.text)

    def lines(self, start: str) -> list[str]:
        """What the application has written down so far, if it starts so."""
        return [line for line in self._record.read_text().splitlines() if line.startswith(start)]

    def wait_for(self, start: str, count: int = 1) -> list[str]:
        """The lines that start so, once there are so many."""
        deadline = time.monotonic() + WAIT
        while len(self.lines(start)) < count:
            assert time.monotonic() < deadline, f"no {count} lines {start!r} within {WAIT} s"
            time.sleep(0.01)
        return self.lines(start)

    def stop(self) -> Exit:
        """Stop the server, at a time when it can."""
        time.sleep(self.facts.settles)
        return self.server.stop()


@pytest.fixture(params=KINDS)
def running(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Running]:
    record = tmp_path / "record"
    record.touch()
    env = {"RECORD": str(record)}
    with Server(request.param, "tests.apps.recorded:application", env=env) as server:
        yield Running(server, record)


def refused_status(running: Running, room: str, origin: str | None = None) -> int:
    with pytest.raises(InvalidStatus) as refusal, running.connect(room, origin):
        pass
    return refusal.value.response.status_code


def closed_with(socket: ClientConnection) -> Close | None:
    """The close frame that the socket gets; None where the connection just ends."""
    try:
        while True:
            socket.recv(WAIT)
    except ConnectionClosed as closed:
        return closed.rcvd


@pytest.mark.parametrize("room", ROOMS)
def test_a_notification_reaches_its_room_until_the_client_leaves(
    running: Running, room: str
) -> None:
    number = room.split("/")[1]
    with running.connect(room, "http://good.example") as socket, running.connect(room) as other:
        assert running.publish(room, type="send.notification", data="good news") == 2
        assert socket.recv(WAIT) == "good news"
        assert other.recv(WAIT) == "good news"
        assert running.publish("async/3/", type="send.notification", data="for others") == 0
        socket.close(4001, "enough")
        code = 4001 if running.facts.tells_code else 1006
        assert running.wait_for("disconnect") == [f"disconnect {number} {code}"]
        assert running.publish(room, type="send.notification", data="later") == 1
        assert other.recv(WAIT) == "later"
    running.wait_for("disconnect", 2)
    running.stop()
    assert len(running.lines("disconnect")) == 2


def test_a_close_by_the_server_arrives_with_code_and_reason(running: Running) -> None:
    with running.connect("async/1/") as socket:
        running.publish("async/1/", type="end", code=4321, reason="until tomorrow")
        close = closed_with(socket)
    assert close is not None
    assert close.code == 4321
    assert close.reason == ("until tomorrow" if running.facts.sends_reason else "")
    running.wait_for("disconnect")
    assert running.publish("async/1/", type="send.notification", data="too late") == 0
    running.stop()
    assert running.lines("disconnect") == ["disconnect 1 4321"]


def test_what_is_not_served_is_refused_in_one_line(running: Running) -> None:
    status = 404 if running.facts.denial else 403
    assert refused_status(running, "nowhere/") == status
    assert refused_status(running, "async/x/") == status
    assert refused_status(running, "async/1/", origin="http://evil.example") == 403
    assert httpx.get(f"{running.server.http}/nowhere/").status_code == 404
    assert running.lines("") == []
    assert "Traceback" not in running.server.output


@pytest.mark.parametrize("room", ROOMS)
def test_a_consumer_refuses_before_it_accepts(running: Running, room: str) -> None:
    assert refused_status(running, f"{room.split('/')[0]}/0/") == 403
    assert "Traceback" not in running.stop().output
    assert running.lines("connect") == []


def test_a_frame_over_the_limit_is_closed(running: Running) -> None:
    with running.connect("async/1/") as socket:
        socket.send("x" * 20_000)
        close = closed_with(socket)
    assert close is not None
    assert close.code == running.facts.too_large_code
    assert running.wait_for("disconnect") == ["disconnect 1 1009"]


def test_shutdown_ends_every_connection_and_then_the_server(running: Running) -> None:
    skip_where_it_waits_for_clients(running.server.kind)
    rooms = Counter({"async/1/": 2, "sync/2/": 2} if running.facts.waits else {"async/1/": 1})
    with ExitStack() as stack:
        sockets = [stack.enter_context(running.connect(room)) for room in rooms.elements()]
        for room, count in rooms.items():
            assert running.publish(room, type="send.notification", data="x") == count
        exit = running.stop()
        closes = [closed_with(socket) for socket in sockets]
    assert {close and close.code for close in closes} == {running.facts.shutdown_code}
    assert exit.code == running.facts.exit_code
    assert exit.seconds < 5
    ended = Counter(line.split()[1] for line in running.lines("disconnect"))
    assert ended == {room.split("/")[1]: count for room, count in rooms.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_the_default_application_notifies(kind: str) -> None:
    with Server(kind, "asgi_notify.app:application") as server:
        room = "/notifications/42/"
        with connect(server.ws + room) as socket:
            published = httpx.post(server.http + room, json={"data": "good news"})
            assert (published.status_code, published.json()["reached"]) == (202, 1)
            assert socket.recv(WAIT) == "good news"
            socket.send("ping")
            assert socket.recv(WAIT) == "pong"
        assert httpx.get(server.http + "/healthz").json() == {"status": "ok"}
        assert httpx.get(server.http + "/").headers["content-type"].startswith("text/html")
        assert "Traceback" not in server.output


def test_a_server_that_cannot_start_says_why() -> None:
    with pytest.raises(ServerError, match="Could not import module"):
        Server("uvicorn-websockets", "tests.apps.missing:application").__enter__()


# The protocol.


class Protocol:
    """A connection that speaks it, and remembers where it stands."""

    def __init__(self, connection: ClientConnection) -> None:
        self.position = ""
        self._connection = connection
        assert connection.subprotocol == PROTOCOL
        assert self.next()["type"] == "welcome"

    def next(self) -> dict[str, Any]:
        """The next frame."""
        text = self._connection.recv(timeout=WAIT)
        assert isinstance(text, str)
        frame = check(text)
        self.position = frame.get("id") or frame.get("position") or self.position
        return frame

    def data(self, count: int) -> list[Any]:
        """The data of the next notifications."""
        return [self.next()["data"] for _ in range(count)]

    def subscribe(self, since: str | None = None) -> dict[str, Any]:
        """Subscribe to the group of user 42, and return the answer."""
        request = {"type": "subscribe", "group": "user_42", "since": since, "ref": 1}
        self._connection.send(json.dumps(request))
        frame = self.next()
        assert frame["type"] == "subscribed", frame
        return frame

    def cut(self) -> None:
        """Lose the connection, without a close frame."""
        self._connection.socket.shutdown(socket.SHUT_RDWR)


@contextmanager
def speaking(server: Server) -> Iterator[Protocol]:
    """A connection without a room, which speaks the protocol."""
    offered = [Subprotocol(PROTOCOL)]
    with connect(f"{server.ws}/notifications/", subprotocols=offered) as connection:
        yield Protocol(connection)


def publish(server: Server, *numbers: int) -> None:
    """Publish numbers to user 42, each with a key of its own."""
    for number in numbers:
        answer = httpx.post(
            f"{server.http}/notifications/42/",
            json={"data": number},
            headers={"idempotency-key": f"number-{number}"},
            timeout=WAIT,
        )
        assert answer.status_code == 202, answer.text


@pytest.mark.parametrize("kind", ["uvicorn-websockets-sansio", "uvicorn-bounded", "hypercorn-trio"])
def test_a_client_resumes_after_a_cut_and_is_told_when_the_history_was_lost(kind: str) -> None:
    with Server(kind, "asgi_notify.app:application") as server:
        with speaking(server) as client:
            assert client.subscribe()["replayed"] == 0
            publish(server, 1, 2)
            assert client.data(2) == [1, 2]
            client.cut()
        publish(server, 3, 4)
        publish(server, 3, 4)  # by a publisher who was not sure
        with speaking(server) as again:
            subscribed = again.subscribe(since=client.position)
            assert (subscribed["recovered"], subscribed["replayed"]) == (True, 2)
            publish(server, 5)
            assert again.data(3) == [3, 4, 5]
            server.stop()
            if not kind.startswith("uvicorn"):  # which closes all sockets before it tells anybody
                assert again.next()["type"] == "going_away"
            with pytest.raises(ConnectionClosed) as closed:
                again.next()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1012
    with Server(kind, "asgi_notify.app:application") as server, speaking(server) as anew:
        publish(server, 6)
        subscribed = anew.subscribe(since=again.position)
        assert subscribed["recovered"] is False
        assert subscribed["position"] != again.position
        publish(server, 7)
        assert anew.data(1) == [7]


def test_a_client_that_answers_at_once_lives_through_many_pings() -> None:
    # uvloop's clock stands still within a turn of the loop: ping and answer may have one time.
    with (
        Server("uvicorn-websockets-sansio", "tests.apps.pinged:app") as server,
        connect(f"{server.ws}/notifications/1/", subprotocols=[Subprotocol(PROTOCOL)]) as socket,
    ):
        pings = 0
        while pings < 12:
            if json.loads(socket.recv(10))["type"] == "ping":
                pings += 1
                socket.send('{"type": "pong"}')


@pytest.mark.parametrize("kind", KINDS)
def test_the_default_application_answers_only_the_names_it_has_on_this_machine(kind: str) -> None:
    env = {"ASGI_NOTIFY_ALLOWED_HOSTS": "shop.example"}
    hosts = ["localhost", "shop.example:8000", "evil.example:8000", "192.0.2.1"]

    def ask(server: Server) -> list[int]:
        room = f"{server.http}/notifications/42/?timeout=0"
        headers = [{"host": host, "origin": f"http://{host}"} for host in hosts]
        return [httpx.get(room, headers=one, timeout=WAIT).status_code for one in headers]

    with Server(kind, "asgi_notify.app:application") as server:
        assert ask(server) == [200, 403, 403, 403]
    with Server(kind, "asgi_notify.app:application", env=env) as server:
        assert ask(server) == [200, 200, 403, 403]
