"""Lines of a layer's log, and of what refuses a path, carry what they are about."""

from typing import Any

import anyio
import pytest

from asgi_notify import InMemoryChannelLayer, URLRouter, Worker, path
from asgi_notify.app import make_application
from asgi_notify.settings import Settings
from asgi_notify.types import ASGIApp, Receive, Scope, Send
from tests.consumers.harness import Wire

from .tools import number

pytestmark = pytest.mark.anyio


def record(caplog: pytest.LogCaptureFixture, words: str) -> Any:
    (found,) = [each for each in caplog.records if words in each.getMessage()]
    return found


async def test_a_lost_message_names_its_channel_its_group_and_why(
    caplog: pytest.LogCaptureFixture,
) -> None:
    layer = InMemoryChannelLayer(capacity=1)
    mailbox = await layer.attach(overflow="drop_oldest")
    await layer.group_add("room", mailbox.channel)
    for n in range(3):
        await layer.group_send("room", number(n))
    line = record(caplog, "lost a message")
    assert (line.channel, line.group, line.reason) == (mailbox.channel, "room", "full")


async def test_a_lost_message_to_one_channel_names_no_group(
    caplog: pytest.LogCaptureFixture,
) -> None:
    layer = InMemoryChannelLayer(capacity=1)
    mailbox = await layer.attach(overflow="drop_newest")
    await layer.send(mailbox.channel, number(1))
    with pytest.raises(Exception, match="takes no more"):
        await layer.send(mailbox.channel, number(2))
    line = record(caplog, "lost a message")
    assert (line.channel, line.group, line.reason) == (mailbox.channel, None, "full")


async def app_that_fails(scope: Scope, receive: Receive, send: Send) -> None:
    raise KeyError("a bug")


async def test_a_message_of_a_worker_that_failed_names_its_channel(
    caplog: pytest.LogCaptureFixture,
) -> None:
    layer = InMemoryChannelLayer()
    worker = Worker(app_that_fails, ["jobs"], layer=layer)
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(worker.run)
            await layer.send("jobs", {"type": "job.run"})
            while not caplog.records:
                await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
    assert record(caplog, "job.run failed").channel == "jobs"


@pytest.mark.parametrize(
    ("app", "headers"),
    [
        pytest.param(URLRouter([path("rooms/", app_that_fails)]), [], id="no route"),
        pytest.param(
            make_application(Settings()), [(b"origin", b"https://evil.example")], id="origin"
        ),
        pytest.param(make_application(Settings()), [(b"host", b"evil.example")], id="host"),
    ],
)
async def test_a_refused_path_is_named(
    caplog: pytest.LogCaptureFixture, app: ASGIApp, headers: list[tuple[bytes, bytes]]
) -> None:
    caplog.set_level("INFO", logger="asgi_notify")
    wire = Wire(kind="http", path="/room/")
    wire.scope.update(
        method="POST", headers=headers, server=("127.0.0.1", 80), client=("127.0.0.1", 1)
    )
    await wire.run(app)
    assert record(caplog, "refused").path == "/room/"
