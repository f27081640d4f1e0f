"""What is fed with whatever a client could send, and what must be true of the outcome.

A target takes bytes. It returns where all is well, whatever they are, and raises anything else
than `Refused` where it is not: that is a finding.
"""

import asyncio
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from asgi_notify import InMemoryChannelLayer
from asgi_notify.app import make_application
from asgi_notify.asgi import header, query_value
from asgi_notify.auth import Identity, SignedTokens
from asgi_notify.auth.credentials import shown_in, without
from asgi_notify.exceptions import ClientError
from asgi_notify.hosts import is_loopback, is_proxied, requested_host
from asgi_notify.layers import History
from asgi_notify.middleware import Authentication, CrossOrigin, SameOriginValidator
from asgi_notify.positions import Position
from asgi_notify.protocol import PROTOCOL, BadFrame, frames, read
from asgi_notify.settings import Settings
from asgi_notify.types import ASGIApp, Event, Scope

__all__ = ["TARGETS", "Target"]

Target = Callable[[bytes], None]

KEY = "a key that nobody can guess, of some bytes"
FRAMES = {"welcome", "subscribed", "unsubscribed", "notification", "gap", "ping", "pong",
          "error", "going_away", "authenticated", "published"}  # fmt: skip
ATTEMPTS = 10_000  # turns of the loop after which something never ends


def frame(data: bytes) -> None:
    """A frame of the protocol is understood, or answered with an error frame."""
    try:
        request = read(data.decode(errors="replace"))
    except BadFrame as error:
        answer = frames.error(error.code, str(error), error.ref, error.group)
        assert json.loads(answer)["type"] == "error"
        assert len(answer) < 20 * len(data) + 2000, "the answer is much longer than the question"
        return
    assert request.type.isidentifier()


def position(data: bytes) -> None:
    """A position is read and spelled alike, or refused."""
    text = data.decode(errors="replace")
    try:
        found = Position.parse(text)
    except ClientError:
        return
    assert Position.parse(str(found)) == found
    assert found.offset >= 0


def request_head(data: bytes) -> None:
    """Everything that reads a request's head takes whatever stands there."""
    scope = scope_of(data, "http")
    names = {name.decode("latin-1") for name, _ in scope["headers"]} | {"origin", "host"}
    for name in names:
        header(scope, name.encode("latin-1").lower())
    is_proxied(scope)
    host = requested_host(scope)
    assert host is None or isinstance(is_loopback(host), bool)
    for name in ("since", "group", "timeout", "ticket"):
        try:
            value = query_value(scope, name)
        except ClientError:
            continue
        assert value is None or value
    for app in SameOriginValidator(nowhere), SameOriginValidator(nowhere, ["https://a.example"]):
        assert isinstance(app.allows(scope), bool)
    for kind in "http", "websocket":
        scope = scope_of(data, kind)
        try:
            shown = shown_in(scope, cookie="session", ticket=True)
        except ClientError:
            continue
        assert all(isinstance(one.credential, str) for one in shown)
        left = without(scope)["subprotocols"]
        assert not any(name.startswith("asgi-notify.auth.") for name in left)


def token(data: bytes) -> None:
    """Nothing that was not signed is a token."""
    tokens = SignedTokens(KEY, max_age=60)
    try:
        identity = tokens.verify(data.decode("latin-1"))
    except ClientError:
        return
    raise AssertionError(f"{identity} was let in without a signature")


def signed(data: bytes) -> None:
    """What was signed and then changed anywhere is no token, and what was not changed is one."""
    tokens = SignedTokens(KEY, max_age=60)
    good = tokens.sign("42", role="admin")
    assert tokens.verify(good).id == "42"
    if len(data) < 3:
        return
    place = int.from_bytes(data[:2], "big") % len(good)
    changed = good[:place] + data[2:].decode("latin-1") + good[place + 1 :]
    if changed == good:
        return
    try:
        tokens.verify(changed)
    except ClientError:
        return
    raise AssertionError("a token that was changed is still one")


def http(data: bytes) -> None:
    """The default application answers every request, never as if it had failed itself."""
    with quiet():
        events = run(default_application(), http_scope(data), body_of(data))
    answered(events)


def guarded(data: bytes) -> None:
    """Behind `Authentication`, nobody gets in without a credential."""
    with quiet():
        events = run(guarded_application(), http_scope(data), body_of(data))
    status = answered(events)
    assert status in (400, 401, 403, 404, 405) or b"Access-Control" in data, f"let in: {status}"


def websocket(data: bytes) -> None:
    """Whatever a client says over a WebSocket is answered, refused, or ends the connection."""
    layer = InMemoryChannelLayer(history={"*": History(size=5)}, capacity=10)
    app = make_application(Settings(), layer=layer)
    scope = scope_of(data, "websocket")
    scope["path"] = "/notifications/" if b"lobby" in data else "/notifications/42/"
    incoming: list[Event] = [{"type": "websocket.connect"}, *frames_of(data)]
    incoming.append({"type": "websocket.disconnect", "code": 1005, "reason": ""})
    with quiet():
        events = run(app, scope, incoming)
    accepts = [event for event in events if event["type"] == "websocket.accept"]
    speaks = bool(accepts) and accepts[0].get("subprotocol") == PROTOCOL
    for event in events:
        if event["type"] == "websocket.close":
            assert event.get("code", 1000) != 1011, "it failed"
        elif event["type"] == "websocket.http.response.start":
            assert event["status"] < 500
        elif event["type"] == "websocket.send" and speaks:
            assert json.loads(event["text"])["type"] in FRAMES
    assert layer.statistics()["consumers"] == 0
    assert layer.statistics()["groups"] == 0, "somebody was left in a group"


# How bytes are read as a request: as its head and body would stand on a wire, a text that people
# and programs alike can change. A line for the path and query, lines of headers, an empty line;
# then the body, which for a WebSocket is a frame on each line, binary where it begins with "\1".


def scope_of(data: bytes, kind: str) -> Scope:
    """The scope of a request whose head stands at the beginning of the bytes."""
    head, _, _ = data.partition(b"\n\n")
    first, *lines = head.split(b"\n")
    method, _, target = first.partition(b" ")
    path, _, query = target.partition(b"?")
    pairs = [line.partition(b":") for line in lines]
    headers = [(name.strip().lower(), value.strip()) for name, _, value in pairs if name.strip()]
    offered = [value for name, value in headers if name == b"sec-websocket-protocol"]
    names = b",".join(offered).decode("latin-1").split(",") if offered else []
    return {
        "type": kind,
        "http_version": "1.1",
        "method": method.decode("latin-1").upper()[:20] or "GET",
        "scheme": "http",
        "path": "/" + path.decode("latin-1").lstrip("/"),
        "raw_path": path,
        "root_path": "",
        "query_string": query,
        "headers": headers,
        "subprotocols": [name.strip() for name in names if name.strip()],
        "client": ("192.0.2.1", 50000),
        "server": ("127.0.0.1", 8000),
        "extensions": {"websocket.http.response": {}},
    }


def http_scope(data: bytes) -> Scope:
    """A request whose answer ends: a poll does not wait, and a stream is not asked for."""
    scope = scope_of(data, "http")
    kept = [pair for pair in scope["headers"] if pair[0] != b"accept"]
    query = scope["query_string"] or b"timeout=0"
    return {**scope, "headers": kept, "query_string": query}


def body_of(data: bytes) -> list[Event]:
    """The body, in two parts, and the client's leaving."""
    body = data.partition(b"\n\n")[2]
    half = len(body) // 2
    return [
        {"type": "http.request", "body": body[:half], "more_body": True},
        {"type": "http.request", "body": body[half:], "more_body": False},
        {"type": "http.disconnect"},
    ]


def frames_of(data: bytes) -> Iterator[Event]:
    """A frame for each line behind the head."""
    for line in data.partition(b"\n\n")[2].split(b"\n")[:50]:
        if line.startswith(b"\1"):
            yield {"type": "websocket.receive", "bytes": line[1:]}
        else:
            yield {"type": "websocket.receive", "text": line.decode(errors="replace")}


def answered(events: list[Event]) -> int:
    """The status of an answer, which must be whole, and no failure."""
    starts = [event for event in events if event["type"] == "http.response.start"]
    assert len(starts) == 1, f"{len(starts)} answers"
    status: int = starts[0]["status"]
    assert status < 500, f"it failed: {status}"
    assert events[-1].get("more_body", False) is False, "the answer does not end"
    return status


# What the bytes are fed to.


async def nowhere(scope: Scope, receive: Any, send: Any) -> None:
    """An application that is never called."""
    raise AssertionError


@cache
def default_application() -> ASGIApp:
    layer = InMemoryChannelLayer(history={"user_*": History(size=3)}, history_groups=10)
    settings = Settings(allowed_origins=("https://shop.example",))
    return make_application(settings, layer=layer)


@cache
def guarded_application() -> ASGIApp:
    async def verify(credential: str) -> Identity:
        return SignedTokens(KEY).verify(credential)

    app = make_application(Settings(), layer=InMemoryChannelLayer())
    return CrossOrigin(Authentication(app, verify, cookie="session"), ["https://shop.example"])


@cache
def _runner() -> asyncio.Runner:
    return asyncio.Runner()


def run(app: ASGIApp, scope: Scope, incoming: list[Event]) -> list[Event]:
    """Everything that an application sends to a client that says all this, and then leaves."""
    return _runner().run(_conversation(app, scope, incoming))


async def _conversation(app: ASGIApp, scope: Scope, incoming: list[Event]) -> list[Event]:
    sent: list[Event] = []
    waiting = list(reversed(incoming))
    is_answered = asyncio.Event()

    async def receive() -> Event:
        await asyncio.sleep(0)
        if not waiting:
            await asyncio.Event().wait()  # for good: it has been told that the client left
        if waiting[-1]["type"] == "http.disconnect":
            await is_answered.wait()
        return waiting.pop()

    async def send(event: Event) -> None:
        sent.append(event)
        if event["type"] == "http.response.body" and not event.get("more_body", False):
            is_answered.set()

    task = asyncio.ensure_future(app(scope, receive, send))
    for _ in range(ATTEMPTS):
        if task.done():
            break
        await asyncio.sleep(0)
    else:  # something waits for the clock, which it may, for a moment
        await asyncio.wait_for(task, 30)
    task.result()
    return sent


class _Judge(logging.Handler):
    """Finds what must not stand in a log."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.exc_info:
            self.found.append(f"a traceback: {text}\n{record.exc_info[1]!r}")
        elif not text.isprintable():
            self.found.append(f"raw characters in a log: {text!r}")
        elif len(text) > 2000:
            self.found.append(f"a line of {len(text)} characters in a log")


@contextmanager
def quiet() -> Iterator[None]:
    """Look at what is logged, rather than print it."""
    logger, judge = logging.getLogger("asgi_notify"), _Judge()
    level, propagates = logger.level, logger.propagate
    logger.addHandler(judge)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(judge)
        logger.setLevel(level)
        logger.propagate = propagates
    assert not judge.found, judge.found[0]


TARGETS: dict[str, Target] = {
    target.__name__: target
    for target in (frame, position, request_head, token, signed, http, guarded, websocket)
}
