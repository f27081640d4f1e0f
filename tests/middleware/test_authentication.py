"""Who is on a connection is found out before the application sees it, over each transport."""

import logging
import time
from collections.abc import Sequence
from typing import Any

import pytest

from asgi_notify import (
    Authentication,
    ConfigurationError,
    NotifyError,
    Unauthorized,
    VerifierUnavailable,
)
from asgi_notify.auth import Identity, SignedTokens, session_of
from asgi_notify.auth.credentials import MAX_CREDENTIAL
from asgi_notify.testing import HttpCommunicator, WebsocketCommunicator
from asgi_notify.types import Headers, Receive, Scope, Send

pytestmark = pytest.mark.anyio

PROTOCOL = "asgi-notify.v1"
KEY = "k" * 32
tokens = SignedTokens(KEY)
ANN, BOB = tokens.sign("ann"), tokens.sign("bob")
TRANSPORTS = ["websocket", "stream", "poll", "post"]


class App:
    """Answers everybody, and notes whom."""

    def __init__(self) -> None:
        self.scopes: list[Scope] = []

    @property
    def users(self) -> list[str | None]:
        return [getattr(scope["user"], "id", None) for scope in self.scopes]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scopes.append(scope)
        if scope["type"] == "websocket":
            assert (await receive())["type"] == "websocket.connect"
            offered = scope["subprotocols"]
            await send({"type": "websocket.accept", "subprotocol": (offered or [None])[0]})
        elif scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"welcome"})


class Client:
    """Asks an application over one of the transports; tells the status."""

    def __init__(self, transport: str) -> None:
        self.transport = transport

    async def __call__(
        self,
        app: Any,
        *pairs: tuple[str, str | bytes],
        query: str = "",
        subprotocols: Sequence[str] = (),
        scope: Scope | None = None,
    ) -> int:
        headers: Headers = [(b"host", b"own.example")]
        for name, value in pairs:
            headers.append((name.encode(), value if isinstance(value, bytes) else value.encode()))
        path = f"/notifications/{query}"
        if self.transport == "websocket":
            names = [*subprotocols, "chat"]
            headers.append((b"sec-websocket-protocol", ", ".join(names).encode()))
            socket = WebsocketCommunicator(app, path, headers, names, denial_response=True)
            socket.scope.update(scope or {})
            async with socket:
                is_accepted, answer = await socket.connect()
                self.headers = socket.denial.headers if socket.denial else []
                return 200 if is_accepted else int(answer)
        if self.transport == "stream":
            headers.append((b"accept", b"text/event-stream"))
        method = "POST" if self.transport == "post" else "GET"
        request = HttpCommunicator(app, method, path, b"", headers)
        request.scope.update(scope or {})
        async with request:
            response = await request.get_response()
            self.headers = response["headers"]
            return int(response["status"])


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture(params=TRANSPORTS)
def client(request: pytest.FixtureRequest) -> Client:
    return Client(request.param)


def bearer(token: str) -> tuple[str, str]:
    return ("authorization", f"Bearer {token}")


def cookie(token: str) -> tuple[str, str]:
    return ("cookie", f"theme=dark; login={token}")


# Where a credential is shown.


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_a_header_says_who_it_is(client: Client, app: App, scheme: str) -> None:
    header = ("authorization", f"{scheme} {ANN}")
    assert await client(Authentication(app, tokens), header) == 200
    assert app.users == ["ann"]
    session = session_of(app.scopes[0])
    assert session is not None
    assert session.identity is app.scopes[0]["user"]


async def test_a_cookie_says_who_it_is_where_one_is_named(client: Client, app: App) -> None:
    assert await client(Authentication(app, tokens, cookie="login"), cookie(ANN)) == 200
    assert app.users == ["ann"]
    assert await client(Authentication(app, tokens), cookie(ANN)) == 401
    assert await client(Authentication(app, tokens, cookie="theme"), cookie(ANN)) == 401
    assert len(app.scopes) == 1


async def test_a_quoted_cookie_is_read(client: Client, app: App) -> None:
    assert await client(Authentication(app, tokens, cookie="login"), cookie(f'"{ANN}"')) == 200


async def test_cookies_in_several_headers_are_read(client: Client, app: App) -> None:
    headers = ("cookie", "a=1"), ("cookie", f"login={ANN}")  # RFC 9113 8.2.3
    assert await client(Authentication(app, tokens, cookie="login"), *headers) == 200


async def test_a_ticket_in_the_query_has_a_verifier_of_its_own(client: Client, app: App) -> None:
    tickets = SignedTokens(KEY, purpose="ticket")
    guarded = Authentication(app, tokens, tickets=tickets)
    assert await client(guarded, query=f"?ticket={tickets.sign('ann')}") == 200
    assert app.users == ["ann"]
    assert await client(guarded, query=f"?ticket={ANN}") == 401  # no login in the logs of proxies
    assert await client(guarded, bearer(tickets.sign("ann"))) == 401
    assert await client(Authentication(app, tokens), query=f"?ticket={ANN}") == 401


async def test_two_tickets_are_refused(client: Client, app: App) -> None:
    guarded = Authentication(app, tokens, tickets=tokens)
    assert await client(guarded, query=f"?ticket={ANN}&ticket={BOB}") == 400


async def test_a_subprotocol_says_who_it_is_and_the_application_never_sees_it(app: App) -> None:
    name = f"asgi-notify.auth.{ANN}"
    client = Client("websocket")
    assert await client(Authentication(app, tokens), subprotocols=[name]) == 200
    assert app.users == ["ann"]
    assert app.scopes[0]["subprotocols"] == ["chat"]
    assert dict(app.scopes[0]["headers"])[b"sec-websocket-protocol"] == b"chat"
    assert ANN not in repr(app.scopes[0])


async def test_a_socket_whose_only_subprotocol_is_a_credential_offers_none(app: App) -> None:
    socket = WebsocketCommunicator(
        Authentication(app, tokens), "/", [], [f"asgi-notify.auth.{ANN}"]
    )
    async with socket:
        assert await socket.connect() == (True, None)


async def test_a_subprotocol_of_a_request_means_nothing(app: App) -> None:
    header = ("sec-websocket-protocol", f"asgi-notify.auth.{ANN}")
    assert await Client("poll")(Authentication(app, tokens), header) == 401


# Nobody, and attackers.


async def test_nobody_is_let_through(client: Client, app: App) -> None:
    assert await client(Authentication(app, tokens)) == 401
    assert (b"www-authenticate", b"Bearer") in client.headers
    assert app.scopes == []


async def test_nobody_is_let_through_where_that_is_allowed(client: Client, app: App) -> None:
    assert await client(Authentication(app, tokens, required=False)) == 200
    assert app.users == [None]
    assert app.scopes[0]["user"] is None


def bad_headers() -> dict[str, list[tuple[str, str | bytes]]]:
    payload, _, signature = ANN.partition(".")
    other_key = SignedTokens("o" * 32).sign("ann")
    expired = SignedTokens(KEY, clock=lambda: time.time() - 7200).sign("ann")
    return {
        "forged": [bearer(f"{payload}x.{signature}")],
        "another key": [bearer(other_key)],
        "expired": [bearer(expired)],
        "another purpose": [bearer(SignedTokens(KEY, purpose="ticket").sign("ann"))],
        "empty": [bearer("")],
        "no text": [("authorization", "Bearer")],
        "very long": [bearer("x" * (MAX_CREDENTIAL + 1))],
        "beyond ASCII": [("authorization", b"Bearer \xc3\xa4")],
        "no UTF-8": [("authorization", b"Bearer \xff\xfe")],
        "a null": [("authorization", b"Bearer x\x00")],
        "two in one": [bearer(f"{ANN}, Bearer {ANN}")],
        "two headers": [bearer(ANN), bearer(ANN)],
        "two headers of two users": [bearer(ANN), bearer(BOB)],
        "a second scheme": [bearer(ANN), ("authorization", "Basic YTpi")],
        "two cookies": [("cookie", f"login={ANN}; login={BOB}")],
        "two cookies, one wrong": [("cookie", f"login={ANN}; login=x")],
        "a header, and another's cookie": [bearer(ANN), cookie(BOB)],
        "a wrong header, and a right cookie": [bearer("x"), cookie(ANN)],
        "a header, and one of two cookies another's": [
            bearer(ANN),
            ("cookie", f"login={ANN}; login={BOB}"),
        ],
    }


BAD = bad_headers()
OLD_COOKIES: dict[str, tuple[str, str | bytes]] = {
    "wrong": cookie("x"),
    "expired": cookie(SignedTokens(KEY, clock=lambda: time.time() - 7200).sign("ann")),
    "of another key": cookie(SignedTokens("o" * 32).sign("ann")),
    "empty": cookie(""),
    "very long": cookie("x" * (MAX_CREDENTIAL + 1)),
    "beyond ASCII": ("cookie", b"login=\xc3\xa4"),
}


@pytest.mark.parametrize("required", [True, False])
@pytest.mark.parametrize("way", BAD)
async def test_an_attacker_is_refused(
    client: Client, app: App, way: str, required: bool, caplog: pytest.LogCaptureFixture
) -> None:
    guarded = Authentication(app, tokens, cookie="login", required=required)
    with caplog.at_level(logging.DEBUG, "asgi_notify"):
        assert await client(guarded, *BAD[way]) == 401
    assert app.scopes == []
    (line,) = caplog.messages
    assert ANN not in line
    assert "xxx" not in line


async def test_attackers_tokens_in_subprotocols_are_refused(app: App) -> None:
    ann, bob, wrong = (f"asgi-notify.auth.{each}" for each in (ANN, BOB, "x"))
    client = Client("websocket")
    for offered in [wrong], [ann, bob], [ann, wrong], ["asgi-notify.auth."]:
        assert await client(Authentication(app, tokens), subprotocols=offered) == 401
    assert await client(Authentication(app, tokens), bearer(BOB), subprotocols=[ann]) == 401
    assert app.scopes == []


async def test_the_same_user_may_show_several(client: Client, app: App) -> None:
    guarded = Authentication(app, tokens, cookie="login")
    another = tokens.sign("ann", role="admin")
    assert await client(guarded, bearer(another), cookie(ANN)) == 200
    assert app.scopes[0]["user"].claims == {"role": "admin"}  # the first one counts
    assert await client(guarded, ("cookie", f"login={ANN}; login={ANN}")) == 200


@pytest.mark.parametrize("old", ["x", "", "\u00e4", "x" * (MAX_CREDENTIAL + 1)])
async def test_an_old_cookie_does_not_stand_in_the_way(client: Client, app: App, old: str) -> None:
    guarded = Authentication(app, tokens, cookie="login")
    assert await client(guarded, bearer(ANN), cookie(old)) == 200


@pytest.mark.parametrize("way", OLD_COOKIES)
async def test_with_an_old_cookie_a_browser_is_as_without_one(
    client: Client, app: App, way: str
) -> None:
    """A browser adds it to the request for the form to log in, too, and to that of the login."""
    old = OLD_COOKIES[way]
    assert await client(Authentication(app, tokens, cookie="login"), old) == 401
    assert app.scopes == []
    optional = Authentication(app, tokens, cookie="login", required=False)
    assert await client(optional, old) == 200
    assert await client(optional, old, ("origin", "https://evil.example")) == 200
    assert app.users == [None, None]
    assert await client(optional, old, scope={"user": Person("bob")}) == 200
    assert app.users[2:] == ["bob"]


async def test_a_cookie_that_cannot_be_verified_lets_nobody_through(
    client: Client, app: App
) -> None:
    def fail(credential: str) -> Identity:
        raise VerifierUnavailable("no keys")

    optional = Authentication(app, fail, cookie="login", required=False)
    assert await client(optional, cookie(ANN)) == 503
    assert app.scopes == []


async def test_a_proxys_own_login_is_passed_over(client: Client, app: App) -> None:
    guarded = Authentication(app, tokens, cookie="login")
    assert await client(guarded, ("authorization", f"Basic {ANN}")) == 401
    assert await client(guarded, ("authorization", "Basic YTpi"), cookie(ANN)) == 200


# What a browser sends by itself.


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "https://own.example.evil"])
async def test_a_cookie_counts_for_no_page_of_another_origin(
    client: Client, app: App, origin: str
) -> None:
    guarded = Authentication(app, tokens, cookie="login")
    assert await client(guarded, cookie(ANN), ("origin", origin)) == 403
    assert app.scopes == []
    assert await client(guarded, bearer(ANN), ("origin", origin)) == 200  # no browser adds that


@pytest.mark.parametrize("origin", ["http://own.example", "https://shop.example"])
async def test_a_cookie_counts_for_own_pages_and_allowed_ones(
    client: Client, app: App, origin: str
) -> None:
    allowed = ["https://shop.example"]
    guarded = Authentication(app, tokens, cookie="login", allowed_origins=allowed)
    assert await client(guarded, cookie(ANN), ("origin", origin)) == 200


# A framework's user.


class Person:
    def __init__(self, id: object, is_authenticated: bool = True) -> None:
        self.id = id
        self.is_authenticated = is_authenticated


async def test_the_user_of_a_framework_is_taken(client: Client, app: App) -> None:
    person = Person(42)
    assert await client(Authentication(app, tokens), scope={"user": person}) == 200
    assert app.scopes[0]["user"] is person
    session = session_of(app.scopes[0])
    assert session is not None
    assert session.identity == Identity("42")


async def test_the_frameworks_user_counts_for_own_pages_alone(client: Client, app: App) -> None:
    evil = ("origin", "https://evil.example")
    assert await client(Authentication(app, tokens), evil, scope={"user": Person(42)}) == 403
    assert app.scopes == []


async def test_nobody_of_a_framework_is_nobody(client: Client, app: App) -> None:
    anonymous = {"user": Person(None, is_authenticated=False)}
    assert await client(Authentication(app, tokens), scope=anonymous) == 401
    assert await client(Authentication(app, tokens, required=False), scope=anonymous) == 200
    assert app.scopes[0]["user"] is anonymous["user"]


async def test_a_credential_of_another_than_the_frameworks_user_is_refused(
    client: Client, app: App
) -> None:
    guarded = Authentication(app, tokens)
    assert await client(guarded, bearer(ANN), scope={"user": Person("bob")}) == 401
    assert await client(guarded, bearer(ANN), scope={"user": Person("ann")}) == 200
    assert isinstance(app.scopes[0]["user"], Identity)  # which knows when it expires


async def test_without_a_verifier_the_frameworks_user_alone_counts(
    client: Client, app: App
) -> None:
    guarded = Authentication(app)
    assert await client(guarded, bearer(ANN), cookie(ANN)) == 401
    assert await client(guarded, bearer("x"), scope={"user": Person("ann")}) == 200
    assert await client(guarded, scope={"user": Person("ann")}) == 200
    assert app.users == ["ann", "ann"]
    session = session_of(app.scopes[0])
    assert session is not None
    with pytest.raises(Unauthorized):
        await session.authenticate(ANN)


def test_what_only_a_verifier_can_read_needs_one(app: App) -> None:
    for options in {"cookie": "login"}, {"first_frame": True}:
        with pytest.raises(ConfigurationError, match="verifier"):
            Authentication(app, **options)


# A verifier that fails.


async def test_a_verifier_that_fails_lets_nobody_through(
    client: Client, app: App, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(credential: str) -> Identity:
        raise RuntimeError(f"what is {credential}?")

    with caplog.at_level(logging.DEBUG, "asgi_notify"):
        assert await client(Authentication(app, fail), bearer(ANN)) == 500
        assert await client(Authentication(app, fail, required=False), bearer(ANN)) == 500
    assert app.scopes == []
    assert "RuntimeError" in caplog.text
    assert ANN not in caplog.text


async def test_a_further_credential_that_cannot_be_verified_lets_nobody_through(
    client: Client, app: App
) -> None:
    def fail_for_bob(credential: str) -> Identity:
        if credential == BOB:
            raise RuntimeError
        return tokens(credential)

    guarded = Authentication(app, fail_for_bob, cookie="login")
    assert await client(guarded, bearer(ANN), cookie(BOB)) == 500


async def test_without_denial_responses_a_socket_is_closed(app: App) -> None:
    def fail(credential: str) -> Identity:
        raise RuntimeError

    def refuse(credential: str) -> Identity:
        raise Unauthorized("no")

    for verifier, code in (fail, NotifyError.close_code), (refuse, 4401):
        guarded = Authentication(app, verifier)
        headers = [(b"authorization", b"Bearer x")]
        async with WebsocketCommunicator(guarded, "/", headers) as socket:
            assert await socket.connect() == (False, code)


# First frames.


async def test_a_socket_may_promise_a_first_frame_to_an_application_that_waits_for_it() -> None:
    sessions = []

    async def waiting(scope: Scope, receive: Receive, send: Send) -> None:
        session = session_of(scope)
        assert session is not None
        session.is_watched = True
        sessions.append((session.must_authenticate, session.identity))
        await receive()
        await send({"type": "websocket.accept"})

    client = Client("websocket")
    promising = Authentication(waiting, tokens, first_frame=True)
    assert await client(promising, subprotocols=[PROTOCOL]) == 200
    assert sessions == [(True, None)]
    with_cookies = Authentication(waiting, tokens, cookie="login", first_frame=True)
    assert await client(with_cookies, cookie("old"), subprotocols=[PROTOCOL]) == 200
    assert sessions.pop() == (True, None)
    assert await client(with_cookies, cookie("old")) == 401
    assert await client(promising) == 401  # no protocol with such a frame
    assert await client(promising, bearer("x"), subprotocols=[PROTOCOL]) == 401
    assert await client(Authentication(waiting, tokens), subprotocols=[PROTOCOL]) == 401
    assert await Client("poll")(promising) == 401
    assert len(sessions) == 1


async def test_an_application_that_waits_for_no_first_frame_gets_nobody(app: App) -> None:
    received = []

    async def any_app(scope: Scope, receive: Receive, send: Send) -> None:
        received.append((await receive())["type"])
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": "secret"})

    guarded = Authentication(any_app, tokens, first_frame=True)
    assert await Client("websocket")(guarded, subprotocols=[PROTOCOL]) == 401
    assert received == ["websocket.disconnect"]


# One behind another, as an application that is mounted in one has it.


async def test_one_behind_another_asks_once_more_and_has_the_same_session(
    client: Client, app: App
) -> None:
    inner = Authentication(app, tokens, cookie="login")
    sessions = []

    async def between(scope: Scope, receive: Receive, send: Send) -> None:
        sessions.append(session_of(scope))
        await inner(scope, receive, send)

    asking = Authentication(between, tokens, cookie="login")
    open_to_all = Authentication(between, tokens, cookie="login", required=False)
    for outer in asking, open_to_all:
        assert await client(outer, cookie(ANN)) == 200
        assert session_of(app.scopes[-1]) is sessions[-1]  # so a renewal reaches both
    assert await client(open_to_all) == 401
    only_header = Authentication(between, tokens, required=False)
    assert await client(only_header, cookie(ANN)) == 200  # which the inner one has found
    assert session_of(app.scopes[-1]) is not sessions[-1]
    assert await client(only_header, bearer(ANN), cookie(BOB)) == 401
    assert app.users == ["ann", "ann", "ann"]


@pytest.mark.parametrize(
    ("outer", "inner", "status"),
    [
        ({"first_frame": True}, {"first_frame": True}, 200),
        ({"first_frame": True}, {}, 401),
        ({"first_frame": True}, {"required": False}, 200),
        ({"required": False}, {"first_frame": True}, 200),
        ({"required": False}, {}, 401),
        ({}, {"first_frame": True}, 401),
    ],
)
async def test_a_first_frame_is_waited_for_where_both_let_it(
    outer: dict[str, Any], inner: dict[str, Any], status: int
) -> None:
    promised = []

    async def waiting(scope: Scope, receive: Receive, send: Send) -> None:
        session = session_of(scope)
        assert session is not None
        session.is_watched = True
        promised.append(session.must_authenticate)
        await receive()
        await send({"type": "websocket.accept"})

    app = Authentication(Authentication(waiting, tokens, **inner), tokens, **outer)
    assert await Client("websocket")(app, subprotocols=[PROTOCOL]) == status
    assert promised == ([True] if status == 200 else [])


# The rest.


async def test_what_has_no_client_passes() -> None:
    types = []

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        types.append(scope["type"])

    async def nothing(*args: object) -> Any: ...

    guarded = Authentication(inner, tokens)
    await guarded({"type": "lifespan"}, nothing, nothing)
    await guarded({"type": "channel"}, nothing, nothing)
    assert types == ["lifespan", "channel"]


async def test_the_scope_of_the_server_is_left_as_it_was(app: App) -> None:
    names = ["chat", f"asgi-notify.auth.{ANN}"]
    socket = WebsocketCommunicator(Authentication(app, tokens), "/", [], names)
    before = dict(socket.scope)
    async with socket:
        await socket.connect()
    assert socket.scope == before


@pytest.mark.parametrize("name", ["", "a=b", "a;b", "a b", "\u00e4"])
def test_a_cookie_that_cannot_be_is_refused(app: App, name: str) -> None:
    with pytest.raises(ConfigurationError, match="cookie"):
        Authentication(app, tokens, cookie=name)


def test_a_verifier_that_is_none_is_refused(app: App) -> None:
    with pytest.raises(ConfigurationError, match="verifier"):
        Authentication(app, KEY)  # type: ignore[arg-type]
