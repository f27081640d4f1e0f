"""How a worker lives inside a server: from the end of the startup to the shutdown."""

import logging
from collections.abc import Iterable
from functools import partial
from typing import Any

import anyio
from anyio.abc import TaskGroup

from .types import ASGIApp, Event, Receive, Scope, Send
from .worker import Worker

__all__ = ["WithWorker"]

logger = logging.getLogger("asgi_notify.worker")


class WithWorker:
    """An application that handles the messages of channels for as long as it is served.

    A `Worker` begins in the server's event loop when the application has started
    up, and ends before the application shuts down, so that handlers find open
    what was opened for them. An application that does not know the lifespan
    protocol, or not all of it, gets its worker all the same.

    Args:
        inner: the application, to which connections go as they come.
        channels: the names to read, or None: see `Worker`.
        options: further arguments of `Worker`.

    Raises:
        ConfigurationError: see `Worker`.
        InvalidName: a channel cannot be called that.
    """

    def __init__(
        self, inner: ASGIApp, channels: Iterable[str] | None = None, **options: Any
    ) -> None:
        self.inner = inner
        self.channels = Worker(inner, channels, **options).channels
        self._make_worker = partial(Worker, inner, self.channels, **options)
        self._lives: set[_Life] = set()  # one while it is served

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection, or the life of the server."""
        if scope["type"] == "lifespan":
            await self._live(scope, receive, send)
        else:
            await self.inner(scope, receive, send)

    async def finish(self) -> None:
        """Take no more messages, and wait until what runs has ended, as at the shutdown."""
        for life in tuple(self._lives):
            await life.finish_work()

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        life = _Life(self._make_worker(), receive, send)
        self._lives.add(life)
        try:
            await life.run(self.inner, scope)
        finally:
            self._lives.discard(life)


class _Life:
    """Stands between the server and the application, and sees when to begin and to end."""

    def __init__(self, worker: Worker, receive: Receive, send: Send) -> None:
        self._worker = worker
        self._receive, self._send = receive, send
        self._tasks: TaskGroup
        self._is_asked = False  # by the server, to start up
        self._is_answered = False  # by the application
        self._is_up = False  # between the answer and the shutdown
        self._has_worked = anyio.Event()

    async def run(self, app: ASGIApp, scope: Scope) -> None:
        failure: Exception | None = None
        async with anyio.create_task_group() as self._tasks:
            try:
                await app(scope, self.receive, self.send)
            except Exception as error:
                failure = error
            if not self._is_answered:
                # ASGI, "Lifespan": an application that raises now does not know the protocol.
                logger.info("the application takes no part in startup and shutdown: %r", failure)
                failure = None
                await self._start()
            if self._is_up and failure is None:
                await self._finish()
            self._worker.stop()
        if failure is not None:
            raise failure

    async def receive(self) -> Event:
        event = await self._receive()
        self._is_asked = True
        if event["type"] == "lifespan.shutdown":
            await self.finish_work()
            self._is_up = False
        return event

    async def send(self, event: Event) -> None:
        self._is_answered = True
        if event["type"] == "lifespan.startup.complete":
            self._is_up = True
            self._tasks.start_soon(self._work)
        await self._send(event)

    async def finish_work(self) -> None:
        """Stop the worker, and wait for its end if it has begun."""
        self._worker.stop()
        if self._is_up:
            await self._has_worked.wait()

    async def _work(self) -> None:
        try:
            await self._worker.run()
        except Exception:
            # The server would say nothing of it, and goes on to serve.
            logger.exception("the worker failed; its channels are read no more")
        finally:
            self._has_worked.set()

    # What is left to do where the application does not.

    async def _start(self) -> None:
        if not self._is_asked:
            await self.receive()
        await self.send({"type": "lifespan.startup.complete"})

    async def _finish(self) -> None:
        await self.receive()
        await self._send({"type": "lifespan.shutdown.complete"})
