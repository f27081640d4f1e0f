"""``asgi-notify listen``: what it prints, what it says when it cannot, and how it ends."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from queue import Empty, Queue
from typing import IO

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import Server as SocketServer
from websockets.sync.server import ServerConnection, serve
from websockets.typing import Subprotocol

from asgi_notify.cli.publisher import CommandPublisher
from tests.cli.conftest import Run
from tests.servers import ROOT, Server

WAIT = 20.0  # seconds; a loaded machine starts a process slowly
POSITION = "aaaaaaaa-"


class Process:
    """``asgi-notify listen`` as a process of its own, whose lines are read as they come."""

    def __init__(self, *args: str) -> None:
        command = [sys.executable, "-m", "asgi_notify", "listen", *args]
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self._threads: list[threading.Thread] = []
        self.out = self._lines(self.process.stdout)
        self.err = self._lines(self.process.stderr)

    def _lines(self, stream: IO[bytes]) -> "Queue[str]":
        lines: Queue[str] = Queue()

        def read() -> None:
            with stream:
                for line in stream:
                    lines.put(line.decode())
            lines.put("")

        thread = threading.Thread(target=read)
        thread.start()
        self._threads.append(thread)
        return lines

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        for thread in self._threads:
            thread.join()

    def end(self, by: int | None = None) -> int:
        if by is not None:
            self.process.send_signal(by)
        return self.process.wait(WAIT)


@contextmanager
def listening(*args: str) -> Iterator[Process]:
    listener = Process(*args)
    try:
        yield listener
    finally:
        listener.kill()


Script = Callable[[ServerConnection], None]


@contextmanager
def fake_server(script: Script) -> Iterator[str]:
    """A server of the protocol that does what a test tells it; yields its address."""

    def handle(connection: ServerConnection) -> None:
        welcome = {"type": "welcome", "version": 1, "ping_interval": 25, "pong_timeout": 10}
        connection.send(json.dumps(welcome))
        script(connection)

    server: SocketServer = serve(
        handle, "127.0.0.1", 0, subprotocols=[Subprotocol("asgi-notify.v1")]
    )
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.socket.getsockname()[1]}/"
    finally:
        server.shutdown()
        thread.join()


def confirm(connection: ServerConnection, offset: int, **more: object) -> dict[str, object]:
    """Take a subscription; returns its frame."""
    asked: dict[str, object] = json.loads(connection.recv(WAIT))
    frame = {"type": "subscribed", "group": asked["group"], "ref": asked["ref"]}
    connection.send(json.dumps(frame | {"position": f"{POSITION}{offset}", "replayed": 0} | more))
    return asked


def notify(connection: ServerConnection, offset: int, data: object) -> None:
    frame = {"type": "notification", "group": "user_42", "id": f"{POSITION}{offset}"}
    connection.send(json.dumps(frame | {"data": data}))


def until_gone(connection: ServerConnection) -> None:
    try:
        while True:
            connection.recv(WAIT)
    except ConnectionClosed:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server("uvicorn-websockets-sansio", "asgi_notify.app:application") as server:
        yield server


@pytest.mark.slow
def test_it_shows_a_token_where_the_server_wants_one(run: Run, environ: dict[str, str]) -> None:
    environ["ASGI_NOTIFY_TOKEN_KEYS"] = "k" * 32
    app = "asgi_notify.app:application"
    with Server("uvicorn-websockets-sansio", app, env=dict(environ)) as server:
        token = run("token", "42").output.strip()
        with listening(server.http, "user_42", "--token", token, "--count", "1") as listener:
            wait_until_watched(CommandPublisher(server.http), 42)
            assert listener.out.get(timeout=WAIT) == "is anybody there?\n"
            assert listener.end() == 0
        environ["ASGI_NOTIFY_TOKEN"] = token
        others = run("listen", server.http, "user_7")
        assert "--token" not in others.output  # another one would not help
        assert (others.exit_code, "user_7" in others.output) == (1, True)
        environ["ASGI_NOTIFY_TOKEN"] = "wrong"
        refused = run("listen", server.http, "user_42")
        assert refused.exit_code == 1
        assert "401" in refused.output
        assert "wrong" not in refused.output
        del environ["ASGI_NOTIFY_TOKEN"]
        nobody = run("listen", server.http, "user_42")
        for each in refused, nobody:
            assert each.output.endswith("with --token, or in ASGI_NOTIFY_TOKEN\n")
            assert nobody.exit_code == 1


def wait_until_watched(publisher: CommandPublisher, room: int) -> None:
    """Publish to a room until somebody is there."""
    deadline = time.monotonic() + WAIT
    while not publisher.publish(room, "is anybody there?"):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def publish_until_printed(publisher: CommandPublisher, room: int, listener: Process) -> str:
    """Publish to a room until the listener prints it; returns that line.

    The room in a path is watched before the client asks for it, so that a publication which has
    reached the connection may be of before what the client has asked for.
    """
    deadline = time.monotonic() + WAIT
    while True:
        wait_until_watched(publisher, room)
        try:
            return listener.out.get(timeout=WAIT / 4)
        except Empty:
            assert time.monotonic() < deadline


@pytest.mark.slow
def test_it_prints_what_is_published_until_it_is_interrupted(server: Server) -> None:
    publisher = CommandPublisher(server.http)
    with listening(server.http, "user_42") as listener:
        wait_until_watched(publisher, 42)
        for data in "hé 😀", {"n": [1, None]}, "two\nlines":
            publisher.publish(42, data)
        lines = ["is anybody there?\n", "hé 😀\n", '{"n": [1, null]}\n', "two\n", "lines\n"]
        assert [listener.out.get(timeout=WAIT) for _ in lines] == lines
        assert listener.end(signal.SIGINT) == 130
        assert listener.out.get(timeout=WAIT) == ""
        assert listener.err.get(timeout=WAIT) == ""


@pytest.mark.slow
def test_a_room_over_a_real_server_goes_on_from_a_position(server: Server, run: Run) -> None:
    publisher = CommandPublisher(server.http)
    url = f"{server.ws}/notifications/7/"
    with listening(url, "user_7", "--json", "--count", "1") as listener:
        first = json.loads(publish_until_printed(publisher, 7, listener))
        assert listener.end() == 0
    assert (first["group"], first["data"]) == ("user_7", "is anybody there?")
    publisher.publish(7, 1)
    publisher.publish(7, 2)
    resumed = run("listen", url, "user_7", "--json", "--count", "2", "--since", first["id"])
    assert resumed.exit_code == 0
    assert [json.loads(line)["data"] for line in resumed.output.splitlines()] == [1, 2]


def test_it_comes_back_and_says_so_on_standard_error(run: Run) -> None:
    asked: list[dict[str, object]] = []

    def script(connection: ServerConnection) -> None:
        if not asked:
            asked.append(confirm(connection, 0))
            notify(connection, 1, "one")
            connection.send('{"type": "going_away", "retry_after": 0.01}')
            connection.close(1012, "the server restarts")
            return
        asked.append(confirm(connection, 1, recovered=True))
        notify(connection, 2, "two")
        until_gone(connection)

    with fake_server(script) as url:
        result = run("listen", url, "user_42", "--count", "2")
    assert (result.exit_code, result.stdout) == (0, "one\ntwo\n")
    ended, back = result.stderr.splitlines()
    assert ended.endswith("ended (1012: the server restarts); again in 0.0 s")
    assert back == "connected again"
    assert [frame.get("since") for frame in asked] == [None, f"{POSITION}1"]


def test_what_is_missing_is_told_on_standard_error(run: Run) -> None:
    def script(connection: ServerConnection) -> None:
        confirm(connection, 7, recovered=False)
        notify(connection, 8, "eight")
        until_gone(connection)

    with fake_server(script) as url:
        result = run("listen", url, "user_42", "--since", f"{POSITION}1", "--count", "1")
    assert (result.exit_code, result.stdout) == (0, "eight\n")
    assert result.stderr == "user_42: some notifications are missing here (unrecovered)\n"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("", "/notifications/"),
        ("app/", "/app/notifications/"),
        ("notifications/42/", "/notifications/42/"),
        ("app/notifications/?key=1", "/app/notifications/?key=1"),
    ],
)
def test_the_address_may_be_the_servers_or_that_of_the_notifications(
    run: Run, path: str, expected: str
) -> None:
    asked: list[str] = []

    def script(connection: ServerConnection) -> None:
        assert connection.request is not None
        asked.append(connection.request.path)
        confirm(connection, 0)
        notify(connection, 1, "one")
        until_gone(connection)

    with fake_server(script) as url:
        assert run("listen", f"{url}{path}", "user_42", "--count", "1").exit_code == 0
    assert asked == [expected]


@pytest.mark.parametrize("by", ["option", "variable"])
def test_the_server_may_be_named_by_an_option_or_the_environment(
    run: Run, environ: dict[str, str], by: str
) -> None:
    def script(connection: ServerConnection) -> None:
        confirm(connection, 0)
        notify(connection, 1, "one")
        until_gone(connection)

    with fake_server(script) as url:
        environ["ASGI_NOTIFY_URL"] = url if by == "variable" else "http://127.0.0.1:1/"
        options = ["--url", url] if by == "option" else []
        result = run("listen", "user_42", "--count", "1", *options)
        assert (result.exit_code, result.stdout) == (0, "one\n")
        # What stands before the group wins over the environment.
        environ["ASGI_NOTIFY_URL"] = "http://127.0.0.1:1/"
        assert run("listen", url, "user_42", "--count", "1").exit_code == 0


def test_without_a_server_it_says_how_to_start_one(run: Run) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
    failed = run("listen", f"http://127.0.0.1:{port}", "user_42")
    assert failed.exit_code == 1
    assert f"no server at ws://127.0.0.1:{port}/notifications/" in failed.output
    assert "start one with: asgi-notify serve" in failed.output


@pytest.mark.slow
def test_what_the_server_refuses_is_said_in_its_own_words(run: Run, server: Server) -> None:
    for args, sentence in [
        (["/", "lobby"], "'lobby' cannot be followed: "),
        (["/notifications/7/", "user_42"], "'user_42' cannot be followed: "),
        (["/notifications/lobby/", "user_42"], "answered 404"),
        (["/", "user_42", "--since", "yesterday"], "'yesterday' is no position"),
    ]:
        refused = run("listen", f"{server.http}{args[0]}", *args[1:])
        assert refused.exit_code == 1
        assert sentence in refused.output


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["http://127.0.0.1:1/", "a b"], "cannot name a group"),
        (["127.0.0.1:8000", "user_42"], "is no address of a server"),
        (["http://[::1", "user_42"], "is no address of a server"),
        (["http://127.0.0.1:1/", "user_42", "--count", "0"], "0 is not in the range"),
        (["http://127.0.0.1:1/"], "as in: http://127.0.0.1:1/ user_42"),
        ([], "give a group, such as user_42"),
        (["http://127.0.0.1:1/", "user_42", "user_43"], "give a group, such as user_42"),
        (["http://127.0.0.1:99999/", "user_42"], "is not a number from 1 to 65535"),
        (["http://127.0.0.1:1/", "user_42", "--url", "http://127.0.0.1:2/"], "given twice"),
    ],
)
def test_what_makes_no_sense_is_refused(run: Run, args: list[str], sentence: str) -> None:
    refused = run("listen", *args)
    assert refused.exit_code == 2
    assert sentence in refused.output


def test_without_websockets_it_names_the_extra(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "websockets.client", None)
    failed = run("listen", "http://127.0.0.1:1/", "user_42")
    assert failed.exit_code == 1
    assert "pip install 'asgi-notify[client]'" in failed.output
