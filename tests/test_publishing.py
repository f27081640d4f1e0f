"""The HTTP endpoint of publishers: who may use it, what it takes, what it answers."""

import hmac
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from anyio import fail_after

from asgi_notify import (
    History,
    InMemoryChannelLayer,
    NotificationConsumer,
    ProtocolTypeRouter,
    PublishConsumer,
    URLRouter,
    channel_layers,
    get_channel_layer,
    path,
)
from asgi_notify.testing import HttpCommunicator, WebsocketCommunicator
from asgi_notify.testing.scope import connection_scope
from asgi_notify.types import Event, Headers

pytestmark = pytest.mark.anyio

BODY = b'{"data": "hello"}'


@pytest.fixture(autouse=True)
def layer() -> Iterator[InMemoryChannelLayer]:
    layer = InMemoryChannelLayer()
    old = channel_layers.set("default", layer)
    yield layer
    channel_layers.set("default", old)


def app(**kwargs: Any) -> ProtocolTypeRouter:
    return ProtocolTypeRouter(
        {
            "http": URLRouter(path("rooms/<str:room_name>/", PublishConsumer(**kwargs))),
            "websocket": URLRouter(path("rooms/<str:room_name>/", NotificationConsumer)),
        }
    )


async def post(
    application: Any,
    body: bytes = BODY,
    *,
    room: str = "7",
    method: str = "POST",
    headers: Headers | None = None,
    **scope: Any,
) -> tuple[int, Any, dict[bytes, bytes]]:
    client = HttpCommunicator(application, method, f"/rooms/{room}/", body, headers)
    client.scope.update(scope)
    async with client:
        response = await client.get_response()
    return response["status"], json.loads(response["body"]), dict(response["headers"])


async def test_a_post_answers_202_with_how_many_it_reached() -> None:
    application = app()
    assert (await post(application))[:2] == (202, {"reached": 0, "position": None})
    async with (
        WebsocketCommunicator(application, "/rooms/7/") as one,
        WebsocketCommunicator(application, "/rooms/7/") as two,
        WebsocketCommunicator(application, "/rooms/8/") as other,
    ):
        for client in one, two, other:
            await client.connect()
        status, content, headers = await post(application)
        assert (status, content) == (202, {"reached": 2, "position": None})
        assert headers[b"content-type"] == b"application/json"
        for client in one, two:
            assert await client.receive_from() == "hello"
        assert await other.receive_nothing(0.01)


@pytest.mark.parametrize(
    ("body", "frame"),
    [
        (b'{"data": {"a": [1, null]}}', '{"a": [1, null]}'),
        (b'{"data": null}', "null"),
        (b'{"data": ""}', ""),
        ('{"data": "é😀", "more": 1}'.encode(), "é😀"),
        ('{"data": "with a mark"}'.encode("utf-8-sig"), "with a mark"),
        ('{"data": "in UTF-16"}'.encode("utf-16"), "in UTF-16"),
    ],
)
async def test_any_json_data_is_carried(body: bytes, frame: str) -> None:
    application = app()
    async with WebsocketCommunicator(application, "/rooms/7/") as client:
        await client.connect()
        assert (await post(application, body))[0] == 202
        assert await client.receive_from() == frame


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"", "no JSON"),
        (b"hello", "no JSON"),
        (b'{"data": ', "no JSON"),
        (b'{"data": "\xff"}', "no JSON"),
        (b"[" * 30_000, "no JSON"),
        (b'{"data": ' + b"[" * 101 + b"]" * 101 + b"}", "more than 100 levels deep"),
        (b'{"data": ' + b"1" * 10_000 + b"}", "no JSON"),
        (b"[]", "no 'data'"),
        (b'"data"', "no 'data'"),
        (b"null", "no 'data'"),
        (b'{"Data": 1}', "no 'data'"),
        (b'{"data": NaN}', "cannot be sent"),
        (b'{"data": [Infinity]}', "cannot be sent"),
        (b'{"data": "\\ud800"}', "cannot be sent"),
    ],
)
async def test_a_body_that_makes_no_sense_is_a_400_and_reaches_nobody(
    body: bytes, sentence: str, caplog: pytest.LogCaptureFixture
) -> None:
    application = app()
    async with WebsocketCommunicator(application, "/rooms/7/") as client:
        await client.connect()
        status, content, _ = await post(application, body)
        assert status == 400
        assert sentence in content["error"]
        assert await client.receive_nothing(0.01)
    assert not any(record.levelno >= logging.WARNING for record in caplog.records)


async def test_a_body_over_the_limit_is_a_413() -> None:
    application = app(max_body_size=len(BODY))
    assert (await post(application))[0] == 202
    status, content, _ = await post(application, BODY + b" ")
    assert status == 413
    assert content == {"error": f"the body is over the limit of {len(BODY)} bytes"}


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
async def test_another_method_is_a_405_that_says_which_is_allowed(method: str) -> None:
    status, content, headers = await post(app(), b"", method=method)
    assert status == 405
    assert headers[b"allow"] == b"POST"
    assert content == {"error": "this path answers POST only"}


async def test_a_room_that_no_group_can_be_called_is_a_404() -> None:
    assert (await post(app(), room="a" * 95))[0] == 202
    assert (await post(app(), room="a" * 96))[0] == 404
    assert (await post(app(), room="a b"))[0] == 404


# Who may publish: with a key.


@pytest.mark.parametrize("key", ["secret", "Geheimnis mit Umlaut: ä", "ключ", "a b"])
@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_who_shows_the_key_may_publish_from_anywhere(key: str, scheme: str) -> None:
    headers = [(b"authorization", f"{scheme} {key}".encode()), (b"host", b"example.com")]
    status, _, _ = await post(app(key=key), headers=headers, server=("203.0.113.1", 80))
    assert status == 202


@pytest.mark.parametrize(
    "shown",
    [None, b"", b"Bearer", b"Bearer ", b"Bearer wrong", b"Bearer secre", b"Bearer secret2",
     b"Bearer Secret", b"secret", b"Basic secret", b"Bearer s\xe9cret", b"Bearer \xff"],
)  # fmt: skip
async def test_a_missing_or_wrong_key_is_a_401_also_on_this_machine(shown: bytes | None) -> None:
    headers = [] if shown is None else [(b"authorization", shown)]
    status, content, answered = await post(app(key="secret"), headers=headers)
    assert status == 401
    assert "Authorization: Bearer KEY" in content["error"]
    assert answered[b"www-authenticate"] == b"Bearer"


async def test_a_missing_key_and_a_wrong_one_are_told_apart() -> None:
    _, missing, _ = await post(app(key="secret"))
    _, wrong, _ = await post(app(key="secret"), headers=[(b"authorization", b"Bearer x")])
    assert "no publish key was shown" in missing["error"]
    assert "the publish key is wrong" in wrong["error"]


async def test_keys_are_compared_in_a_time_that_tells_nothing_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compared: list[tuple[object, object]] = []
    compare = hmac.compare_digest

    def spy(shown: bytes, key: bytes) -> bool:
        compared.append((shown, key))
        return compare(shown, key)

    monkeypatch.setattr(hmac, "compare_digest", spy)
    for shown, status in ("Schl\u00fcssel", 202), ("wrong", 401):
        headers = [(b"authorization", f"Bearer {shown}".encode())]
        assert (await post(app(key="Schl\u00fcssel"), headers=headers))[0] == status
    key = "Schl\u00fcssel".encode()
    assert compared == [(key, key), (b"wrong", key)]


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [("POST", [], 401), ("POST", [(b"authorization", b"Bearer x")], 401), ("GET", [], 405)],
)
async def test_who_may_not_publish_is_answered_before_the_body_is_read(
    method: str, headers: Headers, status: int
) -> None:
    sent: list[Event] = []

    async def receive() -> Event:
        raise AssertionError("the body was asked for")

    async def send(event: Event) -> None:
        sent.append(event)

    scope = {**connection_scope("http", "/rooms/7/", headers, scheme="http"), "method": method}
    with fail_after(20):
        await app(key="secret")(scope, receive, send)
    assert sent[0]["status"] == status


async def test_a_client_that_leaves_in_the_middle_of_its_body_publishes_nothing(
    layer: InMemoryChannelLayer,
) -> None:
    events: Iterator[Event] = iter([{"type": "http.request", "body": BODY, "more_body": True},
                   {"type": "http.disconnect"}])  # fmt: skip

    async def receive() -> Event:
        return next(events)

    async def send(event: Event) -> None:
        raise AssertionError("there is nobody to answer")

    scope = {**connection_scope("http", "/rooms/7/", [], scheme="http"), "method": "POST"}
    with fail_after(20):
        await app()(scope, receive, send)
    assert layer.hub.attached == frozenset()


def admitting(verdict: object, *, is_async: bool) -> URLRouter:
    class Own(PublishConsumer):
        def authorize(self) -> Any:
            async def later() -> Any:
                return verdict

            return later() if is_async else verdict

    return URLRouter(path("rooms/<int:room_name>/", Own(key="secret")))


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize(
    ("verdict", "status"), [(None, 202), (True, 202), (False, 403), (0, 403), (1, 403), ("no", 403)]
)
async def test_a_subclass_may_decide_who_publishes(
    verdict: object, status: int, is_async: bool
) -> None:
    assert (await post(admitting(verdict, is_async=is_async)))[0] == status


async def test_what_fails_in_authorize_is_a_500_and_publishes_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken(PublishConsumer):
        def authorize(self) -> None:
            raise ZeroDivisionError

    application = URLRouter(path("rooms/<int:room_name>/", Broken))
    assert (await post(application))[0] == 500
    assert [record.exc_info is not None for record in caplog.records] == [True]


# Who may publish: without a key, this machine alone.


@pytest.mark.parametrize("server", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"])
@pytest.mark.parametrize(
    "host", [None, b"localhost:8000", b"127.0.0.1", b"[::1]:80", b"app.localhost", b"LOCALHOST."]
)
async def test_without_a_key_this_machine_may_publish(server: str, host: bytes | None) -> None:
    headers = [] if host is None else [(b"host", host)]
    assert (await post(app(), headers=headers, server=(server, 80)))[0] == 202


@pytest.mark.parametrize(
    "server",
    [None, ("192.0.2.1", 80), ("0.0.0.0", 80), ("example.com", 80), ("/run/app.sock", None)],
)
async def test_without_a_key_nobody_else_may(server: object) -> None:
    status, content, _ = await post(app(), server=server)
    assert status == 403  # no key that it could show would help
    assert "set ASGI_NOTIFY_PUBLISH_KEY" in content["error"]


@pytest.mark.parametrize(
    "name",
    ["Via", "Forwarded", "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host",
     "X-Forwarded-Port", "X-Real-IP", "CF-Connecting-IP", "CF-Ray", "CDN-Loop",
     "True-Client-IP", "Fastly-Client-IP", "X-Client-IP", "X-Cluster-Client-IP"],
)  # fmt: skip
async def test_what_a_proxy_lets_in_is_not_this_machine(name: str) -> None:
    headers = [(b"host", b"127.0.0.1:8000"), (name.encode(), b"203.0.113.7")]
    assert (await post(app(), headers=headers))[0] == 403


async def test_a_header_of_the_clients_own_makes_no_proxy() -> None:
    headers = [(b"x-request-id", b"1"), (b"x-requested-with", b"fetch"), (b"cookie", b"a=b")]
    assert (await post(app(), headers=headers))[0] == 202


@pytest.mark.parametrize(
    "host",
    [b"evil.example", b"evil.example:8000", b"localhost.evil.example", b"127.0.0.1.evil.example",
     b"192.168.1.1", b"", b"[", b"\xff", b"localhost@evil.example"],
)  # fmt: skip
async def test_a_page_whose_name_was_pointed_at_this_machine_may_not_publish(host: bytes) -> None:
    assert (await post(app(), headers=[(b"host", host)]))[0] == 403


# Once, however often it is tried.


@pytest.fixture
def kept() -> Iterator[None]:
    layer = InMemoryChannelLayer(history={"user_*": History()})
    old = channel_layers.set("default", layer)
    yield
    channel_layers.set("default", old)


@pytest.mark.usefixtures("kept")
async def test_the_answer_says_where_in_the_history_it_stands() -> None:
    positions = [(await post(app()))[1]["position"] for _ in range(2)]
    replay = await get_channel_layer().history("user_7")
    assert positions == [str(message.position) for message in replay.messages]


def with_key(key: str | None, body_key: object = None) -> dict[str, Any]:
    content = {"data": "hello"} | ({} if body_key is None else {"idempotency_key": body_key})
    headers = [] if key is None else [(b"idempotency-key", key.encode())]
    return {"body": json.dumps(content).encode(), "headers": headers}


@pytest.mark.usefixtures("kept")
async def test_the_same_key_publishes_once_and_is_answered_the_same() -> None:
    application = app()
    async with WebsocketCommunicator(application, "/rooms/7/") as client:
        await client.connect()
        first = await post(application, **with_key("order-1"))
        assert first[0] == 202
        # In the header or in the body: it is one key.
        for again in with_key("order-1"), with_key(None, "order-1"), with_key("order-1", "order-1"):
            assert (await post(application, **again))[:2] == first[:2]
        other = await post(application, **with_key("order-2"))
        assert other[1]["position"] != first[1]["position"]
        room_8 = await post(application, room="8", **with_key("order-1"))
        assert room_8[1]["reached"] == 0  # a key is one group's
        assert [await client.receive_from() for _ in range(2)] == ["hello"] * 2
        assert await client.receive_nothing(0.01)


@pytest.mark.parametrize(
    ("key", "body_key", "sentence"),
    [
        ("", None, "is no idempotency key"),
        ("a b", None, "is no idempotency key"),
        ("é", None, "is no idempotency key"),
        ("x" * 201, None, "is no idempotency key"),
        (None, "", "is no idempotency key"),
        (None, 7, "is no idempotency key"),
        (None, ["x"], "is no idempotency key"),
        ("a", "b", "different idempotency keys"),
    ],
)
async def test_a_key_that_is_none_is_a_400_and_publishes_nothing(
    key: str | None, body_key: object, sentence: str
) -> None:
    application = app()
    async with WebsocketCommunicator(application, "/rooms/7/") as client:
        await client.connect()
        status, content, _ = await post(application, **with_key(key, body_key))
        assert status == 400
        assert sentence in content["error"]
        assert len(content["error"]) <= 300
        assert await client.receive_nothing(0.01)
    assert (await post(application, **with_key("x" * 200)))[0] == 202
