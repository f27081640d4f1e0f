"""Frames as the client reads them, and the errors that it makes of what a server says."""

import pytest

from asgi_notify import ClientError, ConfigurationError, Forbidden, NoRouteFound, Unauthorized
from asgi_notify.client import ServerUnavailable, WrongServer
from asgi_notify.client.address import websocket_url
from asgi_notify.client.errors import refusal, refused_subscription, sentence_of
from asgi_notify.client.items import is_repeated, read_frame, seconds_of, text_of


@pytest.mark.parametrize("text", ["", "hello", "1", "[]", "{}", '{"type": 1}', "[" * 100_000])
def test_what_is_no_frame_is_none(text: str) -> None:
    assert read_frame(text) is None


def test_a_frame_is_an_object_with_a_type() -> None:
    assert read_frame(b'{"type": "ping", "new": 1}') == {"type": "ping", "new": 1}


@pytest.mark.parametrize("value", [None, "1", True, -1, float("nan"), float("inf"), 10**400])
def test_seconds_that_nobody_can_wait_are_none(value: object) -> None:
    assert seconds_of({"retry_after": value}, "retry_after") is None
    assert seconds_of({"retry_after": 2}, "retry_after") == 2.0
    assert seconds_of({"retry_after": 0}, "retry_after") == 0.0


def test_what_is_no_text_is_an_empty_one() -> None:
    frame = {"message": "no", "code": [[]], "group": 1}
    assert [text_of(frame, key) for key in ("message", "code", "group", "ref")] == [
        "no",
        "",
        "",
        "",
    ]


@pytest.mark.parametrize(
    ("id", "position", "repeated"),
    [
        ("aaaaaaaa-5", "aaaaaaaa-5", True),
        ("aaaaaaaa-4", "aaaaaaaa-5", True),
        ("aaaaaaaa-10", "aaaaaaaa-9", False),  # as numbers, not as text
        ("bbbbbbbb-4", "aaaaaaaa-5", False),
        (None, "aaaaaaaa-5", False),
        ("aaaaaaaa-5", None, False),
        (None, None, False),
        ("whatever", "whatever", True),
        ("whatever", "another", False),
    ],
)
def test_a_repeat_is_told_by_its_position(
    id: str | None, position: str | None, repeated: bool
) -> None:
    assert is_repeated(id, position) is repeated


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (200, WrongServer),
        (302, WrongServer),
        (400, ClientError),
        (401, Unauthorized),
        (403, Forbidden),
        (404, NoRouteFound),
        (408, ServerUnavailable),
        (418, ClientError),
        (425, ServerUnavailable),
        (429, ServerUnavailable),
        (500, ServerUnavailable),
        (503, ServerUnavailable),
    ],
)
def test_a_status_tells_whether_to_come_again(status: int, kind: type[Exception]) -> None:
    error = refusal("ws://host/", status, "as it says")
    assert type(error) is kind
    assert str(error).startswith(f"ws://host/ answered {status}: as it says")


@pytest.mark.parametrize(
    ("status", "way_out"), [(401, "pass token="), (403, "an origin"), (404, "ws://HOST/")]
)
def test_a_refusal_says_the_way_out(status: int, way_out: str) -> None:
    assert way_out in str(refusal("ws://host/", status, "no"))


def test_an_application_that_lets_it_pass_answers_that_a_server_is_away() -> None:
    error = ServerUnavailable("away")
    assert (error.close_code, error.http_status) == (1012, 503)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("unauthorized", Unauthorized),
        ("forbidden", Forbidden),
        ("not_found", NoRouteFound),
        ("bad_request", ClientError),
        ("too_many", ClientError),
        ("", ClientError),
    ],
)
def test_a_subscription_is_refused_by_the_code_of_the_error(
    code: str, kind: type[Exception]
) -> None:
    error = refused_subscription("user_42", code, "not yours")
    assert type(error) is kind
    assert str(error) == "'user_42' cannot be followed: not yours"
    assert "does not say why" in str(refused_subscription("user_42", code, ""))


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}"])
def test_an_answer_without_a_sentence_is_told_by_its_reason(body: bytes) -> None:
    assert sentence_of(body, "Not Found") == "Not Found"
    assert sentence_of(b'{"error": "a room is a number"}', "Not Found") == "a room is a number"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("ws://host/notifications/", "ws://host/notifications/"),
        ("http://host:8000/notifications/", "ws://host:8000/notifications/"),
        ("https://host/a?b=c#d", "wss://host/a?b=c"),
        ("wss://[::1]:1", "wss://[::1]:1/"),
    ],
)
def test_addresses_of_either_scheme_lead_to_a_websocket(url: str, expected: str) -> None:
    assert websocket_url(url) == expected


@pytest.mark.parametrize("url", ["", "host:8000", "ftp://host/", "ws://", "ws://[::1", "ws://h:x/"])
def test_an_address_of_no_server_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="give such as ws://HOST:PORT/notifications/"):
        websocket_url(url)
