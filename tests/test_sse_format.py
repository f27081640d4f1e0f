"""How server-sent events are spelled: read as the HTML standard says, they are what was sent."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_notify import sse
from asgi_notify.exceptions import InvalidMessage
from tests.eventstream import Dispatched, EventStream

TEXT = st.text(st.characters(codec="utf-8"))  # no halves of surrogate pairs
TRICKY = st.text(st.sampled_from("\r\n :\ufeff\0\x0b\x0c\x1c\x85\u2028adti"))
LINE = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"))


def normalised(text: str) -> str:
    return re.sub("\r\n|\r", "\n", text)


@given(TEXT | TRICKY)
def test_any_data_comes_back_with_its_line_ends_normalised(data: str) -> None:
    assert EventStream().feed(sse.event(data)) == [Dispatched(normalised(data))]


@given(TEXT | TRICKY, LINE, LINE.filter(lambda id: "\0" not in id), st.integers(0, 10**12))
def test_every_field_comes_back(data: str, event: str, id: str, retry: int) -> None:
    stream = EventStream()
    events = stream.feed(sse.event(data, event=event, id=id, retry=retry))
    assert events == [Dispatched(normalised(data), event or "message", id)]
    assert (stream.last_event_id, stream.retry) == (id, retry)


@given(st.lists(st.tuples(st.booleans(), TEXT | TRICKY), max_size=5))
def test_events_and_comments_do_not_run_into_each_other(parts: list[tuple[bool, str]]) -> None:
    stream = EventStream()
    chunks = [sse.event(text) if is_event else sse.comment(text) for is_event, text in parts]
    events = stream.feed(b"".join(chunks))
    assert [event.data for event in events] == [
        normalised(text) for is_event, text in parts if is_event
    ]
    comments = [normalised(text) for is_event, text in parts if not is_event]
    assert [line for text in comments for line in text.split("\n")] == stream.comments


@pytest.mark.parametrize(
    ("made", "wire"),
    [
        (sse.event("hello"), b"data: hello\n\n"),
        (sse.event("a\r\nb\rc\nd"), b"data: a\ndata: b\ndata: c\ndata: d\n\n"),
        (sse.event("\u2028\x85\x0b"), b"data: \xe2\x80\xa8\xc2\x85\x0b\n\n"),
        (sse.event(" two spaces"), b"data:  two spaces\n\n"),
        (sse.event(""), b"data: \n\n"),
        (sse.event("x", event="tick", id="7", retry=2000),
         b"event: tick\nid: 7\nretry: 2000\ndata: x\n\n"),
        (sse.event(None, retry=0), b"retry: 0\n\n"),
        (sse.event(None, id=""), b"id: \n\n"),
        (sse.comment(), b":\n\n"),
        (sse.comment("still here"), b": still here\n\n"),
        (sse.comment("two\nlines"), b": two\n: lines\n\n"),
    ],
)  # fmt: skip
def test_what_stands_on_the_wire(made: bytes, wire: bytes) -> None:
    assert made == wire


def test_an_empty_text_is_an_event_and_no_text_is_none() -> None:
    stream = EventStream()
    assert stream.feed(sse.event("")) == [Dispatched("")]
    assert stream.feed(sse.event(None, id="7")) == []
    assert stream.feed(sse.event("later")) == [Dispatched("later", id="7")]


@pytest.mark.parametrize("line_break", ["\r", "\n", "\r\n"])
@pytest.mark.parametrize("field", ["event", "id"])
def test_a_line_break_where_one_line_belongs_is_refused(field: str, line_break: str) -> None:
    fields: dict[str, Any] = {field: f"a{line_break}data: forged"}
    with pytest.raises(InvalidMessage, match=f"{field} is one line.* put such text into the data"):
        sse.event("x", **fields)


def test_an_id_with_nul_is_refused_since_browsers_ignore_it() -> None:
    with pytest.raises(InvalidMessage, match="a browser ignores an id with NUL"):
        sse.event("x", id="a\0b")


@pytest.mark.parametrize("retry", [1.5, "2000", True])
def test_a_retry_that_is_no_whole_number_is_refused(retry: Any) -> None:
    with pytest.raises(TypeError, match="retry is a whole number of milliseconds"):
        sse.event("x", retry=retry)


def test_a_negative_retry_is_refused() -> None:
    with pytest.raises(InvalidMessage, match="from 0 on, not -1"):
        sse.event("x", retry=-1)


@pytest.mark.parametrize("data", [b"bytes", {"a": 1}, 7])
def test_what_is_no_text_is_refused_with_the_way_out(data: Any) -> None:
    with pytest.raises(TypeError, match=r"use json\.dumps\(\)"):
        sse.event(data)
    with pytest.raises(TypeError, match="a comment is text"):
        sse.comment(data)


def test_half_of_a_surrogate_pair_is_refused_with_the_way_out() -> None:
    for spell in sse.event, sse.comment:
        with pytest.raises(InvalidMessage, match="send whole characters, or JSON"):
            spell("\ud83d")
