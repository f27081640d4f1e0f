"""What the clients of the resume benchmark take for a resume."""

import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from benchmarks.control import ChildError
from benchmarks.resume import Resuming
from benchmarks.wire import Refused

SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"


@pytest.fixture
def client() -> Iterator[Resuming]:
    with socket.socket() as connection:
        yield Resuming("/", connection, 2)


def frame(**content: Any) -> bytes:
    text = json.dumps(content).encode()
    head = bytes([len(text)]) if len(text) < 126 else b"\x7e" + len(text).to_bytes(2)
    return b"\x81" + head + text


def subscribed(**content: Any) -> bytes:
    return frame(type="subscribed", position="abcdefgh-5", replayed=2, **content)


def notification(offset: int) -> bytes:
    return frame(type="notification", id=f"abcdefgh-{offset}", data="x" * 128)


def test_it_is_served_with_the_last_byte_of_the_last_message(client: Resuming) -> None:
    data = SWITCHED + frame(type="welcome") + subscribed(recovered=True)
    data += notification(6) + notification(7)
    served = [client.feed(data[place : place + 1]) for place in range(len(data))]
    assert served.index(True) == len(data) - 1
    assert client.position == "abcdefgh-7"


@pytest.mark.parametrize(
    ("frames", "error"),
    [
        (subscribed(recovered=False), "was not resumed whole"),
        (frame(type="subscribed", position="abcdefgh-5", replayed=1), "was not resumed whole"),
        (subscribed(recovered=True) + notification(7), "stood at abcdefgh-5"),
        (subscribed(recovered=True) + notification(6) + notification(6), "stood at abcdefgh-6"),
    ],
)
def test_anything_else_is_a_failure(client: Resuming, frames: bytes, error: str) -> None:
    with pytest.raises(ChildError, match=error):
        client.feed(SWITCHED + frames)


def test_a_refusal_is_one(client: Resuming) -> None:
    with pytest.raises(Refused):
        client.feed(b"HTTP/1.1 404 Not Found\r\n\r\n")
