"""The default application with a login: each user hears their own room, and nobody else's."""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import jwt
import pytest

from asgi_notify import History, InMemoryChannelLayer, Settings, channel_layers
from asgi_notify.app import make_application
from asgi_notify.auth import Identity, SignedTokens, own_group, public
from asgi_notify.exceptions import ConfigurationError
from asgi_notify.testing import HttpCommunicator, WebsocketCommunicator
from asgi_notify.types import ASGIApp, Headers
from tests.consumers.streams import streaming
from tests.layers.double import DoubleLayer

pytestmark = pytest.mark.anyio

KEY = "k" * 32
SECRET = "s" * 64
PROTOCOL = "asgi-notify.v1"
tokens = SignedTokens(KEY)
MINE = tokens.sign(42)

signed = make_application(Settings(token_keys=(KEY,), auth_cookie="login"))
by_jwt = make_application(
    Settings(jwt_key=SECRET, jwt_audience=("us",), jwt_issuer=("https://login.example",))
)


@pytest.fixture(autouse=True)
def layer() -> Iterator[InMemoryChannelLayer]:
    layer = InMemoryChannelLayer(history={"user_*": History()})
    old = channel_layers.set("default", layer)
    yield layer
    channel_layers.set("default", old)


def bearer(token: str) -> Headers:
    return [(b"host", b"127.0.0.1:8000"), (b"authorization", f"Bearer {token}".encode())]


class Way:
    """A way to watch a user's room; tells 200, or the status or code of the refusal."""

    def __init__(self, transport: str, path: str, frame: bool = False) -> None:
        self.transport, self.path, self.frame = transport, path, frame

    async def __call__(self, app: ASGIApp, user: object, headers: Headers) -> int:
        path = self.path.format(user)
        if self.transport == "websocket":
            return await self._open(app, path, user, headers)
        if self.transport == "stream":
            headers = [*headers, (b"accept", b"text/event-stream")]
        async with HttpCommunicator(app, "GET", path, headers=headers) as request:
            await request.send_input({"type": "http.request"})
            status = int((await request.receive_output())["status"])
            await request.send_input({"type": "http.disconnect"})
            return status

    async def _open(self, app: ASGIApp, path: str, user: object, headers: Headers) -> int:
        names = [PROTOCOL] if self.frame else []
        socket = WebsocketCommunicator(app, path, headers, names, denial_response=True)
        async with socket:
            is_open, answer = await socket.connect()
            if not is_open:
                return int(answer)
            if not self.frame:
                return 200
            await socket.send_json_to({"type": "subscribe", "group": f"user_{user}", "ref": 1})
            while (frame := await socket.receive_json_from()).get("ref") != 1:
                pass
            statuses = {"subscribed": 200, "forbidden": 403, "unauthorized": 401}
            return statuses[frame.get("code", frame["type"])]


WAYS = {
    "socket": Way("websocket", "/notifications/{}/"),
    "socket by name": Way("websocket", "/notifications/?group=user_{}"),
    "subscription": Way("websocket", "/notifications/", frame=True),
    "subscription in a room": Way("websocket", "/notifications/42/", frame=True),
    "stream": Way("stream", "/notifications/{}/"),
    "stream by name": Way("stream", "/notifications/?group=user_{}"),
    "poll": Way("poll", "/notifications/{}/?timeout=0"),
    "poll by name": Way("poll", "/notifications/?timeout=0&group=user_{}"),
}


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> Way:
    return WAYS[request.param]


async def test_a_user_hears_their_own_room_alone(way: Way) -> None:
    assert await way(signed, 42, bearer(MINE)) == 200
    assert await way(signed, 7, bearer(MINE)) == 403


@pytest.mark.parametrize("transport", ["websocket", "stream", "poll"])
@pytest.mark.parametrize("path", ["/notifications/{}/?", "/notifications/?group=user_{}&"])
async def test_nobody_elses_past_is_told(
    transport: str, path: str, layer: InMemoryChannelLayer
) -> None:
    message = {"type": "send.notification", "data": "secret"}
    since = (await layer.group_send("user_7", message)).position
    await layer.group_send("user_7", message)
    way = Way(transport, f"{path}since={since}")
    assert await way(signed, 7, bearer(MINE)) == 403
    assert await way(signed, 7, bearer(tokens.sign(7))) == 200


async def test_who_shows_nothing_hears_nothing(way: Way) -> None:
    host: Headers = [(b"host", b"127.0.0.1:8000")]
    is_promised = way.frame  # such a client may still show a credential in its first frame
    if not is_promised:
        assert await way(signed, 42, host) == 401
    assert await way(signed, 42, [*host, (b"cookie", b"login=x")]) == 401


async def test_a_cookie_will_do_for_own_pages(way: Way) -> None:
    headers = [(b"host", b"127.0.0.1:8000"), (b"cookie", f"login={MINE}".encode())]
    assert await way(signed, 42, headers) == 200
    assert await way(signed, 42, [*headers, (b"origin", b"http://127.0.0.1:8000")]) == 200
    assert await way(signed, 42, [*headers, (b"origin", b"http://evil.example")]) == 403


def of(secret: str = SECRET, algorithm: str = "HS256", **claims: Any) -> str:
    # It outlasts all tests, so that what is refused below is not refused for its age.
    own = {"sub": "42", "exp": time.time() + 7200, "aud": "us", "iss": "https://login.example"}
    return jwt.encode({**own, **claims}, secret, algorithm)


PAST, FUTURE = time.time() - 60, time.time() + 3600

ATTACKS = {
    "forged": of("x" * 64),
    "expired": of(exp=PAST),
    "not yet valid": of(nbf=FUTURE),
    "for another audience": of(aud="them"),
    "for no audience": of(aud=[]),
    "of another issuer": of(iss="https://evil.example"),
    "alg none": jwt.encode({"sub": "42", "exp": FUTURE}, "", "none"),
    "of another algorithm": of(algorithm="HS512"),
    "of another kind": MINE,
    "very long": "x" * 20_000,
    "nothing": "",
}


@pytest.mark.parametrize("attack", ATTACKS)
async def test_an_attacker_hears_nothing(way: Way, attack: str) -> None:
    assert await way(by_jwt, 42, bearer(ATTACKS[attack])) == 401


async def test_someone_elses_token_is_for_their_room(way: Way) -> None:
    assert await way(by_jwt, 42, bearer(of())) == 200
    if "42" not in way.path:
        assert await way(by_jwt, 42, bearer(of(sub="7"))) == 403


async def test_a_users_token_publishes_nothing() -> None:
    for key in None, "a publish key":
        app = make_application(Settings(token_keys=(KEY,), publish_key=key))
        headers = [*bearer(MINE)[1:], (b"host", b"evil.example")]
        request = HttpCommunicator(app, "POST", "/notifications/42/", b'{"data": 1}', headers)
        async with request:
            assert (await request.get_response())["status"] in (401, 403)


async def test_a_publisher_reaches_the_user_over_a_stream(layer: InMemoryChannelLayer) -> None:
    app = make_application(Settings(token_keys=(KEY,), publish_key="a publish key"))
    stream = (b"accept", b"text/event-stream")
    async with streaming(app, stream, *bearer(MINE), path="/notifications/42/") as wire:
        headers = bearer("a publish key")
        body = json.dumps({"data": "hello"}).encode()
        async with HttpCommunicator(app, "POST", "/notifications/42/", body, headers) as request:
            assert (await request.get_response())["status"] == 202
        await anyio.wait_all_tasks_blocked()
        assert [event.data for event in wire.events if event.data] == ["hello"]


async def test_a_user_whose_login_expires_hears_no_more(layer: InMemoryChannelLayer) -> None:
    headers = bearer(tokens.sign(42, max_age=0.3))
    socket = WebsocketCommunicator(signed, "/notifications/42/", headers)
    async with socket:
        assert (await socket.connect())[0]
        event = await socket.receive_output(5)
        assert (event["type"], event["code"]) == ("websocket.close", 4401)
        await socket.wait(5)
    assert layer.hub.attached == frozenset()


async def test_without_a_verifier_everybody_may_watch(way: Way) -> None:
    if "42" not in way.path:
        assert await way(make_application(Settings()), 7, [(b"host", b"127.0.0.1:8000")]) == 200


async def test_a_verifier_and_a_rule_may_be_given() -> None:
    async def verifier(credential: str) -> Identity:
        return Identity(credential)

    app = make_application(Settings(), verifier=verifier)
    assert await WAYS["socket"](app, 42, bearer("42")) == 200
    assert await WAYS["socket"](app, 42, bearer("7")) == 403
    open_to_all = make_application(Settings(), verifier=verifier, rule=own_group | public("user_1"))
    assert await WAYS["socket"](open_to_all, 1, bearer("7")) == 200
    assert await WAYS["socket"](open_to_all, 2, bearer("7")) == 403


# Tickets.


async def ticket(app: ASGIApp, headers: Headers, body: bytes = b"") -> tuple[int, str]:
    async with HttpCommunicator(app, "POST", "/tickets", body, headers) as request:
        answer = await request.get_response()
    return answer["status"], json.loads(answer["body"]).get("ticket", "")


@pytest.mark.parametrize(
    ("app", "show"), [(signed, lambda: MINE), (by_jwt, of)], ids=["signed tokens", "JWT"]
)
async def test_a_ticket_opens_one_connection_of_the_own_room(
    app: ASGIApp, show: Callable[[], str], way: Way
) -> None:
    shown = show()  # now, as it does not last until all tests before are over
    host: Headers = [(b"host", b"127.0.0.1:8000")]
    for user, statuses in (42, [200, 401]), (7, [403, 401]):
        status, shown_once = await ticket(app, bearer(shown))
        assert status == 200
        join = "&" if "?" in way.path else "?"
        once = Way(way.transport, f"{way.path}{join}ticket={shown_once}", way.frame)
        assert [await once(app, user, host) for _ in range(2)] == statuses


async def test_a_ticket_says_in_a_frame_who_is_there() -> None:
    _, shown = await ticket(signed, bearer(MINE))
    path, host = "/notifications/", [(b"host", b"127.0.0.1:8000")]
    async with WebsocketCommunicator(signed, path, host, [PROTOCOL]) as socket:
        assert (await socket.connect())[0]
        assert (await socket.receive_json_from())["auth_timeout"] == 10
        await socket.send_json_to({"type": "auth", "token": shown})
        assert (await socket.receive_json_from())["user"] == "42"


async def test_a_ticket_is_given_to_who_shows_a_token_on_a_page_of_ours() -> None:
    host: Headers = [(b"host", b"127.0.0.1:8000")]
    cookie = (b"cookie", f"login={MINE}".encode())
    assert (await ticket(signed, host))[0] == 401
    assert (await ticket(signed, bearer("nonsense")))[0] == 401
    assert (await ticket(signed, [*host, cookie, (b"origin", b"http://127.0.0.1:8000")]))[0] == 200
    assert (await ticket(signed, [*host, cookie, (b"origin", b"http://evil.example")]))[0] == 403
    _, shown = await ticket(signed, bearer(MINE))
    assert (await ticket(signed, bearer(shown)))[0] == 401
    async with HttpCommunicator(signed, "GET", "/tickets", headers=bearer(MINE)) as request:
        assert (await request.get_response())["status"] == 405


async def test_where_nobody_logs_in_there_are_no_tickets() -> None:
    assert (await ticket(make_application(Settings()), bearer(MINE)))[0] == 404


async def test_processes_that_share_a_layer_need_a_key_for_tickets(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def verifier(credential: str) -> Identity:
        return Identity(credential)

    async with DoubleLayer() as shared:
        app = make_application(Settings(), layer=shared, verifier=verifier)
        assert (await ticket(app, bearer("42")))[0] == 500
        assert "set ASGI_NOTIFY_TICKET_KEYS" in caplog.text
        keyed = Settings(ticket_keys=("t" * 32,))
        app = make_application(keyed, layer=shared, verifier=verifier)
        assert (await ticket(app, bearer("42")))[0] == 200
    alone = make_application(Settings(), verifier=verifier)
    assert (await ticket(alone, bearer("42")))[0] == 200


async def test_the_page_and_the_health_check_stay_open() -> None:
    for path in "/", "/healthz":
        async with HttpCommunicator(signed, "GET", path) as request:
            assert (await request.get_response())["status"] == 200


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (Settings(token_keys=("short",)), "32 bytes"),
        (Settings(jwt_key="short"), "32 bytes"),
        (Settings(token_keys=(KEY,), jwt_key=SECRET), "name one of"),
        (Settings(jwt_key=SECRET, jwt_jwks="keys.json"), "name one of"),
        (Settings(jwt_jwks="http://login.example/"), "https"),
        (Settings(jwt_jwks="/no/such/file"), "could not be read"),
        (Settings(jwt_audience=("us",)), "ASGI_NOTIFY_JWT_KEY"),
        (Settings(token_keys=(KEY,), jwt_issuer=("us",)), "ASGI_NOTIFY_JWT_KEY"),
        (Settings(jwt_key=SECRET, jwt_algorithms=("none",)), "algorithms"),
        (Settings(auth_cookie="login"), "ASGI_NOTIFY_AUTH_COOKIE"),
    ],
)
def test_settings_that_would_leave_it_open_are_refused(settings: Settings, sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        make_application(settings)
