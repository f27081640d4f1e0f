"""A connection under an EventRouter, from its first event to its last."""

import threading
from functools import partial
from typing import Any, ClassVar

import anyio
import pytest

from asgi_notify import (
    AcceptConnection,
    DenyConnection,
    InMemoryChannelLayer,
    ProtocolTypeRouter,
    StopConsumer,
    URLRouter,
    path,
    re_path,
)
from asgi_notify.events import (
    AsyncMessage,
    EventConsumer,
    EventRouter,
    SyncMessage,
    include,
    route,
    route_class,
)
from asgi_notify.exceptions import RouteError
from asgi_notify.testing import ApplicationCommunicator, HttpCommunicator, WebsocketCommunicator
from asgi_notify.types import Message
from tests.consumers.harness import ACCEPT, CONNECT, Wire, assert_nothing_left, left, text
from tests.events.harness import talk

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("layer")]


async def nothing(message: AsyncMessage) -> None:
    """Neither accept nor close."""


async def echo(message: AsyncMessage, **captured: str) -> None:
    await message.reply_json({"text": message["text"], **captured})


class Seen:
    """Notes the types of the messages that come to it."""

    def __init__(self) -> None:
        self.types: list[str] = []

    async def __call__(self, message: AsyncMessage) -> None:
        self.types.append(message["type"])


def lines(caplog: pytest.LogCaptureFixture, part: str) -> list[str]:
    return [record.getMessage() for record in caplog.records if part in record.getMessage()]


# The accept.


async def test_a_websocket_is_accepted_when_its_consumer_has_not_answered() -> None:
    wire = await talk(EventRouter([route("websocket.connect", nothing)]))
    assert wire.sent == [ACCEPT]


async def test_a_websocket_is_accepted_once_when_its_consumer_accepts() -> None:
    async def accept(message: AsyncMessage) -> None:
        await message.accept()
        await message.reply_text("welcome")

    wire = await talk(EventRouter([route("websocket.connect", accept)]))
    assert wire.sent == [ACCEPT, {"type": "websocket.send", "text": "welcome"}]


@pytest.mark.parametrize(
    ("error", "accepted"),
    [(AcceptConnection, True), (DenyConnection, False), (StopConsumer, False)],
)
async def test_a_consumer_of_connect_decides_by_raising(
    error: type[Exception], accepted: bool
) -> None:
    async def decide(message: AsyncMessage) -> None:
        raise error

    client = WebsocketCommunicator(EventRouter([route("websocket.connect", decide)]), "/")
    async with client:
        is_open, code = await client.connect()
        assert (is_open, code) == ((True, None) if accepted else (False, 4403))


async def test_a_consumer_of_connect_refuses_by_closing() -> None:
    async def refuse(message: AsyncMessage) -> None:
        await message.close(4001, "no")

    wire = await talk(EventRouter([route("websocket.connect", refuse)]))
    assert wire.sent == [{"type": "websocket.close", "code": 4001, "reason": "no"}]


async def test_a_frame_before_the_accept_says_what_to_call(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def hasty(message: AsyncMessage) -> None:
        await message.reply_text("welcome")

    wire = await talk(EventRouter([route("websocket.connect", hasty)]))
    assert [event["code"] for event in wire.sent] == [1011]
    assert "call accept() first" in caplog.text


# What no route matches.


async def test_a_connection_that_no_route_takes_is_refused_and_none_of_it_is_routed(
    caplog: pytest.LogCaptureFixture, layer: InMemoryChannelLayer
) -> None:
    caplog.set_level("INFO")
    seen = Seen()
    router = EventRouter(
        [
            route("websocket.connect", nothing, path="^/chat/$"),
            route("websocket.disconnect", seen),
        ]
    )
    client = WebsocketCommunicator(router, "/talk/", denial_response=True)
    assert await client.connect() == (False, 404)
    assert client.denial is not None
    assert b"no route takes websocket.connect at '/talk/'" in client.denial.body
    await client.wait()
    assert len(lines(caplog, "no route takes websocket.connect")) == 1
    assert not [record for record in caplog.records if record.exc_info]
    assert seen.types == []
    assert_nothing_left(layer)


async def test_a_request_that_no_route_takes_is_answered_404() -> None:
    router = EventRouter([route("http.request", nothing, method="^POST$")])
    response = await HttpCommunicator(router, "GET", "/x").get_response()
    assert response["status"] == 404


async def test_other_messages_that_no_route_takes_are_logged_once_for_each_type(
    caplog: pytest.LogCaptureFixture, layer: InMemoryChannelLayer
) -> None:
    async def join(message: AsyncMessage) -> None:
        await message.group_add("all")

    router = EventRouter(
        [
            route("websocket.connect", join),
            route("websocket.receive", echo, text="^echo$"),
        ]
    )
    async with WebsocketCommunicator(router, "/") as client:
        await client.connect()
        for _ in range(3):
            await client.send_to("nobody reads this")
            await layer.group_send("all", {"type": "nobody.reads"})
        await client.send_to("echo")
        assert await client.receive_json_from() == {"text": "echo"}
    assert len(lines(caplog, "type 'websocket.receive' was passed over")) == 1
    assert len(lines(caplog, "type 'nobody.reads' was passed over")) == 1
    assert lines(caplog, "disconnect' was passed over") == []


# What a connection can count on.


async def test_every_event_goes_where_its_route_leads_with_its_captures() -> None:
    router = EventRouter(
        [
            route("websocket.connect", nothing, path="^/"),
            include(
                [route("websocket.receive", echo, text="^(?P<verb>\\w+)")], path="^/(?P<room>\\w+)"
            ),
        ]
    )
    async with WebsocketCommunicator(router, "/tea") as client:
        await client.connect()
        await client.send_to("hello you")
        assert await client.receive_json_from() == {
            "text": "hello you", "room": "tea", "verb": "hello",
        }  # fmt: skip


async def test_a_failing_consumer_is_logged_once_and_disconnect_is_routed_once(
    caplog: pytest.LogCaptureFixture, layer: InMemoryChannelLayer
) -> None:
    async def fail(message: AsyncMessage) -> None:
        raise ValueError("on purpose")

    seen = Seen()
    router = EventRouter(
        [
            route("websocket.connect", nothing),
            route("websocket.receive", fail),
            route("websocket.disconnect", seen),
        ]
    )
    wire = await talk(router, text("x"), text("y"))
    assert wire.close == {
        "type": "websocket.close", "code": 1011, "reason": "Internal Server Error",
    }  # fmt: skip
    assert seen.types == ["websocket.disconnect"]
    assert len([record for record in caplog.records if record.exc_info]) == 1
    assert_nothing_left(layer)


async def test_a_consumer_is_cancelled_when_its_client_has_left() -> None:
    seen = Seen()
    started = anyio.Event()

    async def hang(message: AsyncMessage) -> None:
        await message.accept()
        started.set()
        await anyio.sleep_forever()

    router = EventRouter([route("websocket.connect", hang), route("websocket.disconnect", seen)])
    wire = Wire(CONNECT)
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wire.run, router)
            await started.wait()
            wire.tell(left())
    assert seen.types == ["websocket.disconnect"]


async def test_a_key_of_the_layers_message_named_channel_is_no_route(
    layer: InMemoryChannelLayer,
) -> None:
    async def join(message: AsyncMessage) -> None:
        await message.group_add("all")

    async def tell(message: AsyncMessage) -> None:
        await message.reply_text(message["channel"])

    router = EventRouter([route("websocket.connect", join), route("chat.message", tell)])
    async with WebsocketCommunicator(router, "/") as client:
        await client.connect()
        await layer.group_send("all", {"type": "chat.message", "channel": "websocket.connect"})
        assert await client.receive_from() == "websocket.connect"


# Functions, classes and other callables.


async def test_plain_functions_run_in_a_worker_thread_one_at_a_time() -> None:
    threads: list[int] = []
    running: list[str] = []

    def note(message: SyncMessage, room: str) -> None:
        assert running == []
        running.append(room)
        threads.append(threading.get_ident())
        if message["type"] == "websocket.receive":
            message.reply_text(room)
        running.remove(room)

    names = ["websocket.connect", "websocket.receive", "websocket.disconnect"]
    router = EventRouter([route(name, note, path=r"^/(?P<room>\w+)/$") for name in names])
    async with WebsocketCommunicator(router, "/tea/") as client:
        assert await client.connect() == (True, None)
        await client.send_to("x")
        assert await client.receive_from() == "tea"
    assert len(threads) == 3
    assert threading.get_ident() not in threads


@pytest.mark.parametrize("error", [DenyConnection, StopConsumer])
async def test_a_plain_function_decides_by_raising_too(error: type[Exception]) -> None:
    def decide(message: SyncMessage) -> None:
        raise error

    client = WebsocketCommunicator(EventRouter([route("websocket.connect", decide)]), "/")
    assert await client.connect() == (False, 4403)


async def test_a_plain_function_that_returns_a_coroutine_is_an_error_that_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    router = EventRouter([route("websocket.connect", lambda message: nothing(message))])
    wire = await talk(router)
    assert [event["code"] for event in wire.sent] == [1011]
    assert "make it `async def`" in caplog.text


async def test_partials_and_objects_with_an_async_call_are_asynchronous() -> None:
    async def greet(greeting: str, message: AsyncMessage) -> None:
        await message.accept()
        await message.reply_text(greeting)

    seen = Seen()
    router = EventRouter(
        [
            route("websocket.connect", partial(greet, "hello")),
            route("websocket.receive", seen),
            route("websocket.disconnect", partial(seen)),
        ]
    )
    wire = await talk(router, text("x"))
    assert wire.texts == ["hello"]
    assert seen.types == ["websocket.receive", "websocket.disconnect"]


class Counter(EventConsumer):
    method_mapping: ClassVar = {
        "websocket.connect": "connect",
        "websocket.receive": "receive",
        "websocket.disconnect": "disconnect",
    }
    made: ClassVar = 0
    ends: ClassVar[list[str]]

    def __init__(self) -> None:
        type(self).made += 1
        self.mine = 0

    async def connect(self, message: AsyncMessage) -> None:
        message.state["count"] = 10
        await message.accept()

    def receive(self, message: SyncMessage) -> None:
        self.mine += 1
        message.state["count"] += 1
        message.reply_json([self.mine, message.state["count"]])

    async def disconnect(self, message: AsyncMessage) -> None:
        self.ends.append(f"{message['code']} after {message.state['count']}")


async def test_a_class_is_made_anew_for_each_message_and_the_state_stays() -> None:
    class Mine(Counter):
        ends: ClassVar[list[str]] = []

    wire = await talk(EventRouter([route_class(Mine)]), text("x"), text("y"), code=1001)
    assert wire.texts == ["[1, 11]", "[1, 12]"]
    assert Mine.made == 4
    assert Mine.ends == ["1001 after 12"]


async def test_a_class_of_another_kind_is_called_with_the_message() -> None:
    class Plain:
        @classmethod
        def channel_names(cls) -> set[str]:
            return {"websocket.connect"}

        def __init__(self, message: SyncMessage) -> None:
            message.accept("made")

    wire = await talk(EventRouter([route_class(Plain)]))
    assert [event["subprotocol"] for event in wire.sent] == ["made"]


# HTTP.


async def answer(message: AsyncMessage) -> None:
    await message.respond(200, message["body"])


async def request(router: EventRouter, *parts: bytes) -> list[Any]:
    """What an HTTP request with a body in these parts is answered."""
    wire = Wire(kind="http")
    for number, part in enumerate(parts, 1):
        more = number < len(parts)
        wire.tell({"type": "http.request", "body": part, "more_body": more})
    with anyio.fail_after(20):
        await wire.run(router)
    return [event.get("status", event.get("body")) for event in wire.sent]


async def test_a_request_is_routed_once_with_its_whole_body() -> None:
    router = EventRouter([route("http.request", answer, body="^onetwo$")])
    assert await request(router, b"one", b"", b"two") == [200, b"onetwo"]


async def test_a_body_over_the_limit_is_answered_413() -> None:
    router = EventRouter([route("http.request", answer)], max_body_size=5)
    assert await request(router, b"12345") == [200, b"12345"]
    status, _ = await request(router, b"123", b"456", b"789")
    assert status == 413


@pytest.mark.parametrize(
    "events",
    [
        [{"type": "http.request", "body": b"123456"}],
        [{"type": "http.request", "body": b"12", "more_body": True}, {"type": "http.disconnect"}],
    ],
    ids=["too large", "never whole"],
)
async def test_the_end_of_a_request_that_was_not_routed_is_not_routed_either(
    events: list[Any],
) -> None:
    seen = Seen()
    router = EventRouter(
        [route("http.request", seen), route("http.disconnect", seen)], max_body_size=5
    )
    wire = Wire(kind="http")
    for event in events:
        wire.tell(event)
    with anyio.fail_after(20):
        await wire.run(router)
    assert seen.types == []


@pytest.mark.parametrize("error", [None, StopConsumer])
async def test_a_request_that_is_not_answered_is_a_logged_error(
    error: type[Exception] | None, caplog: pytest.LogCaptureFixture
) -> None:
    async def silent(message: AsyncMessage) -> None:
        if error:
            raise error

    status, _ = await request(EventRouter([route("http.request", silent)]), b"")
    assert status == 500
    assert "call message.respond(200)" in caplog.text


async def test_a_response_goes_on_with_messages_of_the_layer_until_the_client_leaves(
    layer: InMemoryChannelLayer,
) -> None:
    async def begin(message: AsyncMessage) -> None:
        await message.group_add("news")
        await message.reply({"type": "http.response.start", "status": 200, "headers": []})

    async def go_on(message: AsyncMessage) -> None:
        body = message["line"].encode()
        await message.reply({"type": "http.response.body", "body": body, "more_body": True})

    seen = Seen()
    router = EventRouter(
        [
            route("http.request", begin),
            route("news.line", go_on),
            route("http.disconnect", seen),
        ]
    )
    scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
    async with ApplicationCommunicator(router, scope) as client:
        await client.send_input({"type": "http.request", "body": b""})
        assert (await client.receive_output())["status"] == 200
        for line in "one", "two":
            await layer.group_send("news", {"type": "news.line", "line": line})
            assert (await client.receive_output())["body"] == line.encode()
        await client.send_input({"type": "http.disconnect"})
        await client.wait()
    assert seen.types == ["http.disconnect"]


async def test_stopping_ends_a_response_that_was_begun() -> None:
    async def begin(message: AsyncMessage) -> None:
        await message.reply({"type": "http.response.start", "status": 200, "headers": []})
        raise StopConsumer

    assert await request(EventRouter([route("http.request", begin)]), b"") == [200]


# Where it stands: under other routers, in a worker, or as the application itself.


async def test_it_is_a_target_of_the_other_routers() -> None:
    chat = EventRouter(
        [route("websocket.connect", nothing), route("websocket.receive", echo, path="(?P<full>.*)")]
    )
    hello = EventRouter([route("http.request", answer, path="^/hello$")])
    application = ProtocolTypeRouter(
        {"websocket": URLRouter([path("chat/<slug:room>/", chat)]), "http": hello}
    )
    async with WebsocketCommunicator(application, "/chat/tea/") as client:
        await client.connect()
        await client.send_to("x")
        assert await client.receive_json_from() == {"text": "x", "full": "/chat/tea/"}
    response = await HttpCommunicator(application, "GET", "/hello").get_response()
    assert response["status"] == 200


async def test_below_a_prefix_the_path_is_whole_and_the_rest_is_a_key_of_its_own() -> None:
    async def tell(message: AsyncMessage, **captured: str) -> None:
        await message.accept()
        await message.reply_json([captured, message.scope["url_route"]["kwargs"]])

    events = EventRouter(
        [
            route(
                "websocket.connect", tell, path="^/live/(?P<full>.*)", path_remaining="(?P<rest>x.)"
            ),
        ]
    )
    application = URLRouter([re_path(r"^(?P<kind>live)/", events)])
    async with WebsocketCommunicator(application, "/live/xy") as client:
        await client.connect()
        assert await client.receive_json_from() == [
            {"full": "xy", "rest": "xy"}, {"kind": "live"},
        ]  # fmt: skip


async def test_the_path_of_a_mounted_application_is_the_scopes_own() -> None:
    router = EventRouter(
        [route("websocket.connect", nothing, path="^/app/chat$", root_path="^/app$")]
    )
    wire = await talk(router, path="/app/chat", root_path="/app")
    assert wire.sent == [ACCEPT]


async def test_in_a_worker_the_name_of_the_channel_is_routed_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    done: list[tuple[Any, str]] = []

    def thumbnail(message: Message, size: str) -> None:
        done.append((message["channel"], size))

    async def later(message: AsyncMessage) -> None:
        done.append((message.channel, message["type"]))

    router = EventRouter(
        [
            route("thumbnails", thumbnail, size=r"^(?P<size>\d+)$"),
            route("channel.disconnect", later),
        ]
    )
    assert router.channel_names() == {"thumbnails", "channel.disconnect"}
    scope = {"type": "channel", "channel": "thumbnails"}
    async with ApplicationCommunicator(router, scope) as worker:
        await worker.send_input({"type": "image.added", "size": 200})
        await worker.send_input({"type": "image.added", "size": "large"})
        await worker.send_input({"type": "channel.disconnect"})
        await worker.wait()
    assert done == [("thumbnails", "200"), ("channel.disconnect", "channel.disconnect")]
    assert len(lines(caplog, "type 'image.added' was passed over")) == 1


async def test_it_answers_lifespan_and_opens_the_layers(layer: InMemoryChannelLayer) -> None:
    router = EventRouter([route("websocket.connect", nothing)])
    async with ApplicationCommunicator(router, {"type": "lifespan"}) as server:
        await server.send_input({"type": "lifespan.startup"})
        assert await server.receive_output() == {"type": "lifespan.startup.complete"}
        async with WebsocketCommunicator(router, "/") as client:
            await client.connect()
            await server.send_input({"type": "lifespan.shutdown"})
            assert (await client.receive_output())["code"] == 1012
        assert await server.receive_output() == {"type": "lifespan.shutdown.complete"}


async def test_it_uses_the_layer_that_it_is_given() -> None:
    own = InMemoryChannelLayer()

    async def join(message: AsyncMessage) -> None:
        await message.group_add("all")

    router = EventRouter([route("websocket.connect", join)], channel_layer=own)
    async with WebsocketCommunicator(router, "/") as client:
        await client.connect()
        assert len(list(own.hub.members("all"))) == 1


async def test_connections_of_a_router_do_not_share_their_state() -> None:
    async def count(message: AsyncMessage) -> None:
        message.state["n"] = message.state.get("n", 0) + 1
        await message.accept(str(message.state["n"]))

    router = EventRouter([route("websocket.connect", count)])
    for _ in range(2):
        async with WebsocketCommunicator(router, "/") as client:
            assert await client.connect() == (True, "1")


def test_a_router_of_what_is_no_route_is_refused() -> None:
    with pytest.raises(RouteError, match="EventRouter: 7 is no event route"):
        EventRouter([7])  # type: ignore[list-item]
