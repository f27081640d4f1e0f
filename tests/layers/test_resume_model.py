"""The contract of resuming, against a model: whatever happens, no client has a hole that it
was not told of, and none gets a message twice."""

from collections.abc import Callable
from typing import Any

import pytest
from anyio.from_thread import start_blocking_portal
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from asgi_notify.codec import FrozenMessage
from asgi_notify.exceptions import ChannelFull
from asgi_notify.layers import (
    BaseChannelLayer,
    History,
    InMemoryChannelLayer,
    Mailbox,
    Overflow,
)
from asgi_notify.positions import Position
from tests.examples import examples
from tests.valkey_servers import SERVERS

from .double import DoubleLayer
from .tools import Clock, number

CAPACITY = 3  # messages; as few as possible for every limit to be met
SIZE = 4
TTL = 8.0  # seconds
EXPIRY = 5.0
GROUPS = ["red", "green", "blue", "plain"]  # of which two have a history at a time, and one never

IN_PROCESS = InMemoryChannelLayer, DoubleLayer
ON_A_SERVER = 8  # examples, of which each has hundreds of ways there and back

groups = st.sampled_from(GROUPS)
clients = st.integers(0, 2)


class Watch:
    """What one client knows of one group.

    Attributes:
        position: of the last message it has seen, as a client keeps it.
        place: how many of the group's messages it has, or knows that it has not.
        unsure: up to which place it was told that any may be missing.
        lost: how many it was told are missing next.
    """

    def __init__(self, place: int) -> None:
        self.position: Position | None = None
        self.place = place
        self.unsure = 0
        self.lost = 0

    def move(self, place: int) -> None:
        """It goes on from a later place, which it was told of."""
        assert place >= self.place, "a message came twice"
        if place > self.unsure:
            missing = place - max(self.place, self.unsure)
            is_exact = self.place >= self.unsure  # else some of what it was told lies before
            assert missing == self.lost if is_exact else missing <= self.lost, "an untold hole"
        self.place, self.lost = place, 0


class Client:
    """Somebody with a connection now and then, who notes what it sees of each group."""

    def __init__(self, overflow: Overflow) -> None:
        self.overflow = overflow
        self.mailbox: Mailbox | None = None
        self.watched: dict[str, Watch] = {}
        self.joined: set[str] = set()


class Resuming(RuleBasedStateMachine):
    """Publishers, three clients with one policy each, and a clock.

    The layer lives in a thread with an event loop of its own. Each way there and back takes two
    switches of threads, which on a busy machine are nearly all of the time; so a rule goes once.
    """

    backend = "asyncio"
    engine: type[BaseChannelLayer]

    def __init__(self) -> None:
        super().__init__()
        self.manager = start_blocking_portal(self.backend)
        self.portal = self.manager.__enter__()
        self.clock = Clock()
        make: Callable[..., BaseChannelLayer] = self.engine
        history = dict.fromkeys(("red", "green", "blue"), History(SIZE, TTL))
        self.layer = make(
            capacity=CAPACITY, expiry=EXPIRY, history=history, history_groups=2, clock=self.clock
        )
        self.sent: dict[str, list[int]] = {group: [] for group in GROUPS}
        self.keys: dict[tuple[str, str], object] = {}
        self.count = 0
        self.clients = [Client(policy) for policy in ("disconnect", "drop_oldest", "drop_newest")]

    def call(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        async def step() -> Any:
            return await func(*args, **kwargs)

        return self.portal.call(step)

    @rule(group=groups, count=st.integers(1, 6))
    def publish(self, group: str, count: int) -> None:
        numbers = range(self.count + 1, self.count + count + 1)

        async def publish() -> None:
            for one in numbers:
                await self.layer.group_send(group, number(one))

        self.portal.call(publish)
        self.count = numbers[-1]
        self.sent[group].extend(numbers)

    @rule(group=groups, key=st.sampled_from("ab"))
    def publish_or_try_again(self, group: str, key: str) -> None:
        self.count += 1
        result = self.call(self.layer.group_send, group, number(self.count), idempotency_key=key)
        if (group, key) not in self.keys:
            self.keys[group, key] = result
            self.sent[group].append(self.count)
        assert result == self.keys[group, key]

    @rule(seconds=st.sampled_from([1.0, EXPIRY, TTL]))
    def wait(self, seconds: float) -> None:
        self.clock.move(seconds)

    @rule(which=clients, group=groups)
    def subscribe(self, which: int, group: str) -> None:
        """Join a group, or ask a joined one again, from the last position that was seen."""
        client = self.clients[which]
        if client.mailbox is None:
            client.mailbox = self.call(self.layer.attach, overflow=client.overflow, tell_gaps=True)
        since = client.watched[group].position if group in client.watched else None
        joined = self.call(
            self.layer.group_add, group, client.mailbox.channel, since=since and str(since)
        )
        client.joined.add(group)
        watch = client.watched.setdefault(group, Watch(len(self.sent[group])))
        if since is None:
            assert joined.recovered is None
            assert (joined.position is None) == (group == "plain")
            # Who comes back without a position knows that it may have missed something.
            watch.position, watch.unsure = joined.position, len(self.sent[group])
        elif joined.recovered:
            assert joined.position == since
            watch.lost = 0  # for what was lost, and told, comes now
            watch.move(len(self.sent[group]) - joined.replayed)
        else:
            assert joined.replayed == 0
            watch.position, watch.unsure = joined.position, len(self.sent[group])

    @rule(which=clients, group=groups)
    def unsubscribe(self, which: int, group: str) -> None:
        client = self.clients[which]
        if client.mailbox is not None and group in client.joined:
            self.call(self.layer.group_discard, group, client.mailbox.channel)
            client.joined.discard(group)

    @rule(which=clients)
    def cut(self, which: int) -> None:
        client = self.clients[which]
        if client.mailbox is not None:
            self.portal.call(self.layer.detach, client.mailbox)
            client.mailbox = None
            client.joined.clear()

    @rule(which=clients, count=st.integers(1, 5))
    def read(self, which: int, count: int) -> None:
        client = self.clients[which]
        if client.mailbox is None:
            return
        messages, is_over = self.portal.call(self.popped, client.mailbox, count)
        for message in messages:
            self.see(client, message)
        if is_over:
            self.cut(which)

    @staticmethod
    def popped(mailbox: Mailbox, count: int) -> tuple[list[Any], bool]:
        """At most so many messages, and whether the mailbox is over then, since it was full."""
        messages: list[Any] = []
        while len(messages) < count:
            try:
                entry = mailbox.pop()
            except ChannelFull:
                return messages, True
            if entry is None:
                break
            messages.append(entry.message)
        return messages, False

    def see(self, client: Client, message: Any) -> None:
        if message["type"] == "group.gap":
            watch = client.watched[message["group"]]
            watch.lost += message["lost"]
            return
        assert isinstance(message, FrozenMessage)
        assert message.group is not None
        watch = client.watched[message.group]
        watch.move(self.sent[message.group].index(message["n"]))
        watch.place += 1
        watch.position = message.position

    @invariant()
    def nobody_is_ahead_of_the_publishers(self) -> None:
        for client in self.clients:
            for group, watch in client.watched.items():
                assert watch.place <= len(self.sent[group])

    def teardown(self) -> None:
        try:
            for which, client in enumerate(self.clients):
                self.read(which, 1000)
                if client.mailbox is not None:
                    for group in client.joined:
                        client.watched[group].move(len(self.sent[group]))
                    self.portal.call(self.layer.detach, client.mailbox)
            self.call(self.layer.close)
        finally:
            self.manager.__exit__(None, None, None)


class ResumingOnTrio(Resuming):
    backend = "trio"


def explore(machine: type[Resuming], engine: type[BaseChannelLayer], usual: int) -> None:
    of_engine = type(machine.__name__, (machine,), {"engine": engine})
    run_state_machine_as_test(
        of_engine,
        settings=settings(
            deadline=None,
            max_examples=examples(usual),
            stateful_step_count=40,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )


@pytest.mark.slow
@pytest.mark.parametrize("machine", [Resuming, ResumingOnTrio])
def test_no_interleaving_leaves_a_hole_untold_or_repeats_a_message(
    machine: type[Resuming], engine: type[BaseChannelLayer], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("CRITICAL", "asgi_notify")  # of thousands of losses that are meant
    explore(machine, engine, 150 if engine in IN_PROCESS else ON_A_SERVER)


@pytest.mark.slow
@pytest.mark.parametrize("engine", SERVERS, indirect=True)
@pytest.mark.parametrize("machine", [Resuming, ResumingOnTrio])
def test_nor_does_any_on_a_real_server(
    machine: type[Resuming], engine: type[BaseChannelLayer], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("CRITICAL", "asgi_notify")
    explore(machine, engine, 60)
