"""The frames of the protocol: how they are spelled and read, and what the schema says of them."""

import json
import re
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from asgi_notify.exceptions import (
    ChannelFull,
    DenyConnection,
    Forbidden,
    InvalidMessage,
    InvalidName,
    MethodNotAllowed,
    NoRouteFound,
    Unauthorized,
)
from asgi_notify.positions import MAX_OFFSET, Position
from asgi_notify.protocol import BadFrame, Request, frames, read
from tests.frames import SCHEMA, check, is_valid

POSITION = Position("abcd1234", 7)
DOCUMENT = Path(__file__).parent.parent / "docs/protocol.md"


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(SCHEMA)


# From the server.


@pytest.mark.parametrize(
    ("text", "frame"),
    [
        (
            frames.welcome("specific.1!c1", 25.0, 10),
            {"type": "welcome", "version": 1, "connection": "specific.1!c1",
             "ping_interval": 25.0, "pong_timeout": 10},
        ),
        (
            frames.welcome("x"),
            {"type": "welcome", "version": 1, "connection": "x", "ping_interval": None,
             "pong_timeout": None},
        ),
        (
            frames.subscribed("user_1", POSITION, True, 3, "a"),
            {"type": "subscribed", "group": "user_1", "position": "abcd1234-7",
             "recovered": True, "replayed": 3, "ref": "a"},
        ),
        (
            frames.subscribed("user_1", None, ref=0),
            {"type": "subscribed", "group": "user_1", "position": None, "replayed": 0, "ref": 0},
        ),
        (
            frames.subscribed("user_1", None, False),
            {"type": "subscribed", "group": "user_1", "position": None, "recovered": False,
             "replayed": 0},
        ),
        (frames.unsubscribed("g", 1.5), {"type": "unsubscribed", "group": "g", "ref": 1.5}),
        (frames.unsubscribed("g"), {"type": "unsubscribed", "group": "g"}),
        (
            frames.notification("g", POSITION, {"a": ["é", None]}),
            {"type": "notification", "group": "g", "id": "abcd1234-7", "data": {"a": ["é", None]}},
        ),
        (
            frames.notification(None, None, None),
            {"type": "notification", "group": None, "id": None, "data": None},
        ),
        (
            frames.notification("g", None, 1, "auth0|7"),
            {"type": "notification", "group": "g", "id": None, "data": 1, "user": "auth0|7"},
        ),
        (
            frames.published("g", POSITION, 7),
            {"type": "published", "group": "g", "position": "abcd1234-7", "ref": 7},
        ),
        (frames.published("g", None), {"type": "published", "group": "g", "position": None}),
        (frames.gap("g", "full", 2), {"type": "gap", "group": "g", "reason": "full", "lost": 2}),
        (
            frames.gap("g", "unrecovered", None),
            {"type": "gap", "group": "g", "reason": "unrecovered", "lost": None},
        ),
        (frames.ping(), {"type": "ping"}),
        (frames.pong(), {"type": "pong"}),
        (frames.pong("x"), {"type": "pong", "ref": "x"}),
        (
            frames.error("failed", "try again"),
            {"type": "error", "code": "failed", "message": "try again", "ref": None},
        ),
        (
            frames.error("forbidden", "no", 1, "g"),
            {"type": "error", "code": "forbidden", "message": "no", "ref": 1, "group": "g"},
        ),
        (frames.going_away(1.25), {"type": "going_away", "retry_after": 1.25}),
    ],
)  # fmt: skip
def test_each_frame_is_spelled_as_the_schema_has_it(text: str, frame: dict[str, Any]) -> None:
    assert check(text) == frame
    assert "\n" not in text  # one line of a stream of events


def test_the_answer_to_a_poll_holds_frames() -> None:
    whole = frames.answer([frames.ping(), frames.gap("g", "full", 1)], "abcd1234-7")
    assert [frame["type"] for frame in check(whole, "answer")["frames"]] == ["ping", "gap"]
    assert check(frames.answer([], None), "answer") == {"frames": [], "position": None}


@pytest.mark.parametrize("data", [{1, 2}, object(), float("nan"), {"a": date}, {(1,): 1}])
def test_data_that_no_json_spells_is_refused(data: object) -> None:
    with pytest.raises(InvalidMessage, match="cannot be sent as JSON"):
        frames.notification("g", None, data)


def test_the_codes_of_errors_are_those_of_the_schema() -> None:
    known = SCHEMA["$defs"]["error"]["properties"]["code"]["enum"]
    assert known == list(get_args(frames.ErrorCode))


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (Unauthorized("x"), "unauthorized"),
        (Forbidden("x"), "forbidden"),
        (DenyConnection(), "forbidden"),
        (NoRouteFound("x"), "not_found"),
        (InvalidName("x"), "not_found"),
        (MethodNotAllowed("GET"), "bad_request"),
        (ChannelFull("x"), "failed"),
        (ZeroDivisionError(), "failed"),
    ],
)
def test_what_a_failure_is_called(failure: Exception, code: str) -> None:
    assert frames.error_code(failure) == code


# From the client.


@pytest.mark.parametrize(
    ("text", "request_"),
    [
        ('{"type": "ping"}', Request("ping")),
        ('{"type": "pong", "ref": "a", "more": 1}', Request("pong", ref="a")),
        ('{"type": "subscribe", "group": "user_1"}', Request("subscribe", "user_1")),
        (
            '{"type": "subscribe", "group": "user_1", "since": "abcd1234-7", "ref": 0}',
            Request("subscribe", "user_1", POSITION, 0),
        ),
        (
            '{"type": "subscribe", "group": "g", "since": null, "ref": null, "later": {}}',
            Request("subscribe", "g"),
        ),
        ('{"type": "unsubscribe", "group": "g", "ref": 1.5}', Request("unsubscribe", "g", ref=1.5)),
        (
            '{"type": "publish", "group": "g", "data": null, "key": "k", "ref": 1}',
            Request("publish", "g", ref=1, data=None, key="k"),
        ),
        # Since means nothing here, so it is a key like any unknown one.
        ('{"type": "unsubscribe", "group": "g", "since": 1}', Request("unsubscribe", "g")),
    ],
)
def test_what_a_client_asks_for(text: str, request_: Request) -> None:
    assert read(text) == request_


@pytest.mark.parametrize(
    ("text", "code", "ref", "group"),
    [
        ("", "bad_frame", None, None),
        ("ping", "bad_frame", None, None),
        ("[]", "bad_frame", None, None),
        ('"subscribe"', "bad_frame", None, None),
        ("{}", "bad_frame", None, None),
        ('{"type": 1}', "bad_frame", None, None),
        ('{"type": null, "ref": 1}', "bad_frame", None, None),
        ('{"type": "ping", "ref": NaN}', "bad_frame", None, None),
        ('{"type": "ping"} x', "bad_frame", None, None),
        ("[" * 100_000, "bad_frame", None, None),
        ('{"type": "ping", "n": ' + "1" * 5000 + "}", "bad_frame", None, None),
        ('{"type": "shout", "ref": 3}', "unknown_type", 3, None),
        ('{"type": "publish", "data": 1, "ref": 3}', "bad_request", 3, None),
        ('{"type": "publish", "group": "g", "ref": 3}', "bad_request", 3, "g"),
        ('{"type": "publish", "group": "a b", "data": 1}', "not_found", None, "a b"),
        ('{"type": "publish", "group": "g", "data": 1, "key": 7}', "bad_request", None, "g"),
        ('{"type": "publish", "group": "g", "data": 1, "key": ""}', "bad_request", None, "g"),
        (
            f'{{"type": "publish", "group": "g", "data": 1, "key": "{65 * "k"}"}}',
            "bad_request", None, "g",
        ),
        ('{"type": ""}', "unknown_type", None, None),
        ('{"type": "' + "x" * 5000 + '"}', "unknown_type", None, None),
        ('{"type": "ping", "ref": {}}', "bad_request", None, None),
        ('{"type": "ping", "ref": true}', "bad_request", None, None),
        ('{"type": "ping", "ref": 1e999}', "bad_request", None, None),
        ('{"type": "subscribe", "ref": 1}', "bad_request", 1, None),
        ('{"type": "subscribe", "group": 7}', "bad_request", None, None),
        ('{"type": "subscribe", "group": "g", "since": 7}', "bad_request", None, "g"),
        ('{"type": "subscribe", "group": "g", "since": ""}', "bad_request", None, "g"),
        ('{"type": "subscribe", "group": "g", "since": "abcd1234-07"}', "bad_request", None, "g"),
        (
            f'{{"type": "subscribe", "group": "g", "since": "abcd1234-{MAX_OFFSET + 1}"}}',
            "bad_request", None, "g",
        ),
        ('{"type": "subscribe", "group": "a b", "ref": "r"}', "not_found", "r", "a b"),
        ('{"type": "subscribe", "group": ""}', "not_found", None, ""),
        (
            '{"type": "unsubscribe", "group": "' + "g" * 5000 + '"}',
            "not_found", None, "g" * 100,
        ),
        ('{"type": "subscribe", "group": "\\ud800"}', "not_found", None, "\ud800"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_answered_with_an_error(
    text: str, code: str, ref: object, group: str | None
) -> None:
    with pytest.raises(BadFrame) as refused:
        read(text)
    error = refused.value
    assert (error.code, error.ref, error.group) == (code, ref, group)
    sentence = frames.error(error.code, str(error), error.ref, error.group)
    assert check(sentence)["message"]
    assert len(sentence) < 2000


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
nearly = st.fixed_dictionaries(
    {"type": st.sampled_from(["subscribe", "unsubscribe", "ping", "pong", "x"]) | anything},
    optional={
        "group": st.sampled_from(["user_1", "a b", ""]) | anything,
        "since": st.just("abcd1234-7") | anything,
        "ref": anything,
        "more": anything,
    },
)


@given(st.one_of(anything, nearly).map(json.dumps) | st.text())
def test_any_frame_is_read_or_answered_with_an_error(text: str) -> None:
    try:
        request = read(text)
    except BadFrame as error:
        check(frames.error(error.code, str(error), error.ref, error.group))
    else:
        frame = json.loads(text)
        assert is_valid(frame, "client")  # nothing is taken that the schema does not allow
        check(frames.pong(request.ref))


@given(nearly)
def test_whatever_the_schema_allows_is_read_or_has_no_position_or_no_group(frame: Any) -> None:
    if not is_valid(frame, "client"):
        return
    with suppress(BadFrame):
        read(json.dumps(frame))
        return
    # What no schema can say: it is no position, or has a NaN inside.
    assert "since" in frame or "NaN" in json.dumps(frame) or "Infinity" in json.dumps(frame)


# The specification.


def examples() -> list[tuple[str, str]]:
    """What the document shows as JSON, each under ``json`` and the side that it comes from."""
    text = DOCUMENT.read_text()
    return re.findall(r"^```json (\w+)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def test_each_frame_in_the_specification_is_one_of_the_schema() -> None:
    shown: dict[str, set[str]] = {}
    for side, example in examples():
        for line in example.splitlines():
            shown.setdefault(side, set()).add(check(line, side).get("type", ""))
    for side in "client", "server":
        types = {name["$ref"].rpartition("/")[2] for name in SCHEMA["$defs"][side]["oneOf"]}
        assert shown[side] == types
    assert {"answer", "plain_answer", "plain_gap"} <= shown.keys()


def test_each_frame_of_a_client_in_the_specification_is_understood() -> None:
    for side, example in examples():
        if side == "client":
            for line in example.splitlines():
                read(line)


def test_each_code_of_errors_is_in_the_specification() -> None:
    text = DOCUMENT.read_text()
    assert [code for code in get_args(frames.ErrorCode) if f"| `{code}` |" not in text] == []


def test_a_mistake_is_told_in_a_sentence_that_is_not_as_long_as_the_mistake() -> None:
    with pytest.raises(BadFrame) as unknown:
        read(json.dumps({"type": "x" * 1000}))
    assert str(unknown.value).startswith(f"'{'x' * 50}' is no type of frame")
    with pytest.raises(BadFrame) as unnamed:
        read(json.dumps({"type": "subscribe", "group": "a b" * 1000}))
    sentence = str(unnamed.value)
    assert len(sentence) == 150 + len("...") + 150
    assert unnamed.value.group == ("a b" * 1000)[:100]


@pytest.mark.parametrize("depth", [100, 101])
def test_a_notification_is_at_most_a_hundred_levels_deep(depth: int) -> None:
    data: list[Any] = []
    for _ in range(depth - 1):
        data = [data]
    if depth == 100:
        assert json.loads(frames.notification("g", None, data))["data"] == data
        return
    for refused in data, {"a": data[0]}, [1, "[", {"b": [data[0]]}]:
        with pytest.raises(InvalidMessage, match="more than 100 levels deep"):
            frames.notification("g", None, refused)
