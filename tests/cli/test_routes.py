"""``asgi-notify routes``: the table of any application that is made of the package's routers."""

import sys
from pathlib import Path
from types import ModuleType

import pytest

from asgi_notify import (
    AsyncHttpConsumer,
    ChannelNameRouter,
    NotificationConsumer,
    OriginValidator,
    ProtocolTypeRouter,
    Receive,
    Scope,
    Send,
    SyncConsumer,
    URLRouter,
    include,
    path,
    re_path,
)
from tests.cli.conftest import Run


class Page(AsyncHttpConsumer):
    """A consumer to route to."""


class Worker(SyncConsumer):
    """Another one."""


async def fallback(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that takes what no route does."""


class Callable:
    """An application that is no function."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Do nothing."""


@pytest.fixture
def table(run: Run, monkeypatch: pytest.MonkeyPatch) -> "Table":
    return Table(run, monkeypatch)


class Table:
    """The rows that are shown for an application, without the headings."""

    def __init__(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        self.run, self.module = run, ModuleType("a_site")
        monkeypatch.setitem(sys.modules, "a_site", self.module)

    def of(self, app: object) -> list[list[str]]:
        vars(self.module)["app"] = app
        shown = self.run("routes", "a_site:app")
        assert shown.exit_code == 0, shown.output
        headings, *rows = (line.split() for line in shown.output.splitlines())
        assert headings == ["TYPE", "ROUTE", "APP", "NAME"]
        return rows


HERE = __name__


def test_the_default_application_is_shown_without_an_argument(run: Run) -> None:
    shown = run("routes")
    assert shown.exit_code == 0
    for line in (
        "websocket  /notifications/<int:room_name>/  asgi_notify.consumers.notification",
        "http       /notifications/<int:room_name>/  asgi_notify.publishing.PublishConsumer",
        "http       /healthz                         asgi_notify.app.healthz",
    ):
        assert line in shown.output
    assert len({line.index(" /") for line in shown.output.splitlines()[1:]}) == 1  # a column
    assert not any(line.endswith(" ") for line in shown.output.splitlines())
    assert "Usage: asgi-notify routes [OPTIONS] [MODULE:APP]" in run("routes", "--help").output


def test_nested_routers_and_includes_are_shown_whole(table: Table) -> None:
    routes = ModuleType("routes_of_a_site")
    vars(routes)["urlpatterns"] = [re_path(r"deep/(?P<n>[0-9]+)$", Page, name="deep")]
    sys.modules["routes_of_a_site"] = routes
    try:
        inner = URLRouter([path("b/<int:n>/", NotificationConsumer(), name="b")])
        app = URLRouter([path("a/", inner), path("c/", include("routes_of_a_site"))])
        rows = table.of(app)
    finally:
        del sys.modules["routes_of_a_site"]
    notification = "asgi_notify.consumers.notification.NotificationConsumer"
    assert rows[0] == ["any", "/a/b/<int:n>/", notification, "b"]
    assert rows[1][0] == "any"
    assert rows[1][1].startswith("/c/")
    assert "deep/" in rows[1][1]
    assert rows[1][2:] == [f"{HERE}.Page", "deep"]


def test_protocols_channels_middleware_and_what_takes_the_rest_are_shown(table: Table) -> None:
    app = ProtocolTypeRouter(
        {
            "websocket": OriginValidator(URLRouter([path("", Page)]), ["example.com"]),
            "channel": ChannelNameRouter({"thumbnails": Worker}),
            "http": URLRouter([path("x/", Callable())], unmatched=fallback),
        },
        unmatched=fallback,
    )
    rows = table.of(app)
    assert ["websocket", "/", f"{HERE}.Page"] in rows
    assert ["channel", "thumbnails", f"{HERE}.Worker"] in rows
    assert ["http", "/x/", f"{HERE}.Callable"] in rows
    assert ["http", "/*", f"{HERE}.fallback"] in rows
    assert any(row[0] in ("*", "any") and row[-1] == f"{HERE}.fallback" for row in rows)


def test_a_module_of_the_current_directory_is_found(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = (
        "from asgi_notify import *\nclass Site:\n    app = URLRouter(path('a/', SyncConsumer))\n"
    )
    Path(tmp_path, "a_local_site.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    try:
        shown = run("routes", "a_local_site:Site.app")
    finally:
        sys.modules.pop("a_local_site", None)
    assert shown.exit_code == 0, shown.output
    assert "/a/" in shown.output


@pytest.mark.parametrize("name", ["a_site", "a_site:", ":app", "a_site.app"])
def test_a_name_without_a_module_or_an_app_is_refused_with_an_example(run: Run, name: str) -> None:
    refused = run("routes", name)
    assert refused.exit_code == 2
    assert "an example is myproject.asgi:application" in refused.output


def test_what_cannot_be_loaded_says_why(
    run: Run, table: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(tmp_path, "a_broken_site.py").write_text("1 / 0")
    monkeypatch.chdir(tmp_path)
    for name, reason in (
        ("no_such_site:app", "ModuleNotFoundError"),
        ("a_site:missing", "AttributeError"),
        ("a_broken_site:app", "ZeroDivisionError"),
    ):
        refused = run("routes", name)
        assert refused.exit_code == 1
        assert f"{name} cannot be loaded: {reason}" in refused.output


@pytest.mark.parametrize("app", [fallback, NotificationConsumer, None, 42, Callable()])
def test_what_is_no_router_is_refused_with_the_way_out(run: Run, table: Table, app: object) -> None:
    vars(table.module)["app"] = app
    refused = run("routes", "a_site:app")
    assert refused.exit_code == 1
    assert "name a ProtocolTypeRouter" in refused.output
