"""What a `WebsocketCommunicator` promises."""

from typing import Any

import anyio
import pytest

from asgi_notify import asgi
from asgi_notify.exceptions import NoRouteFound
from asgi_notify.testing import WebsocketCommunicator
from asgi_notify.types import ASGIApp, Event, Receive, Scope, Send

pytestmark = pytest.mark.anyio


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send(asgi.accept(next(iter(scope["subprotocols"]), None), [(b"x-a", b"1")]))
    while (event := await receive())["type"] != "websocket.disconnect":
        await send({**event, "type": "websocket.send"})


async def refuses(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    for event in asgi.refusal(scope, NoRouteFound("nothing here")):
        await send(event)


def says(*events: Event) -> ASGIApp:
    """An app that sends these events, then waits for the end."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for event in events:
            await send(event)
        while (await receive())["type"] != "websocket.disconnect":
            pass

    return app


def hears(heard: list[Event], *events: Event) -> ASGIApp:
    """An app that sends these events and keeps what it receives."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for event in events:
            await send(event)
        while not heard or heard[-1]["type"] != "websocket.disconnect":
            heard.append(await receive())

    return app


async def test_a_socket_is_opened_used_and_closed() -> None:
    communicator = WebsocketCommunicator(echo, "/", subprotocols=["v2", "v1"])
    assert await communicator.connect() == (True, "v2")
    assert communicator.response_headers == [(b"x-a", b"1")]
    await communicator.send_to(text_data="hello")
    assert await communicator.receive_from() == "hello"
    await communicator.send_to(bytes_data=b"\x00\xff")
    assert await communicator.receive_from() == b"\x00\xff"
    await communicator.send_json_to({"a": [1]})
    assert await communicator.receive_json_from() == {"a": [1]}
    assert await communicator.receive_nothing()
    await communicator.disconnect()
    await communicator.disconnect()


async def test_an_empty_frame_is_a_frame() -> None:
    async with WebsocketCommunicator(echo, "/") as communicator:
        assert await communicator.connect() == (True, None)
        await communicator.send_to("")
        assert await communicator.receive_from() == ""
        await communicator.send_to(bytes_data=b"")
        assert await communicator.receive_from() == b""


async def test_a_frame_may_name_both_kinds_if_one_is_none() -> None:
    app = says(
        asgi.accept(),
        {"type": "websocket.send", "text": None, "bytes": b"a"},
        {"type": "websocket.send", "text": "a", "bytes": None},
    )
    async with WebsocketCommunicator(app, "/") as communicator:
        await communicator.connect()
        assert await communicator.receive_from() == b"a"
        assert await communicator.receive_from() == "a"


@pytest.mark.parametrize(
    ("event", "code"), [(asgi.close(4403), 4403), ({"type": "websocket.close"}, 1000)]
)
async def test_a_refused_socket_tells_its_close_code(event: Event, code: int) -> None:
    communicator = WebsocketCommunicator(says(event), "/")
    assert await communicator.connect() == (False, code)
    assert communicator.response_headers is None
    await communicator.disconnect()


async def test_a_denial_is_offered_only_when_asked_for() -> None:
    communicator = WebsocketCommunicator(refuses, "/")
    assert "extensions" not in communicator.scope
    assert await communicator.connect() == (False, NoRouteFound.close_code)
    assert communicator.denial is None


async def test_a_denial_can_be_read() -> None:
    communicator = WebsocketCommunicator(refuses, "/", denial_response=True)
    assert await communicator.connect() == (False, 404)
    assert communicator.denial is not None
    assert communicator.denial.status == 404
    assert (b"content-type", b"application/json") in communicator.denial.headers
    assert communicator.denial.body == b'{"error": "nothing here"}'
    assert await communicator.connect() == (False, 404)
    await communicator.disconnect()


async def test_a_denial_in_pieces_is_put_together_over_time_outs() -> None:
    go_on = anyio.Event()
    heard: list[Event] = []

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        heard.append(await receive())
        await send({"type": f"{asgi.DENIAL}.start", "status": 503})
        await send({"type": f"{asgi.DENIAL}.body", "body": b"come ", "more_body": True})
        await go_on.wait()
        await send({"type": f"{asgi.DENIAL}.body", "body": b"back"})
        heard.append(await receive())

    communicator = WebsocketCommunicator(slow, "/", denial_response=True)
    with pytest.raises(TimeoutError):
        await communicator.connect(timeout=0.02)
    go_on.set()
    assert await communicator.connect() == (False, 503)
    assert communicator.denial is not None
    assert (communicator.denial.headers, communicator.denial.body) == ([], b"come back")
    await communicator.wait()
    assert heard == [
        {"type": "websocket.connect"},
        {"type": "websocket.disconnect", "code": 1006},
    ]


DENIAL_START: Event = {"type": f"{asgi.DENIAL}.start", "status": 404}


@pytest.mark.parametrize(
    ("events", "offered", "sentence"),
    [
        ([DENIAL_START], False, "denial_response=True allows it"),
        ([asgi.send_text("early")], True, "but the application sent websocket.send$"),
        ([DENIAL_START, asgi.close()], True, "but the application sent websocket.close$"),
        ([DENIAL_START, asgi.accept()], True, "but the application sent websocket.accept$"),
    ],
)
async def test_what_is_no_answer_to_connect_is_said(
    events: list[Event], offered: bool, sentence: str
) -> None:
    app = says(*events)
    async with WebsocketCommunicator(app, "/", denial_response=offered) as communicator:
        with pytest.raises(AssertionError, match=sentence):
            await communicator.connect()


async def test_connect_can_be_asked_again() -> None:
    go_on = anyio.Event()
    heard: list[Event] = []

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        heard.append(await receive())
        await go_on.wait()
        await send(asgi.accept())
        heard.append(await receive())

    communicator = WebsocketCommunicator(slow, "/")
    with pytest.raises(TimeoutError):
        await communicator.connect(timeout=0.02)
    go_on.set()
    assert await communicator.connect() == (True, None)
    await communicator.disconnect(code=4000)
    assert heard == [
        {"type": "websocket.connect"},
        {"type": "websocket.disconnect", "code": 4000},
    ]


@pytest.mark.parametrize("events", [[], [asgi.accept()]])
async def test_after_its_close_the_app_hears_the_disconnect(events: list[Event]) -> None:
    heard: list[Event] = []
    communicator = WebsocketCommunicator(hears(heard, *events, asgi.close(4001)), "/")
    await communicator.connect()
    await communicator.wait()
    await communicator.disconnect()
    assert {"type": "websocket.disconnect", "code": 4001} in heard


async def test_disconnect_works_after_a_time_out() -> None:
    async with WebsocketCommunicator(echo, "/") as communicator:
        await communicator.connect()
        with pytest.raises(TimeoutError):
            await communicator.receive_from(timeout=0.02)
        await communicator.disconnect()


async def test_a_disconnect_that_the_app_ignores_is_said_and_can_be_asked_again() -> None:
    go_on = anyio.Event()
    heard: list[Event] = []

    async def lingers(scope: Scope, receive: Receive, send: Send) -> None:
        heard.append(await receive())
        await go_on.wait()

    communicator = WebsocketCommunicator(lingers, "/")
    with pytest.raises(TimeoutError, match=r"did not end within 0\.02 s: .*is busy"):
        await communicator.disconnect(timeout=0.02)
    go_on.set()
    await communicator.disconnect()
    assert heard == [{"type": "websocket.disconnect", "code": 1000}]


async def test_an_exception_of_the_app_is_raised_by_every_method() -> None:
    async def breaks(scope: Scope, receive: Receive, send: Send) -> None:
        raise LookupError("at once")

    communicator = WebsocketCommunicator(breaks, "/")
    for _ in range(2):
        with pytest.raises(LookupError):
            await communicator.connect()
    for ask in (communicator.send_to("a"), communicator.receive_from(), communicator.disconnect()):
        with pytest.raises(LookupError):
            await ask


async def test_leaving_the_block_closes_the_socket_and_lets_the_app_finish() -> None:
    heard: list[Event] = []
    async with WebsocketCommunicator(hears(heard, asgi.accept()), "/") as communicator:
        await communicator.connect()
    await communicator.wait(timeout=0)
    assert heard[-1] == {"type": "websocket.disconnect", "code": 1005}


@pytest.mark.parametrize("was_told", [False, True])
async def test_leaving_the_block_cancels_an_app_that_does_not_hear_the_disconnect(
    was_told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asgi_notify.testing.application._PATIENCE", 0.02)

    async def deaf(scope: Scope, receive: Receive, send: Send) -> None:
        await send(asgi.accept())
        await anyio.sleep_forever()

    async with WebsocketCommunicator(deaf, "/") as communicator:
        await communicator.connect()
        if was_told:
            with pytest.raises(TimeoutError):
                await communicator.disconnect(timeout=0.02)
    await communicator.wait(timeout=0)


@pytest.mark.parametrize(
    ("event", "sentence"),
    [
        (asgi.close(4001, "enough"), "application sent websocket.close .*4001.*enough"),
        ({"type": "websocket.send"}, "either a str as text or bytes as bytes"),
        ({"type": "websocket.send", "text": b"a"}, "either a str as text or bytes as bytes"),
        ({"type": "websocket.send", "bytes": "a"}, "either a str as text or bytes as bytes"),
        ({"type": "websocket.send", "text": "a", "bytes": b"a"}, "either a str as text"),
    ],
)
async def test_what_is_no_frame_is_said(event: Event, sentence: str) -> None:
    async with WebsocketCommunicator(says(asgi.accept(), event), "/") as communicator:
        await communicator.connect()
        with pytest.raises(AssertionError, match=sentence):
            await communicator.receive_from()


@pytest.mark.parametrize(
    ("event", "sentence"),
    [
        (asgi.send_bytes(b"{}"), "expected a text frame that holds JSON, but it is b'{}'"),
        (asgi.send_text("{"), "expected JSON, but the frame is '{'"),
    ],
)
async def test_what_is_no_json_is_said(event: Event, sentence: str) -> None:
    async with WebsocketCommunicator(says(asgi.accept(), event), "/") as communicator:
        await communicator.connect()
        with pytest.raises(AssertionError, match=sentence):
            await communicator.receive_json_from()


@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        ({}, AssertionError, "give either text_data or bytes_data"),
        ({"text_data": "a", "bytes_data": b"a"}, AssertionError, "and not both"),
        ({"text_data": b"a"}, TypeError, "must be a str, not bytes; bytes go into bytes_data"),
        ({"text_data": {"a": 1}}, TypeError, "anything else through send_json_to"),
        ({"bytes_data": "a"}, TypeError, "must be bytes, not str; a str goes into text_data"),
    ],
)
async def test_what_is_no_frame_is_not_sent(
    arguments: dict[str, Any], error: type[Exception], sentence: str
) -> None:
    communicator = WebsocketCommunicator(echo, "/")
    with pytest.raises(error, match=sentence):
        await communicator.send_to(**arguments)


def test_the_scope_is_one_that_a_server_would_make() -> None:
    headers = [(b"origin", b"http://testserver")]
    communicator = WebsocketCommunicator(
        echo, "/a%20b/?c=d", headers, ["v1"], spec_version="2.4", denial_response=True
    )
    assert communicator.scope == {
        "type": "websocket",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "spec_version": "2.4",
        "http_version": "1.1",
        "scheme": "ws",
        "path": "/a b/",
        "raw_path": b"/a%20b/",
        "query_string": b"c=d",
        "root_path": "",
        "headers": headers,
        "subprotocols": ["v1"],
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 80),
        "extensions": {asgi.DENIAL: {}},
    }


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"path": b"/"}, "the path must be a str, such as '/notifications/1/', not bytes"),
        ({"subprotocols": "v1"}, r"subprotocols must be a list: \['v1'\]"),
        ({"headers": [("a", "b")]}, "headers must be a list of pairs of bytes"),
    ],
)
def test_arguments_of_another_type_are_refused(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(TypeError, match=sentence):
        WebsocketCommunicator(**{"application": echo, "path": "/", **arguments})
