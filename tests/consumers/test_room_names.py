"""A path that does not say which room it is about is a mistake that the log explains."""

import logging
from typing import Any

import pytest

from asgi_notify import (
    ConfigurationError,
    InMemoryChannelLayer,
    NotificationConsumer,
    NotificationHttpConsumer,
    Notifications,
    PublishConsumer,
    URLRouter,
    path,
    re_path,
)
from asgi_notify.testing import HttpCommunicator, WebsocketCommunicator
from tests.consumers.harness import assert_nothing_left
from tests.frames import Client

pytestmark = pytest.mark.anyio

Watcher = type[NotificationConsumer] | type[NotificationHttpConsumer] | type[PublishConsumer]


async def status_of(app: Any, kind: Watcher, where: str) -> int:
    """The status that a client of this consumer is answered with."""
    if issubclass(kind, NotificationConsumer):
        async with WebsocketCommunicator(app, where, denial_response=True) as client:
            is_open, status = await client.connect()
            return 200 if is_open else status
    method = "POST" if issubclass(kind, PublishConsumer) else "GET"
    async with HttpCommunicator(app, method, where, b'{"data": 1}') as request:
        status = (await request.get_response())["status"]
        return int(status)


def explained(caplog: pytest.LogCaptureFixture) -> str:
    [record] = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], ConfigurationError)
    return str(record.exc_info[1])


KINDS: list[Watcher] = [NotificationConsumer, NotificationHttpConsumer, PublishConsumer]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("query", ["", "?group=user_7"])
async def test_without_a_router_the_log_says_to_write_one(
    kind: Watcher, query: str, layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    assert await status_of(kind, kind, f"/notifications/7/{query}") == 500
    assert explained(caplog) == (
        f"{kind.__name__} asks a router for the room of its path: write "
        f"URLRouter([path('notifications/<int:room_name>/', {kind.__name__})])"
    )
    assert_nothing_left(layer, "user_7")


@pytest.mark.parametrize("kind", [NotificationConsumer, NotificationHttpConsumer])
@pytest.mark.parametrize("query", ["", "?group=user_8"])
@pytest.mark.parametrize(
    ("route", "names"),
    [("<int:user_id>", "user_id"), ("<int:user>/<slug:device>", "user, device")],
)
async def test_another_name_is_told_from_a_path_without_a_room(
    kind: Watcher, query: str, route: str, names: str,
    layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    where = "/7/a" if "device" in route else "/7"
    assert await status_of(URLRouter([path(route, kind)]), kind, where + query) == 500
    assert explained(caplog).startswith(f"the path captures {names}, and {kind.__name__} reads")
    assert_nothing_left(layer, "user_7", "user_8")


async def test_a_group_without_a_name_is_one_too(
    layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    app = URLRouter([re_path(r"^([0-9]+)/$", NotificationConsumer)])
    async with Client(app, "/7/", denial_response=True) as client:
        assert await client.connect() == (False, 500)
    assert "captures a part without a name" in explained(caplog)


@pytest.mark.parametrize("route", ["<int:user_id>/", "7/"])
async def test_a_publisher_needs_the_name(
    route: str, layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    app = URLRouter([path(route, PublishConsumer)])
    assert await status_of(app, PublishConsumer, "/7/") == 500
    assert explained(caplog).startswith("PublishConsumer publishes to the room_name of its path")


async def test_who_decides_by_what_is_captured_may_call_it_anything(
    layer: InMemoryChannelLayer,
) -> None:
    class Tenant(Notifications):
        async def authorize(self, group: str) -> bool:
            return bool(self.scope["url_route"]["kwargs"]["tenant"] == "acme")

    class Socket(Tenant, NotificationConsumer):
        pass

    app = URLRouter([path("<slug:tenant>/", Socket)])
    assert await status_of(app, Socket, "/acme/?group=user_7") == 200
    assert await status_of(app, Socket, "/other/?group=user_7") == 403


async def test_the_name_may_stand_in_an_outer_route(layer: InMemoryChannelLayer) -> None:
    inner = URLRouter([path("<slug:device>/", NotificationConsumer)])
    app = URLRouter([path("<int:room_name>/", inner)])
    assert await status_of(app, NotificationConsumer, "/7/phone/") == 200
