"""The default application's rooms over HTTP: who may watch, and what is served by which method."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import anyio
import pytest

from asgi_notify import InMemoryChannelLayer, SameOriginValidator, Settings, channel_layers
from asgi_notify.app import make_application
from asgi_notify.routing.base import walk
from asgi_notify.testing import HttpCommunicator
from asgi_notify.types import Receive, Scope, Send
from tests.consumers.streams import streaming
from tests.eventstream import Dispatched

pytestmark = pytest.mark.anyio

ROOM = "/notifications/42/"
POLL = f"{ROOM}?timeout=0"
SHOP = "https://shop.example"
STREAM = {"accept": "text/event-stream"}
NONE: Mapping[str, str] = {}
app = make_application(Settings(allowed_origins=(SHOP,)))


@pytest.fixture(autouse=True)
def layer() -> Iterator[InMemoryChannelLayer]:
    layer = InMemoryChannelLayer()
    old = channel_layers.set("default", layer)
    yield layer
    channel_layers.set("default", old)


async def request(
    method: str, path: str, body: bytes = b"", headers: Mapping[str, str] = NONE
) -> tuple[int, Any, dict[bytes, bytes]]:
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    async with HttpCommunicator(app, method, path, body, pairs) as client:
        response = await client.get_response()
    return response["status"], json.loads(response["body"]), dict(response["headers"])


async def test_a_notification_goes_from_a_post_to_the_stream() -> None:
    async with streaming(app, (b"accept", b"text/event-stream"), path=ROOM) as wire:
        status, content, _ = await request("POST", ROOM, b'{"data": "hello"}')
        assert (status, content) == (202, {"reached": 1, "position": None})
        await anyio.wait_all_tasks_blocked()
        assert wire.events == [Dispatched("hello")]


async def test_a_poll_is_answered() -> None:
    assert (await request("GET", POLL))[:2] == (200, {"notifications": [], "position": None})


@pytest.mark.parametrize("method", ["HEAD", "PUT", "DELETE", "OPTIONS"])
async def test_another_method_is_a_405_that_names_both(method: str) -> None:
    status, content, headers = await request(method, ROOM)
    assert (status, headers[b"allow"]) == (405, b"GET, POST")
    assert content == {"error": "this path answers GET, POST only"}


@pytest.mark.parametrize("accept", [NONE, STREAM])
@pytest.mark.parametrize("origin", ["https://evil.example", "http://127.0.0.1:9000", "null"])
async def test_pages_of_other_origins_may_not_watch(
    accept: Mapping[str, str], origin: str, layer: InMemoryChannelLayer
) -> None:
    headers = {**accept, "host": "127.0.0.1:8000", "origin": origin}
    status, content, answered = await request("GET", POLL, headers=headers)
    assert status == 403
    assert origin in content["error"]
    assert not any(name.startswith(b"access-control") for name in answered)
    assert layer.hub.attached == frozenset()


@pytest.mark.parametrize("origin", [None, "http://127.0.0.1:8000", SHOP])
async def test_own_pages_allowed_ones_and_programs_may_watch(origin: str | None) -> None:
    headers = {"host": "127.0.0.1:8000"} | ({"origin": origin} if origin else {})
    assert (await request("GET", POLL, headers=headers))[0] == 200


def test_the_table_of_routes_shows_each_method() -> None:
    rows = [row for row in walk(app) if row.protocol == "http" and "room_name" in row.route]
    assert [(row.name, type(row.app).__name__) for row in rows] == [
        ("GET", "NotificationHttpConsumer"),
        ("POST", "PublishConsumer"),
    ]


async def test_a_validator_may_guard_more_than_others_do() -> None:
    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 204})
        await send({"type": "http.response.body"})

    class Everything(SameOriginValidator):
        def guards(self, scope: Scope) -> bool:
            return True

    for validator, status in (SameOriginValidator(inner), 204), (Everything(inner), 403):
        headers = [(b"host", b"own.example"), (b"origin", b"https://evil.example")]
        async with HttpCommunicator(validator, "GET", "/", headers=headers) as client:
            assert (await client.get_response())["status"] == status
