"""Lines of the log about a connection carry what they are about, for whoever collects them."""

import json
import logging
from typing import Any

import anyio
import pytest

from asgi_notify import (
    AsyncWebsocketConsumer,
    ClientError,
    InMemoryChannelLayer,
    NotificationConsumer,
    URLRouter,
    path,
)
from asgi_notify.protocol import PROTOCOL
from tests.consumers.harness import CONNECT, Wire, left, text
from tests.consumers.streams import until

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="asgi_notify")


def record(caplog: pytest.LogCaptureFixture, words: str) -> Any:
    (found,) = [each for each in caplog.records if words in each.getMessage()]
    assert isinstance(found, logging.LogRecord)
    return found


class Failing(AsyncWebsocketConsumer):
    """Fails with what it is made with."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        raise self.error


@pytest.mark.parametrize(
    ("error", "words"),
    [(KeyError("x"), "websocket.receive failed"), (ClientError("enough"), "refused")],
)
async def test_a_connections_lines_say_which_one_and_where(
    layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture, error: Exception, words: str
) -> None:
    wire = Wire(CONNECT, text("hello"), path="/news/")
    with anyio.fail_after(20):
        await wire.run(Failing(error))
    lines = [record(caplog, each) for each in ("accepted", words, "ended")]
    assert {line.path for line in lines} == {"/news/"}
    (channel,) = {line.connection for line in lines}
    assert f"(channel {channel})" in lines[0].getMessage()


async def test_lines_about_a_group_name_it(
    layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    class Guarded(NotificationConsumer):
        async def authorize(self, group: str) -> None:
            if group == "user_7":
                raise KeyError("a bug")

    wire = Wire(CONNECT, path="/notifications/42/")
    wire.scope["subprotocols"] = [PROTOCOL]
    app = URLRouter([path("notifications/<int:room_name>/", Guarded)])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wire.run, app)
        await until(lambda: len(wire.texts) == 2)
        await layer.group_send("user_42", {"type": "send.notification"})
        await layer.group_send("user_42", {"type": "send.notification", "data": float("nan")})
        wire.tell(text(json.dumps({"type": "subscribe", "group": "user_7"})))
        await until(lambda: len(wire.texts) == 3)
        wire.tell(left())
    expected = {"has no 'data'": "user_42", "was passed over: ": "user_42",
                "subscribing to user_7 failed": "user_7"}  # fmt: skip
    for words, group in expected.items():
        line = record(caplog, words)
        assert (line.path, line.group) == ("/notifications/42/", group)
        assert line.connection == record(caplog, "accepted").connection
