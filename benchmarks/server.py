"""The server process: one contender under uvicorn, and the publisher beside it.

Run by the harness: ``python -m benchmarks.server FILE WS HTTP CONTROL``. What the
harness says comes over a socket that nobody reads or writes during a measurement.
"""

import asyncio
import gc
import importlib
import os
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol, cast

import uvicorn
import uvloop

from asgi_notify.cli.collecting import CollectsLess

from .control import decode, encode
from .publisher import Job, Publisher

__all__ = ["Serving"]

BACKLOG = 4096  # connections that may wait to be accepted


class Serving(Protocol):
    """What a contender's module brings; ``app`` or ``serve``, and the others if it can."""

    app: Any  # an ASGI application, run by uvicorn

    @staticmethod
    async def serve(listener: socket.socket) -> None:
        """Serve without uvicorn, until cancelled."""

    @staticmethod
    async def publish(group: str, text: str) -> object:
        """Send a text to all clients of a group, as the library's documentation shows."""

    @staticmethod
    async def add_others(count: int) -> None:
        """Make so many more groups, each with a member, that nobody publishes to."""


def main() -> None:
    """Serve until the harness closes its end."""
    file, ws, http, control = sys.argv[1:]
    module = cast(Serving, importlib.import_module(f"benchmarks.contenders.{file}"))
    uvloop.run(_run(module, socket.socket(fileno=int(control)), ws=ws, http=http))


async def _run(module: Serving, control: socket.socket, **protocols: str) -> None:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(BACKLOG)
    serving = asyncio.create_task(_serve(module, listener, protocols))
    obeying = asyncio.create_task(_obey(module, control, listener))
    done, _ = await asyncio.wait({serving, obeying}, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()  # raises what it has failed with
    # Nobody needs an orderly end, which takes seconds with thousands of connections.
    sys.stdout.flush()
    os._exit(0)


async def _serve(module: Serving, listener: socket.socket, protocols: dict[str, Any]) -> None:
    if hasattr(module, "serve"):
        await module.serve(listener)
        return
    app = module.app
    if protocols["ws"].startswith("asgi_notify."):
        app = CollectsLess(app)  # what `asgi-notify serve` runs beside these protocols
    config = uvicorn.Config(
        app,
        **protocols,
        ws_per_message_deflate=False,
        # A client that never writes is cheaper; so no server sends pings.
        ws_ping_interval=None,
        access_log=False,
        log_level="warning",
        backlog=BACKLOG,
    )
    await uvicorn.Server(config).serve(sockets=[listener])


async def _obey(module: Serving, control: socket.socket, listener: socket.socket) -> None:
    reader, writer = await asyncio.open_unix_connection(sock=control)
    publisher = Publisher(module.publish)
    commands: dict[str, Callable[..., Awaitable[dict[str, Any]]]] = {
        "port": lambda: _answer(port=listener.getsockname()[1]),
        "publish": lambda **job: _publish(publisher, Job(**job)),
        "stats": lambda: _stats(publisher),
        "memory": lambda: _answer(bytes=_memory()),
        "shrink_send_buffers": lambda size: _shrink(listener, size),
        "add_others": lambda count: _add_others(module, count),
    }
    async for line in reader:
        command = decode(line)
        try:
            answer = await commands[command.pop("do")](**command)
        except Exception as error:  # for the harness to raise
            answer = {"error": f"{type(error).__name__}: {error}"}
        writer.write(encode(answer))


async def _answer(**content: Any) -> dict[str, Any]:
    return content


async def _publish(publisher: Publisher, job: Job) -> dict[str, Any]:
    publisher.start(job)
    return {}


async def _stats(publisher: Publisher) -> dict[str, Any]:
    cpu = publisher.cpu
    publisher.check()
    return {
        "cpu": cpu,
        "total_cpu": time.process_time_ns(),
        "began": publisher.began,
        "published": publisher.published,
    }


async def _add_others(module: Serving, count: int) -> dict[str, Any]:
    await module.add_others(count)
    return {}


async def _shrink(listener: socket.socket, size: int) -> dict[str, Any]:
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)  # what it accepts inherits it
    return {}


def _memory() -> int:
    """What the process holds in memory, in bytes, after a garbage collection."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])  # proc(5): resident
    return pages * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    main()
