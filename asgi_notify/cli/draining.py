"""How a server's connections end as soon as it is told to stop, rather than when it has waited."""

import asyncio
import logging
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Thread
from types import FrameType

import anyio

from ..exceptions import LayerClosed
from ..layers.registry import channel_layers
from ..routing.base import unwrap
from ..types import ASGIApp, Receive, Scope, Send
from ..web import refuse
from ..with_worker import WithWorker

__all__ = ["DrainsOnSignal"]

logger = logging.getLogger("asgi_notify.serve")

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class DrainsOnSignal:
    """An application whose channel layers close when the process gets a signal to stop.

    uvicorn tells an application that it shuts down only once all responses are
    complete, which an event stream never is. And it closes its sockets some 100 ms
    after the signal, before each client may have been told to come back. It keeps the
    handlers of its signals in Python's table. So the first signal waits here until the
    layers are closed, and is handed on then; a second one is handed on at once.

    A worker inside ends first, so that its handlers find the layers open, and who
    still listens hears of what they have done.

    Args:
        inner: the application.
    """

    def __init__(self, inner: ASGIApp) -> None:
        self.inner = inner
        self._is_ending = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection, or the life of the server."""
        if scope["type"] == "lifespan":
            await self._live(scope, receive, send)
        elif self._is_ending:
            await refuse(scope, send, LayerClosed("the server is shutting down"))
        else:
            await self.inner(scope, receive, send)

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        _stop_with_parent()
        stopping = anyio.Event()
        async with anyio.create_task_group() as tasks:
            loop = asyncio.get_running_loop()
            with _on_signal(lambda: loop.call_soon_threadsafe(stopping.set)) as hand_on:
                tasks.start_soon(self._drain, stopping, hand_on)
                await self.inner(scope, receive, send)
            tasks.cancel_scope.cancel()

    async def _drain(self, stopping: anyio.Event, hand_on: Callable[[], None]) -> None:
        await stopping.wait()
        self._is_ending = True
        try:
            for part in unwrap(self.inner):
                if isinstance(part, WithWorker):
                    await part.finish()
            await channel_layers.close()
        finally:
            hand_on()


def _stop_with_parent() -> None:
    """Have this process, if it is a worker, told to stop when the one that began it is gone.

    uvicorn's main process tells its workers to stop. Where it is killed, they would serve on,
    and nobody could start the server anew on their port.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        logger.error("the server's main process is gone, so this worker ends")
        os.kill(os.getpid(), signal.SIGTERM)

    Thread(target=watch, name="asgi_notify's look at its parent", daemon=True).start()


@contextmanager
def _on_signal(notify: Callable[[], object]) -> Iterator[Callable[[], None]]:
    """Notify of the first signal; what is yielded has it handled as it would have been."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    held: list[tuple[int, FrameType | None]] = []
    has_come = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal has_come
        if has_come:  # somebody will not wait any longer
            pass_on(number, frame)
            return
        has_come = True
        held.append((number, frame))
        notify()

    def pass_on(number: int, frame: FrameType | None) -> None:
        handler = before[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)

    def hand_on() -> None:
        while held:
            pass_on(*held.pop())

    for number in SIGNALS:
        signal.signal(number, handle)
    try:
        yield hand_on
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
