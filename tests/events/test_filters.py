"""What a filter matches, what it captures, and what an include takes off."""

import re
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_notify.codec import FrozenMessage
from asgi_notify.events import Routing, include, route
from asgi_notify.exceptions import RouteError
from asgi_notify.types import Message


def consumer(message: Message) -> None:
    """Stand where a consumer would; matching never calls it."""


def is_match(value: object, regex: object) -> bool:
    return route("x", consumer, key=regex).match({"type": "x", "key": value}) is not None


@pytest.mark.parametrize(
    ("value", "regex", "expected"),
    [
        ("chat", "chat", True),
        ("chat", "cha", True),  # the end is the writer's to ask for
        ("chat", "cha$", False),
        ("chat", "hat", False),  # but it begins where the value begins
        ("chat", "", True),
        ("", "", True),
        ("CHAT", re.compile("chat", re.IGNORECASE), True),
        (b"token=1&x=%C3", "token=1", True),
        (b"token=\xe9", "token=\xe9$", True),
        (8000, "^8[0-9]+$", True),
        (-1.5, r"^-1\.5$", True),
        (Decimal("2.50"), r"^2\.50$", True),
        (True, "^True$", True),
        (None, "", False),
        ([[b"host", b"x"]], "", False),
        ({"a": "b"}, "", False),
        (("127.0.0.1", 80), "", False),
    ],
)
def test_what_a_value_is_to_a_filter(value: object, regex: object, expected: bool) -> None:
    assert is_match(value, regex) is expected


def test_a_key_that_is_not_there_is_no_match() -> None:
    entry = route("x", consumer, key="")
    assert entry.match({"type": "x"}) is None
    assert include([route("x", consumer)], key="").match({"type": "x"}) is None


def test_a_group_that_took_no_part_is_not_captured() -> None:
    entry = route("x", consumer, path="^/(?P<room>[a-z]+)(?:/(?P<page>[0-9]+))?$")
    assert entry.match({"type": "x", "path": "/tea"}) == (consumer, {"room": "tea"})
    both = {"room": "tea", "page": "2"}
    assert entry.match({"type": "x", "path": "/tea/2"}) == (consumer, both)


def test_captures_of_several_filters_come_together() -> None:
    entry = route("x", consumer, path="^/(?P<room>.+)", method="(?P<verb>GET|PUT)")
    found = entry.match({"type": "x", "path": "/tea", "method": "PUT"})
    assert found == (consumer, {"room": "tea", "verb": "PUT"})


def test_any_key_of_a_message_can_be_filtered_also_those_named_as_the_arguments() -> None:
    entry = route("x", consumer, channel="^x$", consumer="^a", **{"content-type": "^text/"})
    message = {"channel": "x", "consumer": "a", "content-type": "text/plain"}
    assert entry.match(message) == (consumer, {})
    assert entry.match({**message, "content-type": "image/png"}) is None
    assert include([entry], routes="^b").match({**message, "routes": "b"}) == (consumer, {})


def test_matching_changes_no_message() -> None:
    message = FrozenMessage({"type": "x", "path": "/a/b", "query_string": b"q=1"})
    entry = include([route("x", consumer, path="^/b$")], path="^/a", query_string="q=")
    assert entry.match(message) == (consumer, {})
    assert message == {"type": "x", "path": "/a/b", "query_string": b"q=1"}


class Recorder:
    """A routing object that shows what it is asked."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []

    def match(self, message: Message) -> None:
        self.seen.append(dict(message))

    def channel_names(self) -> set[str]:
        return set()


def test_what_inner_routes_see_is_what_the_filters_left() -> None:
    recorder = Recorder()
    entry = include([recorder], path="^/a", query_string="q=", port="80", state="")
    message = {"type": "x", "path": "/a/b", "query_string": b"q=1", "port": 8000, "state": "on"}
    assert entry.match(message) is None
    (seen,) = recorder.seen
    assert {key: seen[key] for key in message} == {
        "type": "x",
        "path": "/b",
        "query_string": b"1",
        "port": "00",
        "state": "on",
    }


def test_a_filter_on_the_type_leaves_the_name_of_the_channel_whole() -> None:
    inner = route("chat.message", consumer)
    for entry in include([inner], type=r"^chat\."), include([inner], channel=r"^chat\."):
        assert entry.channel_names() == {"chat.message"}
        message = {"type": "chat.message", "channel": "chat.message"}
        assert entry.match(message) == (consumer, {})
    assert include([inner], type=r"^chat\.").match({"type": "chat.message"}) == (consumer, {})


@pytest.mark.parametrize(
    ("filters", "why"),
    [
        ({"path": "("}, "the filter path='\\(' is no regular expression: missing"),
        ({"path": "(?P[^/]+)"}, 'a group that captures is written "\\(\\?P<name>'),
        ({"path": "(?P<a>x)(?P<a>y)"}, "redefinition of group name 'a'.*rename one of the two"),
        ({"path": "(?P<a>x)", "query_string": "(?P<a>y)"}, "'path' and 'query_string' both cap"),
        ({"path": b"^/chat/"}, "write one as text, such as path="),
        ({"path": re.compile(b"^/chat/")}, "write one as text"),
        ({"port": 8000}, "write one as text, such as port="),
        ({"path": None}, "write one as text"),
        ({"path": "x{99999999999}"}, "is no regular expression"),
    ],
)
def test_a_wrong_filter_is_said_when_the_route_is_built(filters: dict[str, Any], why: str) -> None:
    with pytest.raises(RouteError, match=why):
        route("x", consumer, **filters)
    with pytest.raises(RouteError, match=why):
        include([], **filters)


# What an include does, said once more without regular expressions: prefixes of
# letters, taken off one after the other.

KEYS = ["path", "query"]
texts = st.text("ab/", max_size=4)
prefixes = st.fixed_dictionaries({}, optional=dict.fromkeys(KEYS, texts))


@given(
    message=st.fixed_dictionaries({}, optional=dict.fromkeys(KEYS, st.text("ab/", max_size=10))),
    includes=st.lists(prefixes, max_size=4),
    last=prefixes,
)
def test_nested_includes_take_off_one_prefix_after_the_other(
    message: dict[str, str], includes: list[dict[str, str]], last: dict[str, str]
) -> None:
    entry: Routing = route("x", consumer, **_capture(len(includes), last))
    for depth, filters in reversed(list(enumerate(includes))):
        entry = include([entry], **_capture(depth, filters))
    before = dict(message)
    found = entry.match({"type": "x", **message})
    expected = _model(dict(message), [*includes, last])
    assert found == (None if expected is None else (consumer, expected))
    assert message == before


def _capture(depth: int, filters: dict[str, str]) -> dict[str, str]:
    """Each filter captures twice: as its own, and by a name that all depths share."""
    return {
        key: f"^(?P<{key}>(?P<{key}{depth}>{re.escape(prefix)}))" for key, prefix in filters.items()
    }


def _model(rest: dict[str, str], levels: list[dict[str, str]]) -> dict[str, str] | None:
    kwargs = {}
    for depth, filters in enumerate(levels):
        for key, prefix in filters.items():
            if key not in rest or not rest[key].startswith(prefix):
                return None
            rest[key] = rest[key].removeprefix(prefix)
            kwargs[key] = kwargs[f"{key}{depth}"] = prefix
    return kwargs
