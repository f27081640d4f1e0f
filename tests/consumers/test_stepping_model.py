"""Random programs, run by steps and on the plain path: no connection can tell which it was.

Nor whether what is only passed on goes by the direct lane. What a connection may notice is
one log: what it handled and how far that came, the frames that it sent, and its disconnect.
"""

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import anyio
from anyio.lowlevel import checkpoint
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from asgi_notify import AsyncWebsocketConsumer, InMemoryChannelLayer, Message, StopConsumer
from asgi_notify.consumers.passing import Render
from asgi_notify.types import Event
from tests.consumers.harness import CONNECT, DirectWire, Wire, assert_nothing_left, left, text
from tests.examples import examples

CONNECTIONS = 3
GATES = 2

# What a handler does, one after the other. Only connection 0 sends to others,
# so that the order in which each gets what is sent is one, whoever is first.
WAITS = ["nothing", "turn", "turns", "gate 0", "gate 1", "future", "answer"]
SCOPES = ["in time: turn", "in time: gate 0", "too late", "too late: asyncio", "over: 0", "shield"]
TASKS = ["inner cancelled", "TaskGroup", "anyio group"]
ENDS = ["raise", "close", "stop", "cancelled error"]
Program = tuple[str, ...]
PASSED_ON = ("passed on",)  # a message that no handler of the class runs for

acts = st.sampled_from(["frame", *WAITS, *SCOPES, *TASKS])
quiet_programs = st.lists(acts, max_size=3).map(tuple)
# A handler that fails in the turn in which its task is cancelled is told of either.
steady_programs = quiet_programs.filter(lambda program: "answer" not in program)
programs = st.one_of(
    quiet_programs,
    st.tuples(quiet_programs, st.sampled_from(["send", *ENDS])).map(
        lambda pair: (*pair[0], pair[1])
    ),
    st.just(("send", "turn", "send", "frame")),
)
connection = st.integers(0, CONNECTIONS - 1)
target = st.one_of(st.just("all"), connection.map(lambda number: f"only_{number}"))

messages = st.one_of(programs, st.just(PASSED_ON))
batch = st.tuples(
    st.just("batch"), st.lists(st.tuples(target, messages), min_size=1, max_size=4).map(tuple)
)
read_no_more = st.tuples(st.just("read no more"), connection)
read_on = st.tuples(st.just("read on"), connection)
open_gate = st.tuples(st.just("open gate"), st.integers(0, GATES - 1))
operations = st.lists(
    st.one_of(
        batch,
        batch,
        read_no_more,
        read_on,
        st.tuples(st.just("client"), connection, programs),
        open_gate,
        st.tuples(st.just("cancel"), connection),
        st.tuples(st.just("cancel scope"), connection),
        st.tuples(st.just("send, cancel"), connection, steady_programs),
        st.tuples(st.just("send, turn, cancel"), connection, steady_programs),
        st.tuples(st.just("leave"), connection),
    ),
    max_size=8,
)


# What the direct lane has to wait for, and must not overtake.
passed_on = st.just(("batch", (("all", PASSED_ON),)))
handled = st.tuples(
    st.just("batch"),
    st.tuples(st.tuples(target, st.tuples(st.sampled_from(WAITS), st.just("frame")))),
)
fan_outs = st.lists(
    st.one_of(passed_on, passed_on, handled, handled, read_no_more, read_on, open_gate),
    min_size=3,
    max_size=12,
)


def set_answer(answer: asyncio.Future[None]) -> None:
    if not answer.done():
        answer.set_result(None)


@dataclass
class World:
    """What the handlers of one run share."""

    layer: InMemoryChannelLayer
    gates: list[asyncio.Event]
    answer: asyncio.Future[None]  # comes with the last gate, if nobody is cancelled before
    lives: "list[Life]"
    direct: bool  # whether the server takes texts at once

    def open(self, number: int) -> None:
        self.gates[number].set()
        if number == GATES - 1:
            set_answer(self.answer)


class Life:
    """One connection of one run.

    Attributes:
        is_blocked: whether a handler waits for a gate.
    """

    def __init__(self, number: int, world: World, *, by_steps: bool) -> None:
        self.number = number
        self.world = world
        self.log: list[str] = []
        self.is_blocked = False
        self.is_handling = False
        self.scope = anyio.CancelScope()
        self.wire = DirectWire(CONNECT) if world.direct else Wire(CONNECT)
        self.wire.on_send = self._hold
        self._reading = asyncio.Event()
        self._reading.set()
        app = Runs if by_steps else RunsPlainly
        self.task = asyncio.create_task(self._run(app.as_asgi(life=self)))

    async def _run(self, app: AsyncWebsocketConsumer) -> None:
        with self.scope:
            await self.wire.run(app)

    def read(self, is_reading: bool) -> None:
        """Have the client read on, or read nothing."""
        (self._reading.set if is_reading else self._reading.clear)()
        if isinstance(self.wire, DirectWire):
            self.wire.is_ready = is_reading

    async def _hold(self, event: Event) -> None:
        if event["type"] == "websocket.send" and not self._reading.is_set():
            self.is_blocked = True
            try:
                await self._reading.wait()
            finally:
                self.is_blocked = False

    @property
    def is_quiet(self) -> bool:
        """Whether nothing more happens unless something is done to it."""
        if self.task.done() or self.is_blocked:
            return True
        waiter = getattr(self.task, "_fut_waiter", None)
        return not self.is_handling and waiter is not None and not waiter.done()


def name_of(message: Message) -> str:
    return f"passed on {message['name']}"


class Runs(AsyncWebsocketConsumer):
    leave_grace = 0.0
    passes_on: ClassVar[Mapping[str, Render]] = {"pass.on": name_of}

    def __init__(self, life: Life) -> None:
        super().__init__()
        self.life = life

    async def connect(self) -> None:
        for group in ("all", f"only_{self.life.number}"):
            await self.channel_layer.group_add(group, self.channel_name)
        await self.accept()

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        await self.run("client", tuple((text_data or "").split("|")))

    async def do(self, message: Message) -> None:
        await self.run(message["name"], message["program"])

    async def run(self, name: str, program: Program) -> None:
        log = self.life.log
        assert not self.life.is_handling, "one at a time"
        self.life.is_handling = True
        log.append(f"begin {name}")
        try:
            for number, act in enumerate(program):
                await self.act(act, f"{name}.{number}")
                log.append(act)
        except BaseException as error:
            log.append(f"{type(error).__name__} in {name}")
            raise
        finally:
            self.life.is_handling = False
        log.append(f"end {name}")

    async def act(self, act: str, name: str) -> None:
        kind, _, which = act.partition(":")
        if act == "frame":
            await self.send(text_data=name)
        elif act == "send":
            if self.life.number == 0:
                message = {"type": "do", "name": name, "program": ("frame",)}
                await self.channel_layer.group_send("all", message)
        elif act == "close":
            await self.close(4000)
        elif act == "raise":
            raise LookupError(name)
        elif act == "stop":
            raise StopConsumer
        elif act == "cancelled error":
            raise asyncio.CancelledError
        elif kind == "in time":
            with anyio.fail_after(1000):
                await self.wait(which.strip())
        elif kind == "too late":
            await self.time_out(which.strip())
        elif kind == "over":
            with anyio.move_on_after(0):
                await anyio.sleep_forever()
        elif act == "shield":
            with anyio.CancelScope(shield=True):
                await checkpoint()
        elif act in TASKS:
            await self.begin_tasks(act)
        else:
            await self.wait(act)

    async def time_out(self, how: str) -> None:
        if how == "asyncio":
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.0001):
                    await asyncio.Event().wait()
        else:
            with anyio.move_on_after(0.0001):
                await anyio.sleep_forever()

    async def begin_tasks(self, how: str) -> None:
        if how == "TaskGroup":
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(asyncio.sleep(0))
        elif how == "anyio group":
            async with anyio.create_task_group() as group:
                group.start_soon(checkpoint)
                group.start_soon(checkpoint)
        else:
            task = asyncio.create_task(asyncio.Event().wait())
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()

    async def wait(self, what: str) -> None:
        if what.startswith("gate"):
            gate = self.life.world.gates[int(what[-1])]
            self.life.is_blocked = not gate.is_set()
            try:
                await gate.wait()
            finally:
                self.life.is_blocked = False
        elif what == "answer":
            self.life.is_blocked = not self.life.world.answer.done()
            try:
                await self.life.world.answer
            finally:
                self.life.is_blocked = False
        elif what == "future":
            loop = asyncio.get_running_loop()
            future = loop.create_future()
            loop.call_soon(set_answer, future)
            await future
        else:
            for _ in range({"turn": 1, "turns": 3}.get(what, 0)):
                await checkpoint()

    async def disconnect(self, code: int) -> None:
        await checkpoint()
        self.life.log.append(f"disconnect {code}")


class RunsPlainly(Runs):
    _by_steps = False


async def until(condition: Callable[[], object]) -> None:
    with anyio.fail_after(10):
        while not condition():
            await checkpoint()


async def run(
    plan: list[Any], *, by_steps: bool, direct: bool
) -> list[tuple[list[str], list[Any]]]:
    """Do what is planned; return what each connection noticed, and what its client got."""
    layer = InMemoryChannelLayer()
    answer = asyncio.get_running_loop().create_future()
    world = World(layer, [asyncio.Event() for _ in range(GATES)], answer, [], direct)
    lives = world.lives
    for number in range(CONNECTIONS):
        life = Life(number, world, by_steps=by_steps)
        life.wire.scope["channel_layer"] = layer
        lives.append(life)

    async def be_quiet() -> None:
        # A gate that opens, or a timer, is noticed some turns later.
        for _ in range(5):
            await until(lambda: all(life.is_quiet for life in lives))
            await asyncio.sleep(0)

    await until(lambda: all(life.wire.sent for life in lives))
    await be_quiet()
    for number, (kind, *args) in enumerate(plan):
        await do(world, kind, args, str(number))
        await be_quiet()
    for number in range(GATES):
        world.open(number)
    for life in lives:
        life.read(True)
    await be_quiet()
    for life in lives:
        life.wire.tell(left())
    await until(lambda: all(life.task.done() for life in lives))
    assert_nothing_left(layer, "all")
    for life in lives:
        assert len([line for line in life.log if line.startswith("disconnect")]) == 1
    return [(life.log, life.wire.sent) for life in lives]


async def do(world: World, kind: str, args: list[Any], name: str) -> None:
    if kind == "batch":
        for index, (group, program) in enumerate(args[0]):
            await send(world, group, f"{name}.{index}", program)
    elif kind == "client":
        world.lives[args[0]].wire.tell(text("|".join(args[1])))
    elif kind == "open gate":
        world.open(args[0])
    elif kind in ("read no more", "read on"):
        world.lives[args[0]].read(kind == "read on")
    elif kind == "leave":
        world.lives[args[0]].wire.tell(left())
    elif kind == "cancel scope":
        world.lives[args[0]].scope.cancel()
    else:
        if kind != "cancel":
            await send(world, f"only_{args[0]}", name, args[1])
        if "turn" in kind:
            await asyncio.sleep(0)
        world.lives[args[0]].task.cancel()


async def send(world: World, group: str, name: str, program: Program) -> None:
    kind = "pass.on" if program == PASSED_ON else "do"
    await world.layer.group_send(group, {"type": kind, "name": name, "program": program})


def assert_no_connection_notices(plan: list[Any]) -> None:
    """Run a plan by steps or not, with the direct lane or not, and compare."""
    ways = list(itertools.product([False, True], repeat=2))
    traces = [asyncio.run(run(plan, by_steps=steps, direct=direct)) for steps, direct in ways]
    for (steps, direct), trace in zip(ways, traces, strict=True):
        for number, line in enumerate(trace):
            note(f"connection {number}, by steps: {steps}, directly: {direct}: {line}")
        assert trace == traces[0]


@settings(
    deadline=None,
    max_examples=examples(100),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(plan=operations)
def test_no_connection_notices_how_its_messages_come_to_it(plan: list[Any]) -> None:
    assert_no_connection_notices(plan)


@settings(
    deadline=None,
    max_examples=examples(100),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(plan=fan_outs)
def test_no_connection_notices_what_was_passed_on_directly(plan: list[Any]) -> None:
    assert_no_connection_notices(plan)
