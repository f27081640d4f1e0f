"""Messages that are gathered until a turn of the loop ends, and the extension that takes them."""

import asyncio
import gc
import itertools
import logging
import weakref
from typing import Any

import pytest
from anyio.lowlevel import checkpoint
from uvicorn.protocols.utils import ClientDisconnected

from asgi_notify import gathering
from asgi_notify.asgi import DIRECT
from asgi_notify.gathering import GATHERED, WRITES, WRITTEN
from asgi_notify.types import Receive, Scope, Send
from tests.hostile.probes import GOODBYE, PING, frame
from tests.wire import HIGH_WATER, Connection, Hearer, until

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # uvicorn's


@pytest.fixture(autouse=True)
def gathers(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tested here is on, also where all other tests are run without it."""
    monkeypatch.delenv("ASGI_NOTIFY_GATHERING", raising=False)


def text_frame(text: str) -> bytes:
    """What a server sends for a short text."""
    return bytes([0x81, len(text.encode())]) + text.encode()


def direct(connection: Connection) -> Any:
    """The extension that the application was offered."""
    assert connection.app.scope is not None
    return connection.app.scope["extensions"][DIRECT]


async def send(connection: Connection, **content: object) -> None:
    assert connection.app.send is not None
    await connection.app.send({"type": "websocket.send", **content})


# What is sent in one turn.


async def test_what_is_sent_in_one_turn_is_one_write() -> None:
    connection = Connection()
    await connection.open()
    connection.wire.pieces.clear()
    await send(connection, text="a")
    await send(connection, bytes=b"b")
    assert direct(connection)["send_text"]("c") is True
    await send(connection, text="é" * 100)
    assert connection.wire.sent == b""
    await checkpoint()
    assert (
        connection.wire.sent == b"\x81\x01a\x82\x01b\x81\x01c\x81\x7e\x00\xc8" + b"\xc3\xa9" * 100
    )
    assert len(connection.wire.pieces) == 1
    await connection.end()


async def test_a_ping_and_a_pong_go_out_behind_what_was_sent_before() -> None:
    connection = Connection(ws_ping_interval=0.01, ws_ping_timeout=10)
    await connection.open()
    await send(connection, text="a")
    await connection.wire.receive(frame(PING, b"ping"))
    assert connection.wire.sent == b"\x81\x01a\x8a\x04ping"
    connection.wire.sent = b""
    while not connection.wire.sent.endswith(b"."):
        await send(connection, text=".")
        await checkpoint()
    await until(lambda: b"\x89\x04" in connection.wire.sent)
    await connection.end()


async def test_64_kib_are_not_kept_waiting() -> None:
    connection = Connection()
    await connection.open()
    send_text = direct(connection)["send_text"]
    while send_text("." * 1000):
        pass
    assert connection.wire.sent == b""
    await send(connection, text="last")  # which could not be taken: all is written
    assert GATHERED < len(connection.wire.sent) <= GATHERED + 2 * 1004
    assert connection.wire.sent.endswith(b"last")
    assert len(connection.wire.pieces) == 2  # the first is the handshake
    assert send_text("a") is True
    await connection.end()


async def test_a_long_message_waits_like_any_other_and_ends_the_gathering() -> None:
    connection = Connection()
    await connection.open()
    send_text = direct(connection)["send_text"]
    assert send_text("." * 2 * GATHERED) is True
    assert send_text("a") is False
    assert connection.wire.sent == b""
    await checkpoint()
    assert len(connection.wire.sent) > 2 * GATHERED
    assert send_text("a") is True
    await connection.end()


async def test_long_messages_to_many_are_not_written_in_one_callback() -> None:
    connections = [Connection() for _ in range(20)]
    for connection in connections:
        await connection.open()
        connection.wire.pieces.clear()
    text = "." * (WRITTEN // 4)
    for connection in connections:
        await send(connection, text=text)
    await checkpoint()
    assert sum(len(connection.wire.pieces) for connection in connections) == 4
    await until(lambda: all(connection.wire.pieces for connection in connections))
    for connection in connections:
        await connection.end()


async def test_a_frame_is_made_once_for_all_who_are_sent_the_same() -> None:
    connections = [Connection() for _ in range(5)]
    for connection in connections:
        await connection.open()
        connection.wire.pieces.clear()
    for text in ("a" * 1000, "b" * 1000):
        for connection in connections:
            await send(connection, text=text)
        await checkpoint()
    for number in range(2):
        assert len({id(connection.wire.pieces[number]) for connection in connections}) == 1
    for connection in connections:
        await connection.end()


async def test_nothing_of_what_was_sent_is_kept() -> None:
    connection = Connection()
    protocol = await connection.open()
    for text in ("a", "b" * 2 * GATHERED):
        await send(connection, text=text)
        await checkpoint()
    turn = gathering.turn_of(protocol.loop)
    assert turn is not None
    assert (turn.frames, turn._held, len(turn._due)) == ({}, 0, 0)
    await connection.end()


async def test_a_large_group_is_not_written_in_one_callback() -> None:
    connections = [Connection() for _ in range(3 * WRITES + 1)]
    for connection in connections:
        await connection.open()
        connection.wire.pieces.clear()
    for connection in connections:
        await send(connection, text="a")
    written = [0]
    while written[-1] < len(connections):
        await checkpoint()
        written.append(sum(len(connection.wire.pieces) for connection in connections))
    assert max(now - before for before, now in itertools.pairwise(written)) <= WRITES
    for connection in connections:
        await connection.end()


async def test_one_whose_write_fails_does_not_keep_the_others_from_being_written() -> None:
    connections = [Connection() for _ in range(3)]
    for connection in connections:
        await connection.open()

    def fail(data: object) -> None:
        raise OSError

    errors: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: errors.append(context))
    connections[0].wire.write = fail  # type: ignore[method-assign]
    for connection in connections:
        await send(connection, text="a")
    await until(lambda: connections[2].wire.sent == b"\x81\x01a")
    assert connections[1].wire.sent == b"\x81\x01a"
    assert [type(error["exception"]) for error in errors] == [OSError]
    for connection in connections:
        await connection.end()


# Ends.


async def test_an_application_may_take_the_extension_away() -> None:
    class Middle(Hearer):
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            del scope["extensions"][DIRECT]
            await super().__call__(scope, receive, send)

    connection = Connection(app=Middle())
    await connection.open()
    await send(connection, text="a")
    await until(lambda: connection.wire.sent == b"\x81\x01a")
    await connection.end()


async def test_what_was_sent_before_a_close_comes_before_it() -> None:
    connection = Connection()
    await connection.open()
    await send(connection, text="a")
    assert connection.app.send is not None
    await connection.app.send({"type": "websocket.close", "code": 1000})
    assert connection.wire.sent == b"\x81\x01a\x88\x02\x03\xe8"
    assert direct(connection)["send_text"]("b") is False
    await connection.end()


async def test_what_was_sent_before_the_application_ends_is_sent() -> None:
    connection = Connection()
    await connection.open()
    await send(connection, text="a")
    connection.app.may_hear.set()
    connection.wire.protocol.transport.close()  # what uvicorn does then
    assert connection.wire.sent == b"\x81\x01a"
    assert direct(connection)["send_text"]("b") is False
    await connection.end()


@pytest.mark.parametrize("is_shutdown", [False, True])
async def test_what_was_sent_before_the_other_side_says_goodbye_comes_before_the_answer(
    is_shutdown: bool,
) -> None:
    connection = Connection()
    protocol = await connection.open()
    await send(connection, text="a")
    if is_shutdown:
        protocol.shutdown()
    else:
        await connection.wire.receive(GOODBYE)
    code = b"\x03\xf4" if is_shutdown else b"\x03\xe8"
    assert connection.wire.sent == b"\x81\x01a\x88\x02" + code
    assert direct(connection)["send_text"]("b") is False
    with pytest.raises(ClientDisconnected):
        await send(connection, text="c")
    await connection.end()


async def test_what_waits_for_a_client_that_is_gone_is_forgotten() -> None:
    connection = Connection()
    protocol = await connection.open()
    await send(connection, text="a")
    send_text = direct(connection)["send_text"]
    connection.wire.abort()
    await until(lambda: protocol.disconnected)
    assert connection.wire.pieces[-1].startswith(b"HTTP/1.1 101")
    assert send_text("b") is False
    assert "send" not in direct(connection)
    await connection.end()


async def test_a_connection_leaves_nothing_behind() -> None:
    connection = Connection()
    gone = weakref.ref(await connection.open())
    await send(connection, text="a")
    await connection.end()
    connection.wire.protocol = None
    gc.collect()
    gc.disable()
    try:
        connection = Connection()
        gone = weakref.ref(await connection.open())
        await send(connection, text="a")
        await connection.end()
        connection.wire.protocol = connection.app.send = None
        await checkpoint()
        assert gone() is None  # with no help of the garbage collector
    finally:
        gc.enable()


# A client that does not read.


async def test_send_waits_for_a_client_that_does_not_read() -> None:
    connection = Connection()
    await connection.open()
    await connection.fill()
    waiting = asyncio.ensure_future(send(connection, text="a"))
    await checkpoint()
    assert not waiting.done()
    assert direct(connection)["send_text"]("b") is False
    connection.wire.sent = b""
    connection.wire.read()
    assert direct(connection)["send_text"]("b") is False  # "a" was sent before it
    await waiting
    connection.wire.is_read = True
    assert direct(connection)["send_text"]("b") is True
    await until(lambda: connection.wire.sent.endswith(b"\x81\x01a\x81\x01b"))
    await connection.end()


async def test_a_client_that_does_not_read_is_sent_no_more_than_both_buffers_hold() -> None:
    connection = Connection(is_read=False)
    await connection.open()

    async def flood() -> None:
        while True:
            await send(connection, text="." * 1000)

    flooding = asyncio.ensure_future(flood())
    most = 0
    for _ in range(100):
        await checkpoint()
        most = max(most, len(connection.wire.waiting))
    assert HIGH_WATER < most <= HIGH_WATER + GATHERED + 2008
    flooding.cancel()
    await connection.end()


# The extension.


async def test_nothing_is_taken_before_the_connection_is_accepted() -> None:
    taken: list[bool] = []

    class Early(Hearer):
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            taken.append(scope["extensions"][DIRECT]["send_text"]("early"))
            await super().__call__(scope, receive, send)

    connection = Connection(app=Early())
    await connection.open()
    assert taken == [False]
    assert connection.wire.sent == b""
    assert direct(connection)["send"] == connection.app.send
    await connection.end()


@pytest.mark.parametrize("text", [b"bytes", None, 1])
async def test_only_a_str_is_taken(text: Any) -> None:
    connection = Connection()
    await connection.open()
    assert direct(connection)["send_text"](text) is False
    await connection.end()


async def test_a_text_that_cannot_be_encoded_raises_and_breaks_nothing() -> None:
    connection = Connection()
    await connection.open()
    with pytest.raises(UnicodeEncodeError):
        direct(connection)["send_text"]("\ud800")
    with pytest.raises(UnicodeEncodeError):
        await send(connection, text="\ud800")
    await send(connection, text="a")
    await until(lambda: connection.wire.sent == b"\x81\x01a")
    await connection.end()


async def test_a_text_of_another_kind_is_sent_too() -> None:
    class Safe(str):
        __hash__ = None  # type: ignore[assignment]

    connection = Connection()
    await connection.open()
    assert direct(connection)["send_text"](Safe("a")) is False
    await send(connection, text=Safe("a"))
    await send(connection, bytes=bytearray(b"b"))
    await until(lambda: connection.wire.sent == b"\x81\x01a\x82\x01b")
    await connection.end()


async def test_what_uvicorn_compresses_is_not_gathered() -> None:
    connection = Connection(ws_per_message_deflate=True)
    await connection.open("Sec-WebSocket-Extensions: permessage-deflate")
    assert DIRECT not in (connection.app.scope or {})["extensions"]
    await send(connection, text="a" * 1000)
    assert 0 < len(connection.wire.sent) < 100
    await connection.end()


async def test_compression_that_the_client_does_not_ask_for_changes_nothing() -> None:
    connection = Connection(ws_per_message_deflate=True)
    await connection.open()
    assert direct(connection)["send_text"]("a") is True
    await connection.end()


async def test_frames_that_are_logged_are_not_gathered(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "uvicorn.error"):
        connection = Connection()
        await connection.open()
        assert DIRECT not in (connection.app.scope or {})["extensions"]
        await send(connection, text="a")
        assert connection.wire.sent == b"\x81\x01a"
        assert "> TEXT 'a' [1 byte]" in caplog.messages
        await connection.end()


async def test_a_setting_turns_it_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASGI_NOTIFY_GATHERING", "0")
    connection = Connection()
    await connection.open()
    assert DIRECT not in (connection.app.scope or {})["extensions"]
    await send(connection, text="a")
    assert connection.wire.sent == b"\x81\x01a"
    await connection.end()


# HTTP.


class Streamer(Hearer):
    """Answers with some events in one turn of the loop."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await super().__call__(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for number in range(int(scope["path"][1:])):
            body = b"%d." % number
            await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


@pytest.mark.parametrize("setting", ["1", "0"])
async def test_an_answer_of_one_turn_is_one_write(
    setting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASGI_NOTIFY_GATHERING", setting)
    connection = Connection(app=Streamer())
    await connection.wire.receive(b"GET /3 HTTP/1.1\r\nHost: x\r\n\r\n")
    end = b"2\r\n0.\r\n2\r\n1.\r\n2\r\n2.\r\n0\r\n\r\n"
    await until(lambda: connection.wire.sent.endswith(end))
    assert len(connection.wire.pieces) == (1 if setting == "1" else 5)
    await connection.end()


async def test_an_answer_of_more_than_64_kib_is_written_while_it_is_sent() -> None:
    connection = Connection(app=Streamer())
    count = GATHERED // 4
    await connection.wire.receive(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % count)
    await until(lambda: connection.wire.sent.endswith(b"\r\n0\r\n\r\n"))
    assert max(len(piece) for piece in connection.wire.pieces) <= GATHERED + 100
    await connection.end()


async def test_an_answer_is_written_before_its_connection_becomes_a_websocket() -> None:
    connection = Connection()
    transport = connection.wire.protocol.transport
    transport.write(b"answer")
    assert connection.wire.sent == b""
    transport.leave()  # as the WebSocket's transport has it do
    assert connection.wire.sent == b"answer"
    await connection.end()
