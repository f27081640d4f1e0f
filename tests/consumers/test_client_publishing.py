"""Clients publish where a rule lets them: once, in their own name, and told where it stands."""

from typing import Any

import pytest

from asgi_notify import (
    History,
    InMemoryChannelLayer,
    NotificationConsumer,
    URLRouter,
    channel_layers,
    path,
)
from asgi_notify.auth import Identity, Rule, own_group, public, rule
from asgi_notify.types import ASGIApp
from tests.auth.tools import Clock, LoggedIn
from tests.consumers.harness import connected
from tests.frames import Client

pytestmark = pytest.mark.anyio

CHAT = public("chat*", actions=["watch", "publish"])


@pytest.fixture(autouse=True)
def layer() -> Any:
    layer = InMemoryChannelLayer(history={"chat": History()})
    old = channel_layers.set("default", layer)
    yield layer
    channel_layers.set("default", old)


def lobby(by: Rule | None, user: str | None = None) -> ASGIApp:
    app = URLRouter([path("notifications/", NotificationConsumer.as_asgi(rule=by))])
    return LoggedIn(app, Clock(), None if user is None else Identity(user))


async def test_a_chat_needs_no_consumer_of_its_own() -> None:
    async with Client(lobby(CHAT, "ann")) as ann, Client(lobby(CHAT, "auth0|7")) as bob:
        for client in ann, bob:
            await client.welcome()
            await client.subscribe("chat")
        await bob.say(type="publish", group="chat", data={"text": "hello"}, ref="first")
        notification = await ann.expect("notification")
        assert (notification["data"], notification["user"]) == ({"text": "hello"}, "auth0|7")
        # The publisher gets it like all others, and an answer that says which one it is.
        answers = {frame["type"]: frame for frame in (await bob.frame(), await bob.frame())}
        assert answers["notification"] == notification
        assert answers["published"] == {
            "type": "published", "group": "chat", "position": notification["id"], "ref": "first",
        }  # fmt: skip


@pytest.mark.parametrize("user", ["ann", 7, {"mail": "ann@example.com"}, object()])
async def test_what_a_back_end_calls_user_stays_inside(
    user: object, layer: InMemoryChannelLayer
) -> None:
    async with Client(lobby(CHAT)) as client:
        await client.welcome()
        await client.subscribe("chat_2")
        message = {"type": "send.notification", "data": "hello", "user": user}
        await layer.group_send("chat_2", message)
        notification = await client.expect("notification")
        assert notification["data"] == "hello"
        assert "user" not in notification


async def test_a_publisher_need_not_watch() -> None:
    by = public("chat", actions=["publish"])
    async with Client(lobby(by)) as client:
        await client.welcome()
        await client.say(type="publish", group="chat", data="hello")
        published = await client.expect("published")
        assert published["position"].endswith("-1")
        await client.say(type="subscribe", group="chat")
        assert (await client.expect("error"))["code"] == "unauthorized"


async def test_a_client_without_history_is_told_no_position() -> None:
    async with Client(lobby(CHAT)) as client:
        await client.welcome()
        await client.say(type="publish", group="chat_2", data=None)
        assert await client.expect("published") == {
            "type": "published", "group": "chat_2", "position": None,
        }  # fmt: skip


async def test_what_is_sent_again_with_its_key_is_published_once() -> None:
    async with Client(lobby(CHAT, "ann")) as client:
        await client.welcome()
        await client.subscribe("chat")
        positions: list[str] = []
        for ref in 1, 2:
            await client.say(type="publish", group="chat", data="hello", key="k", ref=ref)
        while len(positions) < 2:
            frame = await client.frame()
            if frame["type"] == "published":
                positions.append(frame["position"])
        assert positions[0] == positions[1]
        await client.say(type="publish", group="chat", data="more", key="l")
        assert [(await client.frame())["type"] for _ in range(2)] == ["notification", "published"]


async def test_a_key_is_its_users_own() -> None:
    async with Client(lobby(CHAT, "ann")) as ann, Client(lobby(CHAT, "bob")) as bob:
        positions: list[str] = []
        for client in ann, bob:
            await client.welcome()
            await client.say(type="publish", group="chat", data="mine", key="k")
            positions.append((await client.expect("published"))["position"])
        assert positions[0] != positions[1]


@rule
async def fails(identity: Identity | None, action: str, group: str) -> bool:
    raise LookupError("the database is away")


@pytest.mark.parametrize(
    ("by", "user", "code"),
    [
        (None, "ann", "forbidden"),
        (own_group, "ann", "forbidden"),
        (own_group, None, "unauthorized"),
        (public("user_ann"), "ann", "forbidden"),
        (fails, "ann", "failed"),
    ],
    ids=["no rule", "own group", "nobody", "to watch alone", "fails"],
)
async def test_nobody_publishes_unless_a_rule_says_so(
    by: Rule | None, user: str | None, code: str, layer: InMemoryChannelLayer
) -> None:
    mailbox = await layer.attach()
    await layer.group_add("user_ann", mailbox.channel)
    async with Client(lobby(by, user)) as client:
        await client.welcome()
        await client.say(type="publish", group="user_ann", data="hello", ref=1)
        error = await client.expect("error")
        assert (error["code"], error["ref"], error["group"]) == (code, 1, "user_ann")
        assert "to publish user_ann" not in error["message"]  # it is published to
    assert mailbox.is_empty


async def test_data_that_nobody_could_read_is_refused() -> None:
    async with Client(lobby(CHAT)) as client:
        await client.welcome()
        deep: Any = []
        for _ in range(101):
            deep = [deep]
        for data in deep, "\ud800":
            await client.say(type="publish", group="chat", data=data, ref=1)
            error = await client.expect("error")
            assert (error["code"], error["ref"]) == ("bad_request", 1)


async def test_a_client_of_plain_text_publishes_nothing(layer: InMemoryChannelLayer) -> None:
    mailbox = await layer.attach()
    await layer.group_add("chat", mailbox.channel)
    async with connected(lobby(CHAT), "/notifications/?group=chat") as client:
        await client.send_to('{"type": "publish", "group": "chat", "data": "hello"}')
        assert "all it understands is 'ping'" in (await client.receive_json_from())["error"]
    assert mailbox.is_empty
