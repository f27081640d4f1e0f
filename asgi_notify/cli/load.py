"""Many WebSocket clients of one server, and what a command says when they cannot connect."""

import errno
import json
from collections.abc import Callable
from typing import Any

import anyio
import click
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import (
    ConnectionClosed,
    InvalidMessage,
    InvalidStatus,
    WebSocketException,
)

from .measure import Listener
from .publisher import CommandPublisher, is_local

__all__ = ["Clients", "explain"]

AT_ONCE = 100  # handshakes; a server has a bound on those that wait
OPEN_TIMEOUT = 10  # seconds
CLOSE_TIMEOUT = 2  # seconds

SERVERS_LIMIT = "if it has too many open files, raise its limit with ulimit -n before it is started"

Take = Callable[[Listener, str], None]


class Clients:
    """The clients, each with a task that reads what comes.

    Use it in ``async with``; leaving closes all connections.

    Args:
        publisher: where the server is.
        take: called with each text that a client receives.
        first_room: the room of the listeners whose room is 0.
    """

    def __init__(self, publisher: CommandPublisher, take: Take, first_room: int) -> None:
        self.publisher = publisher
        self.take = take
        self.first_room = first_room
        self._sockets: list[ClientConnection] = []
        self._refusal: click.ClickException | None = None
        self._tasks = anyio.create_task_group()

    async def __aenter__(self) -> "Clients":
        await self._tasks.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> None:
        self._tasks.cancel_scope.cancel()
        await self._tasks.__aexit__(None, None, None)
        with anyio.CancelScope(shield=True):
            async with anyio.create_task_group() as tasks:
                for socket in self._sockets:
                    tasks.start_soon(socket.close)

    @property
    def size(self) -> int:
        """How many have connected."""
        return len(self._sockets)

    async def connect(self, listeners: list[Listener]) -> None:
        """Connect a client for each of the listeners.

        Raises:
            click.ClickException: one of them cannot connect.
        """
        turns = anyio.Semaphore(AT_ONCE)
        async with anyio.create_task_group() as tasks:
            for listener in listeners:
                await turns.acquire()
                tasks.start_soon(self._open, listener, turns, tasks.cancel_scope)
        if self._refusal is not None:
            raise self._refusal

    async def _open(
        self, listener: Listener, turns: anyio.Semaphore, others: anyio.CancelScope
    ) -> None:
        url = self.publisher.socket(self.first_room + listener.room)
        try:
            socket = await connect(
                url,
                compression=None,
                proxy=None if is_local(url) else True,
                open_timeout=OPEN_TIMEOUT,
                close_timeout=CLOSE_TIMEOUT,
                ping_interval=None,
                max_size=None,
            )
        except (OSError, WebSocketException) as error:
            which = f"client {self.size + 1:,} did not get in at {url}"
            self._refusal = self._refusal or click.ClickException(f"{which}: {explain(error)}")
            others.cancel()
            return
        turns.release()
        self._sockets.append(socket)
        self._tasks.start_soon(self._read, socket, listener)

    async def _read(self, socket: ClientConnection, listener: Listener) -> None:
        try:
            while True:
                self.take(listener, str(await socket.recv()))
        except ConnectionClosed as error:
            # RFC 6455 7.1.5: 1006 stands for a connection that ended without a code.
            listener.close_code = error.rcvd.code if error.rcvd else 1006


def explain(error: Exception) -> str:
    """Why a client could not connect, with the way out."""
    match error:
        case InvalidStatus(response=response):
            reason = _sentence(response.body, response.reason_phrase)
            return f"the server answered {response.status_code}: {reason}"
        case TimeoutError():
            return f"no answer within {OPEN_TIMEOUT} s; {SERVERS_LIMIT}"
        case ConnectionClosed() | ConnectionResetError() | InvalidMessage(__cause__=EOFError()):
            return f"the server ended the connection at once; {SERVERS_LIMIT}"
        case OSError(errno=errno.EMFILE | errno.ENFILE):
            return (
                "too many open files in this process; raise the limit with ulimit -n, "
                "or use fewer --clients"
            )
        case _:
            return str(error) or type(error).__name__


def _sentence(body: bytes | bytearray, otherwise: str) -> str:
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return otherwise
