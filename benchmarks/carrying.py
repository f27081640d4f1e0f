"""A process of the workload between processes: publishes, or is a member and reads.

Run by the harness: ``python -m benchmarks.carrying CONTENDER CONTROL``; the variable of
`benchmarks.engine.URL` says where the server is.
"""

import asyncio
import os
import socket
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from statistics import median
from typing import Any

import uvloop

from .control import decode, encode
from .engine import URL

__all__ = ["CARRIERS", "Carrier"]

CONCURRENT = 64  # publishes that are under way at a time
BATCH = 50  # joins at a time; channels_redis has 100 connections and no more
LATEST = 20.0  # seconds after which a message counts as lost
PAUSE = 0.002  # seconds between two messages whose latency is measured
TEXT = "x" * 100
KEPT = "kept"  # what groups with a history begin with


class Carrier(ABC):
    """One library, in one process.

    Args:
        url: of the server.

    Attributes:
        heard: how many messages came.
        delays: nanoseconds that each was under way, of those that carry their time.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.heard = 0
        self.delays: list[int] = []

    @abstractmethod
    async def open(self) -> None:
        """Connect."""

    @abstractmethod
    async def join(self, group: str) -> None:
        """Be a member of a group, once more."""

    @abstractmethod
    async def send(self, group: str, text: str) -> None:
        """Send a text to all members of a group."""

    def take(self, text: str) -> None:
        """Count what came."""
        self.heard += 1
        if text[0] != "x":
            self.delays.append(time.monotonic_ns() - int(text.partition(" ")[0]))


class Ours(Carrier):
    """asgi_notify's layer."""

    async def open(self) -> None:
        from asgi_notify import layer_from_url

        url = self.url.replace("redis", "valkey", 1)
        options = f"history={KEPT}*&history_size=100&capacity=10000&timeout=15&probe_interval=5"
        self._layer = layer_from_url(f"{url}?{options}")
        await self._layer.open()
        self._tasks: list[asyncio.Task[None]] = []

    async def join(self, group: str) -> None:
        mailbox = await self._layer.attach()
        info = {"name": "x" * 20} if group.startswith("present") else None
        await self._layer.group_add(group, mailbox.channel, info=info)
        self._tasks.append(asyncio.create_task(self._read(mailbox)))

    async def _read(self, mailbox: Any) -> None:
        while True:
            while (entry := mailbox.pop()) is not None:
                if entry.message["type"] == "text.message":  # no gap, which counts as lost
                    self.take(entry.message["text"])
            await mailbox.wait()

    async def send(self, group: str, text: str) -> None:
        await self._layer.group_send(group, {"type": "text.message", "text": text})


class Channels(Carrier):
    """One of channels_redis' layers."""

    async def open(self) -> None:
        from channels_redis.core import RedisChannelLayer

        self._layer: Any = RedisChannelLayer(hosts=[self.url], capacity=100_000)
        self._tasks: list[asyncio.Task[None]] = []

    async def join(self, group: str) -> None:
        channel = await self._layer.new_channel()
        await self._layer.group_add(group, channel)
        self._tasks.append(asyncio.create_task(self._read(channel)))

    async def _read(self, channel: str) -> None:
        while True:
            self.take((await self._layer.receive(channel))["text"])

    async def send(self, group: str, text: str) -> None:
        await self._layer.group_send(group, {"type": "text.message", "text": text})


class PubSub(Channels):
    """The other one."""

    async def open(self) -> None:
        from channels_redis.pubsub import RedisPubSubChannelLayer

        self._layer = RedisPubSubChannelLayer(hosts=[self.url])
        self._tasks = []


class Glide(Carrier):
    """The client library alone: the least that a message between processes can cost."""

    async def open(self) -> None:
        from glide import GlideClient, GlideClientConfiguration, NodeAddress

        host, _, port = self.url.removeprefix("redis://").partition(":")
        single = GlideClientConfiguration
        self._client = await GlideClient.create(single([NodeAddress(host, int(port))]))
        self._subscriber = await GlideClient.create(
            single(
                [NodeAddress(host, int(port))],
                pubsub_subscriptions=single.PubSubSubscriptions({}, self._hear, None),
            )
        )

    def _hear(self, message: Any, context: object) -> None:
        self.take(message.message.decode())

    async def join(self, group: str) -> None:
        await self._subscriber.subscribe({group}, 5000)

    async def send(self, group: str, text: str) -> None:
        await self._client.publish(text, group)


CARRIERS: dict[str, type[Carrier]] = {
    "ours_valkey": Ours,
    "channels_redis": Channels,
    "channels_pubsub": PubSub,
    "glide": Glide,
}
"""By contender."""


async def join(carrier: Carrier, group: str, members: int = 1, groups: int = 1) -> dict[str, Any]:
    """Be so many members of a group, or of each of several."""
    names = [group] if groups == 1 else [f"{group}{number}" for number in range(groups)]
    joins = [name for name in names for _ in range(members)]
    for start in range(0, len(joins), BATCH):
        await asyncio.gather(*map(carrier.join, joins[start : start + BATCH]))
    return {}


async def publish(carrier: Carrier, group: str, count: int, groups: int = 1) -> dict[str, Any]:
    """Publish so often, some at a time; to several groups in turn."""
    numbers = iter(range(count))

    async def some() -> None:
        for number in numbers:
            name = group if groups == 1 else f"{group}{number % groups}"
            await carrier.send(name, TEXT)

    cpu, began = time.process_time_ns(), time.monotonic()
    await asyncio.gather(*(some() for _ in range(CONCURRENT)))
    seconds = time.monotonic() - began
    return {"per_s": count / seconds, "cpu_us": (time.process_time_ns() - cpu) / count / 1000}


async def pace(carrier: Carrier, group: str, count: int) -> dict[str, Any]:
    """Publish one message at a time, each with the time at which it was sent."""
    for _ in range(count):
        await carrier.send(group, f"{time.monotonic_ns()} ")
        await asyncio.sleep(PAUSE)
    return {}


async def heard(carrier: Carrier, count: int) -> dict[str, Any]:
    """Wait until so many messages came, and say how late they were."""
    until = time.monotonic() + LATEST
    while True:
        if carrier.heard >= count or time.monotonic() > until:
            break
        await asyncio.sleep(0.01)
    delays, lost = sorted(carrier.delays), count - carrier.heard
    carrier.heard, carrier.delays = 0, []
    if not delays:
        return {"lost": lost}
    late = delays[int(len(delays) * 0.99)]
    return {"lost": lost, "p50_ms": median(delays) / 1e6, "p99_ms": late / 1e6}


async def stats(carrier: Carrier) -> dict[str, Any]:
    """What the process has worked."""
    return {"cpu": time.process_time_ns(), "heard": carrier.heard}


COMMANDS: dict[str, Callable[..., Awaitable[dict[str, Any]]]] = {
    "join": join,
    "publish": publish,
    "pace": pace,
    "heard": heard,
    "stats": stats,
}


async def obey(carrier: Carrier, control: socket.socket) -> None:
    """Do what the harness asks for, until it closes its end."""
    await carrier.open()
    reader, writer = await asyncio.open_unix_connection(sock=control)
    async for line in reader:
        command = decode(line)
        try:
            answer = await COMMANDS[command.pop("do")](carrier, **command)
        except Exception as error:  # for the harness to raise
            answer = {"error": f"{type(error).__name__}: {error}"}
        writer.write(encode(answer))
    os._exit(0)  # nobody needs an orderly end


def main() -> None:
    """Be one process of one contender."""
    contender, control = sys.argv[1:]
    carrier = CARRIERS[contender](os.environ[URL])
    uvloop.run(obey(carrier, socket.socket(fileno=int(control))))


if __name__ == "__main__":
    main()
