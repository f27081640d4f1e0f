"""Positions over HTTP: what a stream and a row of polls bring, and what they admit to have lost."""

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asgi_notify import (
    Forbidden,
    History,
    InMemoryChannelLayer,
    NotificationHttpConsumer,
    URLRouter,
    channel_layers,
    path,
)
from asgi_notify.testing import HttpCommunicator
from asgi_notify.users import disconnect_user
from tests.consumers.harness import assert_nothing_left
from tests.consumers.streams import LEFT, REQUEST, Stream, streaming, until
from tests.eventstream import Dispatched, EventStream
from tests.examples import examples
from tests.frames import check

pytestmark = pytest.mark.anyio

SIZE = 5  # notifications in a history
STREAM = (b"accept", b"text/event-stream")
V1 = "protocol=asgi-notify.v1"


def routed(consumer: type[NotificationHttpConsumer]) -> URLRouter:
    return URLRouter(
        [path("notifications/<int:room_name>/", consumer), path("notifications/", consumer)]
    )


app = routed(NotificationHttpConsumer)


def make_layer() -> InMemoryChannelLayer:
    return InMemoryChannelLayer(history={"user_*": History(size=SIZE)}, capacity=10)


@pytest.fixture(autouse=True)
def layer() -> Iterator[InMemoryChannelLayer]:
    layer = make_layer()
    old = channel_layers.set("default", layer)
    yield layer
    channel_layers.set("default", old)


async def publish(layer: InMemoryChannelLayer, group: str, *data: object) -> list[str]:
    """Send notifications, and return their positions."""
    sent = [await layer.group_send(group, {"type": "send.notification", "data": d}) for d in data]
    return [str(one.position) for one in sent]


def stream_of(query: str = "", *headers: tuple[bytes, bytes], application: Any = app) -> Any:
    return streaming(application, STREAM, *headers, path="/notifications/1/", query=query)


def frames_of(wire: Stream) -> list[dict[str, Any]]:
    """The frames of a stream of the protocol, each held against the schema."""
    return [check(event.data) for event in wire.events]


def last_id(wire: Stream) -> str:
    """What a browser would come back with."""
    reader = EventStream()
    reader.feed(b"".join(wire.chunks))
    return reader.last_event_id


# Plain streams.


async def test_each_event_has_its_position_for_its_id(layer: InMemoryChannelLayer) -> None:
    async with stream_of() as wire:
        assert wire.events == []
        positions = await publish(layer, "user_1", "one", {"a": 2})
        await anyio.wait_all_tasks_blocked()
        assert wire.events == [
            Dispatched("one", "message", positions[0]),
            Dispatched('{"a": 2}', "message", positions[1]),
        ]
    assert_nothing_left(layer, "user_1")


@pytest.mark.parametrize("query", ["", V1])
async def test_a_browser_resumes_even_if_it_has_received_nothing(
    query: str, layer: InMemoryChannelLayer
) -> None:
    await publish(layer, "user_1", "before")
    async with stream_of(query) as wire:
        position = last_id(wire)
        assert position
    await publish(layer, "user_1", "missed")
    async with stream_of(query, (b"last-event-id", position.encode())) as wire:
        await publish(layer, "user_1", "live")
        await anyio.wait_all_tasks_blocked()
        data = [event.data for event in wire.events]
    if not query:
        assert data == ["missed", "live"]
    else:
        _, subscribed, *rest = map(check, data)
        assert (subscribed["recovered"], subscribed["replayed"]) == (True, 1)
        assert [frame["data"] for frame in rest] == ["missed", "live"]


async def test_the_query_resumes_a_stream_and_a_browsers_own_id_wins(
    layer: InMemoryChannelLayer,
) -> None:
    positions = await publish(layer, "user_1", *"abc")
    async with stream_of(f"since={positions[0]}") as wire:
        assert [event.data for event in wire.events] == ["b", "c"]
    async with stream_of(
        f"since={positions[0]}", (b"last-event-id", positions[1].encode())
    ) as wire:
        assert [event.data for event in wire.events] == ["c"]


@pytest.mark.parametrize("lost", ["trimmed", "flushed", "foreign"])
async def test_a_stream_that_cannot_resume_says_so_first(
    lost: str, layer: InMemoryChannelLayer
) -> None:
    position, *_ = await publish(layer, "user_1", *range(SIZE + 2))
    if lost == "flushed":
        await layer.flush()
    header = (b"last-event-id", b"of another kind" if lost == "foreign" else position.encode())
    async with stream_of("", header) as wire:
        await publish(layer, "user_1", "new")
        await anyio.wait_all_tasks_blocked()
        gap, new = wire.events
    assert gap.event == "gap"
    assert check(gap.data, "plain_gap") == {
        "group": "user_1", "reason": "unrecovered", "lost": None,
    }  # fmt: skip
    assert (new.data, new.event) == ("new", "message")
    assert new.id > gap.id > ""


async def test_a_slow_reader_of_a_plain_stream_is_told_of_a_gap(
    layer: InMemoryChannelLayer,
) -> None:
    events = await read_slowly("", layer)
    [gap] = [check(event.data, "plain_gap") for event in events if event.event == "gap"]
    numbers = [int(event.data) for event in events if event.event == "message"]
    assert (gap["group"], gap["reason"]) == ("user_1", "full")
    assert gap["lost"] == 30 - len(numbers) > 0


async def test_a_slow_reader_of_a_stream_of_frames_is_told_of_a_gap(
    layer: InMemoryChannelLayer,
) -> None:
    frames = [check(event.data) for event in await read_slowly(V1, layer)]
    assert [frame["type"] for frame in frames[:4]] == [
        "welcome", "subscribed", "notification", "gap",
    ]  # fmt: skip
    assert frames[3]["lost"] == 30 - len(frames[2:]) + 1


async def read_slowly(query: str, layer: InMemoryChannelLayer) -> list[Dispatched]:
    class Slow(NotificationHttpConsumer):
        overflow = "drop_oldest"

    gate = anyio.Event()

    async def hold(event: Any) -> None:
        await gate.wait()

    async with stream_of(query, application=routed(Slow)) as wire:
        wire.on_send = hold
        await publish(layer, "user_1", 0)
        await anyio.wait_all_tasks_blocked()
        await publish(layer, "user_1", *range(1, 30))
        gate.set()
        await anyio.wait_all_tasks_blocked()
        events: list[Dispatched] = wire.events
    return events


# Streams of frames.


async def test_a_stream_of_frames_begins_with_welcome_and_subscribed(
    layer: InMemoryChannelLayer,
) -> None:
    async with stream_of(V1) as wire:
        [position] = await publish(layer, "user_1", {"a": 1})
        await anyio.wait_all_tasks_blocked()
        welcome, subscribed, notification = frames_of(wire)
        assert (welcome["ping_interval"], welcome["pong_timeout"]) == (None, None)
        assert (subscribed["type"], subscribed["group"]) == ("subscribed", "user_1")
        assert notification == {
            "type": "notification", "group": "user_1", "id": position, "data": {"a": 1},
        }  # fmt: skip
        assert [event.id for event in wire.events] == ["", subscribed["position"], position]
        assert b"retry: 2000" in wire.chunks[0]


async def test_a_group_in_the_query_is_watched_where_the_path_has_no_room(
    layer: InMemoryChannelLayer,
) -> None:
    query = f"group=user_2&{V1}"
    async with streaming(app, STREAM, path="/notifications/", query=query) as wire:
        await publish(layer, "user_2", "hello")
        await anyio.wait_all_tasks_blocked()
        assert [frame.get("group") for frame in frames_of(wire)] == [None, "user_2", "user_2"]


@pytest.mark.parametrize(("query", "ends"), [(V1, True), ("", False)])
async def test_a_stream_that_ends_with_the_server_says_when_to_come_back(
    query: str, ends: bool, layer: InMemoryChannelLayer
) -> None:
    async with stream_of(query) as wire:
        await layer.close()
        await until(lambda: wire.sent[-1]["more_body"] is False)
        assert ("going_away" in wire.chunks[-2].decode()) is ends
        if ends:
            assert 0 <= frames_of(wire)[-1]["retry_after"] <= 5


@pytest.mark.parametrize("query", ["", V1])
async def test_a_disconnected_user_loses_stream_and_poll(
    query: str, layer: InMemoryChannelLayer
) -> None:
    poll = HttpCommunicator(app, "GET", f"/notifications/1/?{query}")
    async with stream_of(query) as wire, poll:
        await poll.send_input(REQUEST)
        poll.sent_request = True
        await anyio.wait_all_tasks_blocked()
        assert (await disconnect_user(layer, 1, reason="bye")).reached == 2
        await until(lambda: wire.sent[-1]["more_body"] is False)
        response = await poll.get_response()
        assert (response["status"], json.loads(response["body"])) == (403, {"error": "bye"})


async def test_a_subclass_that_sends_first_is_announced_all_the_same(
    layer: InMemoryChannelLayer,
) -> None:
    class Greets(NotificationHttpConsumer):
        async def connect(self) -> None:
            await super().connect()
            await self.send_event("hello")

    async with stream_of(application=routed(Greets)) as wire:
        assert [event.data for event in wire.events] == ["hello"]
        assert last_id(wire)


# Polls.


async def poll(**query: object) -> dict[str, Any]:
    """The answer to a poll."""
    target = f"/notifications/1/?{urlencode(query)}"
    async with HttpCommunicator(app, "GET", target) as client:
        response = await client.get_response()
    assert response["status"] == 200, response
    side = "answer" if "protocol" in query else "plain_answer"
    return check(response["body"].decode(), side)


async def test_polls_in_a_row_get_everything_once(layer: InMemoryChannelLayer) -> None:
    answer = await poll(timeout=0)
    assert answer.keys() == {"notifications", "position"}
    await publish(layer, "user_1", "one", "two")
    answer = await poll(since=answer["position"])  # at once, whatever its timeout
    assert (answer["notifications"], answer["recovered"]) == (["one", "two"], True)
    again = await poll(since=answer["position"], timeout=0)
    assert again == {"notifications": [], "position": answer["position"], "recovered": True}
    await publish(layer, "user_1", "three")
    assert (await poll(since=again["position"]))["notifications"] == ["three"]


async def test_a_poll_that_waits_is_answered_with_a_position(layer: InMemoryChannelLayer) -> None:
    answers: list[dict[str, Any]] = []

    async def wait() -> None:
        answers.append(await poll())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        positions = await publish(layer, "user_1", "one")
    assert answers == [{"notifications": ["one"], "position": positions[0]}]


async def test_polls_may_get_frames(layer: InMemoryChannelLayer) -> None:
    answer = await poll(timeout=0, protocol="asgi-notify.v1")
    [subscribed] = answer["frames"]
    assert subscribed["position"] == answer["position"]
    assert "recovered" not in subscribed
    positions = await publish(layer, "user_1", 1, [2])
    answer = await poll(since=answer["position"], protocol="asgi-notify.v1")
    subscribed, *notifications = answer["frames"]
    assert (subscribed["recovered"], subscribed["replayed"]) == (True, 2)
    assert [(frame["id"], frame["data"]) for frame in notifications] == list(
        zip(positions, [1, [2]], strict=True)
    )
    assert answer["position"] == positions[-1]


@pytest.mark.parametrize("protocol", [{}, {"protocol": "asgi-notify.v1"}])
async def test_a_poll_that_cannot_resume_says_so_at_once(
    protocol: dict[str, str], layer: InMemoryChannelLayer
) -> None:
    positions = await publish(layer, "user_1", *range(SIZE + 2))
    with anyio.fail_after(20):
        answer = await poll(since=positions[0], **protocol)
    content = answer["frames"][0] if protocol else answer
    assert content["recovered"] is False
    assert answer["position"] == positions[-1]
    assert len(answer.get("frames", [])) <= 1
    assert answer.get("notifications", []) == []


async def test_a_group_without_a_history_has_no_position(layer: InMemoryChannelLayer) -> None:
    old = channel_layers.set("default", InMemoryChannelLayer())
    try:
        assert await poll(timeout=0) == {"notifications": [], "position": None}
        with anyio.fail_after(20):
            answer = await poll(since="abcd1234-1")
        assert answer == {"notifications": [], "position": None, "recovered": False}
    finally:
        channel_layers.set("default", old)


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("since=x", "is no position"),
        ("since=abcd1234-1&since=abcd1234-2", "give it once"),
        ("protocol=asgi-notify.v2", "protocol is asgi-notify.v1"),
    ],
)
@pytest.mark.parametrize("headers", [[], [STREAM]])
async def test_a_bad_query_is_a_400(
    query: str, sentence: str, headers: list[tuple[bytes, bytes]]
) -> None:
    target = f"/notifications/1/?{query}"
    async with HttpCommunicator(app, "GET", target, headers=headers) as client:
        response = await client.get_response()
    assert response["status"] == 400
    assert sentence in json.loads(response["body"])["error"]


async def test_a_path_without_a_room_needs_a_group_that_may_be_watched() -> None:
    for query, status in ("", 400), ("group=", 400), ("group=admins", 403), ("group=a+b", 404):
        async with HttpCommunicator(app, "GET", f"/notifications/?{query}") as client:
            response = await client.get_response()
        assert response["status"] == status, query
        assert "error" in json.loads(response["body"])


async def test_authorize_decides_about_streams_and_polls() -> None:
    class Closed(NotificationHttpConsumer):
        async def authorize(self, group: str) -> None:
            raise Forbidden(f"{group} is closed")

    for headers in [], [STREAM]:
        client = HttpCommunicator(routed(Closed), "GET", "/notifications/1/", headers=headers)
        async with client:
            response = await client.get_response()
        assert (response["status"], json.loads(response["body"])) == (
            403, {"error": "user_1 is closed"},
        )  # fmt: skip


# More notifications than the poll's own queue holds, while it cannot answer.
@pytest.mark.parametrize("query", ["", f"&{V1}"])
async def test_what_a_poll_loses_the_next_one_gets(query: str) -> None:
    class Small(NotificationHttpConsumer):
        overflow = "drop_oldest"

    layer = InMemoryChannelLayer(history={"user_*": History(size=100)}, capacity=4)
    [start] = await publish(layer, "user_1", "start")
    small = URLRouter([path("notifications/<int:room_name>/", Small.as_asgi(channel_layer=layer))])
    got: list[int] = []
    since, polls = start, 0
    with anyio.fail_after(20):
        while len(got) < 20:
            wire = Stream(path="/notifications/1/", query=f"since={since}{query}")
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(wire.run, small)
                await anyio.wait_all_tasks_blocked()
                if not polls:
                    await flood(layer, 20)
            polls += 1
            answer = json.loads(wire.chunks[-1])
            since = answer["position"]
            if query:
                assert "gap" not in [frame["type"] for frame in answer["frames"]]
                got += [frame["data"] for frame in answer["frames"][1:]]
            else:
                got += map(int, answer["notifications"])
    assert polls > 1  # the first has lost some
    assert got == list(range(20))


async def flood(layer: InMemoryChannelLayer, count: int) -> None:
    """Put so many notifications into the mailboxes, with no turn of the reader in between."""
    for number in range(count):
        message = layer.freeze({"type": "send.notification", "data": number}, "user_1")
        layer._publish("user_1", message, None)
        for mailbox in layer.hub.members("user_1"):
            mailbox._is_woken = False  # as if it had been asleep all along


async def test_a_client_that_leaves_its_poll_loses_nothing(layer: InMemoryChannelLayer) -> None:
    since = (await poll(timeout=0))["position"]
    wire = Stream(path="/notifications/1/", query=f"since={since}")
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wire.run, app)
            await anyio.wait_all_tasks_blocked()
            wire.tell(LEFT)
            await publish(layer, "user_1", "unheard")
    assert (await poll(since=since))["notifications"] == ["unheard"]


@settings(deadline=None, max_examples=examples(30))
@given(st.lists(st.sampled_from(["publish", "poll", "poll while published"]), max_size=12))
def test_no_row_of_polls_has_a_hole_or_a_repeat(steps: list[str]) -> None:
    async def main() -> None:
        layer = InMemoryChannelLayer(history={"user_*": History(size=100)})
        application = URLRouter(
            [path("<int:room_name>/", NotificationHttpConsumer.as_asgi(channel_layer=layer))]
        )
        sent, got, since = 0, list[int](), ""
        for step in [*steps, "poll"]:
            if step != "poll" and (step == "publish" or since):
                await publish(layer, "user_1", sent)
                sent += 1
            if step == "publish":
                continue
            if not since:
                got += range(sent)  # what was sent before the first one is not its
            wire = Stream(path="/1/", query=f"timeout=0&since={since}")
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(wire.run, application)
                if step == "poll while published" and since:
                    await publish(layer, "user_1", sent)
                    sent += 1
            answer = json.loads(wire.chunks[-1])
            since = answer["position"]
            got += map(int, answer["notifications"])
        wire = Stream(path="/1/", query=f"timeout=0&since={since}")
        await wire.run(application)
        got += map(int, json.loads(wire.chunks[-1])["notifications"])
        assert got == list(range(sent))

    anyio.run(main)
