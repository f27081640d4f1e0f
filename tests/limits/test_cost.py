"""What limits cost those who keep to them, and what refusals cost, counted in calls.

Where a bound is met, the comment says what was counted when it was set.
"""

import asyncio
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from anyio.lowlevel import checkpoint

from asgi_notify import AsyncWebsocketConsumer, InMemoryChannelLayer, Limited, Limits, Settings
from asgi_notify.app import make_application
from asgi_notify.types import ASGIApp
from tests.consumers.harness import CONNECT, DirectWire, Wire, left, text
from tests.limits.harness import socket

LIMITS = Limits(connects_per_second=100_000, frames_per_second=100_000)


class Quiet(AsyncWebsocketConsumer):
    """Hears, and says nothing."""

    channel_layer = InMemoryChannelLayer()


def calls_of(run: Callable[[], object]) -> int:
    """How many functions of Python are called meanwhile."""
    calls = 0

    def count(frame: Any, event: str, argument: Any) -> None:
        nonlocal calls
        calls += event == "call"

    old = sys.getprofile()
    sys.setprofile(count)
    try:
        run()
    finally:
        sys.setprofile(old)
    return calls


def calls_of_connection(app: ASGIApp, messages: int) -> int:
    async def main() -> None:
        wire = socket()
        running = asyncio.ensure_future(wire.run(app))
        while not wire.sent:
            await checkpoint()
        for _ in range(messages):
            wire.tell(text("."))
            before = wire.received
            while wire.received == before:
                await checkpoint()
        wire.tell(left())
        await running

    def run() -> None:
        with asyncio.Runner() as runner:
            runner.run(main())

    run()  # the first fills caches
    return calls_of(run)


@pytest.fixture
def layer() -> InMemoryChannelLayer:
    return InMemoryChannelLayer()


def test_a_connection_within_the_limits_takes_few_calls_more(layer: InMemoryChannelLayer) -> None:
    app = Quiet.as_asgi(channel_layer=layer)
    bare = calls_of_connection(app, 0)
    limited = calls_of_connection(Limited(app, LIMITS), 0)
    print(f"a connection takes {bare} calls, and {limited} within limits")
    assert limited - bare <= 40  # 32, of 1152


def test_a_message_within_the_limits_takes_few_calls_more(layer: InMemoryChannelLayer) -> None:
    app = Quiet.as_asgi(channel_layer=layer)

    def of_message(app: ASGIApp) -> float:
        return (calls_of_connection(app, 200) - calls_of_connection(app, 0)) / 200

    bare, limited = of_message(app), of_message(Limited(app, LIMITS))
    print(f"a message takes {bare} calls, and {limited} within limits")
    assert limited - bare <= 8  # 7, of 86


@pytest.mark.parametrize(
    "limits",
    [
        Limits(connections=1),
        Limits(connections_per_address=1),
        replace(LIMITS, connects_per_second=0.001),
    ],
    ids=["all", "address", "rate"],
)
def test_a_refusal_costs_less_than_what_it_refuses(
    limits: Limits, layer: InMemoryChannelLayer
) -> None:
    app = Quiet.as_asgi(channel_layer=layer)
    bare = calls_of_connection(app, 0)
    limited = Limited(app, limits)

    async def main() -> int:
        first = socket()
        running = asyncio.ensure_future(first.run(limited))
        while not first.sent:
            await checkpoint()

        def refuse() -> None:
            wire = Wire()
            wire.scope = first.scope
            run = limited(wire.scope, wire.receive, wire.send)
            with pytest.raises(StopIteration):
                run.send(None)
            assert wire.sent

        refuse()
        calls = calls_of(refuse)
        first.tell(left())
        await running
        return calls

    calls = asyncio.run(main())
    print(f"a connection takes {bare} calls, a refusal {calls}")
    assert calls <= bare / 10  # 59, of 1152


def test_what_is_only_passed_on_still_goes_at_once() -> None:
    async def main() -> None:
        layer = InMemoryChannelLayer()
        wire = DirectWire(CONNECT, path="/notifications/1/")
        wire.scope.update({"client": ("203.0.113.7", 1), "query_string": b""})
        running = asyncio.ensure_future(wire.run(make_application(Settings(), layer=layer)))
        while not wire.sent:
            await checkpoint()
        while not wire.taken:  # until the consumer sleeps
            await layer.group_send("user_1", {"type": "send.notification", "data": "now"})
            await checkpoint()
        wire.tell(left())
        await running

    asyncio.run(asyncio.wait_for(main(), 10))
