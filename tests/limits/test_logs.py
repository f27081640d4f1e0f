"""Nothing that a client sends appears raw in the log, and no credential appears at all."""

import json
import logging
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from typing import Any

import anyio
import pytest

from asgi_notify import (
    AsyncJsonWebsocketConsumer,
    AsyncWebsocketConsumer,
    ClientError,
    EventRouter,
    InMemoryChannelLayer,
    NotificationConsumer,
    NotificationHttpConsumer,
    ProtocolTypeRouter,
    Settings,
    URLRouter,
    channel_layers,
    path,
    re_path,
    route,
)
from asgi_notify.app import make_application
from asgi_notify.cli.logs import Unsaid
from tests.cli.serving import Serve
from tests.consumers.harness import Wire, left, text
from tests.hostile.probes import GOODBYE
from tests.limits.harness import request, socket
from tests.servers import HOST, Server
from tests.sockets import Socket

pytestmark = pytest.mark.anyio

SECRET = "S3CRET-CREDENTIAL"
RAW = {
    "a line": "1\nERROR the disk is full",
    "a carriage return": "1\rERROR",
    "colours": "\x1b[31mred\x1b[0m",
    "nothing": "\x00\x00",
    "a separator": "1\u2028ERROR\x85ERROR",
    "a direction": "\u202eKO 002",
    "a half": "\ud800",
    "much": "A" * 50_000,
    "a quote": "1'; \"'",
}
MOST = 1000  # characters of one line


@pytest.fixture(autouse=True)
def layer() -> Iterator[InMemoryChannelLayer]:
    layer = InMemoryChannelLayer()
    old = channel_layers.set("default", layer)
    yield layer
    channel_layers.set("default", old)


class Named(NotificationConsumer):
    """Lets everybody watch what the path names."""

    async def authorize(self, group: str) -> bool:
        return True


class Repeats(AsyncWebsocketConsumer):
    """Tells a client what it has said, and that it was wrong."""

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        raise ClientError(f"what is {text_data}?")


async def nothing(message: Any) -> None:
    """Handles an event."""


EVENTS = EventRouter([route("websocket.receive", nothing, path="^/never/$")])

SOCKETS = URLRouter(
    [
        path("named/<str:room_name>/", Named),
        path("json/<path:rest>", AsyncJsonWebsocketConsumer),
        path("repeats/<path:rest>", Repeats),
        re_path("^events/(?s:.*)$", EVENTS),
    ]
)
OWN = ProtocolTypeRouter(
    {
        "websocket": SOCKETS,
        "http": URLRouter([path("named/<str:room_name>/", NotificationHttpConsumer)]),
    }
)
SETTINGS = Settings(
    publish_key=SECRET,
    allowed_origins=("https://example.com",),
    allowed_hosts=("example.com",),
)

SENT: dict[str, Callable[[str], Wire]] = {
    "path": lambda raw: socket(path=f"/notifications/{raw}/"),
    "named path": lambda raw: socket(left(), path=f"/named/{raw}/"),
    "json path": lambda raw: socket(text(raw), left(), path=f"/json/{raw}"),
    "event path": lambda raw: socket(text(raw), left(), path=f"/events/{raw}"),
    "event": lambda raw: socket(text(raw), left(), path="/events/"),
    "error": lambda raw: socket(text(raw), left(), path="/repeats/1"),
    "json": lambda raw: socket(text(json.dumps({"x": raw})[:-1]), left(), path="/json/1"),
    "frame": lambda raw: socket(text(raw), left(), path="/notifications/1/"),
    "type": lambda raw: spoken({"type": raw}),
    "group": lambda raw: spoken({"type": "subscribe", "group": raw, "ref": raw}),
    "since": lambda raw: spoken({"type": "subscribe", "group": "user_1", "since": raw}),
    "token": lambda raw: spoken({"type": "auth", "token": SECRET + raw}),
    "reason": lambda raw: socket({**left(4000), "reason": raw}, path="/notifications/1/"),
    "poll path": lambda raw: request(path=f"/notifications/{raw}/"),
    "named poll": lambda raw: request(path=f"/named/{raw}/"),
    "queried group": lambda raw: request(path="/notifications/", query=f"group={quoted(raw)}"),
    "queried since": lambda raw: request(path="/notifications/1/", query=f"since={quoted(raw)}"),
    "ticket": lambda raw: request(
        path="/notifications/1/", query=f"ticket={SECRET}{quoted(raw)}&timeout=0"
    ),
    "timeout": lambda raw: request(path="/notifications/1/", query=f"timeout={quoted(raw)}"),
    "last event id": lambda raw: headed("last-event-id", raw, accept="text/event-stream"),
    "origin": lambda raw: headed("origin", raw),
    "host": lambda raw: headed("host", raw),
    "cookie": lambda raw: headed("cookie", f"session={SECRET}{raw}"),
    "method": lambda raw: request(path="/notifications/1/", method=raw),
    "key": lambda raw: posted(raw, authorization=f"Bearer {SECRET}{raw}"),
    "scheme": lambda raw: posted(raw, authorization=f"{raw} {SECRET}"),
    "body": lambda raw: posted(raw, authorization=f"Bearer {SECRET}"),
    "idempotency key": lambda raw: posted(
        '{"data": 1}', **{"authorization": f"Bearer {SECRET}", "idempotency-key": raw}
    ),
    "subprotocols": lambda raw: offering(raw, f"asgi-notify.auth.{SECRET}"),
    "client": lambda raw: request(host=raw, path="/nowhere"),
}


def quoted(raw: str) -> str:
    return raw.encode(errors="replace").decode("latin-1").replace("&", "")


def spoken(frame: dict[str, Any]) -> Wire:
    wire = socket(text(json.dumps(frame)), left(), path="/notifications/")
    wire.scope["subprotocols"] = ["asgi-notify.v1"]
    return wire


def offering(*subprotocols: str) -> Wire:
    wire = socket(left(), path="/notifications/1/")
    wire.scope["subprotocols"] = list(subprotocols)
    return wire


def headed(name: str, raw: str, **more: str) -> Wire:
    headers = {**more, name: quoted(raw)}
    wire = request(path="/notifications/1/", query="timeout=0")
    wire.scope["headers"] = [
        (key.encode(), value.encode("latin-1")) for key, value in headers.items()
    ]
    return wire


def posted(body: str, **headers: str) -> Wire:
    event = {"type": "http.request", "body": body.encode(errors="replace"), "more_body": False}
    wire = request(event, path="/notifications/1/", method="POST")
    wire.scope["headers"] = [
        (key.encode(), quoted(value).encode("latin-1")) for key, value in headers.items()
    ]
    return wire


@pytest.mark.parametrize("raw", RAW.values(), ids=RAW)
@pytest.mark.parametrize("sent", SENT.values(), ids=SENT)
async def test_what_a_client_sends_is_legible_in_the_log(
    sent: Callable[[str], Wire], raw: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for app in make_application(SETTINGS), OWN:
        wire = sent(raw)
        async with anyio.create_task_group() as tasks:
            with anyio.move_on_after(0.5):
                await wire.run(app)
            tasks.cancel_scope.cancel()
    for record in caplog.records:
        if not record.name.startswith("asgi_notify"):
            continue
        assert record.exc_info is None, ascii(record.exc_info)
        fields = {key: value for key, value in vars(record).items() if isinstance(value, str)}
        for line in [record.getMessage(), *fields.values()]:
            if line == record.pathname:
                continue
            assert line.isprintable(), ascii(line[:300])
            assert len(line) <= MOST, (len(line), ascii(line[:300]))
            assert SECRET not in line
        assert SECRET not in repr(vars(record))


# What the server says itself.


def lines_of(server: Server) -> list[str]:
    return [line for line in server.output.splitlines() if "/notifications/" in line]


def test_a_served_application_keeps_credentials_out_of_its_log() -> None:
    targets = [
        f"/notifications/1/?ticket={SECRET}&timeout=0",
        f"/notifications/1/?timeout=0&access_token={SECRET}",
        f"/notifications/1/?timeout=0&API-Key={SECRET};x=1",
        f"/notifications/1/?{'x' * 10_000}&timeout=0",
    ]
    with Serve("serve") as server:
        for target in targets:
            connection = HTTPConnection(HOST, server.port, timeout=10)
            sent = {"Authorization": f"Bearer {SECRET}", "Cookie": f"session={SECRET}"}
            connection.request("GET", target, headers=sent)
            connection.getresponse().read()
            connection.close()
        with Socket(server.port, f"/notifications/1/?ticket={SECRET}") as client:
            client.send(GOODBYE)
            client.rest()
        server.stop()
        assert SECRET not in server.output
        lines = lines_of(server)
    assert any("?ticket=***&timeout=0 " in line for line in lines), lines
    assert any("access_token=***" in line for line in lines)
    assert any("API-Key=***;x=1" in line for line in lines)
    assert max(map(len, lines)) < 700


def test_refusals_of_a_served_application_are_not_logged_one_by_one() -> None:
    limits = {"CONNECTS_PER_SECOND": "0.001", "EXEMPT": "none"}
    env = {f"ASGI_NOTIFY_LIMIT_{name}": value for name, value in limits.items()}
    with Serve("serve", env=env) as server:
        for _ in range(200):
            connection = HTTPConnection(HOST, server.port, timeout=10)
            connection.request("GET", "/notifications/1/?timeout=0")
            response = connection.getresponse()
            response.read()
            connection.close()
            assert response.status == 429  # the server's start has used up the only one
            assert 990 < int(response.getheader("retry-after", "")) <= 1000
        server.stop()
        refused = [line for line in server.output.splitlines() if "refused a http" in line]
        assert 1 <= len(refused) <= 2
        assert " 429" not in server.output


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("/x?ticket=abc", "/x?ticket=***"),
        ("/x?a=1&TOKEN=abc&b=2", "/x?a=1&TOKEN=***&b=2"),
        ("/x?a=1;publish_key=abc", "/x?a=1;publish_key=***"),
        ("/ticket=abc?since=1", "/ticket=abc?since=1"),
        ("/x\nERROR", "/x\\nERROR"),
        ("/" + "x" * 1000, "/" + "x" * 247 + "..." + "x" * 248),
    ],
)
def test_the_target_of_a_request_is_shown_without_credentials(before: str, after: str) -> None:
    args = ("203.0.113.7:1", "GET", before, "1.1", 200)
    record = logging.LogRecord("uvicorn.access", 20, "", 0, '%s - "%s %s HTTP/%s" %d', args, None)
    assert Unsaid(is_default=True).filter(record)
    assert record.args == ("203.0.113.7:1", "GET", after, "1.1", 200)


@pytest.mark.parametrize("is_default", [True, False])
def test_only_where_there_are_limits_are_their_refusals_left_out(is_default: bool) -> None:
    args = ("203.0.113.7:1", "GET", "/", "1.1", 429)
    record = logging.LogRecord("uvicorn.access", 20, "", 0, '%s - "%s %s HTTP/%s" %d', args, None)
    assert Unsaid(is_default).filter(record) is not is_default
