"""Under which host names a server answers, for requests and for WebSockets."""

import json
import logging
from typing import Any

import pytest

from asgi_notify import ConfigurationError, HostValidator, WebsocketConsumer
from asgi_notify.asgi import response
from asgi_notify.testing import HttpCommunicator, WebsocketCommunicator
from asgi_notify.types import Receive, Scope, Send

pytestmark = pytest.mark.anyio

LOOPBACK = ("127.0.0.1", 8000)
PUBLIC = ("192.0.2.1", 8000)
SOCKET = ("/run/notify.sock", None)


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await WebsocketConsumer()(scope, receive, send)
        return
    for event in response(200, b"hello"):
        await send(event)


async def get(
    host: bytes | None, *allowed: str, server: object = LOOPBACK
) -> tuple[int, dict[str, Any]]:
    headers = [] if host is None else [(b"host", host)]
    client = HttpCommunicator(HostValidator(hello, allowed), "GET", "/", b"", headers)
    client.scope["server"] = server
    async with client:
        answer = await client.get_response()
    is_json = answer["body"].startswith(b"{")
    return answer["status"], json.loads(answer["body"]) if is_json else {}


OWN = [None, b"localhost:8000", b"127.0.0.1", b"[::1]:80", b"app.localhost", b"LOCALHOST."]
OTHERS = [b"evil.example", b"evil.example:8000", b"localhost.evil.example", b"192.168.1.1",
          b"127.0.0.1.evil.example", b"localhost@evil.example", b"", b"[", b"\xff"]  # fmt: skip


@pytest.mark.parametrize("host", OWN)
@pytest.mark.parametrize("server", [LOOPBACK, PUBLIC, SOCKET, None])
@pytest.mark.parametrize("allowed", [[], ["example.com"]])
async def test_loopback_names_are_always_served(
    host: bytes | None, server: object, allowed: list[str]
) -> None:
    assert (await get(host, *allowed, server=server))[0] == 200


@pytest.mark.parametrize("host", OTHERS)
async def test_other_names_are_not_served_over_the_loopback_interface(host: bytes) -> None:
    status, content = await get(host)
    assert status == 403
    assert "--allowed-host" in content["error"]


async def test_a_header_that_a_page_can_set_makes_no_difference() -> None:
    headers = [(b"host", b"evil.example"), (b"x-forwarded-for", b"203.0.113.7")]
    async with HttpCommunicator(HostValidator(hello), "GET", "/", b"", headers) as client:
        assert (await client.get_response())["status"] == 403


@pytest.mark.parametrize("server", [PUBLIC, SOCKET, None])
async def test_without_a_list_any_name_is_served_elsewhere(server: object) -> None:
    assert (await get(b"example.com", server=server))[0] == 200


@pytest.mark.parametrize("server", [LOOPBACK, PUBLIC, SOCKET])
@pytest.mark.parametrize(
    ("pattern", "host", "is_served"),
    [
        ("example.com", "example.com", True),
        ("example.com", "EXAMPLE.com.:8000", True),
        ("Example.COM.", "example.com", True),
        ("example.com", "www.example.com", False),
        ("example.com", "evilexample.com", False),
        ("example.com", "example.com.evil.example", False),
        (".example.com", "www.example.com", True),
        (".example.com", "example.com", True),
        (".example.com", "evilexample.com", False),
        ("*", "anything.example", True),
        ("192.0.2.1", "192.0.2.1:8000", True),
        ("[2001:db8::1]", "[2001:DB8::1]:8000", True),
        ("192.0.2.1", "192.0.2.2", False),
    ],
)
async def test_with_a_list_only_its_names_are_served(
    pattern: str, host: str, is_served: bool, server: object
) -> None:
    status, _ = await get(host.encode(), "other.example", pattern, server=server)
    assert status == (200 if is_served else 403)


@pytest.mark.parametrize(
    "pattern",
    ["", "https://example.com", "example.com:8000", "example.com/", "a b", "*.example.com",
     "b\u00fccher.example", "..example.com", 7],
)  # fmt: skip
def test_a_name_that_can_never_match_is_refused(pattern: Any) -> None:
    with pytest.raises(ConfigurationError, match="can match no host"):
        HostValidator(hello, [pattern])


@pytest.mark.parametrize("names", ["example.com", b"x", None])
def test_names_come_in_a_list(names: Any) -> None:
    with pytest.raises(ConfigurationError, match="must be a list"):
        HostValidator(hello, names)


async def test_a_websocket_is_asked_too_and_the_log_has_one_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = HostValidator(hello)
    with caplog.at_level(logging.INFO):
        async with WebsocketCommunicator(
            app, "/x/", [(b"host", b"evil.example")], denial_response=True
        ) as client:
            assert await client.connect() == (False, 403)
    [record] = caplog.records
    assert record.getMessage().startswith("refused a websocket at '/x/': no host 'evil.example'")
    async with WebsocketCommunicator(app, "/x/", [(b"host", b"localhost")]) as client:
        assert await client.connect() == (True, None)


async def test_a_lifespan_has_no_host_and_passes() -> None:
    called: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        called.append(scope["type"])

    async def nothing(*_: Any) -> Any:
        raise AssertionError

    await HostValidator(app)({"type": "lifespan"}, nothing, nothing)
    assert called == ["lifespan"]
