"""What route, route_class and include take, and what they refuse when they are built."""

from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from asgi_notify import AsyncWebsocketConsumer, path
from asgi_notify.events import EventConsumer, EventRouter, include, route, route_class
from asgi_notify.exceptions import RouteError
from asgi_notify.types import Message

Package = Callable[[dict[str, str]], None]


def consumer(message: Message) -> None:
    """Stand where a consumer would; matching never calls it."""


@pytest.mark.parametrize("channel", [None, 7, b"x", "", ["websocket.connect"]])
def test_a_channel_is_named_by_text(channel: Any) -> None:
    with pytest.raises(RouteError, match=r"named by text, such as 'websocket\.connect'"):
        route(channel, consumer)


@pytest.mark.parametrize(
    ("target", "why"),
    [
        (None, "cannot be called; give a function"),
        ("consumers.ws_connect", "is a name; import the function"),
        (AsyncWebsocketConsumer, "handles whole connections"),
        (AsyncWebsocketConsumer.as_asgi(), "handles whole connections"),
    ],
)
def test_a_consumer_is_called(target: Any, why: str) -> None:
    with pytest.raises(RouteError, match=why):
        route("websocket.connect", target)


class NoChannels:
    """Channels 1 would ask it for channel_names()."""


class Wrong(EventConsumer):
    method_mapping: ClassVar = {"websocket.connect": "connect"}


class More(EventConsumer):
    method_mapping: ClassVar = {"websocket.connect": "connect"}

    def connect(self, message: Message) -> None:
        """Never called here."""

    @classmethod
    def channel_names(cls) -> set[str]:
        return {"websocket.connect", "websocket.receive"}


def with_names(names: object) -> type:
    return type("Named", (), {"channel_names": classmethod(lambda cls: names)})


@pytest.mark.parametrize(
    ("cls", "why"),
    [
        (NoChannels, r"has no channel_names\(\); give a subclass of EventConsumer"),
        (consumer, r"has no channel_names\(\)"),
        (More(), r"has no channel_names\(\)"),
        (EventConsumer, r"is a set of names, not set\(\).*method_mapping"),
        (with_names("websocket.connect"), "is a set of names, not 'websocket.connect'"),
        (with_names({7}), "named by text, such as 'websocket.connect', not 7"),
        (Wrong, "leads 'websocket.connect' to 'connect', which is no method"),
        (More, "leads 'websocket.receive' to None, which is no method"),
    ],
)
def test_a_class_names_channels_and_has_methods_for_them(cls: Any, why: str) -> None:
    with pytest.raises(RouteError, match=why):
        route_class(cls)


def test_a_class_of_another_kind_is_routed_by_its_channel_names() -> None:
    cls = with_names({"a", "b"})
    entry = route_class(cls, path="^/$")
    assert entry.channel_names() == {"a", "b"}
    assert entry.match({"channel": "b", "path": "/"}) == (cls, {})


@pytest.mark.parametrize(
    "what",
    [
        path("chat/", lambda scope, receive, send: None),
        consumer,
        "name",
        [route("x", consumer)],
        EventConsumer,
        None,
    ],
)
def test_what_is_no_route_is_refused_where_routes_are_listed(what: Any) -> None:
    for build in EventRouter, include:
        with pytest.raises(RouteError, match=r"make some with route\(\), route_class\(\)"):
            build([what])


def test_one_route_stands_for_a_list_of_one() -> None:
    entry = route("x", consumer)
    assert EventRouter(entry).match({"type": "x"}) == (consumer, {})
    assert include(entry).match({"type": "x"}) == (consumer, {})


def test_a_list_that_changes_later_changes_no_routing() -> None:
    routes = [route("x", consumer)]
    router, included = EventRouter(routes), include(routes)
    routes.clear()
    assert router.channel_names() == included.channel_names() == {"x"}


def test_the_names_that_a_routing_gives_out_are_a_copy() -> None:
    for entry in route("x", consumer), include([route("x", consumer)]):
        entry.channel_names().clear()
        assert entry.channel_names() == {"x"}


ROUTES = """
from asgi_notify.events import route

def consumer(message): ...

channel_routing = [route("all", consumer)]
others = (route("other", consumer),)
one = route("one", consumer)
number = 1
"""


@pytest.mark.parametrize(
    ("name", "channel"),
    [
        ("shop_routes", "all"),
        ("shop_routes.others", "other"),
        ("shop_routes:others", "other"),
        ("shop_routes.one", "one"),
        ("shop.routes", "all"),
        ("shop.routes:one", "one"),
    ],
)
def test_an_include_is_found_by_its_dotted_name(package: Package, name: str, channel: str) -> None:
    package(
        {
            "shop_routes.py": ROUTES,
            "shop/__init__.py": "from . import routes",
            "shop/routes.py": ROUTES,
        }
    )
    assert include(name).channel_names() == {channel}
    assert include(name, path="^/shop").channel_names() == {channel}


def test_an_include_takes_an_imported_module(package: Package) -> None:
    package({"shop_routes.py": ROUTES})
    assert include(__import__("shop_routes")).channel_names() == {"all"}


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("nowhere_at_all", "there is no module.*channel_routing"),
        ("shop_routes.missing", "module 'shop_routes' has no 'missing'"),
        ("bare_routes", "module 'bare_routes' has no 'channel_routing'"),
        ("shop_routes.number", "1 is no event route"),
        ("broken_routes", "importing 'broken_routes' failed: No module named 'not_installed'"),
    ],
)
def test_an_include_that_cannot_be_imported_says_which_name_and_why(
    package: Package, name: str, why: str
) -> None:
    package(
        {
            "shop_routes.py": ROUTES,
            "bare_routes.py": "",
            "broken_routes.py": "import not_installed",
        }
    )
    with pytest.raises(RouteError, match=why) as raised:
        include(name)
    assert f"include({name!r})" in str(raised.value)
    if name == "broken_routes":
        assert isinstance(raised.value.__cause__, ModuleNotFoundError)
