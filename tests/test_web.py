"""What HTTP apps share: a body up to its limit, and the answer to an error."""

import json

import pytest

from asgi_notify.exceptions import Forbidden, TooLarge
from asgi_notify.types import Event
from asgi_notify.web import Body, refuse

pytestmark = pytest.mark.anyio


def test_a_body_is_whole_when_its_parts_have_come_and_is_held_by_who_takes_it() -> None:
    body = Body()
    for part in (b"one ", b"", b"two"):
        body.add(part, max_size=7)
    assert body.size == 7
    assert body.take() == b"one two"
    assert body.parts == []


@pytest.mark.parametrize("keep", [True, False])
def test_a_body_over_its_limit_is_refused_whether_it_is_kept_or_not(keep: bool) -> None:
    body = Body()
    body.add(b"x" * 7, 7, keep)
    with pytest.raises(TooLarge, match="over the limit of 7 bytes"):
        body.add(b"x", 7, keep)
    assert body.take() == (b"x" * 7 if keep else b"")


async def test_an_error_is_answered_with_its_status_and_its_sentence() -> None:
    sent: list[Event] = []

    async def send(event: Event) -> None:
        sent.append(event)

    await refuse({"type": "http"}, send, Forbidden("not here"))
    assert sent[0]["status"] == 403
    assert json.loads(sent[1]["body"]) == {"error": "not here"}
