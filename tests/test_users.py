"""What is done with a user as a whole: found, and disconnected, on every transport."""

import json
from collections.abc import Iterator
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_notify import (
    AsyncSseConsumer,
    AsyncWebsocketConsumer,
    InMemoryChannelLayer,
    InvalidName,
    LayerClosed,
    NotificationConsumer,
    NotificationHttpConsumer,
    URLRouter,
    WebsocketConsumer,
    async_to_sync,
    channel_layers,
    path,
)
from asgi_notify.layers import History
from asgi_notify.names import require_group_name
from asgi_notify.testing import HttpCommunicator
from asgi_notify.users import connections_of, disconnect_user, user_group
from tests.consumers.harness import connected
from tests.consumers.streams import REQUEST, streaming

pytestmark = pytest.mark.anyio

app = URLRouter([path("notifications/<int:room_name>/", NotificationConsumer)])
over_http = URLRouter([path("notifications/<int:room_name>/", NotificationHttpConsumer)])


@pytest.fixture
def layer() -> Iterator[InMemoryChannelLayer]:
    """A layer with histories, which the consumers find as the default one."""
    layer = InMemoryChannelLayer(history={"user_*": History()})
    old = channel_layers.set("default", layer)
    yield layer
    channel_layers.set("default", old)


async def of_user(layer: InMemoryChannelLayer, user: object, **more: Any) -> str:
    mailbox = await layer.attach()
    await layer.group_add(user_group(user), mailbox.channel, **more)
    return mailbox.channel


def test_a_users_group_is_named_after_it() -> None:
    assert user_group(42) == "user_42"
    assert user_group("ada.lovelace-1_2") == "user_ada.lovelace-1_2"
    with pytest.raises(InvalidName, match="empty"):
        user_group("")


@pytest.mark.parametrize(
    ("user", "group"),
    [
        ("auth0|42", "user_..auth0.7C42"),
        ("ann@example.com", "user_..ann.40example.2Ecom"),
        ("Ädä", "user_...C3.84d.C3.A4"),
        ("a b", "user_..a.20b"),
        ("..auth0.7C42", "user_...2E.2Eauth0.2E7C42"),
    ],
)
def test_an_id_of_any_characters_has_a_group(user: str, group: str) -> None:
    assert user_group(user) == group
    assert require_group_name(group) == group


def test_a_long_id_has_a_group_too() -> None:
    long = "https://login.example/" + 90 * "x"
    assert require_group_name(user_group(long)).startswith("user_..-")
    assert user_group(long) != user_group(long + "x")


@given(st.text(min_size=1), st.text(min_size=1))
def test_no_two_users_share_a_group(one: str, other: str) -> None:
    groups = {user_group(user) for user in (one, other)}
    # An id may look like what another one's group is called.
    groups |= {user_group(group.removeprefix("user_")) for group in tuple(groups)}
    users = {one, other}
    users |= {user_group(user).removeprefix("user_") for user in (one, other)}
    assert len(groups) == len(users)


async def test_the_connections_of_a_user_are_listed(layer: InMemoryChannelLayer) -> None:
    phone = await of_user(layer, 42, info={"device": "phone"})
    desk = await of_user(layer, 42, member="42")
    plain = await of_user(layer, 42)
    await of_user(layer, 43, member="43")
    assert await connections_of(layer, 42) == {
        phone: {"device": "phone"},
        desk: None,
        plain: None,
    }
    assert await connections_of(layer, 44) == {}


async def test_the_default_consumers_connections_are_listed(layer: InMemoryChannelLayer) -> None:
    async with connected(app, "/notifications/42/"), connected(app, "/notifications/42/"):
        assert len(await connections_of(layer, 42)) == 2
    assert await connections_of(layer, 42) == {}


async def test_a_users_websockets_are_closed_and_nobody_elses(
    layer: InMemoryChannelLayer,
) -> None:
    async with (
        connected(app, "/notifications/42/") as first,
        connected(app, "/notifications/42/") as second,
        connected(app, "/notifications/43/") as other,
    ):
        sent = await disconnect_user(layer, 42, code=4401, reason="your session has ended")
        assert (sent.reached, sent.dropped, sent.position) == (2, 0, None)
        for connection in (first, second):
            closed = await connection.receive_output()
            assert closed["type"] == "websocket.close"
            assert (closed["code"], closed["reason"]) == (4401, "your session has ended")
        assert await other.receive_nothing(0.01)


class Plain(AsyncWebsocketConsumer):
    """Any WebSocket consumer of an application's own."""

    groups = ("user_42",)


class Threaded(WebsocketConsumer):
    """The same with plain functions."""

    groups = ("user_42",)


@pytest.mark.parametrize("consumer", [Plain, Threaded])
async def test_every_websocket_consumer_closes_when_it_is_told_to(
    layer: InMemoryChannelLayer, consumer: type[Any]
) -> None:
    async with connected(consumer, "/") as client:
        await disconnect_user(layer, 42)
        closed = await client.receive_output()
        assert (closed["type"], closed["code"]) == ("websocket.close", 4403)
        assert closed["reason"] == "the server has ended this connection"


async def test_who_comes_back_is_not_closed_again(layer: InMemoryChannelLayer) -> None:
    start = (await layer.group_send("user_42", {"type": "send.notification", "data": 1})).position
    await disconnect_user(layer, 42)
    mailbox = await layer.attach()
    assert (await layer.group_add("user_42", mailbox.channel, since=start)).replayed == 0


async def test_a_script_can_disconnect_a_user(layer: InMemoryChannelLayer) -> None:
    async with connected(Plain, "/") as client:
        disconnect = async_to_sync(disconnect_user)
        await anyio.to_thread.run_sync(disconnect, layer, 42)
        assert (await client.receive_output())["type"] == "websocket.close"


class Stream(AsyncSseConsumer):
    """A stream of an application's own, which begins with an event."""

    async def connect(self) -> None:
        await self.channel_layer.group_add("user_42", self.channel_name)


@pytest.mark.parametrize(
    ("application", "where"), [(over_http, "/notifications/42/"), (Stream.as_asgi(), "/")]
)
async def test_a_users_streams_end(
    layer: InMemoryChannelLayer, application: Any, where: str
) -> None:
    accept = (b"accept", b"text/event-stream")
    async with streaming(application, accept, path=where) as wire:
        assert (await disconnect_user(layer, 42)).reached == 1
        await anyio.wait_all_tasks_blocked()
        last = wire.sent[-1]
        assert (last["type"], last["body"]) == ("http.response.body", b"")
        assert last["more_body"] is False
        assert not layer.hub.attached


async def test_a_users_poll_is_refused(layer: InMemoryChannelLayer) -> None:
    async with HttpCommunicator(over_http, "GET", "/notifications/42/") as poll:
        await poll.send_input(REQUEST)
        poll.sent_request = True
        await anyio.wait_all_tasks_blocked()
        await disconnect_user(layer, 42, reason="your session has ended")
        response = await poll.get_response()
    assert response["status"] == 403
    assert json.loads(response["body"]) == {"error": "your session has ended"}


@pytest.mark.parametrize("overflow", ["disconnect", "drop_oldest", "drop_newest"])
async def test_a_full_mailbox_does_not_keep_a_user_connected(overflow: Any) -> None:
    layer = InMemoryChannelLayer(capacity=2, overflow=overflow)
    mailbox = await layer.attach()
    await layer.group_add(user_group(42), mailbox.channel)
    for number in range(2):
        await layer.group_send(user_group(42), {"type": "number", "number": number})
    assert await disconnect_user(layer, 42, code=4401) == (1, 0, None)
    assert await disconnect_user(layer, 42, code=4402) == (1, 0, None)  # one is enough
    if overflow == "drop_oldest":
        await layer.group_send(user_group(42), {"type": "number", "number": 2})
    told = []
    while (entry := mailbox.pop()) is not None:
        told.append(entry.message.get("number", entry.message.get("code")))
    assert told == ([1, 4401, 2] if overflow == "drop_oldest" else [0, 1, 4401])
    layer.detach(mailbox)


async def test_who_unsubscribes_from_its_own_room_can_still_be_disconnected(
    layer: InMemoryChannelLayer,
) -> None:
    protocol = {"subprotocols": ["asgi-notify.v1"]}
    async with connected(app, "/notifications/42/", **protocol) as client:
        for _ in ("welcome", "subscribed"):
            await client.receive_output()
        await client.send_json_to({"type": "unsubscribe", "group": "user_42"})
        assert (await client.receive_json_from())["type"] == "unsubscribed"
        await layer.group_send("user_42", {"type": "send.notification", "data": "unseen"})
        await client.send_json_to({"type": "subscribe", "group": "user_42"})
        assert (await client.receive_json_from())["type"] == "subscribed"
        await layer.group_send("user_42", {"type": "send.notification", "data": "seen"})
        assert (await client.receive_json_from())["data"] == "seen"
        await client.send_json_to({"type": "unsubscribe", "group": "user_42"})
        assert (await client.receive_json_from())["type"] == "unsubscribed"
        assert (await disconnect_user(layer, 42, code=4401)).reached == 1
        assert (await client.receive_output())["code"] == 4401


async def test_one_connection_can_be_closed_too_however_full_its_mailbox() -> None:
    layer = InMemoryChannelLayer(capacity=1, overflow="drop_newest")
    mailbox = await layer.attach()
    close = {"type": "connection.close", "code": 4401}
    await layer.send(mailbox.channel, {"type": "number"})
    await layer.send(mailbox.channel, close)
    told = [entry.message["type"] for entry in (mailbox.pop(), mailbox.pop()) if entry]
    assert told == ["number", "connection.close"]
    await layer.group_add(user_group(42), mailbox.channel)
    mailbox.close(LayerClosed("the server is shutting down"))
    assert await disconnect_user(layer, 42) == (0, 1, None)
    with pytest.raises(LayerClosed):
        await layer.send(mailbox.channel, close)
    layer.detach(mailbox)
