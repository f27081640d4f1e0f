"""The examples of workers and of other protocols work as their docstrings say."""

import logging
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import anyio
import httpx
import pytest
from anyio.abc import SocketStream
from anyio.streams.buffered import BufferedByteReceiveStream
from websockets.sync.client import connect

from asgi_notify import Event, InMemoryChannelLayer, channel_layers
from examples import line_protocol
from examples.line_protocol import Chat, application, serve_lines
from tests.servers import Server

WAIT = 10  # seconds until a frame that is on its way counts as lost


# A worker in the server's process.

PICTURE = b"P5 8 4 255\nABCDEFGHIJKLMNOPQRSTUVWXYZ012345"


@pytest.fixture
def server() -> Iterator[Server]:
    name = "examples.worker_thumbnails:application"
    server = Server("uvicorn-websockets-sansio", name)
    arguments = ["serve", name, "--worker", "thumbnails", "--port", str(server.port)]
    server._command = [sys.executable, "-m", "asgi_notify", *arguments]
    with server:
        yield server


@pytest.mark.slow
def test_the_worker_makes_a_thumbnail_and_tells_its_user_alone(server: Server) -> None:
    with (
        connect(f"{server.ws}/notifications/42/") as socket,
        connect(f"{server.ws}/notifications/7/") as other,
    ):
        assert httpx.post(f"{server.http}/users/42/pictures/", content=PICTURE).status_code == 202
        place = socket.recv(WAIT)
        assert isinstance(place, str)
        other.send("ping")
        assert other.recv(WAIT) == "pong"
    thumbnail = httpx.get(server.http + place)
    assert thumbnail.content == b"P5 2 1 255\nAE"
    assert httpx.get(f"{server.http}/thumbnails/none/").status_code == 404


@pytest.mark.slow
def test_a_picture_that_fails_is_logged_and_the_next_is_made(server: Server) -> None:
    with connect(f"{server.ws}/notifications/42/") as socket:
        for picture in b"no picture", PICTURE:
            httpx.post(f"{server.http}/users/42/pictures/", content=picture).raise_for_status()
        assert str(socket.recv(WAIT)).startswith("/thumbnails/")
    exit = server.stop()
    assert exit.output.count("thumbnails.generate failed") == 1
    assert exit.output.count("ValueError: the picture is no binary PGM") == 1
    assert "reading thumbnails; up to 10 messages of each at once" in exit.output
    assert "reading no more" in exit.output
    assert exit.seconds < 5


# Lines over TCP.


@pytest.fixture
def layer(monkeypatch: pytest.MonkeyPatch) -> InMemoryChannelLayer:
    layer = InMemoryChannelLayer()
    monkeypatch.setattr(channel_layers, "_layers", {"default": layer})
    return layer


class Client:
    """One TCP client that reads and writes lines."""

    def __init__(self, stream: SocketStream) -> None:
        self.stream = stream
        self._lines = BufferedByteReceiveStream(stream)

    async def say(self, text: str) -> None:
        """Send a line."""
        await self.stream.send(f"{text}\r\n".encode())

    async def hear(self) -> str:
        """The next line."""
        with anyio.fail_after(WAIT):
            return (await self._lines.receive_until(b"\n", 2000)).decode()


@asynccontextmanager
async def listening() -> AsyncIterator[int]:
    """The server runs inside the block; its port."""
    async with anyio.create_task_group() as tasks:
        yield await tasks.start(serve_lines, application, 0)
        tasks.cancel_scope.cancel()


@asynccontextmanager
async def client(port: int) -> AsyncIterator[Client]:
    """A client that was greeted; it leaves at the end of the block."""
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        visitor = Client(stream)
        assert await visitor.hear() == "Welcome. Say bye to leave."
        yield visitor


@pytest.fixture
def leaving(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The channels of those whose leaving was handled."""
    channels: list[str] = []
    handle = Chat.line_disconnect

    async def line_disconnect(self: Chat, event: Event) -> None:
        channels.append(self.channel_name)
        await handle(self, event)

    monkeypatch.setattr(Chat, "line_disconnect", line_disconnect)
    return channels


@pytest.mark.anyio
@pytest.mark.parametrize(
    "way", ["bye", "close", "half a line", "a line without end", "a long line"]
)
async def test_two_clients_chat_and_the_one_that_leaves_is_gone_once(
    layer: InMemoryChannelLayer, leaving: list[str], way: str
) -> None:
    async with listening() as port, client(port) as ann:
        async with client(port) as bob:
            await bob.say("hello")
            assert await ann.hear() == "hello"
            assert await bob.hear() == "hello"
            await ann.say("hi, bob \N{WAVING HAND SIGN}")
            for visitor in ann, bob:
                assert await visitor.hear() == "hi, bob \N{WAVING HAND SIGN}"
            if way == "bye":
                await bob.stream.send(b"bye\ntoo late\n")
            elif way == "half a line":
                await bob.stream.send(b"good")
            elif way == "a line without end":
                await bob.stream.send(b"o" * 2000)
            elif way == "a long line":
                await bob.stream.send(b"o" * 2000 + b"\n")
            else:
                await bob.stream.aclose()
            if way != "half a line":
                assert await ann.hear() == "(somebody has left)"
        if way == "half a line":
            assert await ann.hear() == "(somebody has left)"
        await ann.say("alone")
        assert await ann.hear() == "alone"
        assert len(leaving) == 1
        assert len(list(layer.hub.members("chat"))) == 1
    assert len(leaving) == 2
    assert list(layer.hub.members("chat")) == []
    assert layer.hub.attached == frozenset()


@pytest.mark.anyio
async def test_an_error_of_a_handler_reaches_the_server_and_ends_that_client_alone(
    layer: InMemoryChannelLayer,
    leaving: list[str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def fail(self: Chat, text: str) -> None:
        raise KeyError("no such word")

    async with listening() as port, client(port) as ann, client(port) as bob:
        with monkeypatch.context() as patch:
            patch.setattr(Chat, "line_receive", fail)
            await bob.say("hello")
            with pytest.raises(anyio.IncompleteRead):
                await bob.hear()
        assert await ann.hear() == "(somebody has left)"
        await ann.say("alone")
        assert await ann.hear() == "alone"
        assert len(leaving) == 1
    (record,) = [record for record in caplog.records if record.levelno > logging.INFO]
    assert record.name == line_protocol.__name__
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], KeyError)
