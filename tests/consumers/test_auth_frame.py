"""The frame ``auth``: who a client is, said in its first frame, and fresh credentials later."""

import json
import logging
from typing import Any

import anyio
import pytest

from asgi_notify import (
    AsyncWebsocketConsumer,
    InMemoryChannelLayer,
    NotificationConsumer,
    URLRouter,
    path,
)
from asgi_notify.auth import (
    Identity,
    anybody,
    groups_in_claim,
    own_group,
    public,
    revoke_user,
    rule,
)
from asgi_notify.auth.revocations import groups_of
from asgi_notify.exceptions import LayerUnavailable, Unauthorized
from asgi_notify.middleware import Authentication
from asgi_notify.protocol import PROTOCOL, read
from asgi_notify.testing import WebsocketCommunicator
from tests.auth.tools import NOW, Clock, credential, verify
from tests.consumers.harness import assert_nothing_left
from tests.consumers.streams import until
from tests.frames import Client

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("layer")]

FAR = 10_000.0  # seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


class Own(NotificationConsumer):
    """Lets each user watch the group of their own and those that begin with it."""

    groups = ("all",)

    async def authorize(self, group: str) -> bool:
        user: Identity = self.scope["user"]
        return group.startswith(f"user_{user.id}")


class Hasty(Own):
    auth_timeout = 0.05


def routed(consumer: Any) -> URLRouter:
    return URLRouter(
        [path("notifications/<room_name>/", consumer), path("notifications/", consumer)]
    )


def guarded(consumer: Any, clock: Clock, **options: Any) -> Authentication:
    options.setdefault("first_frame", True)
    return Authentication(routed(consumer), verify, clock=clock, **options)


async def notify(layer: InMemoryChannelLayer, group: str, data: object) -> None:
    await layer.group_send(group, {"type": "send.notification", "data": data})


async def closed_with(client: WebsocketCommunicator) -> tuple[int, str]:
    event = await client.receive_output()
    assert event["type"] == "websocket.close", event
    return event["code"], event["reason"]


# The first one.


async def test_a_client_says_in_its_first_frame_who_it_is(
    clock: Clock, layer: InMemoryChannelLayer
) -> None:
    async with Client(guarded(Own, clock)) as client:
        welcome = await client.welcome()
        assert welcome["auth_timeout"] == 10
        assert "expires_in" not in welcome
        assert not layer.hub.has_members("all")
        await client.say(type="auth", token=credential("7", expires_at=NOW + FAR), ref=1)
        assert await client.frame() == {
            "type": "authenticated", "user": "7", "expires_at": NOW + FAR, "expires_in": FAR,
            "ref": 1,
        }  # fmt: skip
        await client.subscribe("user_7")
        await notify(layer, "user_7", "hello")
        assert await client.data(1) == ["hello"]
        await notify(layer, "all", "everybody")
        assert await client.data(1) == ["everybody"]
        await client.say(type="subscribe", group="user_8")
        assert (await client.expect("error"))["code"] == "forbidden"
    assert_nothing_left(layer, "all", "user_7")


async def test_the_group_of_the_path_is_joined_when_the_client_is_known(
    clock: Clock, layer: InMemoryChannelLayer
) -> None:
    async with Client(guarded(Own, clock), "/notifications/7/") as client:
        await client.welcome()
        assert layer.hub.group_count == 0
        await client.say(type="auth", token=credential("7"))
        assert (await client.expect("authenticated"))["expires_at"] is None
        assert (await client.expect("subscribed"))["group"] == "user_7"
        await notify(layer, "user_7", "hello")
        assert await client.data(1) == ["hello"]


async def test_a_path_of_somebody_else_closes_when_the_client_is_known(
    clock: Clock, layer: InMemoryChannelLayer
) -> None:
    async with Client(guarded(Own, clock), "/notifications/8/") as client:
        await client.welcome()
        await client.say(type="auth", token=credential("7"))
        await client.expect("authenticated")
        assert (await closed_with(client))[0] == 4403


async def test_nothing_else_is_served_before(clock: Clock, layer: InMemoryChannelLayer) -> None:
    async with Client(guarded(Own, clock)) as client:
        welcome = await client.welcome()
        for frame in (
            {"type": "subscribe", "group": "user_7", "ref": 1},
            {"type": "unsubscribe", "group": "user_7", "ref": 1},
            {"type": "ping", "ref": 1},
        ):
            await client.say(**frame)
            error = await client.expect("error")
            assert (error["code"], error["ref"]) == ("unauthorized", 1)
        await client.say(type="pong")
        message = {"type": "send.notification", "data": "secret"}
        await layer.send(welcome["connection"], message)
        await client.send_to("no JSON")
        assert (await client.expect("error"))["code"] == "bad_frame"
        await client.say(type="auth", token=credential("7"))
        await client.expect("authenticated")
        await client.say(type="ping", ref=2)
        assert (await client.frame())["ref"] == 2


@pytest.mark.parametrize("token", ["nonsense", ""])
async def test_a_first_credential_that_is_worth_nothing_closes(token: str, clock: Clock) -> None:
    async with Client(guarded(Own, clock)) as client:
        await client.welcome()
        await client.say(type="auth", token=token)
        assert (await closed_with(client))[0] == 4401


async def test_an_expired_first_credential_closes(clock: Clock) -> None:
    async with Client(guarded(Own, clock)) as client:
        await client.welcome()
        await client.say(type="auth", token=credential(expires_at=NOW))
        assert (await closed_with(client))[0] == 4401


async def test_who_says_nothing_in_time_is_closed(
    clock: Clock, layer: InMemoryChannelLayer
) -> None:
    async with Client(guarded(Hasty, clock)) as client:
        assert (await client.welcome())["auth_timeout"] == 0.05
        assert await closed_with(client) == (4401, "no credential was shown within 0.05 s")
    assert_nothing_left(layer)


async def test_who_said_it_in_time_goes_on(clock: Clock) -> None:
    async with Client(guarded(Hasty, clock)) as client:
        await client.welcome()
        await client.say(type="auth", token=credential("7"))
        await client.expect("authenticated")
        await anyio.sleep(2 * Hasty.auth_timeout)
        await client.say(type="ping")
        await client.expect("pong")


async def test_a_frame_without_a_token_is_no_end(clock: Clock) -> None:
    async with Client(guarded(Own, clock)) as client:
        await client.welcome()
        for token in (None, 7, ["x"]):
            await client.send_to(json.dumps({"type": "auth", "token": token, "ref": 1}))
            error = await client.expect("error")
            assert (error["code"], error["ref"]) == ("bad_request", 1)


async def test_without_authentication_a_credential_is_not_taken() -> None:
    async with Client(routed(NotificationConsumer)) as client:
        assert "auth_timeout" not in await client.welcome()
        await client.say(type="auth", token="x", ref=1)
        error = await client.expect("error")
        assert (error["code"], error["ref"]) == ("bad_request", 1)


async def test_where_it_is_not_required_a_client_may_stay_unknown(clock: Clock) -> None:
    app = guarded(NotificationConsumer, clock, required=False)
    async with Client(app) as client:
        assert "auth_timeout" not in await client.welcome()
        await client.subscribe("user_1")
        await client.say(type="auth", token=credential("7"))
        assert (await client.expect("authenticated"))["user"] == "7"


# Whose methods would be called for a client that nobody knows yet.


class Connects(Own):
    async def connect(self) -> None:
        await self.accept(PROTOCOL)


class Receives(Own):
    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        await self.send(text_data="what a stranger gets")


class Foreign(AsyncWebsocketConsumer):
    async def connect(self) -> None:
        await self.accept(PROTOCOL)


@pytest.mark.parametrize("consumer", [Connects, Receives, Foreign])
async def test_a_consumer_that_waits_for_no_first_frame_is_not_reached(
    consumer: type[AsyncWebsocketConsumer], clock: Clock
) -> None:
    async with Client(guarded(consumer, clock), denial_response=True) as client:
        assert await client.connect() == (False, 401)


# Later ones.


async def test_a_fresh_credential_puts_off_the_end(
    clock: Clock, layer: InMemoryChannelLayer
) -> None:
    token = credential("7", expires_at=NOW + FAR)
    headers = [(b"authorization", f"Bearer {token}".encode())]
    async with Client(guarded(Own, clock), "/notifications/7/", headers=headers) as client:
        assert (await client.welcome())["expires_in"] == FAR
        await client.expect("subscribed")
        clock.move(FAR - 1)
        await client.say(type="auth", token=credential("7", expires_at=NOW + 2 * FAR), ref=1)
        assert await client.frame() == {
            "type": "authenticated", "user": "7", "expires_at": NOW + 2 * FAR,
            "expires_in": FAR + 1, "ref": 1,
        }  # fmt: skip
        clock.move(FAR)
        await notify(layer, "user_7", "hello")
        assert await client.data(1) == ["hello"]
        clock.move(1)
        await notify(layer, "user_7", "late")
        assert (await closed_with(client))[0] == 4401


@pytest.mark.parametrize(
    ("token", "code"),
    [
        (credential("8"), "forbidden"),
        ("nonsense", "unauthorized"),
        (credential("7", expires_at=NOW), "unauthorized"),
    ],
    ids=["another user", "worth nothing", "expired"],
)
async def test_a_fresh_credential_that_is_refused_changes_nothing(
    token: str, code: str, clock: Clock, layer: InMemoryChannelLayer
) -> None:
    async with Client(guarded(Own, clock)) as client:
        await client.welcome()
        await client.say(type="auth", token=credential("7", expires_at=NOW + FAR))
        await client.expect("authenticated")
        await client.subscribe("user_7")
        await client.say(type="auth", token=token, ref="x")
        error = await client.expect("error")
        assert (error["code"], error["ref"]) == (code, "x")
        await notify(layer, "user_7", "hello")
        assert await client.data(1) == ["hello"]
        clock.move(FAR)
        await notify(layer, "user_7", "late")
        assert (await closed_with(client))[0] == 4401


async def test_a_fresh_credential_comes_too_late_once_the_old_one_has_expired(
    clock: Clock,
) -> None:
    async with Client(guarded(Own, clock)) as client:
        await client.welcome()
        await client.say(type="auth", token=credential("7", expires_at=NOW + FAR))
        await client.expect("authenticated")
        clock.move(FAR)
        await client.say(type="auth", token=credential("7", expires_at=NOW + 2 * FAR))
        assert (await closed_with(client))[0] == 4401


async def test_what_a_login_says_anew_counts_from_then_on(clock: Clock) -> None:
    class Claimed(NotificationConsumer):
        async def authorize(self, group: str) -> bool:
            return group in self.scope["user"].claims["groups"]

    async with Client(guarded(Claimed, clock)) as client:
        await client.welcome()
        await client.say(type="auth", token=credential("7", claims={"groups": ["news"]}))
        await client.expect("authenticated")
        await client.subscribe("news")
        await client.say(type="auth", token=credential("7", claims={"groups": ["sport"]}))
        await client.expect("authenticated")
        assert (await client.expect("error"))["group"] == "news"
        assert (await client.expect("unsubscribed"))["group"] == "news"
        await client.subscribe("sport")
        await client.say(type="subscribe", group="news")
        assert (await client.expect("error"))["code"] == "forbidden"


async def fails(identity: Identity | None, action: str, group: str) -> bool:
    assert identity is not None
    if identity.claims["groups"] == ["sport"] and group == "news":
        raise RuntimeError("the database is away")
    return True


class Asked(NotificationConsumer):
    async def authorize(self, group: str) -> bool:
        return group in self.scope["user"].claims["groups"]


@pytest.mark.parametrize(
    ("consumer", "fewer", "code"),
    [
        (NotificationConsumer.as_asgi(rule=groups_in_claim("groups")), {}, "forbidden"),
        (Asked, {}, "forbidden"),
        (NotificationConsumer.as_asgi(rule=anybody), {"groups": ["sport"]}, "forbidden"),
        (NotificationConsumer.as_asgi(rule=rule(fails)), {}, "failed"),
    ],
    ids=["rule", "authorize", "ticket", "rule that fails"],
)
async def test_what_a_fresh_credential_does_not_allow_any_more_ends(
    consumer: Any,
    fewer: dict[str, Any],
    code: str,
    clock: Clock,
    layer: InMemoryChannelLayer,
) -> None:
    many = credential("7", claims={"groups": ["news", "sport"]})
    few = credential("7", claims={"groups": ["sport"]}, **fewer)
    headers = [(b"authorization", f"Bearer {many}".encode())]
    async with Client(guarded(consumer, clock), headers=headers) as client:
        await client.welcome()
        await client.subscribe("news")
        await client.subscribe("sport")
        await client.say(type="auth", token=few)
        await client.expect("authenticated")
        error = await client.expect("error")
        assert (error["code"], error["group"], error["ref"]) == (code, "news", None)
        assert (await client.expect("unsubscribed"))["group"] == "news"
        assert not layer.hub.has_members("news")
        await notify(layer, "news", "secret")
        await notify(layer, "sport", "goal")
        assert await client.data(1) == ["goal"]
        await client.say(type="unsubscribe", group="news")
        assert (await client.expect("error"))["code"] == "not_subscribed"


async def test_who_renews_without_end_is_refused_before_anybody_is_asked(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each renewal asks the rule about each subscription, so that it costs more than a frame."""
    asked: list[str] = []

    class Counting(NotificationConsumer):
        async def authorize(self, group: str) -> bool:
            asked.append(group)
            return True

    passing = Clock()
    monkeypatch.setattr("asgi_notify.consumers.login.RENEWALS.clock", passing)
    headers = [(b"authorization", f"Bearer {credential('7')}".encode())]
    async with Client(guarded(Counting, clock), headers=headers) as client:
        await client.welcome()
        await client.subscribe("news")
        for renewal in range(10):
            # What is worth nothing is counted, too: to find that out costs as well.
            shown = credential("7") if renewal < 8 else "nothing"
            await client.say(type="auth", token=shown, ref=renewal)
            await client.expect("authenticated" if renewal < 8 else "error")
        assert len(asked) == 1 + 8
        await client.say(type="auth", token=credential("7"), ref="too fast")
        error = await client.expect("error")
        assert (error["code"], error["ref"]) == ("too_many", "too fast")
        await client.say(type="ping")
        await client.expect("pong")
        assert len(asked) == 1 + 8
        passing.move(1)
        await client.say(type="auth", token=credential("7"))
        await client.expect("authenticated")
        await client.say(type="auth", token=credential("7"))
        assert (await client.expect("error"))["code"] == "too_many"


async def test_a_join_of_ones_own_is_not_asked_again(
    clock: Clock, layer: InMemoryChannelLayer
) -> None:
    class Joining(NotificationConsumer):
        async def join(self) -> bool:
            await self.channel_layer.group_add(self.room_group_name, self.channel_name)
            return True

    app = guarded(Joining, clock)
    headers = [(b"authorization", f"Bearer {credential('7')}".encode())]
    async with Client(app, "/notifications/?group=news", headers=headers) as client:
        await client.welcome()
        await client.expect("subscribed")
        await client.say(type="auth", token=credential("7"))
        await client.expect("authenticated")
        await notify(layer, "news", "hello")
        assert await client.data(1) == ["hello"]


async def test_nobody_leaves_the_groups_by_which_a_login_is_ended(
    clock: Clock, layer: InMemoryChannelLayer
) -> None:
    by = public("*", actions=["watch", "publish", "history"])
    async with Client(guarded(NotificationConsumer.as_asgi(rule=by), clock)) as client:
        await client.welcome()
        await client.say(type="auth", token=credential("7", token_id="t"))
        await client.expect("authenticated")
        for group in groups_of(Identity("7", token_id="t")):
            await client.say(type="subscribe", group=group)
            assert (await client.expect("error"))["code"] == "forbidden"
            await client.say(type="publish", group=group, data="x")
            assert (await client.expect("error"))["code"] == "forbidden"
            await client.say(type="unsubscribe", group=group)
            assert (await client.expect("error"))["code"] == "not_subscribed"
            assert layer.hub.has_members(group)
        await revoke_user(layer, "7", seconds=60)
        assert (await closed_with(client))[0] == 4401


async def test_nothing_is_done_any_more_for_a_login_that_has_expired(
    clock: Clock, layer: InMemoryChannelLayer
) -> None:
    by = public("*", actions=["watch", "publish"])
    app = guarded(NotificationConsumer.as_asgi(rule=by), clock)
    async with Client(app) as watcher, Client(app) as expired:
        await watcher.welcome()
        await watcher.say(type="auth", token=credential("8"))
        await watcher.expect("authenticated")
        await watcher.subscribe("chat")
        await expired.welcome()
        await expired.say(type="auth", token=credential("7", expires_at=NOW + FAR))
        await expired.expect("authenticated")
        clock.move(FAR)  # and the alarm does not ring yet
        await expired.say(type="publish", group="chat", data="too late")
        assert (await closed_with(expired))[0] == 4401
        await notify(layer, "chat", "hello")
        assert await watcher.data(1) == ["hello"]


@pytest.mark.parametrize(
    ("failure", "code", "close"),
    [
        (LayerUnavailable("10.0.0.5: away"), "failed", 1013),
        (RuntimeError("secret"), "failed", 1011),
        (Unauthorized("no"), "unauthorized", 4401),
    ],
)
async def test_a_verifier_that_fails_ends_nobody_who_is_known(
    failure: Exception, code: str, close: int, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    failing: list[Exception] = []

    async def check(shown: str) -> Identity:
        if failing:
            raise failing[0]
        return await verify(shown)

    app = Authentication(routed(Own), check, first_frame=True, clock=clock)
    async with Client(app) as known, Client(app) as stranger:
        await known.welcome()
        await known.say(type="auth", token=credential("7"))
        await known.expect("authenticated")
        await stranger.welcome()
        failing.append(failure)
        await known.say(type="auth", token=credential("7", token_id="topsecret"))
        error = await known.expect("error")
        assert error["code"] == code
        assert "10.0.0.5" not in error["message"]
        await known.say(type="ping")
        await known.expect("pong")
        await stranger.say(type="auth", token=credential("7", token_id="topsecret"))
        assert (await closed_with(stranger))[0] == close
    assert "topsecret" not in caplog.text


async def test_no_log_and_no_repr_shows_a_credential(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with Client(guarded(Own, clock)) as client:
        await client.welcome()
        await client.say(type="auth", token=credential("7", token_id="topsecret"))
        await client.expect("authenticated")
        await client.say(type="auth", token="topsecret nonsense")
        assert "topsecret" not in (await client.expect("error"))["message"]
    assert "topsecret" not in caplog.text
    assert "topsecret" not in repr(read('{"type": "auth", "token": "topsecret"}'))
    assert repr(read('{"type": "subscribe", "group": "user_7"}')) == "<subscribe user_7>"


async def test_a_client_that_leaves_before_it_says_anything_leaves_nothing(
    clock: Clock, layer: InMemoryChannelLayer
) -> None:
    async with Client(guarded(Own, clock)) as client:
        await client.welcome()
    await until(lambda: not layer.hub.attached)


# Rights that change with the login.


class Rights(NotificationConsumer):
    rule = own_group | groups_in_claim("groups")


def with_groups(*groups: str) -> str:
    return credential("7", claims={"groups": groups})


async def test_a_right_that_a_fresh_credential_lacks_ends_its_subscription(
    clock: Clock, layer: InMemoryChannelLayer
) -> None:
    async with Client(guarded(Rights, clock)) as client:
        await client.welcome()
        await client.say(type="auth", token=with_groups("team_1", "team_2"))
        await client.expect("authenticated")
        for group in "user_7", "team_1", "team_2":
            await client.subscribe(group)
        await client.say(type="auth", token=with_groups("team_2", "team_3"))
        await client.expect("authenticated")
        error = await client.expect("error")
        assert (error["code"], error["group"], error["ref"]) == ("forbidden", "team_1", None)
        assert (await client.expect("unsubscribed"))["group"] == "team_1"
        assert not layer.hub.has_members("team_1")
        await client.subscribe("team_3")
        for group in "team_1", "team_2", "team_3", "user_7":
            await notify(layer, group, group)
        assert await client.data(3) == ["team_2", "team_3", "user_7"]


async def test_a_path_that_a_fresh_credential_has_no_right_to_ends_the_connection(
    clock: Clock,
) -> None:
    async with Client(guarded(Rights, clock), "/notifications/?group=team_1") as client:
        await client.welcome()
        await client.say(type="auth", token=with_groups("team_1"))
        await client.expect("authenticated")
        await client.expect("subscribed")
        await client.say(type="auth", token=with_groups())
        await client.expect("authenticated")
        assert (await closed_with(client))[0] == 4403
