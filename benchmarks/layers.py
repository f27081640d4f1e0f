"""The process of the workload without sockets: sends to groups, and empties what they filled.

Run by the harness: ``python -m benchmarks.layers CONTENDER CONTROL``.
"""

import gc
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from statistics import median
from typing import Any

import uvloop

from asgi_notify import InMemoryChannelLayer

from .control import decode, encode

__all__ = ["Layer"]

Send = Callable[[], Awaitable[object]]
Empty = Callable[[], Awaitable[None]]
Layer = Callable[[int], Awaitable[tuple[Send, Empty]]]
"""Makes a group of so many members: what sends to it, and what empties its mailboxes."""

DELIVERIES = 400_000  # at least; over all sends of one size
MESSAGE = {"type": "text.message", "text": "x" * 128}


async def ours(members: int) -> tuple[Send, Empty]:
    """A group of the layer of asgi_notify."""
    layer = InMemoryChannelLayer()
    mailboxes = [await layer.attach() for _ in range(members)]
    for mailbox in mailboxes:
        await layer.group_add("group", mailbox.channel)

    async def empty() -> None:
        for mailbox in mailboxes:
            mailbox.pop()

    return lambda: layer.group_send("group", MESSAGE), empty


async def channels(members: int) -> tuple[Send, Empty]:
    """A group of the layer of Django Channels."""
    from channels.layers import InMemoryChannelLayer as ChannelsLayer

    layer = ChannelsLayer()
    names = [await layer.new_channel() for _ in range(members)]
    for name in names:
        await layer.group_add("group", name)

    async def empty() -> None:
        for name in names:
            await layer.receive(name)

    return lambda: layer.group_send("group", MESSAGE), empty


LAYERS: dict[str, tuple[Layer, int]] = {"ours_async": (ours, 1), "channels": (channels, 20)}
"""By contender, with how many times fewer deliveries will do."""


async def measure(layer: Layer, members: int, deliveries: int) -> float:
    """What one send costs per member, in nanoseconds: the median of many sends."""
    send, empty = await layer(members)
    gc.freeze()  # collections look at what the sends leave, not at what was set up
    times: list[int] = []
    for _ in range(max(5, deliveries // members)):
        began = time.perf_counter_ns()
        await send()
        times.append(time.perf_counter_ns() - began)
        await empty()
    gc.unfreeze()
    return median(times) / members


def main() -> None:
    """Measure what the harness asks for, until it closes its end."""
    contender, control = sys.argv[1:]
    layer, divisor = LAYERS[contender]
    with socket.socket(fileno=int(control)) as harness:
        for line in harness.makefile("rb"):
            members: Any = decode(line)["members"]
            cost = uvloop.run(measure(layer, members, DELIVERIES // divisor))
            harness.sendall(encode({"ns_per_member": cost}))
            gc.collect()


if __name__ == "__main__":
    main()
