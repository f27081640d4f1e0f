"""Streams and polls on real servers: by each way that an event can go, and behind nginx."""

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.eventstream import EventStream
from tests.servers import HOST, Server, free_port
from tests.sockets import Answers

pytestmark = pytest.mark.slow

WAIT = 20  # seconds until something that is on its way counts as lost
APP = "tests.apps.passing:app"
ACCEPT = {"accept": "text/event-stream"}
SERVERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "direct": ("uvicorn-bounded", ()),
    "gathered": ("uvicorn-bounded", ()),
    "plain": ("uvicorn-ungathered", ()),
    "httptools": ("uvicorn-websockets", ("--http", "httptools")),
    "h11": ("uvicorn-websockets", ("--http", "h11")),
    "hypercorn": ("hypercorn-asyncio", ()),
}


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    kind, options = SERVERS[request.param]
    env = {"ASGI_NOTIFY_DIRECT": "0"} if request.param == "gathered" else {}
    with Server(kind, APP, options=options, env=env) as server:
        yield server
        assert "Traceback" not in server.output


def publish(server: Server, *texts: str, kind: str = "pass.on", group: str = "all") -> None:
    messages = [(group, kind, text) for text in texts]
    httpx.post(f"{server.http}/", json=messages, timeout=WAIT).raise_for_status()


@contextmanager
def streaming(url: str) -> Iterator["Reader"]:
    with httpx.stream("GET", url, headers=ACCEPT, timeout=WAIT) as response:
        assert response.status_code == 200
        reader = Reader(response)
        reader.read_on()
        yield reader


class Reader:
    """What a stream has brought."""

    def __init__(self, response: httpx.Response) -> None:
        self._chunks = response.iter_raw()
        self._stream = EventStream()
        self._datas: list[str] = []

    def read_on(self) -> None:
        self._datas += [event.data for event in self._stream.feed(next(self._chunks))]

    def datas(self, count: int) -> list[str]:
        """The data of so many events."""
        while len(self._datas) < count:
            self.read_on()
        found, self._datas = self._datas[:count], self._datas[count:]
        return found


@pytest.mark.parametrize("path", ["stream/", "events/7/"])
def test_a_stream_brings_all_in_order(server: Server, path: str) -> None:
    texts = [str(number) for number in range(50)]
    with streaming(f"{server.http}/{path}") as ann, streaming(f"{server.http}/{path}") as bob:
        publish(server, *texts)
        for client in ann, bob:
            assert client.datas(50) == texts
        publish(server, "one at a time")
        publish(server, "slow", kind="handle.slowly")
        publish(server, "and behind it")
        for client in ann, bob:
            assert client.datas(3) == ["one at a time", "handled slow", "and behind it"]


def test_polls_on_one_connection_are_answered_one_behind_the_other(server: Server) -> None:
    request = b"GET /events/7/ HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with Answers(server.port, request) as client:
        wait_for_members(server)
        publish(server, "first", kind="send.notification", group="user_7")
        assert json.loads(client.body())["notifications"] == ["first"]
        client.send(request)
        wait_for_members(server)
        publish(server, "second", kind="send.notification", group="user_7")
        assert json.loads(client.body())["notifications"] == ["second"]


def test_a_request_that_was_sent_behind_a_poll_is_answered_behind_it(server: Server) -> None:
    poll = b"GET /events/7/?timeout=%s HTTP/1.1\r\nHost: localhost\r\n\r\n"
    stream = b"GET /stream/ HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with Answers(server.port, poll % b"0.3" + poll % b"0" + stream) as client:
        for _ in range(2):
            assert json.loads(client.body())["notifications"] == []
        assert client.head().startswith(b"HTTP/1.1 200")
        assert client.chunk() == b":\n\n"
        publish(server, "hello")
        assert client.chunk() == b"data: hello\n\n"


def test_a_stream_over_http10_and_an_answer_to_head_have_no_surprises(server: Server) -> None:
    with Answers(server.port, b"GET /stream/ HTTP/1.0\r\nHost: localhost\r\n\r\n") as client:
        assert b" 200" in client.head().splitlines()[0]
        publish(server, "hello")
        while b"data: hello\n\n" not in client.seen():
            pass
    head = b"HEAD /stream/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    with Answers(server.port, head) as client:
        assert b" 405" in client.head().splitlines()[0]


def wait_for_members(server: Server) -> None:
    """Until somebody is in the group of user 7."""
    deadline = time.monotonic() + WAIT
    while httpx.get(f"{server.http}/members/7/", timeout=WAIT).text == "0":
        assert time.monotonic() < deadline
        time.sleep(0.02)


# Behind nginx.

CONFIGURATION = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen {host}:{port};
        location / {{
            proxy_pass http://{host}:{upstream};
            proxy_http_version {version};
            proxy_set_header Connection "{connection}";
            proxy_set_header Host $http_host;
        }}
    }}
}}
"""


@contextmanager
def nginx(folder: Path, upstream: int, version: str) -> Iterator[str]:
    """nginx in front of a server; yields where it listens."""
    port = free_port()
    connection = "" if version == "1.1" else "close"
    configuration = CONFIGURATION.format(
        folder=folder, host=HOST, port=port, upstream=upstream, version=version,
        connection=connection,
    )  # fmt: skip
    (folder / "nginx.conf").write_text(configuration)
    command = ["nginx", "-e", str(folder / "error.log"), "-c", str(folder / "nginx.conf")]
    with subprocess.Popen(command) as process:
        try:
            deadline = time.monotonic() + WAIT
            while True:
                try:
                    httpx.get(f"http://{HOST}:{port}/members/7/", timeout=WAIT).raise_for_status()
                    break
                except httpx.TransportError:
                    assert process.poll() is None, (folder / "error.log").read_text()
                    assert time.monotonic() < deadline
                    time.sleep(0.02)
            yield f"http://{HOST}:{port}"
        finally:
            process.terminate()


@pytest.mark.skipif(shutil.which("nginx") is None, reason="there is no nginx on this machine")
@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("kind", ["uvicorn-bounded", "uvicorn-ungathered"])
def test_a_stream_behind_nginx_brings_each_event_at_once(
    kind: str, version: str, tmp_path: Path
) -> None:
    with Server(kind, APP) as server, nginx(tmp_path, server.port, version) as front:
        with streaming(f"{front}/stream/") as ann, streaming(f"{front}/events/7/") as bob:
            for number in range(20):
                publish(server, str(number))  # the next comes only when this one was read
                assert ann.datas(1) == bob.datas(1) == [str(number)]
            publish(server, *map(str, range(100)))
            assert ann.datas(100) == bob.datas(100) == [str(number) for number in range(100)]
        deadline = time.monotonic() + WAIT
        while httpx.get(f"{server.http}/members/7/", timeout=WAIT).text != "0":
            assert time.monotonic() < deadline
            time.sleep(0.02)
        polling = httpx.get(f"{front}/events/7/?timeout=0", timeout=WAIT)
        assert polling.json()["notifications"] == []
        assert "Traceback" not in server.output
