"""Whatever a client asks, in whatever order: what its connection owes it comes, or is told lost.

A client of the protocol subscribes to one group again and again, from anywhere. It
reads slowly, while messages are sent and the history lets go of old ones. All that
docs/protocol.md promises is held against each frame that it gets.
"""

import json
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from asgi_notify import History, InMemoryChannelLayer, NotificationConsumer, URLRouter, path
from asgi_notify.layers import Overflow
from asgi_notify.positions import Position
from asgi_notify.protocol import PROTOCOL
from tests.consumers.harness import CONNECT, Slow, Wire, assert_nothing_left, left, text
from tests.examples import examples
from tests.frames import check

SIZE = 4  # messages in the history; as few as possible for every limit to be met
CAPACITY = 3
GROUP = "user_1"

Frame = dict[str, Any]
Step = str | tuple[str, int]


class Reading:
    """One who began at a position, and is told of whatever is missing behind it."""

    def __init__(self, position: Position) -> None:
        self.position = position
        self.lost = 0

    def take(self, frame: Frame, *, may_repeat: bool = False) -> None:
        if frame["type"] == "gap":
            self.lost += frame["lost"]
            return
        offset = Position.parse(frame["id"]).offset
        if may_repeat and offset <= self.position.offset:
            self.lost = 0  # of what came before this
            return
        missing = offset - self.position.offset - 1
        assert missing == self.lost or (may_repeat and 0 <= missing <= self.lost), "a hole"
        self.position, self.lost = self.position._replace(offset=offset), 0

    def end(self, top: int) -> None:
        assert top - self.position.offset <= self.lost


class Asker:
    """The client: what it has asked, and who reads on its side."""

    def __init__(self) -> None:
        self.asked: dict[int, str | None] = {}
        self.is_subscribed = False
        self.connection: Reading | None = None  # what the connection itself owes
        self.readers: list[Reading] = []  # each from where it asked

    def ask(self, since: str | None) -> str:
        ref = len(self.asked)
        self.asked[ref] = since
        frame = {"type": "subscribe", "group": GROUP, "since": since, "ref": ref}
        return json.dumps(frame)

    def take(self, frame: Frame) -> None:
        kind = frame["type"]
        if kind == "subscribed":
            self.begin(frame)
        elif kind == "unsubscribed":
            self.is_subscribed, self.connection, self.readers = False, None, []
        elif kind in ("notification", "gap"):
            assert self.is_subscribed, "nothing follows the end of a subscription"
            assert self.connection is not None
            self.connection.take(frame)
            for reader in self.readers:
                reader.take(frame, may_repeat=True)
        else:
            assert kind == "welcome" or frame["code"] == "not_subscribed", frame

    def begin(self, frame: Frame) -> None:
        """Everything after the answer's position follows, or is told in its place."""
        position = Position.parse(frame["position"])
        self.is_subscribed = True
        self.connection = Reading(position)
        since = self.asked.get(frame.get("ref", -1))
        assert frame.get("recovered") is None or since is not None
        if frame.get("recovered"):
            asked = Position.parse(since)
            assert position.is_within(asked)
            self.readers.append(Reading(asked))
        else:
            assert frame["replayed"] == 0
            self.readers.append(Reading(position))


async def converse(steps: list[Step], policy: Overflow, address: str) -> None:
    """Take the steps on one connection, then read to the end."""
    layer = InMemoryChannelLayer(history={"*": History(SIZE)}, capacity=CAPACITY)

    class Consumer(NotificationConsumer):
        overflow = policy

    app = Consumer.as_asgi(channel_layer=layer)
    client, slow = Asker(), Slow()
    wire = Wire(CONNECT, path=address)
    wire.scope["subprotocols"] = [PROTOCOL]
    wire.on_send = slow.hold
    seen, top = 0, 0
    (before,) = [(await layer.group_send(GROUP, message(0))).position]
    assert before is not None

    async def look() -> None:
        nonlocal seen
        await anyio.wait_all_tasks_blocked()
        for mailbox in layer.hub.attached:
            assert mailbox.unread <= SIZE + CAPACITY
        for sent in wire.texts[seen:]:
            client.take(check(sent))
        seen = len(wire.texts)

    async with anyio.create_task_group() as tasks:
        router = URLRouter([path("n/<int:room_name>/", app), path("n/", app)])
        tasks.start_soon(wire.run, router)
        slow.let(3)  # the accept, the welcome, and the room's own subscription
        await look()
        for step in steps:
            match step:
                case "publish":
                    top += 1
                    await layer.group_send(GROUP, message(top))
                case "subscribe":
                    wire.tell(text(client.ask(None)))
                case ("subscribe", back):
                    since = before._replace(offset=max(0, before.offset + top + 1 - back))
                    wire.tell(text(client.ask(str(since))))
                case "elsewhere":
                    wire.tell(text(client.ask("abcdefgh-1")))
                case "unsubscribe":
                    wire.tell(text(json.dumps({"type": "unsubscribe", "group": GROUP})))
                case ("read", count):
                    slow.let(count)
            await look()
        slow.let(float("inf"))
        await look()
        if client.connection is not None and wire.close is None:
            for reading in [client.connection, *client.readers]:
                reading.end(before.offset + top)
        wire.tell(left())
    assert_nothing_left(layer, GROUP)


def message(number: int) -> dict[str, Any]:
    return {"type": "send.notification", "data": number}


STEPS = st.lists(
    st.one_of(
        st.sampled_from(["publish", "publish", "subscribe", "elsewhere"]),
        st.tuples(st.just("subscribe"), st.integers(0, SIZE + 3)),
        st.tuples(st.just("read"), st.integers(1, 3)),
    ),
    max_size=40,
)
"""Of one who never leaves."""

LEAVING = st.lists(
    st.one_of(
        st.sampled_from(["publish", "publish", "subscribe", "unsubscribe"]),
        st.tuples(st.just("subscribe"), st.integers(0, SIZE)),
        st.tuples(st.just("read"), st.integers(1, 2)),
    ),
    max_size=40,
)


def run(steps: list[Step], policy: Overflow, address: str, backend: str) -> None:
    anyio.run(converse, steps, policy, address, backend=backend)


# Three from different places: the last asks when the first two are confirmed, and nothing
# of their replay has been read yet.
THREE: list[Step] = [
    "publish", "publish", ("subscribe", 3), ("subscribe", 2), ("read", 1), ("subscribe", 1),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("address", ["/n/", "/n/1/"])
@pytest.mark.parametrize("loop", ["asyncio", "asyncio without steps", "trio"])
@settings(
    deadline=None,
    max_examples=examples(60),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    steps=st.one_of(STEPS, LEAVING),
    policy=st.sampled_from(["drop_oldest", "drop_newest", "disconnect"]),
)
@example(steps=THREE, policy="disconnect")
def test_nothing_that_is_owed_is_lost_untold(
    steps: list[Step],
    policy: Overflow,
    address: str,
    loop: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ASGI_NOTIFY_STEPPING", "0" if loop == "asyncio without steps" else "1")
    run(steps, policy, address, loop.split()[0])
