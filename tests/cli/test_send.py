"""``asgi-notify send``: one notification to a running server, and what goes wrong on the way."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from websockets.sync.client import connect

from tests.cli.conftest import Run
from tests.servers import Server

KEY = "Schlüssel"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    env = {"ASGI_NOTIFY_PUBLISH_KEY": KEY}
    with Server("uvicorn-websockets-sansio", "asgi_notify.app:application", env=env) as server:
        yield server


@pytest.fixture
def peer() -> Iterator[Callable[[bytes], str]]:
    """Makes a server that says these bytes to whoever connects; returns its address."""
    listeners: list[socket.socket] = []

    def listen(answer: bytes) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def serve() -> None:
            connection, _ = listener.accept()
            with closing(connection):
                request = b""
                while not request.endswith(b"}"):  # closing on unread bytes resets the connection
                    request += connection.recv(65536)
                connection.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    yield listen
    for listener in listeners:
        listener.close()


@pytest.mark.slow
def test_it_reaches_those_who_watch_the_room(run: Run, server: Server) -> None:
    with connect(f"{server.ws}/notifications/42/") as one:
        sent = run("send", "42", "hé 😀", "--url", server.http, "--key", KEY)
        assert (sent.exit_code, sent.output) == (0, "room 42: reached 1 connection\n")
        assert one.recv(10) == "hé 😀"
    sent = run("send", "7", "hello", "--url", f"{server.http}/", "--key", KEY)
    assert (sent.exit_code, sent.output) == (0, "room 7: reached 0 connections\n")


@pytest.mark.slow
def test_the_key_may_come_from_the_environment(
    run: Run, server: Server, environ: dict[str, str]
) -> None:
    environ["ASGI_NOTIFY_PUBLISH_KEY"] = KEY
    assert run("send", "42", "hello", "--url", server.http).exit_code == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ([], "wants a publish key: give it with --key KEY, or in ASGI_NOTIFY_PUBLISH_KEY"),
        (["--key", ""], "wants a publish key"),
        (["--key", "wrong"], "does not take this publish key: --key KEY, or ASGI_NOTIFY"),
    ],
)
def test_a_missing_key_and_a_wrong_one_are_explained_by_the_option(
    run: Run, server: Server, options: list[str], sentence: str
) -> None:
    refused = run("send", "42", "hello", "--url", server.http, *options)
    assert refused.exit_code == 1
    assert sentence in refused.output
    assert "header" not in refused.output.lower()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "text", "frame"),
    [
        (["--json", '{"a": [1, null]}'], None, '{"a": [1, null]}'),
        (["--json", '"a text"'], None, "a text"),
        (["-"], "hé 😀\n".encode(), "hé 😀"),
        (["-"], b"two\nlines\r\n", "two\nlines"),
        (["-"], b"", ""),
        (["--json", "-"], b'{"a":\n 1}\n', '{"a": 1}'),
        (["--", "-5"], None, "-5"),
    ],
)
def test_what_is_sent_comes_from_the_argument_or_standard_input_as_text_or_json(
    run: Run, server: Server, arguments: list[str], text: bytes | None, frame: str
) -> None:
    with connect(f"{server.ws}/notifications/42/") as socket:
        options = ["--url", server.http, "--key", KEY]
        sent = run("send", *options, "42", *arguments, input=text)
        assert (sent.exit_code, sent.output) == (0, "room 42: reached 1 connection\n")
        assert socket.recv(10) == frame


@pytest.mark.slow
def test_a_room_may_be_named_by_its_group_and_the_server_by_the_environment(
    run: Run, server: Server, environ: dict[str, str]
) -> None:
    environ["ASGI_NOTIFY_PUBLISH_KEY"] = KEY
    for path in "", "/", "/notifications/", "/notifications/7/":
        environ["ASGI_NOTIFY_URL"] = server.http.upper().replace("HTTP", "http", 1) + path
        sent = run("send", "user_42", "hello")
        assert (sent.exit_code, sent.output) == (0, "user_42: reached 0 connections\n")


@pytest.mark.parametrize("text", ["{", "NaN", "[Infinity]", "", "[" * 100_000, "hello"])
def test_json_that_is_none_is_refused(run: Run, text: str) -> None:
    refused = run("send", "42", "--json", text)
    assert refused.exit_code == 2
    assert "the text is no JSON" in refused.output


def test_standard_input_that_is_no_text_is_refused(run: Run) -> None:
    refused = run("send", "42", "-", input=b"\xff")
    assert refused.exit_code == 2
    assert "standard input is no text in UTF-8" in refused.output


def test_without_a_server_it_says_how_to_start_one(run: Run) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
    failed = run("send", "42", "hello", "--url", f"http://127.0.0.1:{port}")
    assert failed.exit_code == 1
    assert f"no server at http://127.0.0.1:{port}/notifications/42/" in failed.output
    assert "start one with: asgi-notify serve" in failed.output


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]",
        b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{}",
        b"220 mail.example ESMTP\r\n",
    ],
)
def test_what_is_no_notification_server_is_said_to_be_none(
    run: Run, peer: Callable[[bytes], str], answer: bytes
) -> None:
    failed = run("send", "42", "hello", "--url", peer(answer))
    assert failed.exit_code == 1
    assert "is no notification server" in failed.output


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}"])
def test_an_error_without_a_sentence_of_ours_is_told_by_its_reason(
    run: Run, peer: Callable[[bytes], str], body: bytes
) -> None:
    head = f"HTTP/1.1 404 Nothing Here\r\ncontent-length: {len(body)}\r\n\r\n"
    failed = run("send", "42", "hello", "--url", peer(head.encode() + body))
    assert failed.exit_code == 1
    assert "the server answered 404: Nothing Here" in failed.output


@pytest.mark.parametrize(
    "url", ["", "localhost:8000", "ftp://host/", "http://", "http://[::1", "file:///etc/passwd"]
)
def test_an_address_of_no_server_is_refused(run: Run, url: str) -> None:
    refused = run("send", "42", "hello", "--url", url)
    assert refused.exit_code == 2
    assert "give http://HOST:PORT/" in refused.output


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("http://host/?x=1", "leave '?x=1' away"),
        ("http://host/#top", "leave '#top' away"),
        ("http://host:99999/", "the port of 'http://host:99999/' is not a number from 1 to 65535"),
        ("http://host:0/", "is not a number from 1 to 65535"),
        ("http://host:http/", "is not a number from 1 to 65535"),
        ("http://ada:secret@host/", "a publish key is given with --key"),
    ],
)
def test_an_address_that_misleads_is_explained(run: Run, url: str, sentence: str) -> None:
    for arguments in ["send", "42", "hello", "--url", url], ["bench", url]:
        refused = run(*arguments)
        assert refused.exit_code == 2
        assert sentence in " ".join(refused.output.split())
        assert "secret" not in refused.output


@pytest.mark.parametrize(
    "room", ["lobby", "user_", "user_042", "user_x", "4.2", "4 2", "٣", "9" * 5000, ""]
)
def test_what_is_no_room_is_refused_with_an_example(run: Run, room: str) -> None:
    refused = run("send", room, "hello")
    assert refused.exit_code == 2
    assert "is no room: give a number, such as 42, or the group of one, user_42" in refused.output
    assert len(refused.output) < 500


@pytest.mark.parametrize("args", [["lobby", "hello"], ["-1", "hello"], ["42"], []])
def test_a_room_is_a_number_and_a_text_is_needed(run: Run, args: list[str]) -> None:
    assert run("send", *args).exit_code == 2


def test_a_proxy_is_asked_for_other_machines_only(
    run: Run, peer: Callable[[bytes], str], environ: dict[str, str]
) -> None:
    answer = b'HTTP/1.1 202 Accepted\r\ncontent-length: 14\r\n\r\n{"reached": 3}'
    environ["http_proxy"] = peer(answer)
    sent = run("send", "42", "hello", "--url", "http://notify.example")
    assert sent.output == "room 42: reached 3 connections\n"
    environ["http_proxy"] = "http://127.0.0.1:1"
    assert run("send", "42", "hello", "--url", peer(answer)).exit_code == 0
