"""What may be sent when: one table for each protocol, and a sentence for what may not."""

import pytest

from asgi_notify import MisuseError
from asgi_notify.consumers.protocol import CLOSED, protocol_of
from asgi_notify.types import Event


def walk(scope_type: str, *events: Event) -> list[str]:
    """The states after each of the events."""
    protocol = protocol_of(scope_type)
    state, states = protocol.start, []
    for event in events:
        state = protocol.next_state(state, event)
        states.append(state)
    return states


ACCEPT = {"type": "websocket.accept"}
FRAME = {"type": "websocket.send", "text": "a"}
CLOSE = {"type": "websocket.close"}
DENY = {"type": "websocket.http.response.start", "status": 403}
START = {"type": "http.response.start", "status": 200}


def body(prefix: str, **more: bool) -> Event:
    return {"type": f"{prefix}http.response.body", "body": b"", **more}


@pytest.mark.parametrize(
    ("scope_type", "events", "states"),
    [
        ("websocket", [ACCEPT, FRAME, FRAME, CLOSE], ["open", "open", "open", CLOSED]),
        ("websocket", [CLOSE], [CLOSED]),
        ("websocket", [DENY, body("websocket.", more_body=True), body("websocket.")],
         ["denying", "denying", CLOSED]),
        ("http", [START, body("")], ["responding", CLOSED]),
        ("http", [START, body("", more_body=True), body("", more_body=False)],
         ["responding", "responding", CLOSED]),
        ("http", [{"type": "http.response.push"}, START], ["requested", "responding"]),
        ("telegram", [{"type": "telegram.reply"}], ["open"]),
    ],
)  # fmt: skip
def test_events_in_their_turn(scope_type: str, events: list[Event], states: list[str]) -> None:
    assert walk(scope_type, *events) == states


@pytest.mark.parametrize(
    ("scope_type", "events", "sentence"),
    [
        ("websocket", [FRAME], "it can while it is open: call accept() first"),
        ("websocket", [ACCEPT, ACCEPT], "it can while it is connecting: it was accepted already"),
        ("websocket", [ACCEPT, DENY], "cannot be sent while the connection is open"),
        ("websocket", [DENY, CLOSE], "it can while it is connecting or open"),
        ("http", [body("")], "it can while it is responding: call send_headers() first"),
        ("http", [START, START], "cannot be sent while the connection is responding"),
    ],
)
def test_an_event_out_of_turn_is_an_error_that_says_its_turn(
    scope_type: str, events: list[Event], sentence: str
) -> None:
    walk(scope_type, *events[:-1])
    with pytest.raises(MisuseError) as error:
        walk(scope_type, *events)
    assert sentence in str(error.value)
    assert events[-1]["type"] in str(error.value)
