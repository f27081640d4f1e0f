"""The protocol over a WebSocket: subscriptions, who may have them, pings, gaps and the end."""

import json
import logging
from collections.abc import Iterator
from typing import Any

import anyio
import pytest

from asgi_notify import (
    DenyConnection,
    Forbidden,
    History,
    InMemoryChannelLayer,
    Message,
    NoRouteFound,
    NotificationConsumer,
    Notifications,
    Unauthorized,
    URLRouter,
    channel_layers,
    path,
)
from asgi_notify.layers.mailbox import Mailbox
from asgi_notify.testing import WebsocketCommunicator
from asgi_notify.users import connections_of, disconnect_user
from tests.consumers.harness import Wire, assert_nothing_left, connected, left, text
from tests.consumers.streams import until
from tests.frames import Client, check

pytestmark = pytest.mark.anyio

SIZE = 5  # notifications in a history


@pytest.fixture(autouse=True)
def layer() -> Iterator[InMemoryChannelLayer]:
    layer = InMemoryChannelLayer(history={"user_*": History(size=SIZE)}, capacity=10)
    old = channel_layers.set("default", layer)
    yield layer
    channel_layers.set("default", old)


def routed(consumer: type[NotificationConsumer]) -> URLRouter:
    return URLRouter(
        [path("notifications/<int:room_name>/", consumer), path("notifications/", consumer)]
    )


app = routed(NotificationConsumer)


async def publish(layer: InMemoryChannelLayer, group: str, *data: object) -> list[str]:
    """Send notifications, and return their positions."""
    sent = [await layer.group_send(group, {"type": "send.notification", "data": d}) for d in data]
    return [str(one.position) for one in sent]


# Connecting.


async def test_the_first_frame_is_the_welcome() -> None:
    async with Client(app) as client:
        welcome = await client.welcome()
        assert (welcome["ping_interval"], welcome["pong_timeout"]) == (25, 10)
        assert "!" in welcome["connection"]
        assert await client.receive_nothing(0.01)


async def test_a_room_is_subscribed_from_the_start(layer: InMemoryChannelLayer) -> None:
    async with Client(app, "/notifications/7/") as client:
        await client.welcome()
        subscribed = await client.expect("subscribed")
        assert subscribed.keys() == {"type", "group", "position", "replayed"}
        assert (subscribed["group"], subscribed["replayed"]) == ("user_7", 0)
        [position] = await publish(layer, "user_7", {"a": 1})
        assert position > subscribed["position"]
        assert await client.frame() == {
            "type": "notification", "group": "user_7", "id": position, "data": {"a": 1},
        }  # fmt: skip
    assert_nothing_left(layer, "user_7")


async def test_a_room_that_an_own_join_leaves_out_has_no_past_and_no_position() -> None:
    class Elsewhere(NotificationConsumer):
        async def join(self) -> None:
            pass

    async with Client(routed(Elsewhere), "/notifications/7/") as client:
        await client.welcome()
        subscribed = await client.expect("subscribed")
        assert (subscribed["position"], subscribed["replayed"]) == (None, 0)


async def test_a_group_in_the_query_is_subscribed_where_the_path_has_no_room(
    layer: InMemoryChannelLayer,
) -> None:
    async with Client(app, "/notifications/?group=user_7") as client:
        await client.welcome()
        assert (await client.expect("subscribed"))["group"] == "user_7"
        await publish(layer, "user_7", "hello")
        assert await client.data(1) == ["hello"]


async def test_a_client_without_the_protocol_gets_plain_text(layer: InMemoryChannelLayer) -> None:
    for target in "/notifications/7/", "/notifications/7/?since=x", "/notifications/?group=user_7":
        async with connected(app, target, subprotocols=["chat", "asgi-notify.v2"]) as client:
            await publish(layer, "user_7", "hello", {"a": 1})
            assert await client.receive_from() == "hello"
            assert await client.receive_from() == '{"a": 1}'
            await client.send_to('{"type": "ping"}')
            assert "all it understands is 'ping'" in (await client.receive_json_from())["error"]


async def test_a_client_without_the_protocol_needs_a_group() -> None:
    async with WebsocketCommunicator(app, "/notifications/", denial_response=True) as client:
        assert await client.connect() == (False, 400)
        assert client.denial is not None
        assert b"offer the subprotocol asgi-notify.v1" in client.denial.body


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/notifications/7/?since=x", 400),
        ("/notifications/7/?since=abcd1234-1&since=abcd1234-1", 400),
        ("/notifications/?group=admins", 403),
        ("/notifications/?group=user_07", 403),
        ("/notifications/?group=user_-1", 403),
        ("/notifications/?group=a+b", 404),
        ("/notifications/?group=user_1&group=user_2", 400),
    ],
)
async def test_a_connection_that_makes_no_sense_is_refused(
    target: str, status: int, layer: InMemoryChannelLayer
) -> None:
    async with Client(app, target, denial_response=True) as client:
        assert await client.connect() == (False, status)
    assert_nothing_left(layer)


# Subscriptions.


async def test_several_groups_share_one_socket(layer: InMemoryChannelLayer) -> None:
    async with Client(app) as client:
        await client.welcome()
        for number in 1, 2, 3:
            subscribed = await client.subscribe(f"user_{number}", ref=number)
            assert (subscribed["group"], subscribed["ref"]) == (f"user_{number}", number)
            assert "recovered" not in subscribed
        for number in 3, 1, 4, 2:
            await publish(layer, f"user_{number}", number)
        assert [(await client.frame())["group"] for _ in range(3)] == ["user_3", "user_1", "user_2"]
    assert_nothing_left(layer, "user_1", "user_2", "user_3")


async def test_nothing_of_a_group_follows_its_end(layer: InMemoryChannelLayer) -> None:
    async with Client(app) as client:
        await client.welcome()
        await client.subscribe("user_1")
        await client.subscribe("user_2")
        await client.say(type="unsubscribe", group="user_1", ref="x")
        assert await client.frame() == {"type": "unsubscribed", "group": "user_1", "ref": "x"}
        await publish(layer, "user_1", "unwanted")
        await publish(layer, "user_2", "wanted")
        assert await client.data(1) == ["wanted"]


async def test_what_waited_when_a_group_was_left_is_not_sent(layer: InMemoryChannelLayer) -> None:
    wire = Wire({"type": "websocket.connect"}, path="/notifications/1/")
    wire.scope["subprotocols"] = ["asgi-notify.v1"]
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wire.run, app)
            await anyio.wait_all_tasks_blocked()
            wire.tell(text('{"type": "unsubscribe", "group": "user_1"}'))
            # Whichever of the two comes first, nothing of the group follows the answer.
            await publish(layer, "user_1", "late")
            await until(lambda: "unsubscribed" in wire.texts[-1])
            await anyio.wait_all_tasks_blocked()
            assert "unsubscribed" in wire.texts[-1]
            wire.tell(left())


async def test_a_room_can_be_left_too(layer: InMemoryChannelLayer) -> None:
    async with Client(app, "/notifications/7/") as client:
        await client.welcome()
        await client.expect("subscribed")
        await client.say(type="unsubscribe", group="user_7")
        await client.expect("unsubscribed")
        await publish(layer, "user_7", "unseen")
        await client.subscribe("user_7")
        await publish(layer, "user_7", "again")
        assert await client.data(1) == ["again"]


async def test_a_connection_has_a_limit_of_subscriptions() -> None:
    class Few(NotificationConsumer):
        max_subscriptions = 2

    async with Client(routed(Few)) as client:
        await client.welcome()
        for _ in range(2):
            await client.subscribe("user_1")
            await client.subscribe("user_2")
        await client.say(type="subscribe", group="user_3", ref=1)
        error = await client.expect("error")
        assert (error["code"], error["ref"], error["group"]) == ("too_many", 1, "user_3")
        await client.say(type="unsubscribe", group="user_1")
        await client.expect("unsubscribed")
        await client.subscribe("user_3")
    assert NotificationConsumer.max_subscriptions == 100


async def test_a_ping_is_answered_with_its_ref() -> None:
    async with Client(app) as client:
        await client.welcome()
        await client.say(type="ping", ref="a")
        await client.say(type="pong")
        await client.say(type="ping")
        assert await client.frame() == {"type": "pong", "ref": "a"}
        assert await client.frame() == {"type": "pong"}


@pytest.mark.parametrize(
    ("frame", "code", "ref"),
    [
        ({"text_data": "hello"}, "bad_frame", None),
        ({"text_data": "[]"}, "bad_frame", None),
        ({"bytes_data": b"{}"}, "bad_frame", None),
        ({"text_data": '{"type": "shout", "ref": 1}'}, "unknown_type", 1),
        ({"text_data": '{"type": "subscribe", "ref": 1}'}, "bad_request", 1),
        ({"text_data": '{"type": "subscribe", "group": "admins", "ref": 1}'}, "forbidden", 1),
        ({"text_data": '{"type": "subscribe", "group": "a b", "ref": 1}'}, "not_found", 1),
        ({"text_data": '{"type": "unsubscribe", "group": "user_1"}'}, "not_subscribed", None),
    ],
)
async def test_a_bad_request_is_answered_and_the_connection_goes_on(
    frame: dict[str, Any], code: str, ref: object, layer: InMemoryChannelLayer
) -> None:
    async with Client(app) as client:
        await client.welcome()
        await client.send_to(**frame)
        error = await client.expect("error")
        assert (error["code"], error["ref"]) == (code, ref)
        await client.subscribe("user_2")
        await publish(layer, "user_2", "hello")
        assert await client.data(1) == ["hello"]


VALUES = {
    "too deep": "[" * 8000 + "]" * 8000,
    "deep": "[" * 900 + "]" * 900,
    "digits": "1" * 4000,
    "more digits": "1" * 5000,
    "infinite": "1e999",
    "half a pair": '"\\ud800"',
    "zero": '"\\u0000"',
}


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
@pytest.mark.parametrize("key", ["type", "group", "since", "ref", "new"])
async def test_no_frame_of_a_hostile_client_does_any_harm(
    key: str, value: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with Client(app) as client:
        await client.welcome()
        for kind in "subscribe", "unsubscribe", "ping", "sparkle":
            frame = {"type": f'"{kind}"', "group": '"user_1"', key: value}
            content = ", ".join(f'"{name}": {value}' for name, value in frame.items())
            await client.send_to(f"{{{content}}}"[: 16 * 1024])
            assert (await client.frame())["type"] in ("error", "pong", "subscribed", "unsubscribed")
        await client.say(type="ping", ref="last")
        assert (await client.expect("pong"))["ref"] == "last"
    assert not [record for record in caplog.records if record.exc_info]


async def test_a_frame_over_16_kib_closes_with_1009() -> None:
    async with Client(app) as client:
        await client.welcome()
        await client.send_to("x" * (16 * 1024 + 1))
        assert (await client.receive_output())["code"] == 1009


# Who may subscribe.


class Own(Notifications):
    """Everybody may watch what begins with their own name."""

    async def authorize(self, group: str) -> None:
        """Refuse in every way there is."""
        if group.startswith("ann"):
            return
        failures = {
            "bob": Forbidden("this is bob's"),
            "login": Unauthorized("log in first"),
            "denied": DenyConnection(),
            "nothing": NoRouteFound("there is no such thing"),
            "broken": ZeroDivisionError("a secret"),
        }
        raise failures[group]


class OwnSocket(Own, NotificationConsumer):
    """What is one's own, over a WebSocket."""


@pytest.mark.parametrize(
    ("group", "code", "sentence"),
    [
        ("bob", "forbidden", "this is bob's"),
        ("login", "unauthorized", "log in first"),
        ("denied", "forbidden", "this is not allowed"),
        ("nothing", "not_found", "there is no such thing"),
        ("broken", "failed", "the server failed; try again later"),
    ],
)
async def test_every_subscription_passes_authorize(
    group: str, code: str, sentence: str, layer: InMemoryChannelLayer,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    async with Client(routed(OwnSocket)) as client:
        await client.welcome()
        await client.say(type="subscribe", group=group, ref=1)
        error = await client.expect("error")
        assert (error["code"], error["message"], error["group"]) == (code, sentence, group)
        await publish(layer, group, "not for you")
        await client.subscribe("ann.1")
        await publish(layer, "ann.1", "hello")
        assert await client.data(1) == ["hello"]
    failures = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert [bool(record.exc_info) for record in failures] == [True] * (code == "failed")


async def test_the_room_of_the_path_passes_authorize_too() -> None:
    rooms = URLRouter([path("<str:room_name>/", OwnSocket)])
    for client in (
        Client(rooms, "/x/", denial_response=True),
        WebsocketCommunicator(rooms, "/x/", denial_response=True),
    ):
        async with client:
            assert await client.connect() == (False, 500)  # authorize() knows no user_x


async def test_a_room_allows_itself_alone() -> None:
    async with Client(app, "/notifications/7/") as client:
        await client.welcome()
        await client.expect("subscribed")
        await client.say(type="subscribe", group="user_8")
        assert (await client.expect("error"))["code"] == "forbidden"
        await client.subscribe("user_7")


async def test_a_guard_in_join_is_not_passed_by_at_a_path_without_a_room() -> None:
    class Guarded(NotificationConsumer):
        async def join(self) -> None:
            if self.room_name == 7:
                raise Forbidden("room 7 is not yours")
            await super().join()

    async with Client(routed(Guarded)) as client:
        await client.welcome()
        await client.say(type="subscribe", group="user_7")
        error = await client.expect("error")
        assert error["code"] == "forbidden"
        assert "override authorize(group)" in error["message"]
    async with Client(routed(Guarded), "/notifications/7/", denial_response=True) as client:
        assert await client.connect() == (False, 403)
    async with Client(routed(Guarded), "/notifications/8/") as client:
        await client.welcome()
        assert (await client.expect("subscribed"))["position"] is not None


async def test_a_join_that_does_it_all_itself_still_works(layer: InMemoryChannelLayer) -> None:
    class Old(NotificationConsumer):
        async def join(self) -> None:
            for group in self.room_group_name, "everyone":
                await self.channel_layer.group_add(group, self.channel_name)

    async with Client(routed(Old), "/notifications/7/?since=abcd1234-1") as client:
        await client.welcome()
        subscribed = await client.expect("subscribed")
        assert (subscribed["position"], subscribed["recovered"]) == (None, False)
        await publish(layer, "everyone", "all")
        await publish(layer, "user_7", "one")
        assert [(await client.frame())["group"] for _ in range(2)] == ["everyone", "user_7"]


# Resuming.


async def test_a_client_resumes_where_it_was(layer: InMemoryChannelLayer) -> None:
    positions = await publish(layer, "user_1", *range(4))
    async with Client(app) as client:
        await client.welcome()
        subscribed = await client.subscribe("user_1", since=positions[0], ref=1)
        assert (subscribed["recovered"], subscribed["replayed"]) == (True, 3)
        assert subscribed["position"] == positions[0]
        positions += await publish(layer, "user_1", 4)
        got = [await client.expect("notification") for _ in range(4)]
        assert [frame["data"] for frame in got] == [1, 2, 3, 4]
        assert [frame["id"] for frame in got] == positions[1:]


async def test_the_path_resumes_from_the_query(layer: InMemoryChannelLayer) -> None:
    positions = await publish(layer, "user_1", *range(4))
    async with Client(app, f"/notifications/1/?since={positions[2]}") as client:
        await client.welcome()
        subscribed = await client.expect("subscribed")
        assert (subscribed["recovered"], subscribed["replayed"]) == (True, 1)
        assert await client.data(1) == [3]


async def test_one_that_has_received_nothing_can_resume(layer: InMemoryChannelLayer) -> None:
    async with Client(app) as client:
        await client.welcome()
        position = (await client.subscribe("user_1"))["position"]
    await publish(layer, "user_1", "missed")
    async with Client(app) as client:
        await client.welcome()
        assert (await client.subscribe("user_1", since=position))["recovered"] is True
        assert await client.data(1) == ["missed"]


async def test_what_the_history_no_longer_reaches_is_admitted(layer: InMemoryChannelLayer) -> None:
    positions = await publish(layer, "user_1", *range(SIZE + 2))
    async with Client(app) as client:
        await client.welcome()
        subscribed = await client.subscribe("user_1", since=positions[0])
        assert (subscribed["recovered"], subscribed["replayed"]) == (False, 0)
        assert subscribed["position"] == positions[-1]
        await publish(layer, "user_1", "new")
        assert await client.data(1) == ["new"]


async def test_a_lost_history_is_admitted(layer: InMemoryChannelLayer) -> None:
    [position] = await publish(layer, "user_1", "old")
    await layer.flush()
    await publish(layer, "user_1", "lost to who was away")
    async with Client(app) as client:
        await client.welcome()
        subscribed = await client.subscribe("user_1", since=position)
        assert subscribed["recovered"] is False
        assert subscribed["position"] != position


async def test_a_group_without_a_history_has_no_positions(layer: InMemoryChannelLayer) -> None:
    class Any(NotificationConsumer):
        async def authorize(self, group: str) -> None:
            pass

    async with Client(routed(Any)) as client:
        await client.welcome()
        subscribed = await client.subscribe("news", since="abcd1234-1")
        assert (subscribed["position"], subscribed["recovered"]) == (None, False)
        await layer.group_send("news", {"type": "send.notification", "data": 1})
        assert (await client.expect("notification"))["id"] is None


async def test_subscribing_again_is_answered_with_where_one_stands(
    layer: InMemoryChannelLayer,
) -> None:
    async with Client(app) as client:
        await client.welcome()
        await client.subscribe("user_1")
        first, second = await publish(layer, "user_1", 1, 2)
        assert await client.data(2) == [1, 2]
        again = await client.subscribe("user_1", ref=2)
        assert again == {
            "type": "subscribed", "group": "user_1", "position": second, "replayed": 0, "ref": 2,
        }  # fmt: skip
        replayed = await client.subscribe("user_1", since=first)
        assert (replayed["position"], replayed["replayed"]) == (first, 1)
        await publish(layer, "user_1", 3)
        assert await client.data(2) == [2, 3]


async def test_positions_never_promise_what_still_waits(layer: InMemoryChannelLayer) -> None:
    wire = Wire({"type": "websocket.connect"}, path="/notifications/1/")
    wire.scope["subprotocols"] = ["asgi-notify.v1"]
    gate = anyio.Event()

    async def hold(event: Any) -> None:
        if "hold" in event.get("text", ""):
            await gate.wait()

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            wire.on_send = hold
            tasks.start_soon(wire.run, app)
            await anyio.wait_all_tasks_blocked()
            await publish(layer, "user_1", "hold")
            await anyio.wait_all_tasks_blocked()
            # Both wait behind the one that is being sent, the request before the message.
            for request in "", ', "since": "zzzzzzzz-1"':
                wire.tell(text(f'{{"type": "subscribe", "group": "user_1"{request}}}'))
            await anyio.wait_all_tasks_blocked()
            await publish(layer, "user_1", "waits")
            gate.set()
            await until(lambda: "waits" in wire.texts[-1])
            wire.tell(left())
    frames = [check(sent) for sent in wire.texts[2:]]
    held, again, lost, waited = frames
    assert again["position"] == lost["position"] == held["id"]
    assert lost["recovered"] is False
    assert waited["id"] > held["id"]


class Slow(NotificationConsumer):
    overflow = "drop_oldest"


async def test_after_a_gap_the_position_is_behind_what_was_told_lost(
    layer: InMemoryChannelLayer,
) -> None:
    [start] = await publish(layer, "user_1", "start")
    wire = Wire({"type": "websocket.connect"}, path="/notifications/1/")
    wire.scope["subprotocols"] = ["asgi-notify.v1"]
    gate = anyio.Event()

    async def hold(event: Any) -> None:
        if "hold" in event.get("text", ""):
            await gate.wait()

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            wire.on_send = hold
            tasks.start_soon(wire.run, routed(Slow))
            await anyio.wait_all_tasks_blocked()
            await publish(layer, "user_1", "hold")
            await anyio.wait_all_tasks_blocked()
            sent = await publish(layer, "user_1", *range(10 + SIZE))  # more than fit
            for more in '"ref": 1', f'"ref": 2, "since": "{start}"':
                wire.tell(text(f'{{"type": "subscribe", "group": "user_1", {more}}}'))
            await anyio.wait_all_tasks_blocked()
            gate.set()
            await until(lambda: '"ref":2' in wire.texts[-1])
            wire.tell(left())
    gap, *notifications, again, lost = [check(sent) for sent in wire.texts[3:]]
    assert (gap["type"], gap["lost"]) == ("gap", SIZE)
    assert [frame["id"] for frame in notifications] == sent[SIZE:]
    assert lost["recovered"] is False
    assert again["position"] == lost["position"] == sent[-1]


# What a notification is.


async def test_a_render_of_ones_own_holds_for_the_protocol_too(
    layer: InMemoryChannelLayer,
) -> None:
    class Loud(NotificationConsumer):
        def render(self, data: object) -> str:
            return super().render(data).upper()

    async with Client(routed(Loud), "/notifications/1/") as client:
        await client.welcome()
        await client.expect("subscribed")
        [position] = await publish(layer, "user_1", {"a": "b"})
        notification = await client.expect("notification")
        assert (notification["data"], notification["id"]) == ('{"A": "B"}', position)
        await layer.send(channel_of(layer), {"type": "send.notification", "data": "you"})
        assert await client.data(1) == ["YOU"]


def channel_of(layer: InMemoryChannelLayer) -> str:
    [mailbox] = layer.hub.attached
    return mailbox.channel


async def test_what_is_sent_to_the_connection_alone_is_brought(layer: InMemoryChannelLayer) -> None:
    async with Client(app) as client:
        await client.welcome()
        await layer.send(channel_of(layer), {"type": "send.notification", "data": "you"})
        assert await client.frame() == {
            "type": "notification", "group": None, "id": None, "data": "you",
        }  # fmt: skip


def nested(depth: int) -> object:
    """A list in a list in an object, and so on."""
    data: object = "bottom"
    for level in range(depth):
        data = [data, level] if level % 2 else {"one": 1, "deeper": data}
    return data


async def test_the_deepest_data_that_may_be_sent_arrives(layer: InMemoryChannelLayer) -> None:
    async with (
        Client(app, "/notifications/1/") as client,
        connected(app, "/notifications/1/") as plain,
    ):
        await client.welcome()
        await client.expect("subscribed")
        for data in nested(100), [{}] * 1000, "[" * 1000:
            await publish(layer, "user_1", data)
            assert await client.data(1) == [data]
            text = await plain.receive_from()
            assert (text if isinstance(data, str) else json.loads(str(text))) == data


@pytest.mark.parametrize(
    "message", [{}, {"data": {1}}, {"data": float("inf")}, {"data": nested(101)}]
)
async def test_what_no_frame_can_carry_is_passed_over(
    message: Message, layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    async with Client(app, "/notifications/1/") as client:
        await client.welcome()
        await client.expect("subscribed")
        await layer.group_send("user_1", {"type": "send.notification", **message})
        await publish(layer, "user_1", "next")
        assert await client.data(1) == ["next"]
    [record] = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert "passed over" in record.getMessage()


# Gaps.


@pytest.mark.parametrize("policy", ["drop_oldest", "drop_newest"])
async def test_a_slow_client_is_told_of_what_it_lost(
    policy: Any, layer: InMemoryChannelLayer
) -> None:
    class Slow(NotificationConsumer):
        overflow = policy

    numbers = await numbers_of_a_slow_client(routed(Slow), layer, ["asgi-notify.v1"])
    gaps = [frame for frame in map(check, numbers) if frame["type"] == "gap"]
    [gap] = gaps
    assert (gap["group"], gap["reason"]) == ("user_1", "full")
    data = [frame["data"] for frame in map(check, numbers) if frame["type"] == "notification"]
    assert data[0] == 0
    assert gap["lost"] == 30 - len(data) > 0
    place = [check(sent)["type"] for sent in numbers].index("gap")
    expected = {"drop_oldest": 1, "drop_newest": len(data)}
    assert place == expected[policy]  # where they are missing


async def numbers_of_a_slow_client(
    app: Any, layer: InMemoryChannelLayer, subprotocols: list[str]
) -> list[str]:
    """What comes after the first frames to one that cannot send while 30 are published."""
    wire = Wire({"type": "websocket.connect"}, path="/notifications/1/")
    wire.scope["subprotocols"] = subprotocols
    gate = anyio.Event()
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wire.run, app)
            await anyio.wait_all_tasks_blocked()
            before = len(wire.texts)

            async def hold(event: Any) -> None:
                await gate.wait()

            wire.on_send = hold
            await publish(layer, "user_1", 0)
            await anyio.wait_all_tasks_blocked()
            await publish(layer, "user_1", *range(1, 30))
            gate.set()
            await anyio.wait_all_tasks_blocked()
            wire.tell(left())
    return wire.texts[before:]


async def test_a_plain_client_neither_gets_nor_asks_for_gaps(
    layer: InMemoryChannelLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow(NotificationConsumer):
        overflow = "drop_oldest"

    made: list[bool] = []
    attach = layer.attach

    async def note(*args: Any, **kwargs: Any) -> Mailbox:
        made.append(kwargs["tell_gaps"])
        return await attach(*args, **kwargs)

    monkeypatch.setattr(layer, "attach", note)
    texts = await numbers_of_a_slow_client(routed(Slow), layer, [])
    assert [json.loads(sent) for sent in texts] == [0, *range(20, 30)]
    await numbers_of_a_slow_client(routed(Slow), layer, ["asgi-notify.v1"])
    assert made == [False, True]


# Pings.


class Impatient(NotificationConsumer):
    """Asks often."""

    ping_interval = 0.02
    pong_timeout = 0.5


async def test_the_server_pings_and_who_answers_stays() -> None:
    async with Client(routed(Impatient)) as client:
        welcome = await client.welcome()
        assert (welcome["ping_interval"], welcome["pong_timeout"]) == (0.02, 0.5)
        for _ in range(3):
            await client.expect("ping")
            await client.say(type="pong")
        await client.subscribe("user_1")


async def test_any_frame_shows_that_the_client_lives() -> None:
    async with Client(routed(Impatient)) as client:
        await client.welcome()
        for _ in range(2):
            await client.expect("ping")
            await client.send_to("nonsense")
            await client.expect("error")


async def test_a_client_that_answers_nothing_is_closed_with_4408(
    layer: InMemoryChannelLayer,
) -> None:
    class Quick(NotificationConsumer):
        ping_interval = 0.02
        pong_timeout = 0.02

    async with Client(routed(Quick), "/notifications/1/") as client:
        await client.welcome()
        await client.expect("subscribed")
        await client.expect("ping")
        with anyio.fail_after(20):
            while (event := await client.receive_output())["type"] == "websocket.send":
                pass
        assert (event["type"], event["code"]) == ("websocket.close", 4408)
        assert "after a ping" in event["reason"]
        await client.wait()
    assert_nothing_left(layer, "user_1")


async def test_a_busy_server_does_not_take_its_clients_for_dead() -> None:
    class Busy(Impatient):
        async def authorize(self, group: str) -> None:
            await anyio.sleep(0.6)  # longer than the client would have had

    async with Client(routed(Busy)) as client:
        await client.welcome()
        await client.say(type="subscribe", group="user_1")
        while (frame := await client.frame())["type"] != "subscribed":
            assert frame["type"] == "ping"
            await client.say(type="pong")


async def test_a_ping_that_had_to_wait_leaves_the_client_as_much_time_as_any() -> None:
    class Busy(Impatient):
        ping_interval = 0.2

        async def authorize(self, group: str) -> None:
            await anyio.sleep(0.6)  # the ping is due at 0.2, and its answer at 0.6 + 0.5

    async with Client(routed(Busy)) as client:
        await client.welcome()
        await client.subscribe("user_1")
        await client.expect("ping")
        await anyio.sleep(0.2)
        await client.say(type="ping", ref=1)
        while (frame := await client.frame())["type"] != "pong":
            assert frame["type"] == "ping"


async def test_an_answer_within_the_same_tick_of_the_clock_is_an_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Coarse(NotificationConsumer):
        ping_interval = 0.2
        pong_timeout = 0.1

    exact = anyio.current_time
    monkeypatch.setattr(anyio, "current_time", lambda: exact() // 0.1 * 0.1)
    async with Client(routed(Coarse)) as client:
        await client.welcome()
        for _ in range(3):
            await client.expect("ping")
            await client.say(type="pong")


async def test_a_plain_client_is_not_pinged() -> None:
    async with connected(routed(Impatient), "/notifications/1/") as client:
        assert await client.receive_nothing(0.1)


# The end.


async def test_at_shutdown_clients_are_told_when_to_come_back(layer: InMemoryChannelLayer) -> None:
    times = set()
    for _ in range(5):
        async with Client(app, "/notifications/1/") as client:
            await client.welcome()
            await client.expect("subscribed")
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(layer.close)
                going = await client.expect("going_away")
                assert (await client.receive_output())["code"] == 1012
        assert 0 <= going["retry_after"] <= NotificationConsumer.retry_spread
        times.add(going["retry_after"])
    assert len(times) > 1  # they do not all come back at once


async def test_at_shutdown_a_plain_client_is_closed_as_before(layer: InMemoryChannelLayer) -> None:
    async with connected(app, "/notifications/1/") as client, anyio.create_task_group() as tasks:
        tasks.start_soon(layer.close)
        assert (await client.receive_output())["code"] == 1012


class Listed(NotificationConsumer):
    """Says of its connections what they are for."""

    presence_info = {"app": "phone"}  # noqa: RUF012


async def test_a_user_is_found_and_disconnected_on_every_connection(
    layer: InMemoryChannelLayer,
) -> None:
    listed = routed(Listed)
    async with (
        Client(listed, "/notifications/1/") as one,
        Client(listed) as two,
        connected(listed, "/notifications/1/") as plain,
        Client(listed, "/notifications/2/") as other,
    ):
        for client in one, two:
            await client.welcome()
        welcome = await other.welcome()
        for client in one, other:
            await client.expect("subscribed")
        await two.subscribe("user_1")
        assert len(await connections_of(layer, 1)) == 3
        assert await connections_of(layer, 2) == {welcome["connection"]: {"app": "phone"}}
        assert (await disconnect_user(layer, 1, reason="bye")).reached == 3
        for closed in one, two, plain:
            event = await closed.receive_output()
            assert (event["code"], event["reason"]) == (4403, "bye")
        await other.say(type="ping")
        await other.expect("pong")


async def test_a_connection_is_not_in_the_presence_unless_it_is_asked_for(
    layer: InMemoryChannelLayer,
) -> None:
    async with connected(app, "/notifications/1/") as client:
        assert await layer.presence("user_1") == {}
        assert list((await connections_of(layer, 1)).values()) == [None]
        assert (await disconnect_user(layer, 1)).reached == 1
        assert (await client.receive_output())["code"] == 4403


# What comes at a bad moment.


class Deciding(NotificationConsumer):
    """Takes its time over one group."""

    decided: anyio.Event

    async def authorize(self, group: str) -> None:
        if group == "user_9":
            await self.decided.wait()


@pytest.mark.parametrize("room", [False, True])
async def test_what_waited_before_a_group_was_subscribed_anew_does_not_follow(
    layer: InMemoryChannelLayer, room: bool
) -> None:
    Deciding.decided = anyio.Event()
    async with Client(routed(Deciding), f"/notifications/{'1/' if room else ''}") as client:
        await client.welcome()
        if room:
            await client.expect("subscribed")
        else:
            await client.subscribe("user_1")
        await client.say(type="subscribe", group="user_9")
        await client.say(type="unsubscribe", group="user_1")
        await client.say(type="subscribe", group="user_1", ref=2)
        await anyio.wait_all_tasks_blocked()  # the three are read, and none is answered
        before = await publish(layer, "user_1", "one", "two")
        Deciding.decided.set()
        await client.expect("subscribed")
        await client.expect("unsubscribed")
        again = await client.expect("subscribed")
        assert (again["position"], again["replayed"]) == (before[-1], 0)
        await publish(layer, "user_1", "three")
        assert await client.data(1) == ["three"]


async def test_a_flush_sends_clients_away_to_come_back_and_learn_what_they_lost(
    layer: InMemoryChannelLayer,
) -> None:
    async with Client(app, "/notifications/1/") as client:
        await client.welcome()
        before = await client.expect("subscribed")
        await publish(layer, "user_1", "seen")
        await layer.flush()
        assert (await publish(layer, "user_1", "lost"))[0] != before["position"]
        going = await client.expect("going_away")
        assert 0 <= going["retry_after"] <= NotificationConsumer.retry_spread
        close = await client.receive_output()
        assert (close["code"], close["reason"]) == (1012, "the layer was flushed; come back")
    assert_nothing_left(layer, "user_1")
    async with Client(app, f"/notifications/1/?since={before['position']}") as client:
        await client.welcome()
        assert (await client.expect("subscribed"))["recovered"] is False
        await publish(layer, "user_1", "hello")
        assert await client.data(1) == ["hello"]


async def test_the_wish_that_connections_end_is_not_replayed(layer: InMemoryChannelLayer) -> None:
    async with Client(app, "/notifications/1/") as client:
        await client.welcome()
        position = (await client.expect("subscribed"))["position"]
        await layer.group_send("user_1", {"type": "websocket.disconnect"})
        assert (await client.receive_output())["type"] == "websocket.close"
    async with Client(app, f"/notifications/1/?since={position}") as client:
        await client.welcome()
        assert (await client.expect("subscribed"))["replayed"] == 0
        await publish(layer, "user_1", "hello")
        assert await client.data(1) == ["hello"]
