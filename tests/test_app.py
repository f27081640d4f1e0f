"""The default application: what it serves where, and to whom."""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self

import httpx
import pytest
from asgi_lifespan import LifespanManager

from asgi_notify import (
    ConfigurationError,
    InMemoryChannelLayer,
    NotificationConsumer,
    NotificationHttpConsumer,
    PublishConsumer,
    Settings,
    channel_layers,
    layer_from_url,
)
from asgi_notify.app import application, make_application
from asgi_notify.testing import HttpCommunicator, WebsocketCommunicator
from asgi_notify.types import ASGIApp
from tests.frames import Client

pytestmark = pytest.mark.anyio

ORIGIN = "https://shop.example"
NONE: Mapping[str, str] = {}


@pytest.fixture(autouse=True)
def layer() -> Iterator[InMemoryChannelLayer]:
    layer = InMemoryChannelLayer()
    old = channel_layers.set("default", layer)
    yield layer
    channel_layers.set("default", old)


@pytest.fixture
def app() -> ASGIApp:
    return make_application(Settings(allowed_origins=(ORIGIN,), max_body_size=100))


async def request(
    app: Any, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] = NONE
) -> tuple[int, bytes, dict[bytes, bytes]]:
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    async with HttpCommunicator(app, method, path, body, pairs) as client:
        response = await client.get_response()
    return response["status"], response["body"], dict(response["headers"])


BODY = b'{"data": "hello"}'


async def test_a_notification_goes_from_a_post_to_the_socket(app: ASGIApp) -> None:
    async with WebsocketCommunicator(app, "/notifications/42/") as client:
        assert await client.connect() == (True, None)
        status, body, _ = await request(app, "POST", "/notifications/42/", BODY)
        assert (status, json.loads(body)["reached"]) == (202, 1)
        assert await client.receive_from() == "hello"
        await client.send_to("ping")
        assert await client.receive_from() == "pong"


async def test_it_works_from_startup_to_shutdown(
    app: Any, anyio_backend: str, layer: InMemoryChannelLayer
) -> None:
    async with LifespanManager(app) as manager:
        assert (await request(manager.app, "GET", "/healthz"))[0] == 200
        client = WebsocketCommunicator(app, "/notifications/1/")
        assert (await client.connect())[0]
    # The shutdown has closed the socket, and waited for its end.
    assert (await client.receive_output())["code"] == 1012
    assert layer.hub.attached == frozenset()


async def test_it_is_served_through_httpx_as_any_asgi_app_is(app: Any) -> None:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        # httpx's scope names the server by its host, which is this machine's.
        answer = await client.post("/notifications/42/", json={"data": "hello"})
        assert (answer.status_code, answer.json()["reached"]) == (202, 0)
        assert (await client.get("/")).status_code == 200


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_healthz_says_that_it_is_up(app: ASGIApp, method: str) -> None:
    status, body, headers = await request(app, method, "/healthz")
    assert status == 200
    assert headers[b"content-type"] == b"application/json"
    assert json.loads(body) == {"status": "ok"}  # a server leaves the body of a HEAD away


async def test_healthz_answers_only_get_and_head(app: ASGIApp) -> None:
    status, _, headers = await request(app, "POST", "/healthz")
    assert (status, headers[b"allow"]) == (405, b"GET, HEAD")


async def test_the_demo_page_is_at_the_root(app: ASGIApp) -> None:
    status, body, headers = await request(app, "GET", "/")
    assert status == 200
    assert headers[b"content-type"].startswith(b"text/html")
    assert b"<html" in body


@pytest.mark.parametrize(
    "path",
    ["/notifications/lobby/", "/notifications/-1/", "/notifications/1", "/notifications/1/2/",
     "/nowhere", "/HEALTHZ", "/notifications/" + "9" * 96 + "/"],
)  # fmt: skip
async def test_an_unknown_path_is_a_404_for_http_and_for_sockets(
    app: ASGIApp, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    status, body, _ = await request(app, "POST", path, BODY)
    assert status == 404
    assert list(json.loads(body)) == ["error"]
    async with WebsocketCommunicator(app, path, denial_response=True) as client:
        assert await client.connect() == (False, 404)
    async with WebsocketCommunicator(app, path) as client:
        assert await client.connect() == (False, 4404)
    assert not any(record.exc_info for record in caplog.records)


async def test_a_room_without_its_slash_is_refused_with_the_path_that_is_meant(
    app: ASGIApp,
) -> None:
    hint = "ask for '/notifications/42/', with a slash at its end"
    for method in "GET", "POST":
        status, body, _ = await request(app, method, "/notifications/42", BODY)
        assert (status, hint in json.loads(body)["error"]) == (404, True)
    async with WebsocketCommunicator(app, "/notifications/42") as client:
        await client.send_input({"type": "websocket.connect"})
        assert hint in (await client.receive_output())["reason"]


async def test_the_settings_reach_the_publishing_door() -> None:
    app = make_application(Settings(publish_key="secret", max_body_size=20))
    assert (await request(app, "POST", "/notifications/1/", BODY))[0] == 401
    key = {"authorization": "Bearer secret"}
    assert (await request(app, "POST", "/notifications/1/", BODY, key))[0] == 202
    assert (await request(app, "POST", "/notifications/1/", BODY + b"     ", key))[0] == 413


@pytest.mark.parametrize(
    ("origin", "is_welcome"),
    [(None, True), ("http://127.0.0.1:8000", True), (ORIGIN, True),
     ("https://evil.example", False), ("http://127.0.0.1:9000", False), ("null", False)],
)  # fmt: skip
async def test_pages_of_other_origins_may_neither_connect_nor_publish_unless_allowed(
    app: ASGIApp, origin: str | None, is_welcome: bool
) -> None:
    headers = {"host": "127.0.0.1:8000"} | ({"origin": origin} if origin else {})
    status, _, _ = await request(app, "POST", "/notifications/1/", BODY, headers)
    assert status == (202 if is_welcome else 403)
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    async with WebsocketCommunicator(
        app, "/notifications/1/", pairs, denial_response=True
    ) as client:
        answer = await client.connect()
        assert answer == ((True, None) if is_welcome else (False, 403))
    # Looking is free: a page can read nothing of the answer.
    assert (await request(app, "GET", "/healthz", headers=headers))[0] == 200


async def test_an_origin_that_can_never_match_is_refused_when_the_application_is_made() -> None:
    with pytest.raises(ConfigurationError, match="can match no origin"):
        make_application(Settings(allowed_origins=("https://shop.example/path",)))


async def test_the_module_has_an_application_to_serve() -> None:
    status, _, _ = await request(application, "GET", "/healthz")
    assert status == 200


REBOUND = {"host": "evil.example:8000", "origin": "http://evil.example:8000"}


@pytest.mark.parametrize(
    "path", ["/notifications/42/?timeout=0", "/notifications/?group=user_42&timeout=0", "/"]
)
async def test_a_page_whose_name_was_pointed_at_this_machine_can_watch_nothing(path: str) -> None:
    app = make_application(Settings())
    assert (await request(app, "GET", path, headers=REBOUND))[0] == 403
    # A page may set these itself, so they do not make it a proxy's.
    forged = REBOUND | {"x-forwarded-for": "203.0.113.7", "x-forwarded-host": "localhost"}
    assert (await request(app, "GET", path, headers=forged))[0] == 403
    pairs = [(name.encode(), value.encode()) for name, value in REBOUND.items()]
    async with WebsocketCommunicator(app, path, pairs, denial_response=True) as client:
        assert await client.connect() == (False, 403)


async def test_a_host_of_the_settings_is_served_and_its_pages_may_watch() -> None:
    app = make_application(Settings(allowed_hosts=(".shop.example",)))
    headers = {"host": "www.shop.example", "origin": "https://www.shop.example"}
    target = "/notifications/42/?timeout=0"
    assert (await request(app, "GET", target, headers=headers))[0] == 200
    assert (await request(app, "GET", target, headers=REBOUND))[0] == 403
    with pytest.raises(ConfigurationError, match="can match no host"):
        make_application(Settings(allowed_hosts=("https://shop.example",)))


# Without a room.


@pytest.mark.parametrize(
    ("origin", "is_welcome"),
    [(None, True), ("http://127.0.0.1:8000", True), (ORIGIN, True),
     ("https://evil.example", False), ("null", False)],
)  # fmt: skip
async def test_a_socket_without_a_room_subscribes_if_its_page_may_connect(
    app: ASGIApp, origin: str | None, is_welcome: bool
) -> None:
    headers = [(b"host", b"127.0.0.1:8000")]
    headers += [(b"origin", origin.encode())] if origin else []
    async with Client(app, headers=headers, denial_response=True) as client:
        if not is_welcome:
            assert await client.connect() == (False, 403)
            return
        await client.welcome()
        await client.subscribe("user_42")
        await client.subscribe("user_43")
        assert (await request(app, "POST", "/notifications/43/", BODY))[0] == 202
        assert await client.data(1) == ["hello"]


async def test_a_get_without_a_room_names_its_group(app: ASGIApp) -> None:
    target = "/notifications/?group=user_42&timeout=0"
    status, body, _ = await request(app, "GET", target)
    assert (status, json.loads(body)) == (200, {"notifications": [], "position": None})
    evil = {"host": "127.0.0.1:8000", "origin": "https://evil.example"}
    assert (await request(app, "GET", target, headers=evil))[0] == 403
    assert (await request(app, "GET", "/notifications/"))[0] == 400


async def test_nothing_is_published_without_a_room(app: ASGIApp) -> None:
    status, _, headers = await request(app, "POST", "/notifications/", BODY)
    assert (status, headers[b"allow"]) == (405, b"GET")


async def test_the_default_layer_remembers_what_users_may_have_missed(app: ASGIApp) -> None:
    old = channel_layers.set("default", layer_from_url(Settings().layer))
    try:
        poll = "/notifications/?group=user_42&timeout=0"
        position = json.loads((await request(app, "GET", poll))[1])["position"]
        await request(app, "POST", "/notifications/42/", BODY)
        answer = json.loads((await request(app, "GET", f"{poll}&since={position}"))[1])
        assert (answer["notifications"], answer["recovered"]) == (["hello"], True)
    finally:
        channel_layers.set("default", old)


# What it is made of.


class Nobody(NotificationConsumer):
    """Lets nobody watch."""

    async def authorize(self, group: str) -> bool:
        return False


class NobodyOverHttp(NotificationHttpConsumer):
    """The same, over HTTP."""

    async def authorize(self, group: str) -> bool:
        return False


class NoPublisher(PublishConsumer):
    """Takes nothing."""

    def authorize(self) -> bool:
        return False


async def test_an_application_is_made_of_consumers_of_ones_own() -> None:
    app = make_application(Settings(), socket=Nobody, http=NobodyOverHttp, publisher=NoPublisher)
    async with WebsocketCommunicator(app, "/notifications/42/") as client:
        assert await client.connect() == (False, 4403)
    assert (await request(app, "GET", "/notifications/42/"))[0] == 403
    assert (await request(app, "POST", "/notifications/42/", BODY))[0] == 403


@pytest.mark.parametrize("is_url", [True, False])
async def test_an_application_has_a_layer_of_its_own_which_lives_with_it(
    layer: InMemoryChannelLayer, is_url: bool
) -> None:
    lives: list[str] = []

    class Own(InMemoryChannelLayer):
        async def __aenter__(self) -> Self:
            lives.append("opened")
            return await super().__aenter__()

        async def __aexit__(self, *error: Any) -> None:
            lives.append("closed")
            await super().__aexit__(*error)

    own = Own()
    app = make_application(Settings(), layer="memory://?capacity=7" if is_url else own)
    async with LifespanManager(app), WebsocketCommunicator(app, "/notifications/42/") as client:
        assert await client.connect() == (True, None)
        assert list(layer.hub.members("user_42")) == []
        assert is_url or len(list(own.hub.members("user_42"))) == 1
        _, body, _ = await request(app, "POST", "/notifications/42/", BODY)
        assert json.loads(body)["reached"] == 1
        assert await client.receive_from() == "hello"
        _, body, _ = await request(app, "GET", "/notifications/42/?timeout=0")
        assert json.loads(body)["notifications"] == []
    assert lives == ([] if is_url else ["opened", "closed"])


async def test_middleware_stands_behind_the_checks_and_the_first_is_outermost(
    layer: InMemoryChannelLayer,
) -> None:
    seen: list[str] = []

    def noting(name: str) -> Callable[[ASGIApp], ASGIApp]:
        def wrap(app: ASGIApp) -> ASGIApp:
            async def note(scope: Any, receive: Any, send: Any) -> None:
                seen.append(name)
                await app(scope, receive, send)

            return note

        return wrap

    app = make_application(Settings(), middleware=[noting("first"), noting("second")])
    assert (await request(app, "GET", "/healthz"))[0] == 200
    assert seen == ["first", "second"]
    status, *_ = await request(
        app, "POST", "/notifications/42/", BODY, {"origin": "https://evil.example"}
    )
    assert (status, seen) == (403, ["first", "second"])


async def test_an_application_without_settings_takes_those_of_the_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ASGI_NOTIFY_PUBLISH_KEY", "hunter2")
    app = make_application()
    assert (await request(app, "POST", "/notifications/42/", BODY))[0] == 401
    key = {"authorization": "Bearer hunter2"}
    assert (await request(app, "POST", "/notifications/42/", BODY, key))[0] == 202
