"""Messages that a consumer declares to be only passed on, and how a wrong declaration is told."""

import json
import logging
from collections.abc import Mapping
from functools import partial
from threading import get_ident
from typing import Any, ClassVar

import pytest

from asgi_notify import (
    AsyncJsonWebsocketConsumer,
    AsyncWebsocketConsumer,
    ConfigurationError,
    InMemoryChannelLayer,
    Message,
    WebsocketConsumer,
)
from asgi_notify.consumers.passing import Render
from tests.consumers.harness import connected

pytestmark = pytest.mark.anyio


def as_text(message: Message) -> str:
    return json.dumps({"text": message["text"]})


class Chat(AsyncWebsocketConsumer):
    groups = ("chat",)
    passes_on: ClassVar[Mapping[str, Render]] = {"chat.message": as_text}


class Threaded(WebsocketConsumer):
    groups = ("chat",)
    passes_on: ClassVar = {"chat.message": as_text}


MESSAGE = {"type": "chat.message", "text": "hello"}


@pytest.mark.parametrize("app", [Chat, Threaded])
async def test_what_is_passed_on_reaches_every_client(
    layer: InMemoryChannelLayer, app: type[Any]
) -> None:
    async with connected(app) as ann, connected(app) as bob:
        await layer.group_send("chat", MESSAGE)
        for client in (ann, bob):
            assert json.loads(await client.receive_from()) == {"text": "hello"}


async def test_what_is_sent_to_one_channel_is_passed_on_too(layer: InMemoryChannelLayer) -> None:
    async with connected(Chat) as ann:
        (mailbox,) = layer.hub.attached
        await layer.send(mailbox.channel, MESSAGE)
        assert json.loads(await ann.receive_from()) == {"text": "hello"}


async def test_a_text_is_made_once_for_all_classes_that_name_its_function(
    layer: InMemoryChannelLayer,
) -> None:
    made: list[Message] = []

    def render(message: Message) -> str:
        made.append(message)
        return str(message["text"])

    class One(AsyncWebsocketConsumer):
        groups = ("chat",)
        passes_on: ClassVar = {"chat.message": render}

    class Other(AsyncJsonWebsocketConsumer):
        groups = ("chat",)
        passes_on: ClassVar = {"chat.message": render}

    async with connected(One) as ann, connected(One) as bob, connected(Other) as eve:
        for _ in range(2):
            await layer.group_send("chat", MESSAGE)
            for client in (ann, bob, eve):
                assert await client.receive_from() == "hello"
    assert len(made) == 2


async def test_a_synchronous_consumer_passes_on_without_a_thread(
    layer: InMemoryChannelLayer,
) -> None:
    threads: list[int] = []

    def render(message: Message) -> str:
        threads.append(get_ident())
        return "hello"

    class Passes(WebsocketConsumer):
        groups = ("chat",)
        passes_on: ClassVar = {"chat.message": render}

    async with connected(Passes) as ann:
        await layer.group_send("chat", MESSAGE)
        assert await ann.receive_from() == "hello"
    assert threads == [get_ident()]


@pytest.mark.parametrize("base", [Chat, Threaded])
async def test_a_send_of_ones_own_sees_what_is_passed_on(
    layer: InMemoryChannelLayer, base: Any
) -> None:
    class Counts(base):  # type: ignore[misc]  # one of the two
        def send(self, text_data: Any = None, *args: Any, **kwargs: Any) -> Any:
            return super().send(f"1: {text_data}", *args, **kwargs)

    async with connected(Counts) as ann:
        await layer.group_send("chat", MESSAGE)
        assert await ann.receive_from() == '1: {"text": "hello"}'


@pytest.mark.parametrize("returned", [LookupError("no text"), None, b"bytes"])
@pytest.mark.parametrize("base", [AsyncWebsocketConsumer, WebsocketConsumer])
async def test_a_function_that_makes_no_text_is_a_handler_that_fails(
    layer: InMemoryChannelLayer, base: Any, returned: object, caplog: pytest.LogCaptureFixture
) -> None:
    def render(message: Message) -> Any:
        if isinstance(returned, Exception):
            raise returned
        return returned

    class Fails(base):  # type: ignore[misc]  # one of the two
        groups = ("chat",)
        passes_on: ClassVar = {"chat.message": render}

    async with connected(Fails) as ann:
        sent = await layer.group_send("chat", MESSAGE)
        assert (sent.reached, sent.dropped) == (1, 0)
        assert (await ann.receive_output())["code"] == 1011
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "chat.message failed" in record.getMessage()
    assert record.exc_info is not None
    if returned is None:
        assert "render() returned None for 'chat.message'" in str(record.exc_info[1])


async def test_a_method_overrides_what_a_base_class_passes_on(layer: InMemoryChannelLayer) -> None:
    class Loud(Chat):
        async def chat_message(self, message: Message) -> None:
            await self.send(text_data=message["text"].upper())

    async with connected(Loud) as ann:
        await layer.group_send("chat", MESSAGE)
        assert await ann.receive_from() == "HELLO"


async def test_a_subclass_adds_to_what_its_bases_pass_on(layer: InMemoryChannelLayer) -> None:
    class Named:
        passes_on: ClassVar[Mapping[str, Render]] = {"chat.name": lambda message: "name"}

    class More(Named, Chat):
        passes_on: ClassVar = {"chat.more": lambda message: "more"}

    async with connected(More) as ann:
        for kind in ("chat.message", "chat.name", "chat.more"):
            await layer.group_send("chat", {**MESSAGE, "type": kind})
        assert json.loads(await ann.receive_from()) == {"text": "hello"}
        assert [await ann.receive_from() for _ in range(2)] == ["name", "more"]


def test_a_mixin_passes_on_nothing_that_its_class_handles() -> None:
    class Named:
        passes_on: ClassVar[Mapping[str, Render]] = {"chat.message": as_text}

    class Handles(Named, AsyncWebsocketConsumer):
        async def chat_message(self, message: Message) -> None:
            """Handle it."""

    assert Handles.chat_message.__doc__ == "Handle it."


async def waits(message: Message) -> str:
    return ""


@pytest.mark.parametrize(
    ("declared", "sentence"),
    [
        (["chat.message"], "is a mapping of message types to functions"),
        ({"chat.message": "text"}, "['chat.message'] is a function that makes a message's text"),
        ({"chat.message": waits}, "waits() is async"),
        ({"chat.message": lambda self, message: ""}, "takes one argument, the message"),
        ({"chat.message": lambda: ""}, "takes one argument, the message"),
        ({"": as_text}, "the message has no 'type'"),
        ({4: as_text}, "the message has no 'type'"),
        ({"_private": as_text}, "starts with an underscore"),
        ({"send": as_text}, "send is for the consumer's own use"),
        ({"connect": as_text}, "connect is for the consumer's own use"),
        ({"websocket.receive": as_text}, "is an event of the connection"),
        ({"connection.close": as_text}, "is an event of the connection"),
    ],
)
@pytest.mark.parametrize("base", [AsyncWebsocketConsumer, WebsocketConsumer])
def test_a_wrong_declaration_is_told_when_the_class_is_made(
    base: type[Any], declared: Any, sentence: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        type("Wrong", (base,), {"passes_on": declared})
    assert "Wrong.passes_on" in str(caught.value)
    assert sentence in str(caught.value)


def test_a_type_is_handled_or_passed_on_but_not_both() -> None:
    with pytest.raises(ConfigurationError, match="both a method chat_message and"):

        class Both(AsyncWebsocketConsumer):
            passes_on: ClassVar = {"chat.message": as_text}

            async def chat_message(self, message: Message) -> None: ...


@pytest.mark.parametrize("render", [partial(as_text), str, staticmethod(as_text)])
def test_whatever_makes_a_text_of_a_message_will_do(render: Render) -> None:
    class Fine(AsyncWebsocketConsumer):
        passes_on: ClassVar = {"chat.message": render}

    assert callable(Fine.chat_message)  # type: ignore[attr-defined]  # made at run time
