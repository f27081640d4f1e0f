"""The protocols for uvicorn, on a transport that only counts: what a client can make them hold."""

import asyncio
import logging
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.util import module_from_spec, spec_from_file_location
from types import ModuleType

import anyio
import pytest
from anyio.lowlevel import checkpoint
from uvicorn.protocols.http import auto, h11_impl, httptools_impl
from uvicorn.protocols.websockets import websockets_sansio_impl

from asgi_notify import bounded
from asgi_notify import uvicorn as ours
from asgi_notify.bounded import LINGER, PORTION
from asgi_notify.uvicorn import MAX_HEAD
from tests.hostile.probes import BINARY, CONT, GOODBYE, PING, TEXT, frame
from tests.wire import HIGH_WATER, READ, Connection, until

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # uvicorn's


@pytest.fixture(autouse=True, params=["1", "0"], ids=["gathered", "ungathered"])
def gathering(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of this holds with messages that are gathered and without."""
    monkeypatch.setenv("ASGI_NOTIFY_GATHERING", request.param)


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A closing connection waits hardly at all."""
    monkeypatch.setattr(bounded, "LINGER", 0.01)


# WebSockets: what is sent to a client that does not read.


async def test_pings_that_are_read_are_answered_one_by_one() -> None:
    connection = Connection()
    await connection.open()
    payloads = [str(number).encode() for number in range(5000)]
    await connection.wire.receive(b"".join(frame(PING, payload) for payload in payloads))
    pongs = b"".join(bytes([0x8A, len(payload)]) + payload for payload in payloads)
    await until(lambda: connection.wire.sent == pongs)
    await connection.end()


async def test_of_pings_that_are_not_read_only_the_last_is_answered() -> None:
    connection = Connection(is_read=False)
    await connection.open()
    most = 0
    for start in range(0, 20_000, 100):
        some = [frame(PING, b"%125d" % number) for number in range(start, start + 100)]
        await connection.wire.receive(b"".join(some))
        most = max(most, len(connection.wire.waiting))
    assert most <= HIGH_WATER + PORTION
    await until(lambda: connection.wire.reads_on)  # all was taken
    connection.wire.read()  # the client has caught up, and the pong is written
    connection.wire.read()
    assert connection.wire.sent.endswith(b"%125d" % 19_999)
    connection.wire.sent = b""
    await connection.wire.receive(frame(PING, b"next"))
    connection.wire.read()
    assert connection.wire.sent == b"\x8a\x04next"
    await connection.fill()
    connection.wire.read()
    connection.wire.read()
    assert b"%125d" % 19_999 not in connection.wire.sent  # not once more
    await connection.end()


async def test_the_answer_to_a_goodbye_is_sent_behind_pings_that_were_not_read() -> None:
    connection = Connection()
    await connection.open()
    await connection.fill()
    await connection.wire.receive(frame(PING, b"ping") + GOODBYE + GOODBYE)
    connection.wire.read()
    assert connection.wire.sent.endswith(b"\x8a\x04ping\x88\x02\x03\xe8")  # once
    await connection.end()
    assert connection.app.heard[-1]["code"] == 1000


async def test_no_pong_follows_the_answer_to_a_goodbye() -> None:
    connection = Connection()
    await connection.open()
    await connection.fill()
    await connection.wire.receive(frame(PING, b"ping"))
    await connection.wire.receive(GOODBYE)
    connection.wire.read()
    assert connection.wire.sent.endswith(b"\x88\x02\x03\xe8")
    assert connection.wire.waiting == b""
    await connection.end()


# WebSockets: what a client says.


async def test_empty_pieces_of_a_message_take_no_memory() -> None:
    connection = Connection()
    await connection.open()
    await connection.wire.receive(frame(TEXT, b"a", fin=False))
    piece = frame(CONT, fin=False) * 500
    await connection.wire.receive(piece)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(20):
            await connection.wire.receive(piece)
            await checkpoint()
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 10_000  # a byte for each piece, where a list takes 8
    await connection.wire.receive(frame(CONT, b"b"))
    connection.app.may_hear.set()
    await until(lambda: connection.app.heard != [])
    assert connection.app.heard[0]["text"] == "ab"
    await connection.end()


@pytest.mark.parametrize(("opcode", "key"), [(TEXT, "text"), (BINARY, "bytes")])
async def test_messages_in_pieces_arrive_whole(opcode: int, key: str) -> None:
    connection = Connection()
    await connection.open()
    connection.app.may_hear.set()
    for pieces in (["a"], ["a", "b"], ["", "", "a"], ["é"[:1], "x" * 70_000, ""], [""]):
        whole = [piece.encode() for piece in pieces]
        frames = [
            frame(CONT if number else opcode, piece, fin=number == len(whole) - 1)
            for number, piece in enumerate(whole)
        ]
        await connection.wire.receive(frame(PING).join(frames))
        await until(lambda: connection.app.heard != [])
        said = connection.app.heard.pop()[key]
        assert type(said) is (str if key == "text" else bytes)
        assert said == ("".join(pieces) if key == "text" else b"".join(whole))
    await connection.end()


async def test_pieces_count_for_the_size_of_a_message() -> None:
    connection = Connection(ws_max_size=1000)
    await connection.open()
    await connection.wire.receive(frame(TEXT, b"." * 500, fin=False))
    await connection.wire.receive(frame(CONT, b"." * 600, fin=False))
    assert connection.wire.sent[:4] == b"\x88" + connection.wire.sent[1:2] + b"\x03\xf1"  # 1009
    await connection.end()


async def test_messages_of_one_read_wait_unparsed_for_an_application_that_is_busy() -> None:
    connection = Connection()
    protocol = await connection.open()
    message = frame(TEXT)
    count = READ // len(message)
    await connection.wire.receive(message * count)
    for _ in range(100):
        await checkpoint()
    assert protocol.queue.qsize() <= PORTION // len(message)
    assert not connection.wire.reads_on
    connection.app.may_hear.set()
    await until(lambda: len(connection.app.heard) == count)
    assert connection.wire.reads_on
    await connection.end()


async def test_nothing_is_read_while_an_application_is_busy() -> None:
    connection = Connection()
    await connection.open()
    await connection.wire.receive(frame(TEXT, b"first"))
    assert not connection.wire.reads_on
    connection.app.may_hear.set()
    await until(lambda: connection.wire.reads_on)
    await connection.end()


async def test_what_comes_while_reading_is_paused_keeps_its_place() -> None:
    connection = Connection()
    protocol = await connection.open()
    messages = [frame(TEXT, b"%d" % number) for number in range(3000)]
    await connection.wire.receive(b"".join(messages))
    protocol.data_received(frame(TEXT, b"3000"))  # a loop may have read it before the pause
    connection.app.may_hear.set()
    await until(lambda: len(connection.app.heard) == 3001)
    assert [event["text"] for event in connection.app.heard] == [str(n) for n in range(3001)]
    await connection.end()


async def test_others_get_their_turn_while_much_is_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded, "TURN", -1)  # each portion takes too long
    connection = Connection()
    await connection.open()
    pings = READ // len(frame(PING))
    await connection.wire.receive(frame(PING) * pings)
    turns = 0
    while len(connection.wire.sent) < 2 * pings:
        assert len(connection.wire.sent) <= (turns + 1) * PORTION
        await checkpoint()
        turns += 1
    assert turns >= READ // PORTION // 2
    await connection.end()


async def test_a_handshake_of_more_than_a_portion_is_one() -> None:
    connection = Connection()
    await connection.open(*[f"X-{number}: {'.' * 7000}" for number in range(5)])
    await until(lambda: connection.wire.reads_on)
    connection.app.may_hear.set()
    await connection.wire.receive(frame(TEXT, b"hello"))
    await until(lambda: connection.app.heard != [])
    assert connection.app.heard[0]["text"] == "hello"
    await connection.end()


async def test_a_handshake_at_the_end_of_a_long_read_is_read_on_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bounded, "TURN", -1)
    connection = Connection()
    await connection.open(before=b"\r\n" * PORTION)
    connection.app.may_hear.set()
    await connection.wire.receive(frame(TEXT, b"hello"))
    await until(lambda: connection.app.heard != [])
    await connection.end()


# WebSockets: ends.


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("is_half", [False, True])
async def test_a_client_that_says_goodbye_and_reads_nothing_is_cut(is_half: bool) -> None:
    connection = Connection()
    protocol = await connection.open()
    await connection.fill()
    if is_half:
        protocol.eof_received()
    else:
        await connection.wire.receive(GOODBYE)
    assert connection.wire.is_closing()
    assert not connection.wire.is_aborted
    await until(lambda: connection.wire.is_aborted)
    await connection.end()


@pytest.mark.usefixtures("at_once")
async def test_a_client_that_says_goodbye_and_reads_slowly_gets_all() -> None:
    connection = Connection()
    await connection.open()
    await connection.fill()
    await connection.wire.receive(GOODBYE)
    end = anyio.current_time() + 10 * bounded.LINGER
    while anyio.current_time() < end:
        connection.wire.read(1)
        await checkpoint()
    assert connection.wire.waiting
    assert not connection.wire.is_aborted
    connection.wire.read()
    assert connection.wire.sent.endswith(b"\x88\x02\x03\xe8")
    await until(lambda: connection.wire.has_ended)
    await anyio.sleep(3 * bounded.LINGER)  # what would have cut it must not find it any more
    assert not connection.wire.is_aborted
    await connection.end()


async def test_a_shutdown_lets_be_who_has_said_goodbye() -> None:
    connection = Connection()
    protocol = await connection.open()
    await connection.fill()
    await connection.wire.receive(GOODBYE)
    protocol.shutdown()  # uvicorn's own raises InvalidState
    connection.wire.read()
    assert connection.wire.sent.endswith(b"\x88\x02\x03\xe8")
    await connection.end()


@pytest.mark.usefixtures("at_once")
async def test_a_shutdown_closes_the_others_and_cuts_who_does_not_read() -> None:
    reader, other = Connection(), Connection()
    (await reader.open()).shutdown()
    protocol = await other.open()
    await other.fill()
    protocol.shutdown()
    assert reader.wire.sent.startswith(b"\x88\x02\x03\xf4")  # 1012
    assert reader.wire.has_ended
    assert not other.wire.has_ended
    await until(lambda: other.wire.is_aborted)
    await reader.end()
    await other.end()


async def test_a_silent_client_that_reads_nothing_is_cut_at_once() -> None:
    connection = Connection(ws_ping_interval=0.01, ws_ping_timeout=0.01)
    await connection.open()
    await connection.fill()
    with anyio.fail_after(LINGER / 2):
        await until(lambda: connection.wire.is_aborted)
    await connection.end()


async def test_a_silent_client_is_told_so_if_it_reads() -> None:
    connection = Connection(ws_ping_interval=0.01, ws_ping_timeout=0.01)
    await connection.open()
    await until(lambda: connection.wire.has_ended)
    assert b"\x03\xf3keepalive ping timeout" in connection.wire.sent  # 1011
    assert not connection.wire.is_aborted
    await connection.end()


# HTTP.

HEAD = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("begin", "unit"),
    [
        (b"GET / HTTP/1.1\r\n", b"X-A: b\r\n"),
        (b"GET / HTTP/1.1\r\nX-A: ", b"b" * 1000),
        (b"GET / HTTP/1.1\r\nX", b"b" * 1000),
        (b"GET /", b"b" * 1000),
        (HEAD + b"1;", b"a" * 1000),
        (HEAD + b"1\r\na\r\n0\r\n", b"X-A: b\r\n"),
        (HEAD + b"1\r\na\r\n0\r\nX-A: ", b"b" * 1000),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\r\n" * 500),
    ],
    ids=["headers", "value", "name", "path", "extension", "trailers", "trailer", "lines"],
)
@pytest.mark.parametrize("block", [1000, READ])
async def test_what_is_no_body_is_bounded(begin: bytes, unit: bytes, block: int) -> None:
    connection = Connection()
    await connection.wire.receive(begin)
    data = unit * (block // len(unit))
    taken = 0
    while not connection.wire.is_closing() and taken < 10 * READ:
        taken += await connection.wire.receive(data)
        await checkpoint()
    await until(connection.wire.is_closing)
    assert taken <= MAX_HEAD + PORTION + READ
    if b"\r\n\r\n" in begin:  # the answer to that may be under way
        assert connection.wire.sent == b""
    else:
        assert connection.wire.sent.startswith(b"HTTP/1.1 400")
    await connection.end()


async def test_a_head_of_nearly_that_size_is_served() -> None:
    connection = Connection()
    connection.app.may_hear.set()
    for size in (MAX_HEAD - 100, 100, MAX_HEAD - 100):
        head = b"GET /a HTTP/1.1\r\nX-A: " + b"b" * size + b"\r\n\r\n"
        await connection.wire.receive(head)
        await until(lambda: connection.wire.sent.endswith(b"/a\r\n0\r\n\r\n"))
        connection.wire.sent = b""
    await connection.end()


async def test_what_stands_between_the_pieces_of_a_long_body_is_not_added_up() -> None:
    connection = Connection()
    connection.app.may_hear.set()
    chunks = 3 * MAX_HEAD // 6
    await connection.wire.receive(HEAD + b"1\r\na\r\n" * chunks + b"0\r\n\r\n")
    await until(lambda: b"200 OK" in connection.wire.sent)
    *events, _disconnect = connection.app.heard
    assert sum(len(event["body"]) for event in events) == chunks
    await connection.end()


async def test_requests_that_wait_for_an_earlier_one_wait_unparsed() -> None:
    connection = Connection()
    http = connection.wire.protocol
    request = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
    count = 5 * PORTION // len(request)
    sent = asyncio.ensure_future(connection.wire.receive(request * count))
    for _ in range(100):
        await checkpoint()
    assert len(http.pipeline) <= PORTION // len(request) + 1
    connection.app.may_hear.set()
    while connection.wire.sent.count(b"200 OK") < count * 4 // 5:
        assert len(http.pipeline) <= 2 * PORTION // len(request)
        await checkpoint()
    sent.cancel()
    with suppress(asyncio.CancelledError):
        await sent
    await connection.end()


async def test_many_requests_at_once_are_all_answered_in_their_order() -> None:
    connection = Connection()
    connection.app.may_hear.set()
    requests = [b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % number for number in range(1500)]
    await connection.wire.receive(b"".join(requests))
    await until(lambda: connection.wire.sent.count(b"200 OK") == len(requests))
    answers = [part.split(b"\r\n")[1] for part in connection.wire.sent.split(b"\r\n\r\n")[1::2]]
    assert answers == [b"/%d" % number for number in range(1500)]
    await connection.end()


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("is_half", [False, True])
async def test_an_answer_that_nobody_reads_does_not_keep_a_connection(is_half: bool) -> None:
    connection = Connection(is_read=False, timeout_keep_alive=100 if is_half else 0.01)  # seconds
    connection.app.may_hear.set()
    await connection.wire.receive(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n")
    if is_half:
        await until(lambda: b"/a" in connection.wire.waiting)
        connection.wire.protocol.eof_received()
    await until(lambda: connection.wire.is_aborted)
    await connection.end()


# A uvicorn that is not the one that this was written for.


@pytest.fixture
def imported(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> Iterator[Callable[[], ModuleType]]:
    """Imports the module once more, beside the one that is in use."""

    def load() -> ModuleType:
        assert ours.__file__ is not None
        spec = spec_from_file_location("asgi_notify.uvicorn_again", ours.__file__)
        assert spec is not None
        assert spec.loader is not None
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    with caplog.at_level(logging.WARNING):
        yield load


async def test_with_the_uvicorn_that_is_here_it_says_nothing(
    imported: Callable[[], ModuleType], caplog: pytest.LogCaptureFixture
) -> None:
    module = imported()
    assert issubclass(module.WebSocketProtocol, websockets_sansio_impl.WebSocketsSansIOProtocol)
    assert issubclass(module.HttpProtocol, httptools_impl.HttpToolsProtocol)
    assert module.HttpProtocol is not httptools_impl.HttpToolsProtocol
    assert caplog.messages == []


@pytest.mark.parametrize("part", ["handle_ping", "pause_writing", "run_asgi", "send"])
async def test_where_uvicorn_lacks_a_part_its_own_class_serves(
    part: str,
    imported: Callable[[], ModuleType],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    theirs = websockets_sansio_impl.WebSocketsSansIOProtocol
    monkeypatch.delattr(theirs, part)
    module = imported()
    assert module.WebSocketProtocol is theirs
    assert module.HttpProtocol is not httptools_impl.HttpToolsProtocol
    (message,) = caplog.messages
    assert message == (
        f"WebSocketsSansIOProtocol of the installed uvicorn has no {part}: it serves as it is, "
        "without what WebSocketProtocol adds"
    )


async def test_where_uvicorn_keeps_something_elsewhere_its_own_class_serves(
    imported: Callable[[], ModuleType],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    theirs = httptools_impl.HttpToolsProtocol
    code = theirs.__init__.__code__
    names = tuple("waiting" if name == "pipeline" else name for name in code.co_names)
    monkeypatch.setattr(theirs.__init__, "__code__", code.replace(co_names=names))
    assert imported().HttpProtocol is theirs
    assert "has no pipeline" in caplog.text


async def test_without_httptools_uvicorns_choice_serves(
    imported: Callable[[], ModuleType],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn.protocols.http.httptools_impl", None)
    monkeypatch.setattr(auto, "AutoHTTPProtocol", h11_impl.H11Protocol)
    assert imported().HttpProtocol is h11_impl.H11Protocol
    assert len(caplog.messages) == 1
