"""Streams, polls, pushes and WebSockets over HTTP/1.1 and HTTP/2, on real servers."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from h2.events import (
    Event,
    PushedStreamReceived,
    RemoteSettingsChanged,
    ResponseReceived,
)
from h2.settings import SettingCodes
from wsproto.frame_protocol import CloseReason, FrameProtocol, Opcode

from tests.eventstream import Dispatched, EventStream
from tests.http2 import Certificate, Client, TlsServer
from tests.servers import KINDS, Server, skip_where_it_waits_for_clients

pytestmark = pytest.mark.slow

APP = "tests.apps.transports:application"
WAIT = 10  # seconds until something that is on its way counts as lost
STREAM = {"accept": "text/event-stream"}
# One way of serving WebSockets is enough: no other differs in its HTTP.
SAME = {"uvicorn-websockets", "uvicorn-wsproto", "uvicorn-ungathered"}  # for HTTP
HTTP1 = [kind for kind in KINDS if kind not in SAME]
HTTP2 = [kind for kind in KINDS if kind.startswith("hypercorn")]


class Record:
    """What the application has written down."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "record"
        self.path.touch()

    def wait_for(self, *lines: str) -> None:
        """Wait until these lines, and no others, are there."""
        deadline = time.monotonic() + WAIT
        while (found := sorted(self.path.read_text().splitlines())) != sorted(lines):
            assert time.monotonic() < deadline, f"{found} rather than {lines}"
            time.sleep(0.01)


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Record:
    monkeypatch.setenv("RECORD", str(tmp_path / "record"))
    return Record(tmp_path)


@pytest.fixture(params=HTTP1)
def server(request: pytest.FixtureRequest, record: Record) -> Iterator[Server]:
    with Server(request.param, APP) as server:
        yield server
        assert "Traceback" not in server.output


@pytest.fixture(params=HTTP2)
def tls_server(
    request: pytest.FixtureRequest, record: Record, tmp_path: Path
) -> Iterator[TlsServer]:
    with TlsServer(request.param, APP, Certificate(tmp_path)) as server:
        yield server
        assert "Traceback" not in server.output


class Reader:
    """The events of one streamed response, as they come."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.stream = EventStream()
        self._chunks = response.iter_raw()
        self._events: list[Dispatched] = []

    def next(self) -> Dispatched:
        """The next event."""
        while not self._events:
            self._events += self.stream.feed(next(self._chunks))
        return self._events.pop(0)

    def read_until_comments(self, count: int) -> None:
        """Read until so many comments have come."""
        while len(self.stream.comments) < count:
            self._events += self.stream.feed(next(self._chunks))


@contextmanager
def reading(client: httpx.Client, path: str) -> Iterator[Reader]:
    with client.stream("GET", path, headers=STREAM) as response:
        assert response.status_code == 200
        reader = Reader(response)
        reader._events += reader.stream.feed(next(reader._chunks))
        yield reader


def publish(client: httpx.Client, room: int, data: Any) -> int:
    response = client.post(f"/notifications/{room}/", json={"data": data})
    assert response.status_code == 202, response.text
    reached: int = response.json()["reached"]
    return reached


# HTTP/1.1.


def test_a_stream_brings_each_notification_until_its_client_leaves(
    server: Server, record: Record
) -> None:
    with httpx.Client(base_url=server.http, timeout=WAIT) as client:
        with reading(client, "/recorded/1/") as reader:
            assert reader.stream.retry == 2000
            assert reader.response.headers["content-type"] == "text/event-stream; charset=utf-8"
            assert reader.response.headers["cache-control"] == "no-cache, no-transform"
            for data in "hello", "two\nlines", {"a": 1}:
                assert publish(client, 1, data) == 1
            assert [reader.next().data for _ in range(3)] == ["hello", "two\nlines", '{"a": 1}']
            reader.read_until_comments(2)
        record.wait_for("stream 1")
        assert publish(client, 1, "too late") == 0


def test_a_poll_waits_for_a_notification_or_for_its_time(server: Server, record: Record) -> None:
    with httpx.Client(base_url=server.http, timeout=WAIT) as client:
        empty = client.get("/notifications/1/?timeout=0.05")
        assert (empty.status_code, empty.json()["notifications"]) == (200, [])
        assert empty.headers["cache-control"] == "no-store"
        refused = client.get("/notifications/1/?timeout=soon")
        assert refused.status_code == 400
        assert "timeout is one number of seconds" in refused.json()["error"]
        with ThreadPoolExecutor(1) as threads:
            poll = threads.submit(client.get, "/recorded/1/?timeout=60")
            deadline = time.monotonic() + WAIT
            while publish(client, 1, "hello") == 0:
                assert time.monotonic() < deadline, "nobody polls"
            answer = poll.result()
        assert (answer.status_code, answer.json()["notifications"]) == (200, ["hello"])
        record.wait_for("poll 1")


def test_streams_and_polls_resume_where_they_were(server: Server) -> None:
    with httpx.Client(base_url=server.http, timeout=WAIT) as client:
        with reading(client, "/notifications/1/") as reader:
            position = reader.stream.last_event_id
            assert position
        publish(client, 1, "missed")
        resumed = {**STREAM, "last-event-id": position}
        with client.stream("GET", "/notifications/1/", headers=resumed) as response:
            assert Reader(response).next().data == "missed"
        poll = f"/notifications/?group=user_1&since={position}"
        answer = client.get(poll).json()
        assert (answer["notifications"], answer["recovered"]) == (["missed"], True)
        frames = client.get(f"{poll}&protocol=asgi-notify.v1").json()["frames"]
        assert [frame["type"] for frame in frames] == ["subscribed", "notification"]


def test_a_client_that_leaves_a_poll_is_noticed(server: Server, record: Record) -> None:
    with (
        httpx.Client(base_url=server.http, timeout=0.3) as client,
        pytest.raises(httpx.ReadTimeout),
    ):
        client.get("/recorded/1/?timeout=60")
    record.wait_for("poll 1")


def test_a_page_of_another_site_may_not_watch(server: Server) -> None:
    with httpx.Client(base_url=server.http, timeout=WAIT) as client:
        for headers in STREAM, {}:
            foreign = {**headers, "origin": "https://evil.example"}
            refused = client.get("/notifications/1/", headers=foreign)
            assert refused.status_code == 403
            assert "is not allowed" in refused.json()["error"]


def test_a_method_that_is_not_served_is_a_405(server: Server) -> None:
    with httpx.Client(base_url=server.http, timeout=WAIT) as client:
        for method in "HEAD", "PUT", "OPTIONS":
            refused = client.request(method, "/notifications/1/")
            assert (refused.status_code, refused.headers["allow"]) == (405, "GET, POST")


# Seconds that a server gives the requests which go on when it is told to stop.
# Where nothing tells it to give up, uvicorn and granian wait for the client.
PATIENCE = {
    "uvicorn-websockets-sansio": ("--timeout-graceful-shutdown", "1"),
    "uvicorn-bounded": ("--timeout-graceful-shutdown", "1"),
    "hypercorn-asyncio": (),
    "hypercorn-trio": (),
    "daphne": (),
}


@pytest.mark.parametrize("kind", sorted(PATIENCE))
def test_a_stream_ends_once_when_the_server_stops(kind: str, record: Record) -> None:
    skip_where_it_waits_for_clients(kind)
    with Server(kind, APP, options=PATIENCE[kind]) as server:
        time.sleep(1.5 if kind == "daphne" else 0)  # a finished request has to leave its books
        with (
            httpx.Client(base_url=server.http, timeout=WAIT) as client,
            reading(client, "/recorded/1/") as reader,
        ):
            exit = server.stop()
            # The stream is whole or cut short, as the server has it.
            with suppress(StopIteration, httpx.RemoteProtocolError):
                reader.read_until_comments(1000)
    record.wait_for("stream 1")
    assert exit.seconds < 5


# HTTP/2.


def test_a_stream_over_http2_shares_its_connection(tls_server: TlsServer, record: Record) -> None:
    trusted = tls_server.certificate.trusted()
    with httpx.Client(
        base_url=tls_server.https, http1=False, http2=True, verify=trusted, timeout=WAIT
    ) as client:
        with reading(client, "/recorded/1/") as one, reading(client, "/recorded/2/") as two:
            assert one.response.http_version == "HTTP/2"
            ports = {
                reader.response.extensions["network_stream"].get_extra_info("client_addr")[1]
                for reader in (one, two)
            }
            assert len(ports) == 1
            assert publish(client, 1, "first\nroom") == 1
            assert publish(client, 2, "second room") == 1
            assert two.next().data == "second room"
            assert one.next().data == "first\nroom"
        answer = client.get("/notifications/1/?timeout=0")
        assert (answer.http_version, answer.json()["notifications"]) == ("HTTP/2", [])
    # httpx does not tell that it has stopped reading one stream.
    record.wait_for("stream 1", "stream 2")


def test_a_client_that_ends_one_stream_of_its_connection_is_noticed(
    tls_server: TlsServer, record: Record
) -> None:
    with Client(tls_server) as client:
        one, two = (
            client.request("GET", f"/recorded/{room}/", ("accept", "text/event-stream"))
            for room in (1, 2)
        )
        for stream in one, two:
            assert b"retry: 2000\n\n" in next(client.data(stream))
        client.reset(one)
        record.wait_for("stream 1")
        assert b":\n\n" in client.data(two)
    record.wait_for("stream 1", "stream 2")


def test_a_page_pushes_what_it_will_need(tls_server: TlsServer) -> None:
    with Client(tls_server) as client:
        stream = client.request("GET", "/page")
        promise = client.wait_for(lambda event: isinstance(event, PushedStreamReceived))
        assert isinstance(promise, PushedStreamReceived)
        assert promise.parent_stream_id == stream
        assert promise.pushed_stream_id is not None
        asked = dict(promise.headers or [])
        assert (asked[b":method"], asked[b":path"]) == (b"GET", b"/style.css")
        assert asked[b"accept"] == b"text/css"

        def is_pushed(event: Event) -> bool:
            if not isinstance(event, ResponseReceived):
                return False
            return event.stream_id == promise.pushed_stream_id

        pushed = client.wait_for(is_pushed)
        assert isinstance(pushed, ResponseReceived)
        assert dict(pushed.headers or [])[b"content-type"] == b"text/css"
        assert next(client.data(promise.pushed_stream_id)) == b"p {}"
        assert next(client.data(stream)) == b"<p>"


def test_a_push_over_http1_does_nothing(server: Server) -> None:
    answer = httpx.get(f"{server.http}/page", timeout=WAIT)
    assert (answer.status_code, answer.content) == (200, b"<p>")


def test_a_websocket_over_http2_brings_a_notification(tls_server: TlsServer) -> None:
    frames = FrameProtocol(client=True, extensions=[])
    with Client(tls_server) as client:
        # RFC 8441, section 4: the server must have said that it takes this.
        settings = client.wait_for(lambda event: isinstance(event, RemoteSettingsChanged))
        assert isinstance(settings, RemoteSettingsChanged)
        code = SettingCodes.ENABLE_CONNECT_PROTOCOL
        assert settings.changed_settings[code].new_value == 1
        stream = client.request(
            "CONNECT", "/notifications/1/", (":protocol", "websocket"),
            ("sec-websocket-version", "13"), ends=False,
        )  # fmt: skip
        accepted = client.wait_for(lambda event: isinstance(event, ResponseReceived))
        assert isinstance(accepted, ResponseReceived)
        assert dict(accepted.headers or [])[b":status"] == b"200"
        publishing = client.request(
            "POST", "/notifications/1/", ("content-type", "application/json"), ends=False
        )
        client.send(publishing, b'{"data": "over HTTP/2"}', ends=True)
        assert json.loads(next(client.data(publishing)))["reached"] == 1
        chunks = client.data(stream)
        assert next_text(frames, chunks) == "over HTTP/2"
        client.send(stream, bytes(frames.send_data("ping", fin=True)))
        assert next_text(frames, chunks) == "pong"
        client.send(stream, bytes(frames.close(CloseReason.NORMAL_CLOSURE)))


def next_text(frames: FrameProtocol, chunks: Iterator[bytes]) -> str:
    """What the next text frame says, from the data of its stream."""
    while True:
        frames.receive_bytes(next(chunks))
        for frame in frames.received_frames():
            assert frame.opcode is Opcode.TEXT, frame
            return str(frame.payload)
