"""Channels 1's routing documentation, sentence by sentence, each example line as printed.

The slips that had to be mended: the group of ``connect_blog`` has lost its name,
and the functions are nobody's, so they are made here.
"""

import sys
from textwrap import dedent
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import pytest

from asgi_notify.events import (
    AsyncMessage,
    EventConsumer,
    EventRouter,
    Routing,
    include,
    route,
    route_class,
)
from asgi_notify.exceptions import RouteError
from asgi_notify.testing import ApplicationCommunicator, WebsocketCommunicator
from asgi_notify.types import Message

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("layer")]

THREE = {"route": route, "route_class": route_class, "include": include}


def ws_connect(message: Message) -> None:
    """Stand where ``consumers.ws_connect`` would."""


def comment_response(message: Message) -> None:
    """Stand where the consumer of e-mails would."""


async def connect_blog(message: AsyncMessage, **captured: str) -> None:
    """Say what was captured."""
    await message.accept()
    await message.reply_json(captured)


def line(source: str, **names: object) -> Any:
    """The routing object that a line of the document makes."""
    return eval(source, {**THREE, **names})


def lines(source: str, **names: object) -> dict[str, Any]:
    """What a fragment of the document defines."""
    namespace: dict[str, Any] = {**THREE, **names}
    exec(compile(dedent(source), "the document", "exec"), namespace)
    return namespace


def connect(path: str, **more: object) -> Message:
    return {"type": "websocket.connect", "path": path, **more}


# "Channels goes through all routes until a match is found, and then runs the
# resulting consumer."


async def test_the_first_route_that_matches_is_the_one_that_runs() -> None:
    ran: list[str] = []

    async def never(message: AsyncMessage) -> None:
        ran.append("never")

    async def first(message: AsyncMessage) -> None:
        ran.append("first")

    async def second(message: AsyncMessage) -> None:
        ran.append("second")

    routing = [
        route("websocket.connect", never, path="^/elsewhere/"),
        route("websocket.connect", first),
        route("websocket.connect", second),
    ]
    async with WebsocketCommunicator(EventRouter(routing), "/") as client:
        await client.connect()
    assert ran == ["first"]


# "channel name is the main thing routed on"


def test_the_channel_name_is_routed_on() -> None:
    entry = route("websocket.connect", ws_connect)
    assert entry.match({"type": "websocket.connect"}) == (ws_connect, {})
    assert entry.match({"type": "websocket.receive"}) is None
    assert entry.match({"type": "websocket.connect.later"}) is None
    assert entry.match({"channel": "websocket.connect", "text": "x"}) == (ws_connect, {})
    assert entry.match({"channel": "other", "type": "websocket.connect"}) is None
    assert entry.match({"path": "/"}) is None


# "any object that implements the routing interface will work: a method called
# match ... returning None for no match or a tuple of (consumer, kwargs) if
# matched; a method called channel_names, which returns a set of channel names"


class ByWeekday:
    """A routing object that somebody else has written."""

    def match(self, message: Message) -> tuple[Any, dict[str, Any]] | None:
        return (connect_blog, {"slug": "monday"}) if message["path"] == "/monday/" else None

    def channel_names(self) -> set[str]:
        return {"websocket.connect"}


async def test_any_object_with_match_and_channel_names_is_a_route() -> None:
    assert isinstance(ByWeekday(), Routing)
    application = EventRouter([ByWeekday(), include([ByWeekday()], path="^/on")])
    assert application.channel_names() == {"websocket.connect"}
    for path in "/monday/", "/on/monday/":
        async with WebsocketCommunicator(application, path) as client:
            assert await client.connect() == (True, None)
            assert await client.receive_json_from() == {"slug": "monday"}
    assert await WebsocketCommunicator(application, "/sunday/").connect() == (False, 4404)


def test_what_match_and_channel_names_answer() -> None:
    inner = route("email.receive", comment_response, subject="^(?P<mood>re)")
    for entry in (inner, include([inner])):
        assert entry.match({"type": "email.receive", "subject": "reply"}) == (
            comment_response,
            {"mood": "re"},
        )
        assert entry.match({"type": "email.receive", "subject": "hello"}) is None
        assert entry.channel_names() == {"email.receive"}
    both = include([inner, route("websocket.connect", ws_connect)])
    assert both.channel_names() == {"email.receive", "websocket.connect"}


# "route_class: Takes a class-based consumer, and optional filter keyword
# arguments. Channel names are taken from the consumer's channel_names() method."


class Chat(EventConsumer):
    method_mapping: ClassVar = {"websocket.connect": "connect", "websocket.receive": "receive"}

    async def connect(self, message: AsyncMessage, room: str) -> None:
        message.state["room"] = room

    async def receive(self, message: AsyncMessage, room: str) -> None:
        await message.reply_text(f"{room} = {message.state['room']}: {message['text']}")


async def test_a_class_is_routed_by_its_channel_names_and_its_methods_get_the_captures() -> None:
    entry = route_class(Chat, path=r"^/chat/(?P<room>\w+)/$")
    assert entry.channel_names() == {"websocket.connect", "websocket.receive"}
    assert entry.match(connect("/chat/tea/")) == (Chat, {"room": "tea"})
    assert entry.match(connect("/talk/tea/")) is None
    assert entry.match({"type": "websocket.disconnect", "path": "/chat/tea/"}) is None
    async with WebsocketCommunicator(EventRouter([entry]), "/chat/tea/") as client:
        assert await client.connect() == (True, None)
        await client.send_to("hot")
        assert await client.receive_from() == "tea = tea: hot"


# Filters


def test_a_filter_limits_the_matches() -> None:
    consumers = SimpleNamespace(ws_connect=ws_connect)
    entry = line(
        'route("websocket.connect", consumers.ws_connect, path=r"^/chat/$")', consumers=consumers
    )
    assert entry.match(connect("/chat/")) == (ws_connect, {})
    assert entry.match(connect("/chat/tea/")) is None
    assert entry.match({"type": "websocket.receive", "path": "/chat/"}) is None


# "Channels includes the first slash"


def test_the_first_slash_is_there() -> None:
    with_slash = route("websocket.connect", ws_connect, path="^/chat/$")
    without = route("websocket.connect", ws_connect, path="^chat/$")
    assert with_slash.match(connect("/chat/")) is not None
    assert without.match(connect("/chat/")) is None


# "you need to match every filter to have the consumer called"


EMAIL = """
    route("email.receive", comment_response, to_address=r".*@example.com$", subject="^reply")
"""


@pytest.mark.parametrize(
    ("to_address", "subject", "is_match"),
    [
        ("blog@example.com", "reply to your post", True),
        ("blog@example.com", "a reply", False),
        ("blog@example.org", "reply to your post", False),
        ("blog@example.org", "hello", False),
    ],
)
def test_several_filters_must_all_match(to_address: str, subject: str, is_match: bool) -> None:
    entry = line(EMAIL.strip(), comment_response=comment_response)
    message = {"type": "email.receive", "to_address": to_address, "subject": subject}
    assert entry.match(message) == ((comment_response, {}) if is_match else None)


async def test_an_email_is_routed_by_its_recipient_and_subject() -> None:
    seen: list[tuple[str, str]] = []

    def answer(message: Message) -> None:
        seen.append((message["to_address"], message["subject"]))

    application = EventRouter(line(EMAIL.strip(), comment_response=answer))
    async with ApplicationCommunicator(application, {"type": "email"}) as server:
        for address in "blog@example.org", "blog@example.com":
            for subject in "hello", "reply: yes":
                await server.send_input(
                    {"type": "email.receive", "to_address": address, "subject": subject}
                )
        await server.send_input({"type": "email.disconnect"})
        await server.wait()
    assert seen == [("blog@example.com", "reply: yes")]


# "Filters can capture keyword arguments to be passed to your function"


AS_PRINTED = """route("websocket.connect", connect_blog, path=r'^/liveblog/(?P[^/]+)/stream/$')"""
# Slip mended: the name of the group.
MENDED = AS_PRINTED.replace("(?P[", "(?P<slug>[")


async def test_named_groups_are_passed_as_keyword_arguments() -> None:
    entry = line(MENDED, connect_blog=connect_blog)
    assert entry.match(connect("/liveblog/launch/stream/")) == (connect_blog, {"slug": "launch"})
    assert entry.match(connect("/liveblog/a/b/stream/")) is None
    async with WebsocketCommunicator(EventRouter([entry]), "/liveblog/launch/stream/") as client:
        assert await client.connect() == (True, None)
        assert await client.receive_json_from() == {"slug": "launch"}


def test_the_line_as_printed_is_refused_with_the_way_out() -> None:
    with pytest.raises(RouteError, match=r"no regular expression.*is written.*\(\?P<name>"):
        line(AS_PRINTED, connect_blog=connect_blog)


# "You can also specify filters on an include"


def test_an_include_takes_a_dotted_name_and_filters(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("blog_includes")
    inner = [route("websocket.connect", connect_blog, path=r"^/stream/$")]
    vars(module)["channel_routing"] = inner
    monkeypatch.setitem(sys.modules, "blog_includes", module)
    entry = line("""include("blog_includes", path=r'^/liveblog')""")
    assert entry.match(connect("/liveblog/stream/")) == (connect_blog, {})
    assert entry.match(connect("/stream/")) is None


# "the matched portion of the attribute is removed for matches inside the include"


ARRANGEMENT = """
    inner_routes = [
        route("websocket.connect", connect_blog, path=r'^/stream/'),
    ]

    routing = [
        include(inner_routes, path=r'^/liveblog')
    ]
"""


async def test_an_include_takes_off_what_its_filter_matches() -> None:
    routing = lines(ARRANGEMENT, connect_blog=connect_blog)["routing"]
    application = EventRouter(routing)
    assert application.match(connect("/liveblog/stream/")) == (connect_blog, {})
    assert application.match(connect("/stream/")) is None
    assert application.match(connect("/liveblog/liveblog/stream/")) is None
    async with WebsocketCommunicator(application, "/liveblog/stream/") as client:
        assert await client.connect() == (True, None)


# "named capture groups in the filters on an include ... they'll be passed to the
# consumer just like those on route; ... the values from route will take precedence"


async def test_captures_of_an_include_are_passed_on_and_those_of_the_route_win() -> None:
    inner = [route("websocket.connect", connect_blog, path=r"^/(?P<slug>\w+)/$")]
    application = EventRouter([include(inner, path=r"^/(?P<language>\w\w)/(?P<slug>\w+)")])
    async with WebsocketCommunicator(application, "/en/outer/inner/") as client:
        assert await client.connect() == (True, None)
        assert await client.receive_json_from() == {"language": "en", "slug": "inner"}
