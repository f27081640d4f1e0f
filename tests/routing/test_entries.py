"""How path, re_path and include match, nest, and refuse what cannot work."""

import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_notify.exceptions import RouteError
from asgi_notify.routing import URLRouter, include, path, re_path
from asgi_notify.types import Receive, Scope, Send


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Stand where an app would; matching never calls it."""


async def extended(scope: Scope, receive: Receive, send: Send, *, extra: int) -> None:
    raise AssertionError("it was called")


async def view(request: object) -> None:
    raise AssertionError("it was called")


async def other(scope: Scope, receive: Receive, send: Send) -> None:
    """Stand where another app would."""


def at(path: str, **more: object) -> Scope:
    return {"type": "websocket", "path": path, **more}


def test_a_match_carries_the_app_and_a_new_scope() -> None:
    scope = at("/rooms/7/", user="ada")
    before = dict(scope)
    match = path("rooms/<int:room>/", app).match(scope)
    assert match is not None
    assert match.app is app
    assert match.scope == {
        **before,
        "path_remaining": "",
        "url_route": {"args": (), "kwargs": {"room": 7}},
    }
    assert scope == before
    assert path("rooms/<int:room>/", app).match(at("/rooms/x/")) is None


def test_a_regex_route_leaves_what_it_did_not_take() -> None:
    match = re_path("^rooms/([0-9]+)/", app).match(at("/rooms/7/log"))
    assert match is not None
    assert match.scope["path_remaining"] == "log"
    assert match.scope["url_route"] == {"args": ("7",), "kwargs": {}}


def test_extra_kwargs_are_added_to_those_of_the_path_and_win() -> None:
    extra = {"room": 1, "kind": "chat"}
    entry = path("<int:room>/", app, extra, "room")
    extra["kind"] = "changed later"
    match = entry.match(at("/7/"))
    assert match is not None
    assert match.scope["url_route"]["kwargs"] == {"room": 1, "kind": "chat"}
    assert entry.name == "room"


def test_extra_kwargs_are_not_shared_between_connections() -> None:
    entry = path("", app, {"kind": "chat"})
    for _ in range(2):
        match = entry.match(at("/"))
        assert match is not None
        assert match.scope["url_route"]["kwargs"] == {"kind": "chat"}
        match.scope["url_route"]["kwargs"].clear()


def test_nesting_merges_args_and_kwargs_and_the_inner_wins() -> None:
    inner = URLRouter([re_path("^(b)/", [path("<room>/<page>/", app, {"kind": "inner"})])])
    entry = path("<room>/", inner, {"kind": "outer", "site": 1})
    outer = {"args": ("z",), "kwargs": {"from": "above"}}
    match = entry.match(at("/a/b/c/2/", url_route=outer))
    assert match is not None
    assert match.scope["path_remaining"] == ""
    assert match.scope["url_route"] == {
        "args": ("z", "b"),
        "kwargs": {"from": "above", "room": "c", "page": "2", "kind": "inner", "site": 1},
    }
    assert outer == {"args": ("z",), "kwargs": {"from": "above"}}


@pytest.mark.parametrize("wrap", [list, tuple, URLRouter, include])
def test_an_app_that_routes_takes_a_prefix(wrap: Callable[[list[Any]], object]) -> None:
    entry = path("rooms/", wrap([path("<int:room>/", app)]))
    assert entry.match(at("/rooms/7/")) is not None
    assert entry.match(at("/rooms/")) is None
    assert entry.match(at("/rooms/x/")) is None
    assert entry.match(at("/room/7/")) is None


def test_an_include_stands_for_its_entries() -> None:
    entries = [path("a/", app), path("b/", other)]
    for found in (include(entries), include(include(entries)), path("", include(entries))):
        match = found.match(at("/b/"))
        assert match is not None
        assert match.app is other
        assert found.match(at("/c/")) is None


def test_an_inner_list_without_a_match_leaves_it_to_the_next_entry() -> None:
    router = URLRouter(
        [
            path("rooms/", [path("<int:room>/", app)]),
            path("rooms/", URLRouter([path("all/", app)], unmatched="raise")),
            path("rooms/<slug:room>/", other),
        ]
    )
    match = router.match(at("/rooms/lobby/"))
    assert match is not None
    assert match.app is other
    assert match.scope["url_route"]["kwargs"] == {"room": "lobby"}


@given(st.text())
def test_no_path_makes_matching_raise(text: str) -> None:
    router = URLRouter(
        [
            path("rooms/<int:room>/", app),
            path("<path:rest>", [re_path("^(?P<x>.)?(.)?", [path("<uuid:id>", app)])]),
        ]
    )
    router.match(at(text))
    router.match(at(text, root_path=text))


class Consumer:
    """Stands where a consumer class would."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None: ...

    @classmethod
    def as_asgi(cls) -> "Consumer":
        return cls()


def test_a_class_is_asked_for_its_app() -> None:
    assert isinstance(path("", Consumer).app, Consumer)
    instance = Consumer()
    assert path("", instance).app is instance


@pytest.mark.parametrize(
    ("target", "way_out"),
    [
        (None, "give it an ASGI callable"),
        (object(), "give it an ASGI callable"),
        (dict, "give it an ASGI callable"),
        (URLRouter, "give it an ASGI callable"),
        ("chat.routing", r"write include\('chat.routing'\)"),
        (view, "an ASGI app is called with scope, receive and send, and this takes other"),
        (lambda: app, "of a function that makes an app, give what it returns"),
        (path("x", app), r"wrap it in URLRouter\(...\)"),
    ],
)
@pytest.mark.parametrize("make", [path, re_path])
def test_what_is_no_app_is_refused(
    make: Callable[..., object], target: object, way_out: str
) -> None:
    with pytest.raises(RouteError, match=f"route 'rooms/' leads to .*{way_out}"):
        make("rooms/", target)


@pytest.mark.parametrize(
    "target",
    [
        partial(extended, extra=1),
        lambda *events: None,
        lambda scope, receive, send, state=None: None,
        max,  # says nothing of its arguments
        Mock(),
    ],
)
def test_what_can_be_called_as_an_app_is_taken_for_one(target: Any) -> None:
    assert path("", target).app is target


@pytest.mark.parametrize("entry", [app, Consumer, object(), [path("", app)], "chat.routing"])
def test_what_is_no_entry_is_refused(entry: Any) -> None:
    for make in (include, URLRouter):
        with pytest.raises(RouteError, match=r"is no route; make routes with path\(\)"):
            make([entry])


def test_kwargs_must_be_a_mapping() -> None:
    with pytest.raises(RouteError, match="kwargs is a mapping"):
        path("", app, "name")  # type: ignore[arg-type]  # the mistake under test


Package = Callable[[dict[str, str]], None]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Package]:
    """Write modules that can be imported until the test ends."""
    known = set(sys.modules)
    monkeypatch.syspath_prepend(tmp_path)

    def write(sources: dict[str, str]) -> None:
        for name, source in sources.items():
            file = tmp_path / name
            file.parent.mkdir(exist_ok=True)
            file.write_text(source)

    yield write
    for name in set(sys.modules) - known:
        del sys.modules[name]


ROUTES = """
from asgi_notify.routing import path

async def app(scope, receive, send): ...

urlpatterns = [path("all/", app)]
websocket_urlpatterns = [path("ws/", app)]
one = path("one/", app)
number = 1
"""


@pytest.mark.parametrize(
    ("name", "matches"),
    [
        ("shop_routes", "/all/"),
        ("shop_routes.websocket_urlpatterns", "/ws/"),
        ("shop_routes:websocket_urlpatterns", "/ws/"),
        ("shop_routes.one", "/one/"),
        ("shop.routes", "/all/"),
        ("shop:routes", "/all/"),
        ("shop.routes.websocket_urlpatterns", "/ws/"),
        ("shop.routes:one", "/one/"),
    ],
)
def test_an_include_is_found_by_its_dotted_name(package: Package, name: str, matches: str) -> None:
    package(
        {
            "shop_routes.py": ROUTES,
            "shop/__init__.py": "from . import routes",
            "shop/routes.py": ROUTES,
        }
    )
    for found in (include(name), URLRouter([include(name)]), path("", include(name))):
        assert found.match(at(matches)) is not None
        assert found.match(at("/nowhere/")) is None


def test_an_include_takes_an_imported_module(package: Package) -> None:
    package({"shop_routes.py": ROUTES})
    module = __import__("shop_routes")
    assert include(module).match(at("/all/")) is not None


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("nowhere_at_all", "there is no module"),
        ("nowhere.routes", "there is no module 'nowhere'"),
        ("nowhere.routes:urlpatterns", "there is no module 'nowhere.routes'"),
        ("shop_routes.missing", "module 'shop_routes' has no 'missing'"),
        ("shop_routes:missing", "module 'shop_routes' has no 'missing'"),
        ("bare_routes", "module 'bare_routes' has no 'urlpatterns'"),
        ("shop_routes.number", "1 is no route"),
        ("broken_routes", "importing 'broken_routes' failed: No module named 'not_installed'"),
        ("broken_routes.urlpatterns", "importing 'broken_routes"),
        ("wrong_routes:urlpatterns", "importing 'wrong_routes' failed: .*division by zero"),
        ("", "there is no module"),
        ("a..b", "there is no module"),
        (".routes", "there is no module"),
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
            "wrong_routes.py": "1/0",
        }
    )
    with pytest.raises(RouteError, match=why) as raised:
        include(name)
    assert f"include({name!r})" in str(raised.value)


def test_the_cause_of_a_failed_import_is_chained(package: Package) -> None:
    package({"broken_routes.py": "import not_installed"})
    with pytest.raises(RouteError) as raised:
        include("broken_routes.urlpatterns")
    assert isinstance(raised.value.__cause__, ModuleNotFoundError)
    assert raised.value.__cause__.name == "not_installed"
