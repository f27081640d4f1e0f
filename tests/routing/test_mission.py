"""Routing code as tutorials for Django Channels print it, with this package's imports.

Each fragment is run as its source shows it. Its import lines are taken out and
their names given instead; every other slip that had to be mended is named.
"""

import sys
from textwrap import dedent
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from asgi_notify import (
    AsyncJsonWebsocketConsumer,
    InMemoryChannelLayer,
    NotificationConsumer,
    ProtocolTypeRouter,
    URLRouter,
    channel_layers,
    include,
    path,
    re_path,
)
from asgi_notify.testing import HttpCommunicator, WebsocketCommunicator
from asgi_notify.types import Receive, Scope, Send

pytestmark = pytest.mark.anyio


class MyConsumer(AsyncJsonWebsocketConsumer):
    """The consumer that the second document speaks of: says what its route captured."""

    async def connect(self) -> None:
        await self.accept()
        await self.send_json(self.scope["url_route"]["kwargs"])


def get_asgi_application() -> Any:
    """Stand where Django's would."""

    async def django(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"Django"})

    return django


def run(fragment: str, **names: object) -> dict[str, Any]:
    """Run a fragment without its import lines and return what it defined."""
    lines = dedent(fragment).splitlines()
    code = "\n".join(line for line in lines if not line.startswith(("import ", "from ")))
    exec(code, names)
    return names


async def first_text(application: Any, path: str) -> Any:
    """Connect and return what the consumer says, or None when refused."""
    async with WebsocketCommunicator(application, path) as client:
        is_open, _ = await client.connect()
        return await client.receive_json_from() if is_open else None


ROUTING = """
    from django.urls import path
    from players.consumers import NotificationConsumer

    websocket_urlpatterns = [
        path('notifications/<int:room_name>/', NotificationConsumer())
    ]
"""


async def test_a_consumer_instance_is_served_at_a_path_with_an_int(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fragment = run(ROUTING, path=path, NotificationConsumer=NotificationConsumer)
    application = URLRouter(fragment["websocket_urlpatterns"])
    layer = InMemoryChannelLayer()
    monkeypatch.setattr(channel_layers, "_layers", {"default": layer})
    async with WebsocketCommunicator(application, "/notifications/7/") as client:
        assert await client.connect() == (True, None)
        await layer.group_send("user_7", {"type": "send.notification", "data": "hello"})
        assert await client.receive_from() == "hello"
    async with WebsocketCommunicator(application, "/notifications/lobby/") as client:
        assert await client.connect() == (False, 4404)


# Slip mended: get_asgi_application is used, but never imported.
# The file is said to be settings.py; it is whatever module the server loads.
APPLICATION = """
    import os
    from channels.routing import ProtocolTypeRouter, URLRouter
    from django.urls import path
    from .consumers import MyConsumer

    application = ProtocolTypeRouter({
        'http': get_asgi_application(),
        'websocket': URLRouter(
            path('ws/my-path/', MyConsumer.as_asgi()),
        )
    })
"""


async def test_a_url_router_takes_one_path_beside_an_http_application() -> None:
    application = run(
        APPLICATION,
        ProtocolTypeRouter=ProtocolTypeRouter,
        URLRouter=URLRouter,
        path=path,
        MyConsumer=MyConsumer,
        get_asgi_application=get_asgi_application,
    )["application"]
    assert await first_text(application, "/ws/my-path/") == {}
    assert await first_text(application, "/ws/other/") is None
    response = await HttpCommunicator(application, "GET", "/any/").get_response()
    assert response["body"] == b"Django"


REGEX = """
    from django.urls import re_path
    from . import consumers

    websocket_urlpatterns = [
        re_path(r'ws/my-path/$', consumers.MyConsumer.as_asgi()),
    ]
"""
INCLUDED = """
    from django.urls import path, include

    urlpatterns = [
        path('', include('routing.websocket_urlpatterns')),
    ]
"""


@pytest.fixture
def regex_routes(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The routes of the document's ``routing.py``, which can be imported by that name."""
    consumers = SimpleNamespace(MyConsumer=MyConsumer)
    routes = run(REGEX, re_path=re_path, consumers=consumers)["websocket_urlpatterns"]
    module = ModuleType("routing")
    vars(module)["websocket_urlpatterns"] = routes
    monkeypatch.setitem(sys.modules, "routing", module)
    assert isinstance(routes, list)
    return routes


async def test_a_regex_leads_to_a_consumer(regex_routes: list[Any]) -> None:
    application = URLRouter(regex_routes)
    assert await first_text(application, "/ws/my-path/") == {}
    assert await first_text(application, "/ws/my-path/more/") is None
    assert await first_text(application, "/my/ws/my-path/") is None


# Slip mended: the document leaves it at a list in urls.py, which serves HTTP
# alone in Django; here the list is given to a URLRouter.
@pytest.mark.usefixtures("regex_routes")
async def test_routes_are_included_by_their_dotted_name() -> None:
    application = URLRouter(run(INCLUDED, path=path, include=include)["urlpatterns"])
    assert await first_text(application, "/ws/my-path/") == {}
    assert await first_text(application, "/ws/other/") is None
