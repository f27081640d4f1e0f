"""How the routers call apps, refuse connections, nest, and list what they lead to."""

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from asgi_lifespan import LifespanManager

from asgi_notify.exceptions import MisuseError, NoRouteFound, RouteError
from asgi_notify.layers.registry import channel_layers
from asgi_notify.routing import (
    ChannelNameRouter,
    ProtocolTypeRouter,
    URLRouter,
    include,
    path,
    re_path,
)
from asgi_notify.routing.base import Row, walk
from asgi_notify.testing import HttpCommunicator, WebsocketCommunicator
from asgi_notify.types import ASGIApp, Event, Receive, Scope, Send

pytestmark = pytest.mark.anyio


class App:
    """Remembers the scopes that it was called with."""

    def __init__(self) -> None:
        self.scopes: list[Scope] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scopes.append(scope)


class Middleware:
    """Marks the scope, and shows the router that it wraps."""

    def __init__(self, inner: ASGIApp) -> None:
        self.inner = inner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.inner({**scope, "user": "ada"}, receive, send)


async def nothing() -> Event:
    raise AssertionError("nobody asks for events here")


async def call(app: ASGIApp, scope: Scope) -> list[Event]:
    """Run an app to its end and return what it sent."""
    sent: list[Event] = []

    async def send(event: Event) -> None:
        sent.append(event)

    await app(scope, nothing, send)
    return sent


def at(path: str, kind: str = "websocket", **more: object) -> Scope:
    return {"type": kind, "path": path, **more}


@pytest.mark.parametrize("wrap", [list, tuple, lambda entries: entries[0]])
async def test_url_router_takes_a_list_or_one_entry(wrap: Callable[[list[Any]], Any]) -> None:
    app = App()
    router = URLRouter(wrap([path("ws/<room>/", app)]))
    scope = at("/ws/7/")
    assert await call(router, scope) == []
    assert app.scopes[0]["url_route"] == {"args": (), "kwargs": {"room": "7"}}
    assert scope == at("/ws/7/")


async def test_the_first_entry_that_matches_is_called() -> None:
    first, second = App(), App()
    await call(URLRouter([path("x/", first), path("<any>/", second)]), at("/x/"))
    assert (len(first.scopes), len(second.scopes)) == (1, 0)


async def test_what_an_app_raises_is_never_taken_for_no_match() -> None:
    async def fails(scope: Scope, receive: Receive, send: Send) -> None:
        raise NoRouteFound("the app's own")

    sibling = App()
    router = URLRouter([path("x/", URLRouter([path("", fails)])), path("x/", sibling)])
    with pytest.raises(NoRouteFound, match="the app's own"):
        await call(router, at("/x/"))
    assert sibling.scopes == []


async def test_an_unknown_path_closes_the_websocket_before_it_opens() -> None:
    sent = await call(URLRouter([]), at("/nowhere/"))
    reason = "nothing is served at '/nowhere/'"
    assert sent == [{"type": "websocket.close", "code": 4404, "reason": reason}]
    async with WebsocketCommunicator(URLRouter([]), "/nowhere/") as client:
        assert await client.connect() == (False, 4404)


async def test_an_unknown_path_is_denied_with_404_where_the_server_can() -> None:
    async with WebsocketCommunicator(URLRouter([]), "/nowhere/", denial_response=True) as client:
        assert await client.connect() == (False, 404)


async def test_an_unknown_path_is_answered_with_404_over_http() -> None:
    response = await HttpCommunicator(URLRouter([]), "GET", "/nowhere/").get_response()
    assert response["status"] == 404
    assert response["body"] == b"""{"error": "nothing is served at '/nowhere/'"}"""


@pytest.mark.parametrize(
    ("path_of_client", "hint"),
    [
        ("/rooms/42", "ask for '/rooms/42/', with a slash at its end"),
        ("/nested/7", "ask for '/nested/7/', with a slash at its end"),
        ("/health/", "ask for '/health', without a slash at its end"),
        ("/rooms/x", None),
        ("/rooms", None),
        ("/", None),
        ("", None),
        ("/rooms/" + "7" * 300, None),
    ],
)
@pytest.mark.parametrize("root_path", ["", "/app"])
async def test_a_path_that_lacks_its_slash_is_refused_with_the_one_that_is_served(
    path_of_client: str, hint: str | None, root_path: str
) -> None:
    app = App()
    router = URLRouter(
        [
            path("rooms/<int:room>/", app),
            path("nested/", URLRouter([path("<int:room>/", app)])),
            path("health", app),
        ]
    )
    hint = hint and hint.replace("'/", f"'{root_path}/")
    for kind in "http", "websocket":
        scope = at(root_path + path_of_client, kind, root_path=root_path)
        last = (await call(router, scope))[-1]
        text = last["body"].decode() if kind == "http" else last["reason"]
        assert (hint in text) if hint else ("ask for" not in text)
    assert app.scopes == []  # it was looked for, and not run


async def test_the_slash_is_missed_below_an_outer_router_and_a_middleware_too() -> None:
    inner = Middleware(URLRouter([path("<int:room>/", App())]))
    [close] = await call(URLRouter([path("rooms/", inner)]), at("/rooms/42"))
    assert "ask for '/rooms/42/'" in close["reason"]
    with pytest.raises(NoRouteFound, match="ask for '/rooms/42/'"):
        await call(URLRouter([path("rooms/<int:r>/", App())], unmatched="raise"), at("/rooms/42"))


async def test_a_refusal_is_one_log_line_that_a_client_cannot_forge(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    await call(URLRouter([]), at("/x\nINFO root: all is well\x1b[2J\u2028" + "y" * 1000))
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("asgi_notify.routing", "INFO")
    assert record.exc_info is None
    assert record.getMessage().isprintable()
    assert "websocket refused: nothing is served at '/x\\nINFO" in record.getMessage()
    assert len(record.getMessage()) < 300


ROUTERS: list[tuple[Callable[..., Any], Scope]] = [
    (lambda **options: URLRouter([], **options), at("/x")),
    (lambda **options: ProtocolTypeRouter({}, **options), at("/x")),
    (lambda **options: ChannelNameRouter({}, **options), {"type": "channel", "channel": "mail"}),
]


@pytest.mark.parametrize(("make", "scope"), ROUTERS)
async def test_unmatched_raises_when_told_to(make: Callable[..., Any], scope: Scope) -> None:
    with pytest.raises(NoRouteFound, match="nothing"):
        await call(make(unmatched="raise"), scope)


@pytest.mark.parametrize(("make", "scope"), ROUTERS)
async def test_unmatched_hands_over_to_an_app_with_the_scope_as_it_came(
    make: Callable[..., Any], scope: Scope
) -> None:
    app = App()
    await call(make(unmatched=app), scope)
    assert app.scopes == [scope]


@pytest.mark.parametrize(("make", "scope"), ROUTERS)
def test_unmatched_is_checked_when_built(make: Callable[..., Any], scope: Scope) -> None:
    with pytest.raises(RouteError, match="unmatched is 'refuse', 'raise' or an app, not 'ignore'"):
        make(unmatched="ignore")
    with pytest.raises(RouteError, match="unmatched leads to None"):
        make(unmatched=None)


@pytest.mark.parametrize(("inner", "outer"), [("raise", "refuse"), ("refuse", "raise")])
async def test_only_the_outermost_router_refuses_or_raises(inner: Any, outer: Any) -> None:
    router = URLRouter([path("x/", URLRouter([], unmatched=inner))], unmatched=outer)
    if outer == "raise":
        with pytest.raises(NoRouteFound):
            await call(router, at("/x/y"))
    else:
        assert len(await call(router, at("/x/y"))) == 1


async def test_an_inner_router_with_an_app_for_unmatched_matches() -> None:
    fallback, sibling = App(), App()
    router = URLRouter([path("x/", URLRouter([], unmatched=fallback)), path("x/y", sibling)])
    await call(router, at("/x/y"))
    assert fallback.scopes[0]["path_remaining"] == "y"
    assert sibling.scopes == []


@pytest.mark.parametrize("root_path", ["", "/api"])
@pytest.mark.parametrize("server_path", ["/api/rooms/7/", "/rooms/7/"])
async def test_the_outermost_router_honours_root_path(root_path: str, server_path: str) -> None:
    app = App()
    router = URLRouter([path("rooms/", URLRouter([path("<int:room>/", app)]))])
    await call(router, at(server_path, root_path=root_path))
    is_served = root_path == "/api" or server_path == "/rooms/7/"
    assert len(app.scopes) == is_served


async def test_a_router_called_inside_another_app_goes_on_where_the_outer_stopped() -> None:
    app = App()
    inner = URLRouter([path("api/<room>/", app)])

    async def between(scope: Scope, receive: Receive, send: Send) -> None:
        await inner(scope, receive, send)

    await call(URLRouter([re_path("^x/", between)]), at("/x/api/7/", root_path="/api"))
    assert app.scopes[0]["url_route"]["kwargs"] == {"room": "7"}


async def test_a_middleware_around_a_router_takes_a_prefix_and_runs_first() -> None:
    app = App()
    router = URLRouter([path("x/", Middleware(Middleware(URLRouter([path("<room>/", app)]))))])
    await call(router, at("/x/7/"))
    assert app.scopes[0]["user"] == "ada"
    assert app.scopes[0]["url_route"]["kwargs"] == {"room": "7"}


async def test_a_middleware_around_an_app_takes_the_whole_path() -> None:
    app = App()
    router = URLRouter([path("x/", Middleware(app))], unmatched="raise")
    await call(router, at("/x/"))
    with pytest.raises(NoRouteFound):
        await call(router, at("/x/7/"))


def test_an_object_whose_inner_never_ends_is_an_app() -> None:
    class Mock(App):
        @property
        def inner(self) -> "Mock":
            return Mock()

    match = path("x/", Mock()).match(at("/x/"))
    assert match is not None
    assert isinstance(match.app, Mock)


@pytest.mark.parametrize("kind", ["http", "websocket"])
async def test_protocol_type_router_calls_the_app_for_the_type(kind: str) -> None:
    apps = {"http": App(), "websocket": App()}
    await call(ProtocolTypeRouter(apps), at("/", kind))
    assert {name: len(app.scopes) for name, app in apps.items()} == {
        name: name == kind for name in apps
    }


async def test_an_unknown_protocol_is_refused() -> None:
    sent = await call(ProtocolTypeRouter({}), at("/x", "http"))
    assert sent[0]["status"] == 404
    assert await call(ProtocolTypeRouter({}), {"type": "telegram"}) == []


async def test_a_url_router_under_a_protocol_keeps_its_own_unmatched() -> None:
    router = ProtocolTypeRouter({"websocket": URLRouter([], unmatched="raise")})
    with pytest.raises(NoRouteFound):
        await call(router, at("/x"))


async def test_a_protocol_type_router_routes_below_a_path() -> None:
    page, socket, sibling = App(), App(), App()
    inner = ProtocolTypeRouter({"http": page, "websocket": URLRouter([path("ws/", socket)])})
    router = URLRouter([path("x/", inner), path("x/<path:rest>", sibling)])
    await call(router, at("/x/", "http"))
    await call(router, at("/x/ws/"))
    assert (len(page.scopes), len(socket.scopes), len(sibling.scopes)) == (1, 1, 0)
    await call(router, at("/x/more", "http"))  # a plain app takes the whole path
    await call(router, at("/x/nowhere/"))
    await call(router, at("/x/ws/", "other"))
    assert (len(page.scopes), len(socket.scopes), len(sibling.scopes)) == (1, 1, 3)


class Consumer(App):
    """Stands where a consumer class would."""

    @classmethod
    def as_asgi(cls) -> "Consumer":
        return cls()


@pytest.mark.parametrize("make", [ProtocolTypeRouter, ChannelNameRouter])
def test_mappings_are_checked_when_built(make: Callable[[Any], Any]) -> None:
    assert isinstance(make({"mail": Consumer}).application_mapping["mail"], Consumer)
    with pytest.raises(RouteError, match=r"'mail' of .* leads to None"):
        make({"mail": None})
    with pytest.raises(RouteError, match=r"wrap it in URLRouter\(...\)"):
        make({"mail": [path("", Consumer)]})
    with pytest.raises(RouteError, match="takes a mapping"):
        make([Consumer])


@pytest.mark.parametrize(
    ("name", "meant"),
    [("ws", "websocket"), ("wss", "websocket"), ("websockets", "websocket"),
     ("WebSocket", "websocket"), ("HTTP", "http"), ("https", "http"), ("channels", "channel"),
     ("Lifespan", "lifespan")],
)  # fmt: skip
def test_a_type_that_no_scope_has_is_refused_with_the_one_that_is_meant(
    name: str, meant: str
) -> None:
    with pytest.raises(RouteError, match=f"'{name}'.*write '{meant}'"):
        ProtocolTypeRouter({"http": App(), name: App()})


@pytest.mark.parametrize("name", ["http", "websocket", "lifespan", "channel", "line", "mqtt"])
def test_a_protocol_of_ones_own_is_allowed(name: str) -> None:
    assert name in ProtocolTypeRouter({name: App()}).application_mapping


async def test_channel_name_router_calls_the_app_for_the_channel() -> None:
    app = App()
    router = ProtocolTypeRouter({"channel": ChannelNameRouter({"mail": app})})
    await call(router, {"type": "channel", "channel": "mail"})
    await call(router, {"type": "channel", "channel": "print"})
    assert app.scopes == [{"type": "channel", "channel": "mail"}]


async def test_a_scope_without_what_is_routed_by_is_a_misuse() -> None:
    with pytest.raises(MisuseError, match="no channel to route by"):
        await call(ChannelNameRouter({}), at("/"))
    with pytest.raises(MisuseError, match="no path to route by"):
        await call(URLRouter([path("", App())]), {"type": "lifespan"})


async def test_protocol_type_router_opens_and_closes_the_layers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[str] = []

    @asynccontextmanager
    async def running() -> AsyncIterator[None]:
        seen.append("open")
        yield
        seen.append("closed")

    monkeypatch.setattr(channel_layers, "running", running)
    async with LifespanManager(ProtocolTypeRouter({})):
        assert seen == ["open"]
    assert seen == ["open", "closed"]


async def test_an_app_for_lifespan_is_used_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(type(channel_layers), "running")
    app = App()
    await call(ProtocolTypeRouter({"lifespan": app}), {"type": "lifespan"})
    assert app.scopes == [{"type": "lifespan"}]


def test_walk_yields_a_row_for_each_app_that_can_be_reached() -> None:
    page, rest, room, mail = App(), App(), App(), App()
    application = ProtocolTypeRouter(
        {
            "http": page,
            "websocket": Middleware(
                URLRouter(
                    [
                        path("rooms/", [path("<int:room>/", Middleware(room), name="room")]),
                        path("v2/", include([re_path("^rooms/$", room)])),
                    ],
                    unmatched=rest,
                )
            ),
            "channel": ChannelNameRouter({"mail": mail}, unmatched=rest),
        },
        unmatched=rest,
    )
    assert list(walk(application)) == [
        Row("http", "", page),
        Row("websocket", "rooms/<int:room>/", room, "room"),
        Row("websocket", "v2/^rooms/$", room),
        Row("websocket", "*", rest),
        Row("channel", "mail", mail),
        Row("channel", "*", rest),
        Row("*", "", rest),
    ]


def test_walk_yields_no_row_for_what_is_refused() -> None:
    application = ProtocolTypeRouter(
        {"websocket": URLRouter([]), "channel": ChannelNameRouter({})}, unmatched="raise"
    )
    assert list(walk(application)) == []


def test_walk_yields_a_row_for_an_app_that_is_no_router() -> None:
    app = App()
    assert list(walk(Middleware(app))) == [Row("", "", app)]
