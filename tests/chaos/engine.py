"""A server that carries the messages between processes, and everything that befalls such a one."""

import shutil
from collections import Counter
from functools import partial

import anyio
from anyio.to_thread import run_sync

from tests.chaos.proxy import Address, Proxy
from tests.servers import HOST
from tests.valkey_servers import ValkeyServer

__all__ = ["FAULTS", "Engine"]

FAULTS = (
    "commands cut",
    "subscriptions cut",
    "stop",
    "restart",
    "restart without data",
    "flush",
    "full",
)
"""Its connections are killed, it stands still, starts again, forgets, or has no memory left."""


class Engine:
    """A real Redis or Valkey, and for each server a way to it that fails on its own.

    Args:
        program: to run.
        servers: how many there are.

    Attributes:
        ways: from each server.
        suffered: what has befallen the engine, by kind.
    """

    def __init__(self, program: str, servers: int) -> None:
        # What was answered is in its log, so that a restart can find all of it.
        self._server = ValkeyServer(program, appendonly="yes")
        self.ways = [Proxy(Address(self._server.port), receive_buffer=None) for _ in range(servers)]
        self.suffered: Counter[str] = Counter()
        self._turn = anyio.Lock()  # one trouble at a time: it can only be killed while it runs

    async def begin(self) -> None:
        """Start it, and wait until it answers."""
        await run_sync(self._server.start)

    def url(self, number: int) -> str:
        """Where a server finds it, by way of its own proxy, which serves already."""
        return f"valkey://{HOST}:{self.ways[number].port}/0"

    async def end(self) -> None:
        """End it for good."""
        with anyio.CancelScope(shield=True):
            await run_sync(self._server.__exit__, None, None, None)

    async def suffer(self, kind: str, seconds: float) -> None:
        """Let one of `FAULTS` happen, for so many seconds."""
        async with self._turn:
            self.suffered[kind] += 1
            match kind:
                case "commands cut":
                    await self._admin("CLIENT", "KILL", "TYPE", "normal")
                case "subscriptions cut":
                    await self._admin("CLIENT", "KILL", "TYPE", "pubsub")
                case "flush":
                    await self._admin("FLUSHALL")
                    await self._admin("SCRIPT", "FLUSH")
                case "full":
                    await self._admin("CONFIG", "SET", "maxmemory", "1")
                    await anyio.sleep(seconds)
                    await self._admin("CONFIG", "SET", "maxmemory", "0")
                case "stop":
                    self._server.stop()
                    await anyio.sleep(seconds)
                    self._server.go_on()
                case "restart" | "restart without data":
                    await self._restart(seconds, is_kept=kind == "restart")
                case _:
                    raise ValueError(f"{kind!r} is none of {', '.join(FAULTS)}")

    async def _restart(self, seconds: float, *, is_kept: bool) -> None:
        await run_sync(self._server.kill)
        if not is_kept:
            for left in self._server.folder.iterdir():
                shutil.rmtree(left) if left.is_dir() else left.unlink()
        await anyio.sleep(seconds)
        await self.begin()

    async def _admin(self, *command: str) -> None:
        await run_sync(partial(self._ask, *command))

    def _ask(self, *command: str) -> None:
        with self._server.admin as admin:
            admin.execute_command(*command)
