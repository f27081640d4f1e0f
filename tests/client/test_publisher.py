"""Publishing from a program that is no server, to a real one and to what is none."""

import http.server
import socket
import threading
from collections.abc import Iterator

import pytest
from websockets.sync.client import connect

from asgi_notify import ClientError, Unauthorized
from asgi_notify.client import Published, Publisher, ServerUnavailable, WrongServer
from tests.servers import Server

KEY = "Schlüssel"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    env = {"ASGI_NOTIFY_PUBLISH_KEY": KEY}
    with Server("uvicorn-websockets-sansio", "asgi_notify.app:application", env=env) as server:
        yield server


@pytest.fixture
def answering() -> Iterator[tuple[str, list[tuple[int, bytes]]]]:
    """The address of a server that says what the test has put into a list."""
    answers: list[tuple[int, bytes]] = []

    class Says(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            status, body = answers.pop(0)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    with http.server.HTTPServer(("127.0.0.1", 0), Says) as there:
        thread = threading.Thread(target=there.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{there.server_port}", answers
        there.shutdown()
        thread.join(10)


def test_what_is_published_arrives_and_its_place_is_told(server: Server) -> None:
    publisher = Publisher(server.http + "/", KEY)
    with connect(f"{server.ws}/notifications/42/", proxy=None) as client:
        first = publisher.publish(42, {"n": [1, None]}, idempotency_key="once")
        assert client.recv(timeout=10) == '{"n": [1, null]}'
        assert (first.reached, first.position is None) == (1, False)
        assert publisher.publish(42, {"n": [1, None]}, idempotency_key="once") == first
        assert publisher.publish(42, "next").position != first.position
        assert client.recv(timeout=10) == "next"


@pytest.mark.parametrize("key", [None, "wrong"])
def test_a_key_that_the_server_does_not_take_is_told(server: Server, key: str | None) -> None:
    with pytest.raises(Unauthorized, match=r"the server answered 401: .*key"):
        Publisher(server.http, key).publish(42, "hello")


def test_what_a_server_refuses_is_told_in_its_words(server: Server) -> None:
    with pytest.raises(ClientError, match=r"the server answered 400: .*xxx"):
        Publisher(server.http, KEY).publish(42, "hello", idempotency_key="x" * 1000)


def test_where_no_server_is_it_may_be_later() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with pytest.raises(ServerUnavailable, match=f"no server at {url}/notifications/7/"):
        Publisher(url).publish(7, "hello")


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (503, b'{"error": "in a moment"}', ServerUnavailable),
        (429, b"", ServerUnavailable),
        (401, b"a proxy's page", ClientError),
        (404, b"", ClientError),
        (200, b"<html>", WrongServer),
        (200, b"[]", WrongServer),
        (200, b"{}", WrongServer),
        (200, b'{"reached": null}', WrongServer),
    ],
)
def test_other_answers_are_told_apart(
    answering: tuple[str, list[tuple[int, bytes]]], status: int, body: bytes, error: type[Exception]
) -> None:
    url, answers = answering
    answers.append((status, body))
    with pytest.raises(error) as raised:
        Publisher(url).publish(7, "hello")
    assert not isinstance(raised.value, Unauthorized)


def test_an_answer_without_a_position_is_one(
    answering: tuple[str, list[tuple[int, bytes]]],
) -> None:
    url, answers = answering
    answers.append((202, b'{"reached": 3}'))
    assert Publisher(url).publish(7, "hello") == Published(3, None)
