"""What the benchmark's clients read off the wire."""

import pytest

from benchmarks.payload import stamped
from benchmarks.wire import DIALECTS, Refused, Step, masked

TEXT = "00000000000000000042" + "x" * 108  # 128 characters, as the benchmark sends
MESSAGE = {
    "websocket": b"\x81\x7e\x00\x80" + TEXT.encode(),
    "socketio": b"\x81\x7e\x00\x90" + f'42["message","{TEXT}"]'.encode(),
    "sse": b"88\r\n" + f"data: {TEXT}\n\n".encode() + b"\r\n",
}
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"


def test_a_text_has_its_size_and_begins_with_a_time() -> None:
    first, second = stamped(128), stamped(128)
    assert len(first) == 128
    assert int(first[:20]) <= int(second[:20])


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_whole_message_is_found(dialect: str) -> None:
    message = MESSAGE[dialect]
    assert DIALECTS[dialect].stamps(message * 3) == ([42] * 3, 3 * len(message))


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_message_in_pieces_waits_for_its_end(dialect: str) -> None:
    message = MESSAGE[dialect]
    for size in range(len(message)):
        assert DIALECTS[dialect].stamps(message + message[:size]) == ([42], len(message))


@pytest.mark.parametrize("size", [20, 125, 126, 70_000])
def test_a_frame_of_any_length_is_read(size: int) -> None:
    length = (
        bytes([size])
        if size < 126
        else b"\x7e" + size.to_bytes(2)
        if size < 2**16
        else b"\x7f" + size.to_bytes(8)
    )
    frame = b"\x81" + length + TEXT[:20].encode().ljust(size, b"x")
    assert DIALECTS["websocket"].stamps(frame) == ([42], len(frame))


@pytest.mark.parametrize(
    ("dialect", "other"),
    [
        ("websocket", b"\x89\x00"),  # a ping
        ("socketio", b"\x81\x012"),  # a ping of Engine.IO
        ("sse", b"2\r\n:\n\r\n"),  # a comment
    ],
)
def test_what_is_no_message_is_passed_over(dialect: str, other: bytes) -> None:
    data = other + MESSAGE[dialect]
    assert DIALECTS[dialect].stamps(data) == ([42], len(data))


def test_a_websocket_is_open_after_the_response() -> None:
    dialect = DIALECTS["websocket"]
    assert dialect.greet(SWITCHED[:-1]) == Step(0)
    assert dialect.greet(SWITCHED + b"\x81") == Step(len(SWITCHED), is_open=True)


def test_socket_io_is_open_after_three_steps() -> None:
    dialect = DIALECTS["socketio"]
    assert dialect.greet(SWITCHED) == Step(len(SWITCHED))
    session, namespace = b'\x81\x0a0{"sid":1}', b'\x81\x0b40{"sid":2}'
    assert dialect.greet(session[:5]) == Step(0)
    assert dialect.greet(session) == Step(len(session), reply=masked(b"40"))
    assert dialect.greet(namespace) == Step(len(namespace), is_open=True)


def test_a_refusal_says_what_the_server_said() -> None:
    with pytest.raises(Refused, match="403 Forbidden"):
        DIALECTS["sse"].greet(b"HTTP/1.1 403 Forbidden\r\n\r\n")


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_request_names_its_path(dialect: str) -> None:
    request = DIALECTS[dialect].request("/7")
    assert request.startswith(b"GET /7 HTTP/1.1\r\n")
    assert request.endswith(b"\r\n\r\n")
