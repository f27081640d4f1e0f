"""What an HTTP response may have besides a body, where the server offers it."""

import logging
from typing import Any

import anyio
import pytest

from asgi_notify import (
    AsyncHttpConsumer,
    HttpConsumer,
    InMemoryChannelLayer,
    Message,
    MisuseError,
    StopConsumer,
)
from asgi_notify.consumers.protocol import CLOSED, protocol_of
from asgi_notify.types import Event
from tests.consumers.streams import Stream

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("layer")]

PUSH = "http.response.push"


class Page(AsyncHttpConsumer):
    """Pushes before the response, in its midst, and after its end."""

    async def handle(self, body: bytes) -> None:
        await self.push("/style.css", {"Accept": "text/css"})
        await self.send_headers()
        await self.push("/code.js", [("accept", b"*/*")])
        await self.send_body(b"<p>")
        await self.push("/late.png")


class PageInThreads(HttpConsumer):
    """The same with plain functions."""

    def handle(self, body: bytes) -> None:
        self.push("/style.css", {"Accept": "text/css"})
        self.send_headers()
        self.push("/code.js", [("accept", b"*/*")])
        self.send_body(b"<p>")
        self.push("/late.png")


async def answer(app: Any, **extensions: dict[str, Any]) -> list[Event]:
    wire = Stream()
    wire.scope["extensions"] = extensions
    await wire.run(app)
    return wire.sent


@pytest.mark.parametrize("page", [Page, PageInThreads])
async def test_a_push_is_sent_where_the_server_offers_it(page: Any) -> None:
    sent = await answer(page(), **{PUSH: {}})
    assert [event["type"].rpartition(".")[2] for event in sent] == ["push", "start", "push", "body"]
    assert [(event["path"], event["headers"]) for event in sent if event["type"] == PUSH] == [
        ("/style.css", [(b"accept", b"text/css")]),
        ("/code.js", [(b"accept", b"*/*")]),
    ]


@pytest.mark.parametrize("page", [Page, PageInThreads])
@pytest.mark.parametrize("extensions", [{}, None])
async def test_elsewhere_it_does_nothing_and_says_so_once(
    page: Any, extensions: Any, caplog: pytest.LogCaptureFixture
) -> None:
    class Own(page):  # type: ignore[misc]  # one class for each run, since it is logged once
        """A page that has pushed nothing yet."""

    caplog.set_level(logging.INFO)
    for _ in range(2):
        wire = Stream()
        wire.scope["extensions"] = extensions
        await wire.run(Own())
        assert [event["type"].rpartition(".")[2] for event in wire.sent] == ["start", "body"]
    [hint] = [record.getMessage() for record in caplog.records if "push" in record.getMessage()]
    assert "Own.push() does nothing here" in hint
    assert "rel=preload" in hint


async def test_trailers_follow_the_last_part_of_the_body(layer: InMemoryChannelLayer) -> None:
    class Digest(AsyncHttpConsumer):
        async def handle(self, body: bytes) -> None:
            start = {"type": "http.response.start", "status": 200, "headers": [], "trailers": True}
            await self.send(start)
            await self.send_body(b"a", more_body=True)
            await self.send_body(b"b")
            for more in True, False:
                await self.send(
                    {"type": "http.response.trailers", "headers": [], "more_trailers": more}
                )
            await self.send_body(b"after the end")

    sent = await answer(Digest())
    assert [event["type"].rpartition(".")[2] for event in sent] == [
        "start", "body", "body", "trailers", "trailers",
    ]  # fmt: skip


START: Event = {"type": "http.response.start", "status": 200}
PROMISE: Event = {**START, "trailers": True}
BODY: Event = {"type": "http.response.body", "body": b""}
PART: Event = {**BODY, "more_body": True}
COPY: Event = {"type": "http.response.zerocopysend", "file": 3}
TRAILERS: Event = {"type": "http.response.trailers", "headers": []}
FILE: Event = {"type": "http.response.pathsend", "path": "/a"}
HINT: Event = {"type": "http.response.early_hint", "links": []}


def state_after(*events: Event) -> str:
    protocol = protocol_of("http")
    state = protocol.start
    for event in events:
        state = protocol.next_state(state, event)
    return state


@pytest.mark.parametrize(
    ("events", "is_over"),
    [
        ([START, PART], False),
        ([START, PART, BODY], True),
        ([START, FILE], True),
        ([START, {**COPY, "more_body": True}], False),
        ([START, {**COPY, "more_body": True}, COPY], True),
        ([PROMISE, PART, BODY], False),
        ([PROMISE, BODY, {**TRAILERS, "more_trailers": True}], False),
        ([PROMISE, BODY, TRAILERS], True),
        ([PROMISE, FILE, TRAILERS], True),
        ([PROMISE, COPY], False),
        ([HINT, START, HINT, BODY], True),
    ],
)
def test_a_response_is_over_when_all_that_it_promised_has_come(
    events: list[Event], is_over: bool
) -> None:
    assert (state_after(*events) == CLOSED) is is_over


@pytest.mark.parametrize(
    ("events", "sentence"),
    [
        ([START, TRAILERS], "it can while it is trailing"),
        ([PROMISE, BODY, BODY], "it can while it is responding"),
        ([PROMISE, START], "it can while it is requested"),
    ],
)
def test_what_comes_out_of_turn_is_misuse(events: list[Event], sentence: str) -> None:
    state_after(*events[:-1])
    with pytest.raises(MisuseError) as error:
        state_after(*events)
    assert str(error.value).endswith(sentence)


async def test_a_message_may_stop_a_request_that_was_not_answered(
    layer: InMemoryChannelLayer,
) -> None:
    class Waits(AsyncHttpConsumer):
        groups = ("all",)

        async def handle(self, body: bytes) -> None:
            pass

        def _require_response(self) -> None:
            """Let a message answer."""

        async def stop(self, message: Message) -> None:
            raise StopConsumer

    wire = Stream()
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wire.run, Waits())
            await anyio.wait_all_tasks_blocked()
            await layer.group_send("all", {"type": "stop"})
    assert wire.sent[0]["status"] == 500
