"""What a rule refuses is refused over every transport, and by each way to ask for it."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from asgi_notify import (
    History,
    InMemoryChannelLayer,
    NotificationConsumer,
    NotificationHttpConsumer,
    Notifications,
    URLRouter,
    path,
)
from asgi_notify.auth import AuthSession, Identity, Rule, own_group, public, rule
from asgi_notify.layers import channel_layers
from asgi_notify.types import ASGIApp, Receive, Scope, Send
from tests.consumers.harness import assert_nothing_left, connected
from tests.consumers.streams import streaming, until
from tests.consumers.test_authorize import TRANSPORTS
from tests.frames import Client

pytestmark = pytest.mark.anyio

SEVEN, EIGHT = Identity("7"), Identity("8")


@pytest.fixture(autouse=True)
def layer() -> Any:
    layer = InMemoryChannelLayer(history={"user_*": History()})
    old = channel_layers.set("default", layer)
    yield layer
    channel_layers.set("default", old)


async def unasked(credential: str) -> Identity:
    raise AssertionError("nobody shows a credential here")


class Known:
    """Stands where `Authentication` would, and says who is there."""

    def __init__(self, app: ASGIApp, identity: Identity | None) -> None:
        self.app, self.identity = app, identity

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(AuthSession(unasked, self.identity).put_in(scope), receive, send)


def hooks(by: Rule, identity: Identity | None) -> type[Notifications]:
    """A consumer with this rule, on connections of one user."""

    async def live(self: Notifications, scope: Scope, receive: Receive, send: Send) -> None:
        session = AuthSession(unasked, identity)
        await Notifications._live(self, session.put_in(scope), receive, send)

    return type("Hooks", (Notifications,), {"rule": by, "_live": live})


Status = Callable[[Any], Awaitable[int]]


@pytest.mark.parametrize("ask", TRANSPORTS.values(), ids=TRANSPORTS)
@pytest.mark.parametrize(
    ("by", "identity", "status"),
    [
        (own_group, SEVEN, 200),
        (own_group, EIGHT, 403),
        (own_group, None, 401),
        (own_group | public("user_7"), EIGHT, 200),
        (public("user_7"), None, 200),
        (public("user_7", actions=["history", "presence", "publish"]), SEVEN, 403),
    ],
    ids=["own", "another's", "nobody's", "public", "public to nobody", "not to watch"],
)
async def test_only_what_the_rule_allows_is_watched(
    ask: Status, by: Rule, identity: Identity | None, status: int, layer: InMemoryChannelLayer
) -> None:
    assert await ask(hooks(by, identity)) == status
    assert_nothing_left(layer, "user_7")


@rule
async def fails(identity: Identity | None, action: str, group: str) -> bool:
    raise LookupError("the database is away")


@pytest.mark.parametrize("ask", TRANSPORTS.values(), ids=TRANSPORTS)
async def test_a_rule_that_fails_lets_nobody_in(ask: Status, layer: InMemoryChannelLayer) -> None:
    assert await ask(hooks(fails, SEVEN)) == 500
    assert_nothing_left(layer, "user_7")


def routed(app: Any) -> ASGIApp:
    return URLRouter([path("notifications/<int:room_name>/", app), path("notifications/", app)])


async def test_a_history_may_be_kept_from_those_who_may_watch(layer: InMemoryChannelLayer) -> None:
    position = (await layer.group_send("user_7", {"type": "send.notification", "data": 1})).position
    app = routed(NotificationConsumer.as_asgi(rule=public("user_*", actions=["watch"])))
    async with Client(app, "/notifications/") as client:
        await client.welcome()
        await client.say(type="subscribe", group="user_7", since=str(position))
        error = await client.expect("error")
        assert error["code"] == "unauthorized"
        assert "leave 'since' out" in error["message"]
        assert (await client.subscribe("user_7"))["replayed"] == 0


async def test_who_cannot_choose_watches_the_own_group(layer: InMemoryChannelLayer) -> None:
    app = Known(routed(NotificationConsumer.as_asgi(rule=own_group)), SEVEN)
    async with connected(app, "/notifications/") as client:
        await layer.group_send("user_7", {"type": "send.notification", "data": "hello"})
        assert await client.receive_from() == "hello"
    over_http = Known(routed(NotificationHttpConsumer.as_asgi(rule=own_group)), SEVEN)
    async with streaming(
        over_http, (b"accept", b"text/event-stream"), path="/notifications/"
    ) as stream:
        await layer.group_send("user_8", {"type": "send.notification", "data": "no"})
        sent = await layer.group_send("user_7", {"type": "send.notification", "data": "hi"})
        await until(lambda: bool(stream.events))
        assert [(event.data, event.id) for event in stream.events] == [("hi", str(sent.position))]


async def test_each_consumer_has_its_own_rule() -> None:
    class Public(NotificationConsumer):
        rule = public("user_*")

    assert Public().rule is Public.rule
    assert Public.as_asgi(rule=own_group).rule is own_group
    assert NotificationConsumer().rule is None
