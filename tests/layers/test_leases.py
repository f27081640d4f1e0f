"""What a process owes the engine of those who left, however long the engine takes."""

import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import anyio
import pytest

from asgi_notify.layers import leases
from asgi_notify.layers.hub import Hub
from asgi_notify.layers.leases import Leases

pytestmark = pytest.mark.anyio


class SlowEngine:
    """An engine that takes its time for the first leave, until it is let go on."""

    def __init__(self) -> None:
        self.begun, self.go_on = anyio.Event(), anyio.Event()
        self.left: list[str] = []
        self.asked: set[str] = set()

    async def enter(self, lease: object, seconds: float) -> bool:
        return True

    async def leave(self, group: str, channel: str, grace: float) -> None:
        self.begun.set()
        await self.go_on.wait()
        self.left.append(channel)

    async def gone(self, groups: Collection[str], grace: float) -> list[Any]:
        self.asked.update(groups)
        return []


@contextmanager
def present(engine: SlowEngine) -> Iterator[tuple[Leases, Hub, str]]:
    """Leases of a process with one member in a group."""
    hub = Hub(lambda channel: 100, 60.0)

    async def announce(*_: object) -> None:
        pass

    held = Leases(
        hub, engine, announce, lambda *_: b"", lambda *_: None, time.monotonic, 0.05  # type: ignore[arg-type]
    )  # fmt: skip
    mailbox = hub.attach("one", "disconnect")
    hub.group_add("room", mailbox.channel)
    yield held, hub, mailbox.channel


async def test_a_leave_that_takes_longer_than_the_sweep_is_reported_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(leases, "SWEEP", 0.01)
    engine = SlowEngine()
    with present(engine) as (held, _, channel), anyio.fail_after(10):
        await held.enter("room", channel, None, None)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(held.sweep)
            held.left("room", channel)
            await engine.begun.wait()
            await anyio.sleep(0.1)  # many times the sweep
            engine.go_on.set()
            while not (engine.left and engine.asked):  # noqa: ASYNC110
                await anyio.sleep(0.005)
            tasks.cancel_scope.cancel()
    assert engine.left == [channel]
    assert engine.asked == {"room"}


async def test_a_leave_is_reported_though_who_reported_it_is_cancelled() -> None:
    engine = SlowEngine()
    with present(engine) as (held, _, channel), anyio.fail_after(10):
        await held.enter("room", channel, None, None)
        held.left("room", channel)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(held.enter, "room", channel, None, None)
            await engine.begun.wait()
            tasks.cancel_scope.cancel()
        engine.go_on.set()
        await held.settle()
    assert engine.left == [channel]
    assert engine.asked == {"room"}


async def test_what_is_cleared_while_it_is_reported_stays_cleared() -> None:
    engine = SlowEngine()
    with present(engine) as (held, _, channel), anyio.fail_after(10):
        await held.enter("room", channel, None, None)
        held.left("room", channel)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(held.settle)
            await engine.begun.wait()
            held.clear()
            engine.go_on.set()
    assert engine.asked == set()
