"""A layer on an engine of several parts: what one of them does is no matter of the others."""

import re
from collections.abc import Collection
from functools import partial

import anyio
import pytest

from asgi_notify.exceptions import LayerUnavailable
from asgi_notify.layers import History
from asgi_notify.layers.sharded import ShardedEngine
from asgi_notify.layers.shared import EngineChannelLayer

from .double import DoubleEngine, Place
from .tools import Clock, number, read
from .valkey.ear import until

pytestmark = pytest.mark.anyio

HISTORY: dict[str | re.Pattern[str], History] = {"room*": History(size=50, ttl=60)}


class Parts:
    """Three places on which the groups live, and the engines of the latest layer there."""

    def __init__(self, clock: Clock) -> None:
        self.places = {name: Place(clock) for name in ("a", "b", "c")}
        self.engines: dict[str, DoubleEngine] = {}
        self.away: set[str] = set()

    def engine(self) -> ShardedEngine:
        self.engines = {name: DoubleEngine(place) for name, place in self.places.items()}
        for name in self.away:
            self.engines[name].is_cut = True
        return ShardedEngine(self.engines)


@pytest.fixture
def parts(clock: Clock) -> Parts:
    return Parts(clock)


@pytest.fixture
def layer(anyio_backend: str, parts: Parts, clock: Clock) -> EngineChannelLayer:
    return EngineChannelLayer(
        parts.engine, clock=clock, history=HISTORY, timeout=1, presence_lease=1e9
    )


async def test_a_part_that_answers_nothing_holds_up_no_join_at_the_others(
    layer: EngineChannelLayer, parts: Parts
) -> None:
    joined: set[str] = set()

    async def join(channel: str, group: str) -> None:
        try:
            with anyio.fail_after(0.8):
                await layer.group_add(group, channel)
            joined.add(group)
        except (TimeoutError, LayerUnavailable):
            pass

    async def nothing(topics: Collection[str]) -> None:
        await anyio.sleep_forever()

    async with layer:
        mailbox = await layer.attach()
        parts.engines["b"].subscribe = nothing  # type: ignore[method-assign]
        assert layer._link is not None
        part_of = layer._link.engine.part_of
        groups = [f"{kind}{n}" for kind in ("room", "lobby") for n in range(15)]
        for some in (groups[::2], groups[1::2]):  # the second half while the first is waited for
            async with anyio.create_task_group() as joining:
                for group in some:
                    joining.start_soon(partial(join, mailbox.channel, group))
        assert joined == {group for group in groups if part_of(group) != "b"}
        layer.detach(mailbox)


@pytest.mark.parametrize("away", ["a", "b", "c"])  # the process' own topic lives on one of them
async def test_a_part_that_is_away_when_a_process_begins_is_used_when_it_comes(
    layer: EngineChannelLayer, parts: Parts, clock: Clock, away: str
) -> None:
    other = EngineChannelLayer(parts.engine, clock=clock, presence_lease=1e9)
    async with other:
        parts.away = {away}
        async with layer:
            mailbox = await layer.attach()
            assert layer._link is not None
            group = next(
                name
                for name in (f"room{n}" for n in range(100))
                if layer._link.engine.part_of(name) == away
            )
            parts.engines[away].is_cut = False
            with anyio.fail_after(10):
                await until(lambda: layer.state is not None and layer.state.is_up)
                await layer.group_add(group, mailbox.channel)
                await other.group_send(group, number(1))
                assert await read(mailbox) == number(1)
                await other.send(mailbox.channel, number(2))
                assert await read(mailbox) == number(2)
            layer.detach(mailbox)
