"""How ASGI events are spelled, and what the other side of a refused connection gets."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_notify import asgi
from asgi_notify.exceptions import (
    ClientError,
    DenyConnection,
    Forbidden,
    LayerClosed,
    MethodNotAllowed,
    NoRouteFound,
    NotifyError,
    TooLarge,
    Unauthorized,
)
from asgi_notify.types import Event, Headers, Scope

HTTP: Scope = {"type": "http"}
SOCKET: Scope = {"type": "websocket"}
DENIABLE: Scope = {"type": "websocket", "extensions": {asgi.DENIAL: {}}}


def headers_of(events: list[Event]) -> dict[bytes, bytes]:
    headers: Headers = events[0]["headers"]
    return dict(headers)


# Headers.


def test_the_first_header_of_a_name_counts() -> None:
    scope: Scope = {"headers": [(b"host", b"a"), (b"host", b"b"), (b"x", b"y")]}
    assert asgi.header(scope, b"host") == "a"
    assert asgi.header(scope, b"x") == "y"
    assert asgi.header(scope, b"origin") is None
    assert asgi.header({}, b"host") is None


def test_a_server_that_leaves_names_in_capitals_is_understood() -> None:
    assert asgi.header({"headers": [(b"Host", b"a")]}, b"host") == "a"


@given(st.binary())
def test_no_value_of_a_header_fails_to_be_read(value: bytes) -> None:
    read = asgi.header({"headers": [[b"cookie", value]]}, b"cookie")
    assert read is not None
    assert read.encode("latin-1") == value


# WebSocket events.


def test_an_accept_says_its_subprotocol_and_headers() -> None:
    assert asgi.accept() == {"type": "websocket.accept", "subprotocol": None, "headers": []}
    assert asgi.accept("v1", iter([(b"a", b"b")])) == {
        "type": "websocket.accept",
        "subprotocol": "v1",
        "headers": [(b"a", b"b")],
    }


def test_a_frame_holds_text_or_bytes() -> None:
    assert asgi.send_text("a") == {"type": "websocket.send", "text": "a"}
    assert asgi.send_bytes(b"a") == {"type": "websocket.send", "bytes": b"a"}


def test_a_close_says_a_code_and_a_reason() -> None:
    assert asgi.close() == {"type": "websocket.close", "code": 1000, "reason": ""}
    assert asgi.close(4404, "gone") == {"type": "websocket.close", "code": 4404, "reason": "gone"}
    assert asgi.close(1000, None)["reason"] == ""


@given(st.text(alphabet=st.characters(), max_size=200))
def test_a_reason_always_fits_into_a_close_frame(reason: str) -> None:
    sent = asgi.close(1000, reason)["reason"]
    assert len(sent.encode()) <= 123
    if len(reason.encode(errors="replace")) <= 123:
        assert sent == reason.encode(errors="replace").decode()


def test_a_long_reason_is_cut_between_characters() -> None:
    assert asgi.close(1000, "€" * 50)["reason"] == "€" * 41


def test_a_reason_with_half_a_character_is_sent_all_the_same() -> None:
    assert asgi.close(4400, "no \ud800 here")["reason"] == "no ? here"


# HTTP events.


def test_a_response_is_whole() -> None:
    assert asgi.response(200, b"abc", "text/html", (b"x-a", b"1")) == [
        {
            "type": "http.response.start",
            "status": 200,
            "headers": [(b"content-type", b"text/html"), (b"content-length", b"3"), (b"x-a", b"1")],
        },
        {"type": "http.response.body", "body": b"abc", "more_body": False},
    ]


def test_a_response_may_be_empty() -> None:
    start, body = asgi.response(204)
    assert (b"content-length", b"0") in start["headers"]
    assert body["body"] == b""


def test_a_json_response_says_so() -> None:
    events = asgi.json_response(202, {"reached": 1, "text": "é"}, (b"x-a", b"1"))
    assert headers_of(events)[b"content-type"] == b"application/json"
    assert headers_of(events)[b"x-a"] == b"1"
    assert json.loads(events[1]["body"]) == {"reached": 1, "text": "é"}


# Refusals.


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (NoRouteFound("no route for '/x'"), 404, "no route for '/x'"),
        (Unauthorized(), 401, "Unauthorized"),
        (TooLarge("over 5 bytes"), 413, "over 5 bytes"),
        (DenyConnection(), 403, "Forbidden"),
        (LayerClosed("come back"), 503, "come back"),
        (NotifyError("the password is hunter2"), 500, "Internal Server Error"),
        (LookupError("the password is hunter2"), 500, "Internal Server Error"),
    ],
)
def test_an_http_request_is_answered_in_json(error: Exception, status: int, text: str) -> None:
    start, body = asgi.refusal(HTTP, error)
    assert start["type"] == "http.response.start"
    assert start["status"] == status
    assert json.loads(body["body"]) == {"error": text}


def test_a_websocket_is_denied_where_the_server_can() -> None:
    events = asgi.refusal(DENIABLE, NoRouteFound("nothing here"))
    assert [event["type"] for event in events] == [
        "websocket.http.response.start",
        "websocket.http.response.body",
    ]
    assert events[0]["status"] == 404
    assert json.loads(events[1]["body"]) == {"error": "nothing here"}


@pytest.mark.parametrize("extensions", [None, {}, {"tls": {}}])
def test_a_websocket_is_closed_where_the_server_cannot_deny(
    extensions: dict[str, object] | None,
) -> None:
    scope = {**SOCKET, "extensions": extensions}
    expected = {"type": "websocket.close", "code": 4403, "reason": "not from here"}
    assert asgi.refusal(scope, Forbidden("not from here")) == [expected]
    assert asgi.refusal(SOCKET, Forbidden("not from here")) == [expected]


def test_what_failed_in_the_server_stays_in_its_log() -> None:
    for scope in (HTTP, SOCKET, DENIABLE):
        events = asgi.refusal(scope, LookupError("the password is hunter2"))
        assert "hunter2" not in str(events)
    assert asgi.refusal(SOCKET, LookupError())[0]["code"] == 1011


def test_a_refusal_says_what_http_asks_it_to() -> None:
    refused = asgi.refusal(HTTP, MethodNotAllowed("GET, HEAD"))
    assert headers_of(refused)[b"allow"] == b"GET, HEAD"
    assert headers_of(asgi.refusal(HTTP, Unauthorized()))[b"www-authenticate"] == b"Bearer"
    assert b"allow" not in headers_of(asgi.refusal(HTTP, Forbidden()))


def test_a_refusal_carries_the_headers_of_its_error() -> None:
    class Login(Unauthorized):
        headers = ((b"www-authenticate", b'Basic realm="here"'),)

    assert headers_of(asgi.refusal(HTTP, Login()))[b"www-authenticate"] == b'Basic realm="here"'
    later = Forbidden("not now", headers=[(b"retry-after", b"5")])
    for scope in (HTTP, DENIABLE):
        assert headers_of(asgi.refusal(scope, later))[b"retry-after"] == b"5"
    assert b"retry-after" not in headers_of(asgi.refusal(HTTP, Forbidden("not now")))
    assert asgi.refusal(SOCKET, later) == [asgi.close(4403, "not now")]


def test_an_error_of_the_users_own_may_carry_any_status() -> None:
    class Busy(NotifyError):
        http_status = 499
        close_code = 4499

    assert asgi.refusal(HTTP, Busy("later"))[0]["status"] == 499
    assert json.loads(asgi.refusal(HTTP, Busy())[1]["body"]) == {"error": "Refused"}
    assert asgi.refusal(SOCKET, Busy("later")) == [asgi.close(4499, "later")]


def test_a_scope_without_an_answer_gets_none() -> None:
    for kind in ("lifespan", "channel"):
        assert asgi.refusal({"type": kind}, NoRouteFound("x")) == []


@pytest.mark.parametrize(
    ("query", "value"),
    [(b"", None), (b"a=1", None), (b"since=", None), (b"since=x-1&a", "x-1"),
     (b"since=%C3%A9+b", "é b"), (b"SINCE=1", None), (b"since=\xe9", "é")],
)  # fmt: skip
def test_a_value_of_the_query_is_found(query: bytes, value: str | None) -> None:
    assert asgi.query_value({"type": "http", "query_string": query}, "since") == value
    assert asgi.query_value({"type": "http"}, "since") is None


def test_a_value_that_is_given_twice_is_the_clients_mistake() -> None:
    with pytest.raises(ClientError, match="since is given 2 times"):
        asgi.query_value({"type": "http", "query_string": b"since=a&since=b"}, "since")
