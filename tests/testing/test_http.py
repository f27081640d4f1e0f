"""What an `HttpCommunicator` promises."""

import json
from typing import Any

import anyio
import pytest

from asgi_notify.testing import HttpCommunicator
from asgi_notify.types import Event, Receive, Scope, Send

pytestmark = pytest.mark.anyio

START: Event = {"type": "http.response.start", "status": 201, "headers": [(b"x-a", b"1")]}


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    request = await receive()
    await send(START)
    await send({"type": "http.response.body", "body": request["body"], "more_body": True})
    await send({"type": "http.response.body", "body": b"!"})


async def test_a_response_has_its_status_headers_and_whole_body() -> None:
    communicator = HttpCommunicator(echo, "POST", "/", body=b"hello")
    response = await communicator.get_response()
    assert response == {"status": 201, "headers": [(b"x-a", b"1")], "body": b"hello!"}
    assert START["type"] == "http.response.start"  # the app's own event is left as it was


async def test_headers_and_body_may_be_left_out() -> None:
    async def short(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 204})
        await send({"type": "http.response.body"})

    response = await HttpCommunicator(short, "GET", "/").get_response()
    assert response == {"status": 204, "headers": [], "body": b""}


async def test_a_response_that_was_complete_is_given_again() -> None:
    communicator = HttpCommunicator(echo, "POST", "/", body=b"hello")
    assert await communicator.get_response() == await communicator.get_response()


async def test_a_response_that_takes_longer_is_waited_for_again() -> None:
    go_on = anyio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        await send({"type": "http.response.body", "body": b"one ", "more_body": True})
        await go_on.wait()
        await send({"type": "http.response.body", "body": b"two"})

    communicator = HttpCommunicator(slow, "GET", "/")
    with pytest.raises(TimeoutError, match=r"was: http\.response\.start, http\.response\.body"):
        await communicator.get_response(timeout=0.02)
    go_on.set()
    assert (await communicator.get_response())["body"] == b"one two"


async def test_the_client_leaves_once_the_response_is_complete() -> None:
    events = []

    async def listens(scope: Scope, receive: Receive, send: Send) -> None:
        events.append(await receive())
        await send(START)
        await send({"type": "http.response.body", "more_body": True})
        await send({"type": "http.response.body"})
        events.append(await receive())

    communicator = HttpCommunicator(listens, "GET", "/")
    await communicator.get_response()
    await communicator.wait()
    assert events == [
        {"type": "http.request", "body": b"", "more_body": False},
        {"type": "http.disconnect"},
    ]


async def test_an_exception_of_the_app_is_raised() -> None:
    async def breaks(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        raise LookupError("half-way")

    with pytest.raises(LookupError, match="half-way"):
        await HttpCommunicator(breaks, "GET", "/").get_response()


@pytest.mark.parametrize(
    ("events", "sentence"),
    [
        ([{"type": "http.response.body"}], "expected http.response.start, but .*response.body"),
        ([START, START], "expected http.response.body, but .*response.start"),
        ([START, {"type": "http.response.body", "body": "text"}], "must be bytes, not 'text'"),
    ],
)
async def test_what_is_no_response_is_said(events: list[Event], sentence: str) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for event in events:
            await send(event)

    with pytest.raises(AssertionError, match=sentence):
        await HttpCommunicator(app, "GET", "/").get_response()


def test_the_scope_is_one_that_a_server_would_make() -> None:
    communicator = HttpCommunicator(
        echo, "post", "/caf%C3%A9/ü;v=1/?q=%20a#top", headers=[(b"X-Name", b"Value")]
    )
    assert communicator.scope == {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/café/ü;v=1/",
        "raw_path": b"/caf%C3%A9/%C3%BC;v=1/",
        "query_string": b"q=%20a",
        "root_path": "",
        "headers": [(b"x-name", b"Value")],
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 80),
    }


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/", ("/", b"")),
        ("//a", ("//a", b"")),
        ("/a?b?c", ("/a", b"b?c")),
        ("http://example.com:8000/a/?b=c", ("/a/", b"b=c")),
        ("a/", ("a/", b"")),
    ],
)
def test_a_path_or_a_whole_url_is_taken(path: str, expected: tuple[str, bytes]) -> None:
    scope = HttpCommunicator(echo, "GET", path).scope
    assert (scope["path"], scope["query_string"]) == expected


async def test_frameworks_take_the_scope() -> None:
    starlette = pytest.importorskip("starlette.requests")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        request = starlette.Request(scope, receive)
        body = json.dumps([str(request.url), request.client.host, await request.json()])
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": body.encode()})

    response = await HttpCommunicator(app, "PUT", "/x/?y=1", body=b"[3]").get_response()
    assert json.loads(response["body"]) == ["http://127.0.0.1/x/?y=1", "127.0.0.1", [3]]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"method": b"GET"}, "the method must be a str, such as 'GET'"),
        ({"path": b"/"}, "the path must be a str, such as '/notifications/1/', not bytes"),
        ({"body": "text"}, r"the body must be bytes, not str: encode it, as in body.encode\(\)"),
        ({"headers": {b"origin": b"x"}}, "headers must be a list of pairs of bytes"),
        ({"headers": [("origin", "x")]}, "headers must be a list of pairs of bytes"),
        ({"headers": [(b"origin",)]}, "headers must be a list of pairs of bytes"),
        ({"headers": 1}, "headers must be a list of pairs of bytes"),
        ({"headers": [1]}, "headers must be a list of pairs of bytes"),
    ],
)
def test_arguments_of_another_type_are_refused(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(TypeError, match=sentence):
        HttpCommunicator(**{"application": echo, "method": "GET", "path": "/", **arguments})
