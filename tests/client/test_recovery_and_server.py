"""The ledger and the real server: whatever happens between them, each subscriber has all in
order, or is told of the gap.

No socket and no client around it: frames wait on either side for as long as a test likes.
"""

import json
from typing import Any

import anyio
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from asgi_notify import History, InMemoryChannelLayer, NotificationConsumer, URLRouter, path
from asgi_notify.client import Gap, Notification
from asgi_notify.client.items import Frame
from asgi_notify.client.recovery import Follower, Recovery
from asgi_notify.layers import Overflow
from asgi_notify.positions import Position
from asgi_notify.protocol import PROTOCOL
from tests.consumers.harness import CONNECT, Slow, Wire, left, text
from tests.examples import examples
from tests.frames import check

SIZE = 4  # messages in the history; as few as possible for every limit to be met
CAPACITY = 3
GROUP = "user_1"

Step = str | tuple[str, int]


class Connection:
    """One connection, and how far its frames have come."""

    def __init__(self) -> None:
        self.slow = Slow()
        self.wire = Wire(CONNECT, path="/")
        self.wire.scope["subprotocols"] = [PROTOCOL]
        self.wire.on_send = self.slow.hold
        self.slow.let(2)  # the accept, and the welcome
        self.taken = 1

    def ask(self, *frames: Frame) -> None:
        self.wire.tell(*[text(json.dumps(frame)) for frame in frames])

    def next(self) -> Frame | None:
        """The next frame that came through and was not taken yet."""
        if self.taken >= len(self.wire.texts):
            return None
        self.taken += 1
        return check(self.wire.texts[self.taken - 1])


class Clients:
    """The subscribers of one client, and what each has got."""

    def __init__(self) -> None:
        self.recovery = Recovery()
        self.read: dict[Follower, list[Notification | Gap]] = {}
        self.began: dict[Follower, int | None] = {}

    def join(self, since: Position | None) -> Frame:
        follower = Follower(GROUP, since and str(since))
        self.read[follower] = []
        self.began[follower] = since and since.offset
        return self.recovery.follow(follower)

    def take(self, frame: Frame) -> list[Frame]:
        deliveries, answers = self.recovery.take(frame)
        for follower, item in deliveries:
            assert isinstance(item, Notification | Gap), item
            self.read[follower].append(item)
        return answers

    def check(self, follower: Follower, top: Position) -> None:
        """Nothing is missing but where a gap was told, and nothing came twice."""
        last = self.began[follower]
        for item in self.read[follower]:
            if isinstance(item, Gap):
                last = None
                continue
            assert item.id is not None
            offset = Position.parse(item.id).offset
            assert last is None or offset == last + 1, self.read[follower]
            last = offset
        assert follower.is_live
        assert follower.position == str(top), "and it has come to the end"


async def converse(steps: list[Step], policy: Overflow) -> None:
    layer = InMemoryChannelLayer(history={"*": History(SIZE)}, capacity=CAPACITY)

    class Consumer(NotificationConsumer):
        overflow = policy

    app = URLRouter([path("", Consumer.as_asgi(channel_layer=layer))])
    clients = Clients()
    connection = Connection()

    async def publish() -> Position:
        sent = await layer.group_send(GROUP, {"type": "send.notification", "data": None})
        assert sent.position is not None
        return sent.position

    def take() -> bool:
        frame = connection.next()
        if frame is None:
            return False
        connection.ask(*clients.take(frame))
        return True

    def connect() -> None:
        tasks.start_soon(connection.wire.run, app)
        connection.ask(*clients.recovery.resume())

    def cut() -> None:
        nonlocal connection
        connection.wire.tell(left())
        connection.slow.let(float("inf"))
        connection = Connection()
        connect()

    top = await publish()
    async with anyio.create_task_group() as tasks:
        connect()
        await anyio.wait_all_tasks_blocked()
        for step in steps:
            match step:
                case "publish":
                    top = await publish()
                case "join" if len(clients.read) < 4:
                    connection.ask(clients.join(None))
                case ("join", back) if len(clients.read) < 4:
                    connection.ask(clients.join(top._replace(offset=max(0, top.offset - back))))
                case "take":
                    take()
                case "cut":
                    cut()
                case ("send", count):
                    connection.slow.let(count)
            await anyio.wait_all_tasks_blocked()
            if connection.wire.close is not None:
                cut()
                await anyio.wait_all_tasks_blocked()
        connection.slow.let(float("inf"))
        await anyio.wait_all_tasks_blocked()
        if connection.wire.close is not None:
            cut()
            connection.slow.let(float("inf"))
            await anyio.wait_all_tasks_blocked()
        while take():
            await anyio.wait_all_tasks_blocked()
        connection.wire.tell(left())
    for follower in clients.read:
        clients.check(follower, top)


STEPS = st.lists(
    st.one_of(
        st.sampled_from(["publish", "publish", "join", "take", "take", "cut"]),
        st.tuples(st.just("join"), st.integers(0, SIZE + 2)),
        st.tuples(st.just("send"), st.integers(1, 3)),
    ),
    max_size=50,
)

# The third asks when the first is confirmed, and has had nothing of what waits for it.
THREE: list[Any] = [
    "publish",
    "publish",
    ("join", 2),
    ("join", 1),
    ("send", 1),
    "take",
    ("join", 1),
]


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@settings(deadline=None, max_examples=examples(100))
@example(steps=THREE, policy="disconnect")
@given(steps=STEPS, policy=st.sampled_from(["drop_oldest", "drop_newest", "disconnect"]))
def test_each_subscriber_has_all_in_order_or_is_told_of_the_gap(
    backend: str, steps: list[Step], policy: Overflow
) -> None:
    anyio.run(converse, steps, policy, backend=backend)
