"""How a server's startup and shutdown open and close what the application needs."""

import logging
from contextlib import AbstractAsyncContextManager

import anyio
from anyio.abc import TaskGroup

from .exceptions import LayerUnavailable
from .types import Receive, Send

__all__ = ["EXIT_TIMEOUT", "serve_lifespan"]

EXIT_TIMEOUT = 30.0  # seconds; what container platforms commonly leave between TERM and KILL

logger = logging.getLogger("asgi_notify.lifespan")


class _Conversation:
    """What is said between startup and shutdown, in a task that may be cancelled."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self.receive, self.send = receive, send
        self.phase = "startup"
        self.error: Exception | None = None
        self.has_ended = anyio.Event()

    async def hold(self) -> None:
        self.phase = "service"
        try:
            await self.send({"type": "lifespan.startup.complete"})
            await self.receive()  # lifespan.shutdown, by the specification
            self.phase = "shutdown"
        except Exception as error:
            self.error = error
        finally:
            self.has_ended.set()


async def serve_lifespan(
    receive: Receive,
    send: Send,
    context: AbstractAsyncContextManager[object],
    *,
    exit_timeout: float = EXIT_TIMEOUT,
) -> None:
    """Enter a context when the server starts, and exit it when the server shuts down.

    What was entered is exited, also when the server cancels instead of asking:
    neither the exit nor the tasks of the context see that cancellation, for at
    most ``exit_timeout`` seconds. A failure is logged once, reported to the
    server and raised, so that whoever runs the application in the same process sees
    the cause. The log has its traceback, unless the server of a layer is away.

    Raises:
        Exception: what the context raised, or the server's ``receive`` and ``send``.
        TimeoutError: the exit took longer than ``exit_timeout``.

    Source: ASGI, "Lifespan Protocol".
    """
    await receive()  # lifespan.startup, by the specification
    server = _Conversation(receive, send)
    failure: Exception | None = None
    async with anyio.create_task_group() as tasks:
        try:
            await _keep_open(context, server, tasks, exit_timeout)
        except Exception as error:
            # Logged here, since a cancellation may follow it.
            if isinstance(error, LayerUnavailable):  # nothing in the code is to blame
                logger.error("failed during %s: %s", server.phase, error)
            else:
                logger.exception("failed during %s", server.phase)
            failure = error
            tasks.cancel_scope.cancel()
    if failure is not None:
        if server.phase != "service":
            message = f"{type(failure).__name__}: {failure}"
            await send({"type": f"lifespan.{server.phase}.failed", "message": message})
        raise failure
    if server.error is not None:
        raise server.error
    await send({"type": "lifespan.shutdown.complete"})


async def _keep_open(
    context: AbstractAsyncContextManager[object],
    server: _Conversation,
    tasks: TaskGroup,
    exit_timeout: float,
) -> None:
    # A scope outside the context, since scopes inside it must close first. It
    # shields from the moment of entry: a task that the context has started
    # would else be cancelled before the exit can make use of it.
    with anyio.CancelScope() as scope:
        async with context:
            scope.shield = True
            tasks.start_soon(server.hold)
            await server.has_ended.wait()
            scope.deadline = anyio.current_time() + exit_timeout
    if scope.cancelled_caught:
        raise TimeoutError(f"the exit took longer than {exit_timeout:g} seconds")
