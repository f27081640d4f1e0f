"""Which pages of other origins may read what is answered, and that nobody else may."""

import json
from typing import Any

import pytest

from asgi_notify import (
    AsyncWebsocketConsumer,
    ConfigurationError,
    CrossOrigin,
    NotificationHttpConsumer,
    PublishConsumer,
    SameOriginValidator,
    URLRouter,
    path,
)
from asgi_notify.asgi import response
from asgi_notify.testing import HttpCommunicator, WebsocketCommunicator
from asgi_notify.types import Receive, Scope, Send
from asgi_notify.web import ByMethod
from tests.consumers.harness import connected

pytestmark = pytest.mark.anyio

PAGE = b"https://shop.example"
OTHER = b"https://evil.example"


class Echo(AsyncWebsocketConsumer):
    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        await self.send(text_data)


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    for event in response(200, b"hello", "text/plain", (b"vary", b"Accept")):
        await send(event)


async def ask(
    app: Any, origin: bytes | None, method: str = "GET", *more: tuple[bytes, bytes], **options: Any
) -> tuple[int, dict[bytes, list[bytes]], bytes]:
    """The status, the headers and the body of an answer."""
    headers = [*([] if origin is None else [(b"origin", origin)]), *more]
    async with HttpCommunicator(app, method, options.get("path", "/"), b"", headers) as client:
        answer = await client.get_response()
    found: dict[bytes, list[bytes]] = {}
    for name, value in answer["headers"]:
        found.setdefault(name, []).append(value)
    return answer["status"], found, answer["body"]


PREFLIGHT = (b"access-control-request-method", b"POST")


async def test_a_page_of_an_allowed_origin_reads_the_answer() -> None:
    status, headers, body = await ask(CrossOrigin(hello, ["https://shop.example"]), PAGE)
    assert (status, body) == (200, b"hello")
    assert headers[b"access-control-allow-origin"] == [PAGE]
    assert headers[b"access-control-allow-credentials"] == [b"true"]
    assert b"retry-after" in headers[b"access-control-expose-headers"][0]
    assert headers[b"vary"] == [b"Accept", b"Origin"]  # a cache keeps an answer for each origin


@pytest.mark.parametrize(
    "origin", [None, OTHER, b"null", b"", b"https://shop.example.evil.example", b"\xff"]
)
@pytest.mark.parametrize("method", ["GET", "OPTIONS"])
async def test_no_other_page_does(origin: bytes | None, method: str) -> None:
    app = CrossOrigin(hello, ["https://shop.example"])
    _, headers, _ = await ask(app, origin, method, PREFLIGHT)
    assert not [name for name in headers if name.startswith(b"access-control")]
    assert b"Origin" in headers[b"vary"]


async def test_two_origins_are_none() -> None:
    app = CrossOrigin(hello, ["https://shop.example"])
    _, headers, _ = await ask(app, PAGE, "GET", (b"origin", OTHER))
    assert b"access-control-allow-origin" not in headers


@pytest.mark.parametrize("origin", [PAGE, OTHER, b"null"])
async def test_a_star_lets_all_pages_read_what_comes_without_cookies(origin: bytes) -> None:
    _, headers, _ = await ask(CrossOrigin(hello, ["*"]), origin)
    assert headers[b"access-control-allow-origin"] == [b"*"]
    assert b"access-control-allow-credentials" not in headers


async def test_a_preflight_is_answered_in_place_of_the_application() -> None:
    async def untouched(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError

    app = CrossOrigin(untouched, ["shop.example"], methods=["PUT"], headers=["x-own"], max_age=60)
    status, headers, body = await ask(app, PAGE, "OPTIONS", PREFLIGHT)
    assert (status, body) == (204, b"")
    assert b"content-length" not in headers
    assert headers[b"access-control-allow-origin"] == [PAGE]
    assert headers[b"access-control-allow-methods"] == [b"PUT"]
    assert headers[b"access-control-allow-headers"] == [b"x-own"]
    assert headers[b"access-control-max-age"] == [b"60"]


async def test_options_that_are_no_preflight_are_the_applications() -> None:
    status, _, body = await ask(CrossOrigin(hello, ["*"]), PAGE, "OPTIONS")
    assert (status, body) == (200, b"hello")


async def test_a_refusal_can_be_read_too() -> None:
    app = CrossOrigin(PublishConsumer.as_asgi(key="k" * 20), ["shop.example"])
    routed = URLRouter([path("<int:room_name>/", app)])
    status, headers, body = await ask(routed, PAGE, "POST", path="/7/")
    assert status == 401
    assert headers[b"access-control-allow-origin"] == [PAGE]
    assert "error" in json.loads(body)


async def test_streams_and_polls_are_read() -> None:
    watch = SameOriginValidator(NotificationHttpConsumer.as_asgi(), ["shop.example"])
    app = CrossOrigin(
        URLRouter([path("<int:room_name>/", ByMethod({"GET": watch}))]), ["shop.example"]
    )
    status, headers, _ = await ask(app, PAGE, "GET", path="/7/?timeout=0")
    assert (status, headers[b"access-control-allow-origin"]) == (200, [PAGE])


async def test_websockets_pass_untouched() -> None:
    async with connected(CrossOrigin(Echo, ["shop.example"])) as client:
        await client.send_to("hello")
        assert await client.receive_from() == "hello"
    async with WebsocketCommunicator(CrossOrigin(Echo, []), "/", [(b"origin", OTHER)]) as client:
        assert (await client.connect())[0]


@pytest.mark.parametrize(
    ("options", "way_out"),
    [
        ({"allowed_origins": "https://shop.example"}, "list"),
        ({"allowed_origins": ["https://shop.example/"]}, "without a path"),
        ({"allowed_origins": [], "methods": "GET"}, "lists"),
        ({"allowed_origins": [], "headers": "x-own"}, "lists"),
        ({"allowed_origins": [], "max_age": -1}, "max_age"),
    ],
)
def test_a_mistake_is_told_when_it_is_made(options: dict[str, Any], way_out: str) -> None:
    with pytest.raises(ConfigurationError, match=way_out):
        CrossOrigin(hello, **options)
