"""Protocols of somebody's own: ``x.disconnect`` is their end, and errors go to who runs them."""

import anyio
import pytest

from asgi_notify import AsyncConsumer, Event, InMemoryChannelLayer, Message
from asgi_notify.consumers.protocol import protocol_of
from tests.consumers.harness import Wire, assert_nothing_left

pytestmark = pytest.mark.anyio

CONNECT, INPUT, LEFT = {"type": "line.connect"}, {"type": "line.input"}, {"type": "line.disconnect"}


class Line(AsyncConsumer):
    """Fails where it is told, and says at the end that it has ended."""

    groups = ("lines",)

    def __init__(self, fails: str, seen: list[str]) -> None:
        super().__init__()
        self.fails, self.seen = fails, seen

    async def dispatch(self, message: Message) -> None:
        """Note what is handled."""
        self.seen.append(message["type"])
        if message["type"] == self.fails:
            raise KeyError(self.fails)
        await super().dispatch(message)

    async def line_connect(self, event: Event) -> None:
        """Handle the first event."""

    async def line_input(self, event: Event) -> None:
        """Handle another."""


@pytest.mark.parametrize("fails", ["line.connect", "line.input"])
async def test_an_error_is_raised_once_the_end_was_handled(
    layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture, fails: str
) -> None:
    seen: list[str] = []
    with pytest.raises(KeyError, match=fails):
        await Wire(CONNECT, INPUT, kind="line").run(Line(fails, seen))
    assert seen[-2:] == [fails, "line.disconnect"]
    assert seen.count("line.disconnect") == 1
    assert caplog.records == []
    assert_nothing_left(layer, "lines")


async def test_an_error_in_handling_the_end_is_logged(
    layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[str] = []
    await Wire(CONNECT, LEFT, kind="line").run(Line("line.disconnect", seen))
    assert seen == ["line.connect", "line.disconnect"]
    (record,) = caplog.records
    assert "line.disconnect failed" in record.getMessage()
    assert record.exc_info is not None
    assert_nothing_left(layer, "lines")


async def test_a_client_that_leaves_is_noticed_while_a_handler_runs(
    layer: InMemoryChannelLayer,
) -> None:
    seen: list[str] = []

    class Slow(Line):
        leave_grace = 0.0

        async def line_input(self, event: Event) -> None:
            await anyio.sleep_forever()

    wire = Wire(CONNECT, INPUT, LEFT, kind="line")
    with anyio.fail_after(20):
        await wire.run(Slow("", seen))
    assert seen == ["line.connect", "line.input", "line.disconnect"]
    assert_nothing_left(layer, "lines")


async def test_a_cancelled_connection_is_told_its_end(layer: InMemoryChannelLayer) -> None:
    seen: list[str] = []
    wire = Wire(CONNECT, kind="line")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wire.run, Line("", seen))
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    assert seen == ["line.connect", "line.disconnect"]
    assert_nothing_left(layer, "lines")


def test_the_end_of_a_protocol_of_ones_own_is_named_after_it() -> None:
    assert protocol_of("line").leaving == "line.disconnect"
    assert protocol_of("smtp").leaving == "smtp.disconnect"
