"""Whoever leaves, joins again and resumes from anywhere: all behind the position it is answered
comes, or is told lost, and nothing comes twice that it has not asked for again.

Three members with a policy each, groups with a history of four messages, positions of all ages.
In memory, where groups are forgotten too, and in a process that hears of everything late.
"""

import random
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from asgi_notify.codec import FrozenMessage
from asgi_notify.exceptions import ChannelFull
from asgi_notify.layers import (
    BaseChannelLayer,
    History,
    InMemoryChannelLayer,
    Joined,
    Mailbox,
    Overflow,
)
from asgi_notify.layers.shared import EngineChannelLayer
from asgi_notify.positions import Position
from asgi_notify.types import Message
from tests.examples import examples

from .double import DoubleEngine, Place
from .tools import Clock, number

GROUPS = ["red", "green"]
HISTORY: dict[str | re.Pattern[str], History] = {group: History(size=4) for group in GROUPS}
CAPACITY = 3
POLICIES: list[Overflow] = ["disconnect", "drop_oldest", "drop_newest"]

Step = tuple[Any, ...]

groups = st.sampled_from(GROUPS)
members = st.integers(0, len(POLICIES) - 1)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), groups, st.integers(1, 4)),
        st.tuples(st.just("join"), members, groups, st.none()),
        st.tuples(st.just("join"), members, groups, st.integers(0, 6)),  # so many ago
        st.tuples(st.just("leave"), members, groups),
        st.tuples(st.just("read"), members, st.integers(1, 4)),
        st.tuples(st.just("go"), members),
        # What no chance would put in a row often enough.
        st.tuples(st.just("go and come"), members, groups, st.integers(1, 3), st.integers(0, 4)),
        st.tuples(st.just("pass time")),
    ),
    max_size=40,
)


# What waits does not say what was sent while its member was away.
LEFTOVERS: list[Step] = [
    ("join", 1, "red", None), ("publish", "red", 3), ("leave", 1, "red"), ("publish", "red", 3),
    ("join", 1, "red", None), ("join", 1, "red", 2),
]  # fmt: skip

# The last one is lost after joining again, and told behind a loss of before.
LOSSES_SIDE_BY_SIDE: list[Step] = [
    ("join", 2, "red", None), ("publish", "red", 4), ("leave", 2, "red"), ("publish", "red", 1),
    ("join", 2, "red", None), ("publish", "red", 1), ("join", 2, "red", 0),
]  # fmt: skip


class Reading:
    """What is owed to one who joined at a place: how many messages were sent before."""

    def __init__(self, place: int) -> None:
        self.place = place
        self.lost = 0

    def take(self, place: int) -> None:
        if place >= self.place:  # else it is from before, where it has not asked
            assert place - self.place <= self.lost, "an untold hole"
            self.place, self.lost = place + 1, 0


class Member:
    """Somebody with a mailbox."""

    def __init__(self, mailbox: Mailbox) -> None:
        self.mailbox = mailbox
        self.readings: dict[str, list[Reading]] = {}
        self.seen: dict[str, set[int]] = {group: set() for group in GROUPS}


class Program:
    """What was sent, who is there, and what each of them is still owed."""

    def __init__(self, layer: BaseChannelLayer) -> None:
        self.layer = layer
        self.sent: dict[str, list[Position]] = {group: [] for group in GROUPS}
        self.members: list[Member | None] = [None for _ in POLICIES]

    def place(self, group: str, position: Position) -> int:
        """How many messages of the group were sent up to a position."""
        if position in self.sent[group]:
            return self.sent[group].index(position) + 1
        assert position.offset == 0
        first = position._replace(offset=1)
        return self.sent[group].index(first) if first in self.sent[group] else len(self.sent[group])

    async def publish(self, group: str, count: int) -> None:
        for _ in range(count):
            sent = await self.layer.group_send(group, number(len(self.sent[group])))
            assert sent.position is not None
            self.sent[group].append(sent.position)

    async def join(self, which: int, group: str, ago: int | None) -> None:
        member = self.members[which]
        if member is None:
            mailbox = await self.layer.attach(overflow=POLICIES[which], tell_gaps=True)
            member = self.members[which] = Member(mailbox)
        since = None
        if ago is not None and ago < len(self.sent[group]):
            since = self.sent[group][-1 - ago]
        joined = await self.layer.group_add(group, member.mailbox.channel, since=since)
        self.begin(member, group, since, joined)

    def begin(self, member: Member, group: str, since: Position | None, joined: Joined) -> None:
        assert joined.position is not None
        assert (joined.recovered is None) == (since is None)
        place = self.place(group, joined.position)
        readings = member.readings.setdefault(group, [])
        readings.append(Reading(place))
        if joined.recovered:
            assert since is not None
            assert place <= self.place(group, since)
            readings.append(Reading(self.place(group, since)))
        else:
            assert joined.replayed == 0
        member.seen[group] = {one for one in member.seen[group] if one < place}

    async def leave(self, which: int, group: str) -> None:
        member = self.members[which]
        if member is not None:
            await self.layer.group_discard(group, member.mailbox.channel)
            member.readings.pop(group, None)

    async def go_and_come(self, which: int, group: str, missed: int, ago: int) -> None:
        """Leave a group, miss something, join it as it stands then, and resume after all."""
        await self.publish(group, 1)
        await self.leave(which, group)
        await self.publish(group, missed)
        await self.join(which, group, None)
        await self.join(which, group, ago)

    async def read(self, which: int, count: int) -> None:
        for _ in range(count):
            member = self.members[which]
            if member is None:
                return
            try:
                entry = member.mailbox.pop()
            except ChannelFull:
                await self.go(which)
                return
            if entry is None:
                return
            self.see(member, entry.message)

    def see(self, member: Member, message: Message) -> None:
        if message["type"] == "group.gap":
            for reading in member.readings.get(message["group"], ()):
                reading.lost += message["lost"]
            return
        assert isinstance(message, FrozenMessage)
        assert message.group is not None
        place = message["n"]
        assert place not in member.seen[message.group], "a message came twice"
        member.seen[message.group].add(place)
        for reading in member.readings.get(message.group, ()):
            reading.take(place)

    async def go(self, which: int) -> None:
        member, self.members[which] = self.members[which], None
        if member is not None:
            self.layer.detach(member.mailbox)

    async def pass_time(self) -> None:
        await anyio.sleep(0.0005)

    async def end(self) -> None:
        """Everybody reads to the end, and misses nothing there either."""
        for which in range(len(self.members)):
            await self.read(which, 10_000)
            member = self.members[which]
            if member is None:
                continue
            for group, readings in member.readings.items():
                for reading in readings:
                    assert len(self.sent[group]) - reading.place <= reading.lost, (
                        "a hole at the end"
                    )

    async def let_go(self) -> None:
        for which in range(len(self.members)):
            await self.go(which)


@asynccontextmanager
async def in_memory(seed: int) -> AsyncIterator[BaseChannelLayer]:
    """A layer that forgets a group now and then, as there are too many."""
    async with InMemoryChannelLayer(
        capacity=CAPACITY, history=HISTORY, history_groups=1 + seed % 2
    ) as layer:
        yield layer


@asynccontextmanager
async def late(seed: int) -> AsyncIterator[BaseChannelLayer]:
    """A layer that hears of what is published some time later, and of some of it not at all."""
    chance = random.Random(seed)
    place = Place(Clock())
    place.delay = lambda: chance.choice([0.0, 0.0, 0.0005, 0.001])
    place.lose = lambda topic: topic in GROUPS and chance.random() < 0.1
    async with EngineChannelLayer(
        lambda: DoubleEngine(place),
        capacity=CAPACITY,
        history=HISTORY,
        check_interval=0.002,
        release_delay=0.001 if seed % 2 else 10,
        presence_lease=1e9,
    ) as layer:
        yield layer


async def run(steps: list[Step], seed: int, make: Any) -> None:
    async with make(seed) as layer:
        program = Program(layer)
        try:
            for name, *args in steps:
                await getattr(program, name.replace(" ", "_"))(*args)
            if make is late:
                with anyio.fail_after(20):
                    await everything_came(layer, program)
            await program.end()
        finally:
            await program.let_go()


async def everything_came(layer: EngineChannelLayer, program: Program) -> None:
    """Wait until the process stands where its groups do."""
    assert layer._link is not None
    for group, sent in program.sent.items():
        followed = layer._link._followed.get(group)
        while sent and followed is not None and layer.hub.has_members(group):
            if followed.stream.position == sent[-1] and not followed.stream.is_reading:
                break
            await anyio.sleep(0.0005)


@pytest.mark.parametrize("make", [in_memory, late])
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@settings(
    deadline=None,
    max_examples=examples(100),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(steps=STEPS, seed=st.integers(0, 1000))
@example(steps=LEFTOVERS, seed=0)
@example(steps=LOSSES_SIDE_BY_SIDE, seed=0)
def test_all_behind_the_position_that_is_answered_follows_or_is_told(
    steps: list[Step], seed: int, make: Any, backend: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("CRITICAL", "asgi_notify")  # of losses that are meant
    anyio.run(run, steps, seed, make, backend=backend)
