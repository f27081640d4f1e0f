"""Random programs, run by steps and on the plain path: no connection can tell which it was.

What a connection may notice is one log: what it handled and how far that came,
the frames that it sent, and its disconnect.
"""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import anyio
from anyio.lowlevel import checkpoint
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from asgi_notify import AsyncWebsocketConsumer, InMemoryChannelLayer, Message, StopConsumer
from tests.consumers.harness import CONNECT, Wire, assert_nothing_left, left, text

CONNECTIONS = 3
GATES = 2

# What a handler does, one after the other. Only connection 0 sends to others,
# so that the order in which each gets what is sent is one, whoever is first.
WAITS = ["nothing", "turn", "turns", "gate 0", "gate 1", "future", "answer"]
SCOPES = ["in time: turn", "in time: gate 0", "too late", "too late: asyncio", "over: 0", "shield"]
TASKS = ["inner cancelled", "TaskGroup", "anyio group"]
ENDS = ["raise", "close", "stop", "cancelled error"]
Program = tuple[str, ...]

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

batch = st.tuples(
    st.just("batch"), st.lists(st.tuples(target, programs), min_size=1, max_size=4).map(tuple)
)
operations = st.lists(
    st.one_of(
        batch,
        batch,
        st.tuples(st.just("client"), connection, programs),
        st.tuples(st.just("open gate"), st.integers(0, GATES - 1)),
        st.tuples(st.just("cancel"), connection),
        st.tuples(st.just("cancel scope"), connection),
        st.tuples(st.just("send, cancel"), connection, steady_programs),
        st.tuples(st.just("send, turn, cancel"), connection, steady_programs),
        st.tuples(st.just("leave"), connection),
    ),
    max_size=8,
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
        self.wire = Wire(CONNECT)
        app = Runs if by_steps else RunsPlainly
        self.task = asyncio.create_task(self._run(app.as_asgi(life=self)))

    async def _run(self, app: AsyncWebsocketConsumer) -> None:
        with self.scope:
            await self.wire.run(app)

    @property
    def is_quiet(self) -> bool:
        """Whether nothing more happens unless something is done to it."""
        if self.task.done() or self.is_blocked:
            return True
        waiter = getattr(self.task, "_fut_waiter", None)
        return not self.is_handling and waiter is not None and not waiter.done()


class Runs(AsyncWebsocketConsumer):
    leave_grace = 0.0

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


async def run(plan: list[Any], *, by_steps: bool) -> list[tuple[list[str], list[Any]]]:
    """Do what is planned; return what each connection noticed, and what its client got."""
    layer = InMemoryChannelLayer()
    answer = asyncio.get_running_loop().create_future()
    world = World(layer, [asyncio.Event() for _ in range(GATES)], answer, [])
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
    await world.layer.group_send(group, {"type": "do", "name": name, "program": program})


@settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(plan=operations)
def test_no_connection_notices_whether_its_handlers_are_run_by_steps(plan: list[Any]) -> None:
    by_steps = asyncio.run(run(plan, by_steps=True))
    plainly = asyncio.run(run(plan, by_steps=False))
    for number, (one, other) in enumerate(zip(by_steps, plainly, strict=True)):
        note(f"connection {number} by steps: {one}")
        note(f"connection {number} plainly:  {other}")
    assert by_steps == plainly
