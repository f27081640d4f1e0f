"""Random programs of synchronous handlers: no connection can tell whether they run in the lane.

What a connection may notice is one log: what it handled and how far that came, what it was
told of its mistakes, the frames that it sent, and its disconnect.
"""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from hypothesis import HealthCheck, example, given, note, settings
from hypothesis import strategies as st

from asgi_notify import (
    InMemoryChannelLayer,
    Message,
    MisuseError,
    StopConsumer,
    WebsocketConsumer,
    async_to_sync,
)
from tests.consumers.harness import CONNECT, Wire, assert_nothing_left, left, text
from tests.examples import examples

CONNECTIONS = 3
GATES = 2
PATIENCE = 20  # seconds until something that should happen counts as never happening

# Steps and lane.
WAYS = {"plain": ("1", "0"), "lane": ("1", "1"), "lane without steps": ("0", "1")}

# What a handler does, one after the other. Only connection 0 sends to others,
# so that the order in which each gets what is sent is one, whoever is first.
ACTS = ["frame", "many frames", "join", "call", "failing call", "misuse", "thread"]
BLOCKS = ["gate 0", "gate 1"]
ENDS = ["send", "raise", "close", "stop"]
Program = tuple[str, ...]

quiet_programs = st.lists(st.sampled_from([*ACTS, *BLOCKS]), max_size=4).map(tuple)
programs = st.one_of(
    quiet_programs,
    st.tuples(quiet_programs, st.sampled_from(ENDS)).map(lambda pair: (*pair[0], pair[1])),
)
connection = st.integers(0, CONNECTIONS - 1)
target = st.one_of(st.just("all"), connection.map(lambda number: f"only_{number}"))
operations = st.lists(
    st.one_of(
        st.tuples(st.just("batch"), st.lists(st.tuples(target, programs), min_size=1, max_size=4)),
        st.tuples(st.just("client"), connection, programs),
        st.tuples(st.just("open gate"), st.integers(0, GATES - 1)),
        st.tuples(st.just("cancel"), connection),
        st.tuples(st.just("cancel scope"), connection),
        st.tuples(st.just("leave"), connection),
    ),
    max_size=7,
)


@dataclass
class World:
    """What the handlers of one run share."""

    layer: InMemoryChannelLayer
    gates: list[threading.Event]
    lives: "list[Life]"


class Life:
    """One connection of one run.

    Attributes:
        gate: what a handler waits for.
    """

    def __init__(self, number: int, world: World) -> None:
        self.number = number
        self.world = world
        self.log: list[str] = []
        self.gate: threading.Event | None = None
        self.is_handling = False
        self.consumer: Runs | None = None
        self.scope = anyio.CancelScope()
        self.wire = Wire(CONNECT)
        self.wire.scope["channel_layer"] = world.layer
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        with self.scope:
            await self.wire.run(Runs.as_asgi(life=self))

    @property
    def is_quiet(self) -> bool:
        """Whether nothing more happens unless something is done to it."""
        gate = self.gate
        if self.task.done() or (gate is not None and not gate.is_set()):
            return True
        if self.is_handling or self.consumer is None:
            return False
        there = self.consumer._connection
        return not there.current and not there.mailbox._waiting()


class Runs(WebsocketConsumer):
    leave_grace = 0.0

    def __init__(self, life: Life) -> None:
        super().__init__()
        self.life = life

    def connect(self) -> None:
        for group in ("all", f"only_{self.life.number}"):
            async_to_sync(self.channel_layer.group_add)(group, self.channel_name)
        self.accept()
        self.life.consumer = self

    def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        self.run("client", tuple((text_data or "").split("|")))

    def do(self, message: Message) -> None:
        self.run(message["name"], message["program"])

    def run(self, name: str, program: Program) -> None:
        log = self.life.log
        assert not self.life.is_handling, "one at a time"
        self.life.is_handling = True
        log.append(f"begin {name}")
        try:
            for number, act in enumerate(program):
                self.act(act, f"{name}.{number}")
                log.append(act)
        except BaseException as error:
            log.append(f"{type(error).__name__} in {name}")
            raise
        finally:
            self.life.is_handling = False
        log.append(f"end {name}")

    def act(self, act: str, name: str) -> None:
        if act == "frame":
            self.send(name)
        elif act == "many frames":
            for number in range(20):
                self.send(f"{name} {number}")
        elif act == "join":
            async_to_sync(self.channel_layer.group_add)("more", self.channel_name)
        elif act == "call":
            async_to_sync(self.wait_a_little)()
        elif act == "failing call":
            try:
                async_to_sync(self.fail)()
            except LookupError as error:
                self.life.log.append(f"told {error}")
        elif act == "misuse":
            try:
                self.accept()
            except MisuseError:
                self.life.log.append("told")
        elif act == "thread":
            thread = threading.Thread(target=self.send, args=[f"{name} of a thread"])
            thread.start()
            thread.join(PATIENCE)
        elif act == "send":
            if self.life.number == 0:
                message = {"type": "do", "name": name, "program": ("frame",)}
                async_to_sync(self.channel_layer.group_send)("all", message)
        elif act == "close":
            self.close(4000)
        elif act == "raise":
            raise LookupError(name)
        elif act == "stop":
            raise StopConsumer
        elif act.startswith("gate"):
            gate = self.life.gate = self.life.world.gates[int(act[-1])]
            assert gate.wait(PATIENCE)
            self.life.gate = None

    async def wait_a_little(self) -> None:
        await checkpoint()
        await asyncio.sleep(0)

    async def fail(self) -> None:
        await checkpoint()
        raise LookupError("from a call")

    def disconnect(self, code: int) -> None:
        self.life.log.append(f"disconnect {code}")


async def until(condition: Callable[[], object]) -> None:
    with anyio.fail_after(PATIENCE):
        while not condition():  # noqa: ASYNC110  # of threads, which tell nobody
            await asyncio.sleep(0.0005)


async def run(plan: list[Any]) -> list[tuple[list[str], list[Any]]]:
    """Do what is planned; return what each connection noticed, and what its client got."""
    layer = InMemoryChannelLayer()
    world = World(layer, [threading.Event() for _ in range(GATES)], [])
    lives = world.lives
    lives.extend(Life(number, world) for number in range(CONNECTIONS))

    async def be_quiet() -> None:
        # What comes to a task or a thread from elsewhere is noticed some turns later.
        for _ in range(6):
            await until(lambda: all(life.is_quiet for life in lives))
            await asyncio.sleep(0)

    await until(lambda: all(life.consumer for life in lives))
    await be_quiet()
    for number, (kind, *args) in enumerate(plan):
        if kind == "batch":
            for index, (group, program) in enumerate(args[0]):
                await send(world, group, f"{number}.{index}", program)
        elif kind == "client":
            lives[args[0]].wire.tell(text("|".join(args[1])))
        elif kind == "open gate":
            world.gates[args[0]].set()
        elif kind == "leave":
            lives[args[0]].wire.tell(left())
        elif kind == "cancel scope":
            lives[args[0]].scope.cancel()
        else:
            lives[args[0]].task.cancel()
        await asyncio.sleep(0.001)
        await be_quiet()
    for number in range(GATES):
        world.gates[number].set()
        await be_quiet()
    for life in lives:
        life.wire.tell(left())
    await until(lambda: all(life.task.done() for life in lives))
    assert_nothing_left(layer, "all")
    for life in lives:
        assert len([line for line in life.log if line.startswith("disconnect")]) == 1
    return [(life.log, life.wire.sent) for life in lives]


async def send(world: World, group: str, name: str, program: Program) -> None:
    await world.layer.group_send(group, {"type": "do", "name": name, "program": program})


@settings(
    deadline=None,
    max_examples=examples(60),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(plan=operations)
# Found at random: a handler that is cancelled calls what need not wait.
@example(plan=[("client", 0, ("gate 0", "send")), ("cancel", 0)])
@example(plan=[("client", 0, ("gate 0", "join")), ("leave", 0)])
@example(plan=[("batch", [("all", ("gate 0", "misuse"))]), ("cancel", 0)])
def test_no_connection_notices_whether_its_handlers_run_in_the_lane(plan: list[Any]) -> None:
    traces = {}
    for way, (steps, lane) in WAYS.items():
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("ASGI_NOTIFY_STEPPING", steps)
            patch.setenv("ASGI_NOTIFY_SYNC_LANE", lane)
            traces[way] = asyncio.run(run(plan))
    for way, trace in traces.items():
        for number, seen in enumerate(trace):
            note(f"connection {number}, {way}: {seen}")
    assert traces["lane"] == traces["plain"]
    assert traces["lane without steps"] == traces["plain"]
