"""Parts of HTTP answers that are gathered until a turn of the loop ends, and their extension."""

import asyncio
import gc
import weakref
from typing import Any

import pytest
from anyio.lowlevel import checkpoint

from asgi_notify.asgi import DIRECT
from asgi_notify.gathering import GATHERED, WRITES, WRITTEN, turn_of
from asgi_notify.types import Event, Receive, Scope, Send
from tests.wire import HIGH_WATER, Connection, Hearer, until

pytestmark = pytest.mark.anyio

GET = b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # uvicorn's


@pytest.fixture(autouse=True)
def gathers(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tested here is on, also where all other tests are run without it."""
    monkeypatch.delenv("ASGI_NOTIFY_GATHERING", raising=False)


def chunk(body: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(body), body)


class Streamer(Hearer):
    """Begins an answer to each request, and leaves it to the test to go on with it."""

    def __init__(self, *headers: tuple[bytes, bytes]) -> None:
        super().__init__()
        self.headers = list(headers)
        self.sends: list[Send] = []
        self.offers: list[dict[str, Any]] = []
        self.may_end = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self.offers.append((scope.get("extensions") or {}).get(DIRECT, {}))
        if self.headers is not None:
            await send({"type": "http.response.start", "status": 200, "headers": self.headers})
        self.sends.append(send)
        await self.may_end.wait()

    async def part(self, body: bytes, which: int = -1) -> None:
        await self.sends[which](part(body))

    def take(self, body: Any, which: int = -1) -> bool:
        return bool(self.offers[which]["send_body"](body))

    async def end(self, body: bytes = b"", which: int = -1) -> None:
        await self.sends[which]({"type": "http.response.body", "body": body})


def part(body: bytes) -> Event:
    return {"type": "http.response.body", "body": body, "more_body": True}


class Stream(Connection):
    """A connection whose request is answered by a stream."""

    def __init__(self, *headers: tuple[bytes, bytes], is_read: bool = True) -> None:
        self.streamer = Streamer(*headers)
        super().__init__(is_read=is_read, app=self.streamer)

    async def begin(self, request: bytes = GET) -> Streamer:
        """Have it begun, and its head read."""
        there = len(self.streamer.sends)
        await self.wire.receive(request)
        await until(lambda: len(self.streamer.sends) > there)
        await checkpoint()
        self.forget()
        return self.streamer

    def forget(self) -> None:
        self.wire.sent = self.wire.waiting = b""
        self.wire.pieces.clear()

    async def end(self) -> None:
        self.streamer.may_end.set()
        await super().end()


async def settled() -> None:
    """Let the turn end, and what it has scheduled."""
    for _ in range(5):
        await checkpoint()


async def test_what_is_sent_in_one_turn_is_one_write() -> None:
    stream = Stream()
    app = await stream.begin()
    await app.part(b"a")
    assert app.take(b"b") is True
    await app.part(b"c")
    assert stream.wire.sent == b""
    await settled()
    assert stream.wire.pieces == [chunk(b"a") + chunk(b"b") + chunk(b"c")]
    await stream.end()


async def test_the_end_of_an_answer_comes_behind_its_parts() -> None:
    stream = Stream()
    app = await stream.begin()
    assert app.take(b"a")
    await app.end(b"last")
    assert not app.take(b"too late")
    await settled()
    assert stream.wire.sent == chunk(b"a") + chunk(b"last") + b"0\r\n\r\n"
    await stream.end()


async def test_a_chunk_is_made_once_for_all_who_are_sent_the_same() -> None:
    streams = [Stream() for _ in range(3)]
    apps = [await stream.begin() for stream in streams]
    body = b"x" * 100
    for app in apps:
        assert app.take(body)
        await app.part(b"x" * 50 + b"x" * 50)
    turn: Any = turn_of(asyncio.get_running_loop())
    assert list(turn._chunks) == [body]
    await settled()
    assert turn._chunks == {}
    for stream in streams:
        assert stream.wire.sent == 2 * chunk(body)
        await stream.end()


@pytest.mark.parametrize("body", ["text", bytearray(b"a"), None, b""])
async def test_only_bytes_that_are_a_part_are_taken(body: Any) -> None:
    stream = Stream()
    app = await stream.begin()
    assert app.take(body) is False  # an empty chunk would be the end
    await settled()
    assert stream.wire.sent == b""
    await stream.end()


async def test_an_empty_part_does_not_end_the_answer() -> None:
    stream = Stream()
    app = await stream.begin()
    await app.part(b"")
    await app.part(b"a")
    await settled()
    assert stream.wire.sent == chunk(b"a")
    await stream.end()


async def test_nothing_is_taken_before_the_answer_has_begun() -> None:
    stream = Stream()
    stream.streamer.headers = None  # type: ignore[assignment]  # it does not begin
    app = await stream.begin()
    assert not app.take(b"a")
    await app.sends[0]({"type": "http.response.start", "status": 200, "headers": []})
    assert app.take(b"a")
    await settled()
    assert stream.wire.sent.endswith(b"\r\n\r\n" + chunk(b"a"))
    await stream.end()


async def test_what_has_a_length_is_sent_without_chunks() -> None:
    stream = Stream((b"content-length", b"2"))
    app = await stream.begin()
    assert not app.take(b"a")
    await app.part(b"a")
    await app.end(b"b")
    await settled()
    assert stream.wire.sent == b"ab"
    await stream.end()


@pytest.mark.parametrize("request_line", [b"GET / HTTP/1.0", b"HEAD / HTTP/1.1"])
async def test_what_has_no_chunks_is_not_offered_anything(request_line: bytes) -> None:
    stream = Stream()
    app = await stream.begin(request_line + b"\r\nHost: x\r\n\r\n")
    assert app.offers == [{}]
    await app.part(b"a")
    await app.end()
    await settled()
    assert (b"a" in stream.wire.sent) is request_line.startswith(b"GET")
    await stream.end()


async def test_a_connection_that_is_to_be_closed_is_closed_behind_the_end() -> None:
    stream = Stream()
    app = await stream.begin(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert app.take(b"a")
    await app.end()
    assert stream.wire.is_closing()
    assert stream.wire.sent == chunk(b"a") + b"0\r\n\r\n"
    await stream.end()


async def test_64_kib_are_not_kept_waiting_and_others_have_their_turn() -> None:
    stream = Stream()
    app = await stream.begin()
    big = bytes(GATHERED)
    assert app.take(big)
    assert not app.take(b"a")
    assert stream.wire.sent == b""  # for it is written in its turn, as of any other client
    await app.part(b"b")
    assert stream.wire.sent == chunk(big) + chunk(b"b")
    assert app.take(b"c")
    await settled()
    assert stream.wire.sent.endswith(chunk(b"b") + chunk(b"c"))
    await stream.end()


async def test_what_was_too_much_for_one_turn_is_taken_again_in_the_next() -> None:
    stream = Stream()
    app = await stream.begin()
    assert app.take(bytes(GATHERED))
    assert not app.take(b"a")
    stream.wire.read = lambda size=None: None  # type: ignore[method-assign]  # it resumes nothing
    await settled()
    assert app.take(b"a")
    await stream.end()


@pytest.mark.parametrize("size", [1, GATHERED])
async def test_a_large_group_is_not_written_in_one_callback(size: int) -> None:
    count = WRITES + 10 if size == 1 else WRITTEN // GATHERED + 10
    streams = [Stream() for _ in range(count)]
    apps = [await stream.begin() for stream in streams]
    body = bytes(size)
    for app in apps:
        assert app.take(body)
    await checkpoint()
    written = [stream for stream in streams if stream.wire.sent]
    assert 0 < len(written) < count
    await until(lambda: all(stream.wire.sent == chunk(body) for stream in streams))
    for stream in streams:
        await stream.end()


async def test_send_waits_for_a_client_that_does_not_read() -> None:
    stream = Stream()
    app = await stream.begin()
    stream.wire.is_read = False
    await app.part(bytes(2 * HIGH_WATER))
    await settled()
    assert not app.take(b"a")
    sending = [asyncio.create_task(app.part(body)) for body in (b"b", b"c")]
    await settled()
    assert not any(task.done() for task in sending)
    stream.wire.is_read = True
    stream.wire.read()
    assert not app.take(b"d")  # those that wait come first
    await asyncio.wait(sending)
    assert app.take(b"e")
    await settled()
    assert stream.wire.sent.endswith(b"".join(map(chunk, (b"b", b"c", b"e"))))
    await stream.end()


async def test_nothing_is_taken_for_a_client_that_does_not_read_until_it_does() -> None:
    stream = Stream()
    app = await stream.begin()
    stream.wire.is_read = False
    taken = 0
    while app.take(bytes(1000)):
        taken += 1
        await settled()
        assert taken < 100
    assert HIGH_WATER < len(stream.wire.waiting) < HIGH_WATER + 2000
    stream.wire.read(100)
    assert not app.take(b"a")
    stream.wire.read()
    assert app.take(b"a")
    await stream.end()


async def test_a_client_that_is_gone_is_sent_nothing() -> None:
    stream = Stream()
    app = await stream.begin()
    assert app.take(b"a")
    stream.wire.abort()
    app.take(b"b")  # it goes nowhere, whatever the answer: the protocol has not been told yet
    await settled()
    assert not app.take(b"c")
    await app.part(b"d")
    assert stream.wire.sent == b""
    await stream.end()


async def test_what_was_sent_before_the_other_side_ended_comes_before_the_end() -> None:
    stream = Stream()
    app = await stream.begin()
    assert app.take(b"a")
    stream.wire.protocol.eof_received()
    assert not app.take(b"b")
    assert stream.wire.sent == chunk(b"a")
    await stream.end()


async def test_an_application_that_ends_within_its_answer_closes_behind_what_it_sent() -> None:
    stream = Stream()
    app = await stream.begin()
    take = app.offers[0]["send_body"]
    assert take(b"a")
    app.may_end.set()
    await until(stream.wire.is_closing)
    assert not take(b"b")
    assert stream.wire.sent == chunk(b"a")
    await stream.end()


async def test_each_answer_of_a_connection_takes_its_own_parts() -> None:
    stream = Stream()
    app = await stream.begin(GET + GET)
    first = app.offers[0]["send_body"]
    assert first(b"1")
    assert len(app.sends) == 1
    await app.end()
    await until(lambda: len(app.sends) == 2)
    await settled()
    stream.forget()
    second = app.offers[1]["send_body"]
    assert not first(b"of an answer that is over")
    assert second(b"2")
    with pytest.raises(RuntimeError):  # as of the server's own
        await app.part(b"of an answer that is over", 0)
    assert second(b"3")
    await settled()
    assert stream.wire.sent == chunk(b"2") + chunk(b"3")
    await stream.end()


async def test_a_request_that_is_no_request_ends_the_stream_behind_what_was_sent() -> None:
    stream = Stream()
    app = await stream.begin()
    assert app.take(b"a")
    await stream.wire.receive(b"no request\r\n\r\n")
    assert not app.take(b"b")
    assert stream.wire.sent.startswith(chunk(b"a"))
    await stream.end()


async def test_the_offer_names_the_send_of_the_server_until_the_application_has_ended() -> None:
    stream = Stream()
    app = await stream.begin()
    assert app.scope is not None
    assert set(app.scope["extensions"]) == {DIRECT}
    assert app.offers[0]["send"] == app.sends[0]
    await stream.end()
    assert app.offers == [{}]


async def test_nothing_of_an_answer_is_kept_for_the_next_request() -> None:
    stream = Stream()
    app = await stream.begin()
    await app.end()
    app.may_end.set()
    transport = stream.wire.protocol.transport
    await until(lambda: transport.answer is None)
    assert not stream.wire.is_closing()
    assert transport.taken is None
    await stream.end()


async def test_a_setting_turns_it_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASGI_NOTIFY_GATHERING", "0")
    stream = Stream()
    app = await stream.begin()
    assert app.offers == [{}]
    await app.part(b"a")
    await app.part(b"b")
    assert stream.wire.pieces == [chunk(b"a"), chunk(b"b")]
    await stream.end()


async def test_a_connection_leaves_nothing_behind() -> None:
    gc.collect()
    gc.disable()
    try:
        stream = Stream()
        app = await stream.begin()
        assert app.take(b"a")
        gone = weakref.ref(stream.wire.protocol)
        await stream.end()
        stream.wire.protocol = app.scope = None
        app.sends.clear()
        await settled()
        assert gone() is None  # with no help of the garbage collector
    finally:
        gc.enable()
