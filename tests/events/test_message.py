"""What a consumer can do with its message, in an async function and in a plain one."""

from collections.abc import Callable
from typing import Any

import pytest

from asgi_notify import InMemoryChannelLayer
from asgi_notify.events import AsyncMessage, EventRouter, SyncMessage, route
from asgi_notify.testing import HttpCommunicator, WebsocketCommunicator
from asgi_notify.types import Event, Scope
from tests.consumers.harness import ACCEPT, text
from tests.events.harness import talk

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("layer")]

Script = Callable[[Any], object]
"""What a consumer does with its message; the result is awaited in an async one."""

Kind = Callable[[Script], Callable[..., Any]]


def async_def(script: Script) -> Callable[..., Any]:
    async def consumer(message: AsyncMessage) -> None:
        await script(message)  # type: ignore[misc]

    return consumer


def plain_def(script: Script) -> Callable[..., Any]:
    def consumer(message: SyncMessage) -> None:
        script(message)

    return consumer


both = pytest.mark.parametrize("kind", [async_def, plain_def])


async def sent(kind: Kind, script: Script, channel: str = "websocket.receive") -> list[Event]:
    """What an accepted client is sent by this consumer of its frame."""

    async def connect(message: AsyncMessage) -> None:
        await message.accept()

    routes = [route("websocket.connect", connect), route(channel, kind(script))]
    wire = await talk(EventRouter(routes), text("hi"))
    assert wire.sent[0] == ACCEPT
    return wire.sent[1:]


@both
async def test_a_reply_is_an_event_to_the_client(kind: Kind) -> None:
    event = {"type": "websocket.send", "text": "hello"}
    assert await sent(kind, lambda message: message.reply(event)) == [event]


@both
@pytest.mark.parametrize(
    ("script", "event"),
    [
        (lambda m: m.reply_text(m["text"]), {"type": "websocket.send", "text": "hi"}),
        (lambda m: m.reply_bytes(b"hi"), {"type": "websocket.send", "bytes": b"hi"}),
        (lambda m: m.reply_json({"a": 1}), {"type": "websocket.send", "text": '{"a": 1}'}),
        (lambda m: m.close(), {"type": "websocket.close", "code": 1000, "reason": ""}),
        (
            lambda m: m.close(4000, "bye"),
            {"type": "websocket.close", "code": 4000, "reason": "bye"},
        ),
    ],
)
async def test_a_short_form_spells_the_event(kind: Kind, script: Script, event: Event) -> None:
    assert await sent(kind, script) == [event]


@both
async def test_a_reply_that_is_no_event_says_what_is_one(
    kind: Kind, caplog: pytest.LogCaptureFixture
) -> None:
    (close,) = await sent(kind, lambda message: message.reply({"text": "hello"}))
    assert close["code"] == 1011
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert "for text there is reply_text('hello')" in (record.exc_text or "")


@both
async def test_what_is_sent_after_the_end_goes_nowhere(kind: Kind) -> None:
    script: Script = lambda message: message.reply_text("too late")  # noqa: E731
    assert await sent(kind, script, "websocket.disconnect") == []


@both
async def test_accept_takes_a_subprotocol_and_headers(kind: Kind) -> None:
    script: Script = lambda message: message.accept("v2", [(b"x-a", b"b")])  # noqa: E731
    router = EventRouter([route("websocket.connect", kind(script))])
    async with WebsocketCommunicator(router, "/", subprotocols=["v2"]) as client:
        assert await client.connect() == (True, "v2")
        assert client.response_headers == [(b"x-a", b"b")]


@both
async def test_respond_answers_a_request(kind: Kind) -> None:
    script: Script = lambda message: message.respond(  # noqa: E731
        201, "gr\u00fc\u00df", headers=[(b"x-a", b"b")]
    )
    router = EventRouter([route("http.request", kind(script))])
    assert await HttpCommunicator(router, "POST", "/", b"x").get_response() == {
        "status": 201,
        "headers": [
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", b"6"),
            (b"x-a", b"b"),
        ],
        "body": "gr\u00fc\u00df".encode(),
    }


@both
async def test_a_message_has_the_keys_of_the_scope_and_of_the_event(kind: Kind) -> None:
    seen: list[dict[str, Any]] = []

    def script(message: Any) -> object:
        seen.append(dict(message))
        assert message["path"] == message.scope["path"] == "/"
        assert message.get("nothing") is None
        assert "text" in message
        assert len(message) == len(seen[-1])
        assert repr(message) == f"<{type(message).__name__} 'websocket.receive' at '/'>"
        return message.reply_text("seen")

    await sent(kind, script)
    expected: Scope = {"path": "/", "root_path": "", "headers": [], "method": "GET", **text("hi")}
    assert seen == [expected]


@both
async def test_a_message_cannot_be_changed(kind: Kind, caplog: pytest.LogCaptureFixture) -> None:
    def script(message: Any) -> object:
        message["path"] = "/elsewhere"
        return message.reply_text("changed")

    (close,) = await sent(kind, script)
    assert close["code"] == 1011
    assert "does not support item assignment" in caplog.text


class Rooms:
    """A chat in which frames are orders: join, leave, or a word to the room."""

    def routes(self, kind: Kind) -> EventRouter:
        return EventRouter(
            [
                route("websocket.connect", kind(lambda message: message.accept())),
                route("websocket.receive", kind(lambda m: m.group_add("room")), text="^join$"),
                route("websocket.receive", kind(lambda m: m.group_discard("room")), text="^leave$"),
                route("websocket.receive", kind(self.say), text="^say$"),
                route("websocket.receive", kind(lambda m: m.reply_text("done")), text=r"^done\?$"),
                route("room.word", kind(lambda message: message.reply_text(message["word"]))),
            ]
        )

    def __init__(self) -> None:
        self.results: list[Any] = []

    def say(self, message: Any) -> object:
        word = {"type": "room.word", "word": "hello"}
        if isinstance(message, SyncMessage):
            self.results.append(message.group_send("room", word))
            return None
        return self.say_async(message, word)

    async def say_async(self, message: AsyncMessage, word: Event) -> None:
        self.results.append(await message.group_send("room", word))


@both
async def test_groups_are_joined_left_and_sent_to(kind: Kind) -> None:
    rooms = Rooms()
    router = rooms.routes(kind)
    async with WebsocketCommunicator(router, "/") as ann, WebsocketCommunicator(router, "/") as bob:
        for client in ann, bob:
            await client.connect()
        for order, expected in ("join", "hello"), ("leave", None):
            await bob.send_to(order)
            await bob.send_to("done?")
            assert await bob.receive_from() == "done"
            await ann.send_to("say")
            await ann.send_to("done?")
            assert await ann.receive_from() == "done"
            if expected is not None:
                assert await bob.receive_from() == expected
        assert await bob.receive_nothing(0)
    assert [result.reached for result in rooms.results] == [1, 0]


@both
async def test_a_message_knows_its_layer_and_its_address(
    kind: Kind, layer: InMemoryChannelLayer
) -> None:
    def script(message: Any) -> object:
        assert message.channel_layer is layer
        assert message.channel == "websocket.receive"
        return message.reply_text(message.channel_name)

    wire_sent = await sent(kind, script)
    assert wire_sent[0]["text"].startswith("specific")


@both
async def test_the_state_is_that_of_one_connection(kind: Kind) -> None:
    def count(message: Any) -> object:
        message.state["count"] = message.state.get("count", 0) + 1
        return message.reply_text(str(message.state["count"]))

    router = EventRouter(
        [
            route("websocket.connect", kind(lambda message: message.accept())),
            route("websocket.receive", kind(count)),
        ]
    )
    async with WebsocketCommunicator(router, "/") as ann, WebsocketCommunicator(router, "/") as bob:
        for client, expected in (ann, "1"), (ann, "2"), (bob, "1"):
            if expected == "1":
                await client.connect()
            await client.send_to("x")
            assert await client.receive_from() == expected
