"""A consumer class is an application: whose state, which layer, which handler."""

import logging
from typing import Any

import pytest

from asgi_notify import (
    AsyncConsumer,
    AsyncWebsocketConsumer,
    ConfigurationError,
    InMemoryChannelLayer,
    InvalidChannelLayerError,
    Message,
    ProtocolTypeRouter,
    PublishConsumer,
    StopConsumer,
    SyncConsumer,
    URLRouter,
    channel_layers,
    path,
)
from asgi_notify.testing import ApplicationCommunicator, HttpCommunicator, WebsocketCommunicator
from asgi_notify.types import Event, Scope
from tests.consumers.harness import Wire, assert_nothing_left, connected, left, text

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("layer")]


class Greeter(AsyncWebsocketConsumer):
    """Answers each frame with a greeting of its own."""

    def __init__(self, greeting: str = "hello") -> None:
        super().__init__()
        self.greeting = greeting
        self.seen: set[str] = set()

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        self.seen.add(text_data or "")
        await self.send(f"{self.greeting} {' '.join(sorted(self.seen))}")


async def answer(app: Any, question: str = "a") -> str | bytes:
    async with connected(app) as client:
        await client.send_to(question)
        return await client.receive_from()


# A class, an instance and as_asgi() are applications.


async def test_a_class_an_instance_and_as_asgi_all_serve() -> None:
    assert await answer(Greeter) == "hello a"
    assert await answer(Greeter("hi")) == "hi a"
    assert await answer(Greeter.as_asgi()) == "hello a"
    assert await answer(Greeter.as_asgi(greeting="hi")) == "hi a"


@pytest.mark.parametrize("app", [Greeter, Greeter("hello"), Greeter.as_asgi()])
async def test_a_route_may_lead_to_any_of_them(app: Any) -> None:
    assert await answer(ProtocolTypeRouter({"websocket": URLRouter(path("", app))})) == "hello a"


async def test_two_connections_of_one_instance_share_no_state() -> None:
    prototype = Greeter()
    async with connected(prototype) as one, connected(prototype) as other:
        await one.send_to("one")
        assert await one.receive_from() == "hello one"
        await other.send_to("other")
        assert await other.receive_from() == "hello other"
    assert prototype.seen == set()


async def test_what_is_set_on_an_instance_afterwards_holds_for_its_connections() -> None:
    class Tagged(Greeter):
        tag = "none"

        async def connect(self) -> None:
            await self.accept()
            await self.send(self.tag)

    prototype = Tagged()
    prototype.tag = "blue"
    for app, tag in (prototype, "blue"), (Tagged(), "none"):
        async with connected(app) as client:
            assert await client.receive_from() == tag


async def test_what_is_set_afterwards_holds_also_where_init_has_set_it() -> None:
    class Tagged(Greeter):
        def __init__(self, greeting: str = "hello") -> None:
            super().__init__(greeting)
            self.lock = object()

        async def connect(self) -> None:
            locks.append(self.lock)
            await self.accept()

    locks: list[object] = []
    prototype = Tagged("hi")
    assert await answer(prototype) == "hi a"
    prototype.greeting = "welcome"
    assert await answer(prototype) == await answer(prototype) == "welcome a"
    assert await answer(Tagged("hi")) == "hi a"
    assert len({*locks, prototype.lock}) == 5  # what __init__ makes is each connection's own
    prototype.lock = given = object()
    locks.clear()
    assert await answer(prototype) == "welcome a"
    assert locks == [given]


async def test_a_key_that_a_publisher_is_given_afterwards_is_asked_for() -> None:
    publisher = PublishConsumer()
    publisher.key = "secret"
    app = URLRouter([path("<int:room_name>/", publisher)])
    async with HttpCommunicator(app, "POST", "/7/", b'{"data": 1}') as client:
        client.scope["server"] = ("127.0.0.1", 80)
        assert (await client.get_response())["status"] == 401


async def test_the_arguments_of_a_class_are_checked_when_the_application_is_made() -> None:
    with pytest.raises(TypeError, match="volume"):
        Greeter.as_asgi(volume=11)


async def test_a_consumer_without_an_init_takes_any_arguments_as_channels_do() -> None:
    class Plain(AsyncWebsocketConsumer):
        pass

    async with connected(Plain.as_asgi(anything="goes")):
        pass


# Which layer a consumer has.


class Named(AsyncWebsocketConsumer):
    """Tells which layer it has, by its capacity."""

    async def connect(self) -> None:
        await self.accept()
        await self.send(f"{self.channel_layer.capacity} {self.channel_name}")


async def layer_of(app: Any, **scope: Any) -> int:
    client = WebsocketCommunicator(app, "/")
    client.scope.update(scope)
    async with client:
        await client.connect()
        capacity, channel = str(await client.receive_from()).split()
        assert "!" in channel
        return int(capacity)


async def test_the_default_layer_is_taken(layer: InMemoryChannelLayer) -> None:
    assert await layer_of(Named) == layer.capacity


async def test_the_layer_of_the_scope_goes_before_the_default_one() -> None:
    assert await layer_of(Named, channel_layer=InMemoryChannelLayer(capacity=7)) == 7


async def test_the_given_layer_goes_before_the_one_of_the_scope() -> None:
    app = Named.as_asgi(channel_layer=InMemoryChannelLayer(capacity=5))
    assert await layer_of(app, channel_layer=InMemoryChannelLayer(capacity=7)) == 5


async def test_a_class_may_name_another_layer() -> None:
    class Other(Named):
        channel_layer_alias = "other"

    channel_layers.set("other", InMemoryChannelLayer(capacity=3))
    try:
        assert await layer_of(Other) == 3
    finally:
        channel_layers.set("other", None)


async def test_a_layer_that_was_never_set_is_named_in_the_error() -> None:
    class Other(Named):
        channel_layer_alias = "nowhere"

    with pytest.raises(InvalidChannelLayerError, match=r"channel_layers\.set\('nowhere'"):
        await Wire().run(Other())


async def test_two_apps_in_one_process_hold_different_layers() -> None:
    class Heard(AsyncWebsocketConsumer):
        groups = ("all",)

        async def note(self, message: Message) -> None:
            await self.send(message["text"])

    layers = InMemoryChannelLayer(), InMemoryChannelLayer()
    apps = [Heard.as_asgi(channel_layer=layer) for layer in layers]
    async with connected(apps[0]) as one, connected(apps[1]) as other:
        for layer, name in zip(layers, ("one", "other"), strict=True):
            assert (await layer.group_send("all", {"type": "note", "text": name})).reached == 1
        assert await one.receive_from() == "one"
        assert await other.receive_from() == "other"
        assert await one.receive_nothing(0.01)


# Groups.


async def test_a_class_joins_its_groups_and_leaves_them_at_the_end(
    layer: InMemoryChannelLayer,
) -> None:
    class Member(AsyncWebsocketConsumer):
        groups = ("a", "b")

        async def note(self, message: Message) -> None:
            await self.send(message["text"])

    async with connected(Member) as client:
        for group in "a", "b":
            await layer.group_send(group, {"type": "note", "text": group})
            assert await client.receive_from() == group
    assert_nothing_left(layer, "a", "b")


async def test_a_class_may_say_none_for_no_groups(layer: InMemoryChannelLayer) -> None:
    class Alone(AsyncWebsocketConsumer):
        groups = None  # type: ignore[assignment]  # as classes written for Channels may

    async with connected(Alone):
        assert len(layer.hub.attached) == 1


def test_groups_given_as_a_bare_string_are_refused_where_the_class_is_made() -> None:
    with pytest.raises(ConfigurationError, match=r"write groups = \['room'\]"):

        class Wrong(AsyncWebsocketConsumer):
            groups = "room"


async def test_a_group_that_cannot_be_called_that_refuses_the_connection(
    layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    ends: list[int] = []

    class Wrong(AsyncWebsocketConsumer):
        groups = ("fine", "not a name")

        async def disconnect(self, code: int) -> None:
            ends.append(code)

    async with WebsocketCommunicator(Wrong, "/", denial_response=True) as client:
        assert await client.connect() == (False, 500)
    [record] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "joining the groups failed" in record.getMessage()
    assert ends == []  # what never began has no end
    assert_nothing_left(layer, "fine")


# Which method handles what.


async def test_a_plain_consumer_handles_what_it_has_methods_for() -> None:
    seen: list[Event] = []

    class Only(AsyncConsumer):
        async def websocket_connect(self, event: Event) -> None:
            await self.send({"type": "websocket.accept"})

        async def chat_message(self, event: Event) -> None:
            seen.append(event)
            raise StopConsumer

    async with connected(Only) as client:
        await client.send_to("nobody handles this")
        await client.send_input({"type": "chat.message", "n": 1})
        await client.wait()
    assert seen == [{"type": "chat.message", "n": 1}]


@pytest.mark.parametrize("base", [AsyncConsumer, SyncConsumer])
async def test_a_consumer_without_a_disconnect_handler_ends_quietly(
    base: Any, caplog: pytest.LogCaptureFixture
) -> None:
    wire = Wire(left())
    await wire.run(type("Nothing", (base,), {})())
    assert wire.sent == []
    assert caplog.records == []


@pytest.mark.parametrize(
    "kind",
    ["accept", "as_asgi", "close", "connect", "disconnect", "dispatch", "receive", "send",
     "as.asgi"],
)  # fmt: skip
async def test_a_message_cannot_call_what_is_for_the_consumers_own_use(
    kind: str, layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    class Own(Greeter):
        groups = ("all",)

        async def close(self, *args: Any, **kwargs: Any) -> None:
            raise AssertionError("a message has closed the connection")

        async def disconnect(self, code: int) -> None:
            assert code == 1005

    async with connected(Own) as client:
        await layer.group_send("all", {"type": kind})
        await client.send_to("still here")
        assert await client.receive_from() == "hello still here"
    [record] = caplog.records
    assert f"Own.{kind.replace('.', '_')} is for the consumer's own use" in record.getMessage()


# "mro" and "register" are methods of classes, which no instance has.
@pytest.mark.parametrize("kind", ["chat.unknown", "groups", "scope", "mro", "register"])
async def test_an_unknown_type_is_logged_once_and_passed_over(
    kind: str, layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    class Open(Greeter):
        groups = ("all",)

    async with connected(Open) as client, connected(Open) as other:
        for _ in range(3):
            await layer.group_send("all", {"type": kind})
        for reader in client, other:
            await reader.send_to("still here")
            assert await reader.receive_from() == "hello still here"
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert f"type {kind!r} was passed over" in record.getMessage()


async def test_a_handler_may_be_inherited_or_mixed_in() -> None:
    class Mixin:
        async def websocket_connect(self, event: Event) -> None:
            await self.send({"type": "websocket.accept"})  # type: ignore[attr-defined]

    class Mixed(Mixin, AsyncConsumer):
        pass

    class Inherited(Mixed):
        pass

    async with connected(Inherited):
        pass


async def test_a_plain_function_may_be_a_handler_of_an_async_consumer() -> None:
    seen: list[str] = []

    class Plain(AsyncWebsocketConsumer):
        def websocket_receive(self, message: Event) -> None:  # type: ignore[override]
            seen.append(message["text"])

    async with connected(Plain) as client:
        await client.send_to("a")
    assert seen == ["a"]


async def test_dispatch_may_be_overridden_to_see_all_that_is_handled() -> None:
    seen: list[str] = []

    class Watched(Greeter):
        async def dispatch(self, message: Message) -> None:
            seen.append(message["type"])
            await super().dispatch(message)

    assert await answer(Watched) == "hello a"
    assert seen == ["websocket.connect", "websocket.receive", "websocket.disconnect"]


# Other protocols.


async def test_another_protocol_is_served_until_the_consumer_stops() -> None:
    class Otherworldly(AsyncConsumer):
        async def telegram_message(self, event: Event) -> None:
            await self.send({"type": "telegram.reply", "text": event["text"].upper()})

        async def telegram_end(self, event: Event) -> None:
            raise StopConsumer

    async with ApplicationCommunicator(Otherworldly, {"type": "telegram"}) as client:
        await client.send_input({"type": "telegram.message", "text": "stop"})
        assert (await client.receive_output())["text"] == "STOP"
        await client.send_input({"type": "telegram.end"})
        await client.wait()


async def test_an_error_in_another_protocol_is_raised_to_whoever_runs_it(
    layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    class Worker(AsyncConsumer):
        groups = ("jobs",)

        async def job_run(self, event: Event) -> None:
            raise KeyError("no such job")

    with pytest.raises(KeyError, match="no such job"):
        await Wire({"type": "job.run"}, kind="telegram").run(Worker())
    assert caplog.records == []
    assert_nothing_left(layer, "jobs")


async def test_another_protocol_ends_with_a_disconnect_event_of_its_own() -> None:
    seen: list[str] = []

    class Line(AsyncConsumer):
        async def line_input(self, event: Event) -> None:
            seen.append(event["text"])

        async def line_disconnect(self, event: Event) -> None:
            seen.append("disconnect")

    await Wire({"type": "line.input", "text": "a"}, {"type": "line.disconnect"}, kind="line").run(
        Line()
    )
    assert seen == ["a", "disconnect"]


async def test_the_scope_is_the_one_that_the_application_was_called_with() -> None:
    scopes: list[Scope] = []

    class Kept(AsyncWebsocketConsumer):
        async def connect(self) -> None:
            scopes.append(self.scope)

    wire = Wire({"type": "websocket.connect"}, text("a"), left())
    await wire.run(Kept())
    assert scopes[0] is wire.scope


async def test_groups_given_to_an_instance_as_a_bare_string_are_refused_when_joined(
    layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    class Wrong(AsyncWebsocketConsumer):
        def __init__(self) -> None:
            self.groups = "room"

    async with WebsocketCommunicator(Wrong, "/") as client:
        assert (await client.connect())[0] is False
    [record] = [record for record in caplog.records if record.exc_info]
    assert "write groups = ['room']" in str(record.exc_info and record.exc_info[1])
    assert_nothing_left(layer, "r", "o", "m")
