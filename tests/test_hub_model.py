"""Random lives of many connections against a plain model: whoever should get a message gets it,
and whatever goes wrong, nothing stays behind."""

import threading
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.to_thread
import pytest
from anyio.from_thread import start_blocking_portal
from anyio.lowlevel import checkpoint
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from asgi_notify import (
    AcceptConnection,
    AsyncWebsocketConsumer,
    DenyConnection,
    InMemoryChannelLayer,
    Message,
    Sent,
    StopConsumer,
    WebsocketConsumer,
    async_to_sync,
    handler_limiter,
)
from asgi_notify.types import Event
from tests.examples import examples

CAPACITY = 4  # messages, few enough for bursts to be larger
GROUPS = ["red", "green", "blue"]

groups = st.sampled_from(GROUPS)
some_groups = st.sets(groups)


class Wire:
    """One connection as its server sees it, and what its consumer notes of itself.

    Attributes:
        plan: what the consumer does when it is told to connect.
        joins: the groups that it joins then.
        got: the numbers of the messages that it handled.
        ended: how often its disconnect was handled.
        fails_at_end: whether its disconnect handler raises.
        is_broken: whether the network takes no more, which no event tells.
    """

    def __init__(self, plan: str, joins: set[str], is_sync: bool) -> None:
        self.plan = plan
        self.is_sync = is_sync
        self.joins = sorted(joins)
        self.got: list[int] = []
        self.ended = 0
        self.fails_at_end = False
        self.is_broken = False
        self.channel = ""
        self.sent: list[Event] = []
        self.scope = anyio.CancelScope()
        self.over = anyio.Event()
        self.is_handling = False
        self._events: deque[Event] = deque()
        self._told = anyio.Event()

    def __repr__(self) -> str:
        return f"<{'sync' if self.is_sync else 'async'} {self.plan or self.channel}>"

    async def run(self, app: Any) -> None:
        try:
            with self.scope:
                await app({"type": "websocket", "path": "/", "wire": self}, self.receive, self.send)
        finally:
            self.over.set()

    @property
    def is_over(self) -> bool:
        return self.over.is_set()

    def tell(self, event: Event) -> None:
        self._events.append(event)
        told, self._told = self._told, anyio.Event()
        told.set()

    async def receive(self) -> Event:
        while not self._events:
            await self._told.wait()
        return self._events.popleft()

    async def send(self, event: Event) -> None:
        if self.is_broken:
            raise OSError("the network is gone")
        self.sent.append(event)
        if event["type"] == "websocket.close":  # as a server answers
            self.tell({"type": "websocket.disconnect", "code": event["code"]})
        await checkpoint()

    def is_settled(self, layer: InMemoryChannelLayer) -> bool:
        """Whether the connection is over, or everything it was told is handled or stuck."""
        if self.is_over:
            return True
        mailbox = next((box for box in layer.hub.attached if box.channel == self.channel), None)
        if mailbox is None or self._events or mailbox.error or self.scope.cancel_called:
            return False
        # A reader that was woken has emptied its mailbox, perhaps, but not had its turn to end.
        return self.is_handling or (mailbox._reader is not None and mailbox.is_empty)


def connect_as_planned(wire: Wire) -> None:
    if wire.plan == "raise":
        raise LookupError("connect failed")
    if wire.plan == "deny":
        raise DenyConnection
    if wire.plan == "stop":
        raise StopConsumer
    if wire.plan == "accept":
        raise AcceptConnection


class AsyncSubject(AsyncWebsocketConsumer):
    """Does what the test tells it to, in the event loop."""

    leave_grace = 0.01

    async def connect(self) -> None:
        wire: Wire = self.scope["wire"]
        wire.channel = self.channel_name
        for group in wire.joins:
            await self.channel_layer.group_add(group, self.channel_name)
            await checkpoint()
        connect_as_planned(wire)
        await self.accept()
        if wire.plan == "raise later":
            raise LookupError("connect failed after the accept")

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        wire: Wire = self.scope["wire"]
        command, _, group = (text_data or "").partition(" ")
        if command == "join":
            await self.channel_layer.group_add(group, self.channel_name)
        elif command == "leave":
            await self.channel_layer.group_discard(group, self.channel_name)
        elif command == "close":
            await self.close()
        elif command == "hang":
            wire.is_handling = True
            await anyio.sleep_forever()
        else:
            raise LookupError("receive failed")

    async def note(self, event: Message) -> None:
        wire: Wire = self.scope["wire"]
        wire.got.append(event["n"])
        if wire.channel in event.get("fails", ()):
            raise LookupError("note failed")
        if event.get("tells"):
            await self.send(text_data="noted")

    async def disconnect(self, code: int) -> None:
        wire: Wire = self.scope["wire"]
        wire.ended += 1
        await checkpoint()
        if wire.fails_at_end:
            raise LookupError("disconnect failed")


class SyncSubject(WebsocketConsumer):
    """Does the same in worker threads, but for what a thread cannot be cancelled in."""

    leave_grace = 0.01

    def connect(self) -> None:
        wire: Wire = self.scope["wire"]
        wire.channel = self.channel_name
        for group in wire.joins:
            async_to_sync(self.channel_layer.group_add)(group, self.channel_name)
        connect_as_planned(wire)
        self.accept()
        if wire.plan == "raise later":
            raise LookupError("connect failed after the accept")

    def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        command, _, group = (text_data or "").partition(" ")
        if command == "join":
            async_to_sync(self.channel_layer.group_add)(group, self.channel_name)
        elif command == "leave":
            async_to_sync(self.channel_layer.group_discard)(group, self.channel_name)
        elif command == "close":
            self.close()
        else:
            raise LookupError("receive failed")

    def note(self, event: Message) -> None:
        wire: Wire = self.scope["wire"]
        wire.got.append(event["n"])
        if wire.channel in event.get("fails", ()):
            raise LookupError("note failed")
        if event.get("tells"):
            self.send(text_data="noted")

    def disconnect(self, code: int) -> None:
        wire: Wire = self.scope["wire"]
        wire.ended += 1
        if wire.fails_at_end:
            raise LookupError("disconnect failed")


class Lives(RuleBasedStateMachine):
    """Connections in an event loop of their own; the model is three dicts and a list.

    Attributes:
        live: the connections that should be there, and the groups they should be in.
        gone: those that were.
        expected: what each of them, and each that was there, should have handled.
        stuck: how many messages wait for those whose handler hangs.
    """

    backend = "asyncio"

    def __init__(self) -> None:
        super().__init__()
        self.threads = set(threading.enumerate())
        self.manager = start_blocking_portal(self.backend)
        self.portal = self.manager.__enter__()
        self.layer = InMemoryChannelLayer(capacity=CAPACITY)
        self.apps = [cls.as_asgi(channel_layer=self.layer) for cls in (AsyncSubject, SyncSubject)]
        self.tasks = self.portal.call(count_tasks)
        self.number = 0
        self.wires: list[Wire] = []
        self.live: dict[Wire, set[str]] = {}
        self.gone: list[Wire] = []
        self.expected: dict[Wire, list[int]] = {}
        self.stuck: dict[Wire, int] = {}

    # What the rules are made of.

    def run(self, step: Callable[[], object]) -> Any:
        """Take a step in the loop, and let everything that it began come to rest."""

        async def take() -> Any:
            result = step()
            if isinstance(result, Awaitable):
                result = await result
            with anyio.fail_after(20):
                # No one event tells it: handlers in threads are among what has to end.
                while not all(w.is_settled(self.layer) for w in self.wires):  # noqa: ASYNC110
                    await anyio.sleep(0.0005)
            return result

        return self.portal.call(take)

    def begin(self, plan: str, joins: set[str], is_sync: bool) -> Wire:
        wire: Wire = self.portal.call(Wire, plan, joins, is_sync)
        self.wires.append(wire)
        self.expected[wire] = []
        self.portal.start_task_soon(wire.run, self.apps[is_sync])
        return wire

    def command(self, wire: Wire, text: str) -> None:
        self.run(lambda: wire.tell({"type": "websocket.receive", "text": text}))

    def forget(self, wire: Wire) -> None:
        del self.live[wire]
        self.stuck.pop(wire, None)
        self.gone.append(wire)

    def message(self, **more: object) -> Message:
        self.number += 1
        return {"type": "note", "n": self.number, **more}

    def pick(self, data: st.DataObject, *, hanging: bool = False) -> Wire:
        choice = [wire for wire in self.live if hanging or wire not in self.stuck]
        return data.draw(st.sampled_from(choice))

    def has_live(self) -> bool:
        return len(self.live) > len(self.stuck)

    # Connections begin.

    @initialize()
    def first(self) -> None:
        self.connect("", {"red"}, False)

    @rule(plan=st.sampled_from(["", "", "accept"]), joins=some_groups, is_sync=st.booleans())
    def connect(self, plan: str, joins: set[str], is_sync: bool) -> None:
        wire = self.begin(plan, joins, is_sync)
        self.run(lambda: wire.tell({"type": "websocket.connect"}))
        self.live[wire] = joins
        assert wire.sent[0]["type"] == "websocket.accept"

    @rule(
        plan=st.sampled_from(["raise", "raise later", "deny", "stop"]),
        joins=some_groups,
        is_sync=st.booleans(),
    )
    def connect_in_vain(self, plan: str, joins: set[str], is_sync: bool) -> None:
        wire = self.begin(plan, joins, is_sync)
        self.run(lambda: wire.tell({"type": "websocket.connect"}))
        assert wire.is_over
        assert wire.ended == 1
        assert wire.sent[-1]["type"] == "websocket.close"

    @rule(joins=some_groups, is_sync=st.booleans(), turns=st.integers(0, 8))
    def cancel_a_connect(self, joins: set[str], is_sync: bool, turns: int) -> None:
        wire = self.begin("", joins, is_sync)

        async def cancel() -> None:
            wire.tell({"type": "websocket.connect"})
            for _ in range(turns):
                await checkpoint()
            wire.scope.cancel()

        self.run(cancel)
        assert wire.ended <= 1

    @rule(is_sync=st.booleans())
    def leave_before_the_connect(self, is_sync: bool) -> None:
        wire = self.begin("", {"red"}, is_sync)
        self.run(lambda: wire.tell({"type": "websocket.disconnect", "code": 1006}))
        assert wire.is_over
        assert (wire.ended, wire.sent) == (0, [])

    # They join, leave and hang.

    @precondition(has_live)
    @rule(data=st.data(), group=groups)
    def join(self, data: st.DataObject, group: str) -> None:
        wire = self.pick(data)
        self.command(wire, f"join {group}")
        self.live[wire].add(group)

    @precondition(has_live)
    @rule(data=st.data(), group=groups)
    def leave(self, data: st.DataObject, group: str) -> None:
        wire = self.pick(data)
        self.command(wire, f"leave {group}")
        self.live[wire].discard(group)

    @precondition(has_live)
    @rule(data=st.data())
    def hang(self, data: st.DataObject) -> None:
        wire = self.pick(data)
        if not wire.is_sync:
            self.command(wire, "hang")
            self.stuck[wire] = 0

    # Messages.

    @rule(group=groups, count=st.sampled_from([1, 1, 2, 3 * CAPACITY]))
    def publish(self, group: str, count: int) -> None:
        members = [wire for wire, joined in self.live.items() if group in joined]
        if any(wire.is_sync for wire in members):
            count = min(count, CAPACITY)  # a thread takes its time, and the burst has none
        messages = [self.message() for _ in range(count)]

        async def burst() -> list[Sent]:
            return [await self.layer.group_send(group, one) for one in messages]

        results = self.run(burst)
        for message, result in zip(messages, results, strict=True):
            reached = dropped = 0
            for wire in members:
                if self.deliver(wire, message["n"]):
                    reached += 1
                else:
                    dropped += 1
            assert result.reached == reached
            # One whose connection has ended meanwhile is no member any more.
            assert result.dropped <= dropped
        for wire in members:
            if self.stuck.get(wire, 0) > CAPACITY:
                self.forget(wire)
                assert wire.sent[-1]["code"] == 1013

    def deliver(self, wire: Wire, number: int) -> bool:
        """Note what a message should do; return whether the connection should take it."""
        if wire not in self.stuck:
            self.expected[wire].append(number)
            return True
        self.stuck[wire] += 1
        return self.stuck[wire] <= CAPACITY

    @rule(group=groups)
    def publish_from_a_thread(self, group: str) -> None:
        message = self.message()

        async def from_thread() -> int:
            send = async_to_sync(self.layer.group_send)
            return (await anyio.to_thread.run_sync(send, group, message)).reached

        members = [wire for wire, joined in self.live.items() if group in joined]
        reached = self.run(from_thread)
        assert reached == sum(self.deliver(wire, message["n"]) for wire in members)
        for wire in members:
            if self.stuck.get(wire, 0) > CAPACITY:
                self.forget(wire)

    @precondition(has_live)
    @rule(data=st.data())
    def send_to_one(self, data: st.DataObject) -> None:
        wire = self.pick(data)
        message = self.message()
        self.run(lambda: self.layer.send(wire.channel, message))
        self.expected[wire].append(message["n"])

    @precondition(lambda self: self.gone)
    @rule(data=st.data())
    def write_to_one_that_left(self, data: st.DataObject) -> None:
        channel = data.draw(st.sampled_from(self.gone)).channel
        self.run(lambda: self.layer.send(channel, self.message()))
        self.run(lambda: self.layer.group_add("red", channel))

    # Connections end.

    @precondition(has_live)
    @rule(data=st.data(), group=groups)
    def fail_at_a_message(self, data: st.DataObject, group: str) -> None:
        failing = self.pick(data)
        message = self.message(fails=[failing.channel])
        members = [wire for wire, joined in self.live.items() if group in joined]
        self.run(lambda: self.layer.group_send(group, message))
        for wire in members:
            self.deliver(wire, message["n"])
        for wire in members:
            if wire is failing:
                self.forget(wire)
                assert wire.sent[-1]["code"] == 1011
            elif self.stuck.get(wire, 0) > CAPACITY:
                self.forget(wire)

    @precondition(has_live)
    @rule(data=st.data(), fails_at_end=st.booleans())
    def fail_at_a_frame(self, data: st.DataObject, fails_at_end: bool) -> None:
        wire = self.pick(data)
        wire.fails_at_end = fails_at_end
        self.command(wire, "fail")
        self.forget(wire)
        assert wire.sent[-1]["code"] == 1011

    @precondition(has_live)
    @rule(data=st.data(), fails_at_end=st.booleans())
    def close_from_the_server(self, data: st.DataObject, fails_at_end: bool) -> None:
        wire = self.pick(data)
        wire.fails_at_end = fails_at_end
        self.command(wire, "close")
        self.forget(wire)
        assert wire.sent[-1]["code"] == 1000

    @precondition(lambda self: self.live)
    @rule(data=st.data(), fails_at_end=st.booleans())
    def leave_the_server(self, data: st.DataObject, fails_at_end: bool) -> None:
        wire = self.pick(data, hanging=True)
        wire.fails_at_end = fails_at_end
        wire.is_handling = False
        self.run(lambda: wire.tell({"type": "websocket.disconnect", "code": 1001}))
        self.forget(wire)

    @precondition(has_live)
    @rule(data=st.data())
    def vanish(self, data: st.DataObject) -> None:
        wire = self.pick(data)
        wire.is_broken = True
        message = self.message(tells=True)

        async def until_it_is_over() -> None:
            await self.layer.send(wire.channel, message)
            with anyio.fail_after(20):
                await wire.over.wait()

        self.run(until_it_is_over)
        self.expected[wire].append(message["n"])
        self.forget(wire)

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        wire = self.pick(data, hanging=True)
        wire.is_handling = False
        self.run(wire.scope.cancel)
        self.forget(wire)

    # What holds at all times, and in the end.

    @invariant()
    def the_hub_is_as_the_model_says(self) -> None:
        for wire in self.wires:
            assert wire.is_over == (wire not in self.live)
            assert wire.got == self.expected[wire]
            assert wire.ended <= wire.is_over
        assert {box.channel for box in self.layer.hub.attached} == {w.channel for w in self.live}
        for group in GROUPS:
            members = {box.channel for box in self.layer.hub.members(group)}
            assert members == {w.channel for w, joined in self.live.items() if group in joined}
        assert self.layer.hub.drops["expired"] == 0

    def teardown(self) -> None:
        try:
            for wire in self.wires:
                wire.is_handling = False
            self.run(self.layer.close)  # as a server does that shuts down
            for wire in self.live:
                assert wire.is_over
                assert wire.ended == 1
                assert wire.sent[-1]["code"] == 1012
            state = vars(self.layer.hub)
            assert not any(state[kept] for kept in ("_mailboxes", "_groups", "_attached"))
            assert self.portal.call(count_tasks) == self.tasks
            assert self.portal.call(count_busy_threads) == 0
        finally:
            self.manager.__exit__(None, None, None)
        # trio keeps its idle threads for ten seconds, for whoever needs one next.
        kept = {thread for thread in threading.enumerate() if "Trio thread" in thread.name}
        for thread in set(threading.enumerate()) - kept - self.threads:
            thread.join(5)  # anyio tells its own to end, and does not wait
            assert not thread.is_alive()


class LivesOnTrio(Lives):
    backend = "trio"


async def count_tasks() -> int:
    return len(anyio.get_running_tasks())


async def count_busy_threads() -> int:
    limiters = [handler_limiter(), anyio.to_thread.current_default_thread_limiter()]
    return sum(limiter.borrowed_tokens for limiter in limiters)


@pytest.mark.parametrize("machine", [Lives, LivesOnTrio])
def test_whatever_connections_do_the_hub_is_as_the_model_and_nothing_stays(
    machine: type[Lives], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("CRITICAL", "asgi_notify")  # of thousands of failures that are meant
    run_state_machine_as_test(
        machine,
        settings=settings(
            deadline=None,
            max_examples=examples(60),
            stateful_step_count=25,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
