"""Two layers on one real server stand for two processes that ask each other."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import anyio
import pytest

from asgi_notify.layers import Mailbox
from asgi_notify.layers.engine import Receiver
from asgi_notify.layers.valkey_layer import ValkeyChannelLayer
from asgi_notify.positions import Position
from tests.valkey_servers import ValkeyServer

from .conftest import MakeEngine
from .ear import Ear

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


@pytest.fixture
async def processes(
    server: ValkeyServer, prefix: str, anyio_backend: str
) -> AsyncIterator[list[ValkeyChannelLayer]]:
    async with AsyncExitStack() as stack:
        url = f"{server.url}?prefix={prefix}"
        yield [await stack.enter_async_context(ValkeyChannelLayer(url)) for _ in range(2)]


async def test_the_channels_of_a_group_are_listed_from_each_process(
    processes: list[ValkeyChannelLayer],
) -> None:
    mailboxes: list[Mailbox] = []
    for layer in processes:
        mailboxes.append(await layer.attach())
        await layer.group_add("room", mailboxes[-1].channel, info={"number": len(mailboxes)})
    for layer in processes:
        began = anyio.current_time()
        assert await layer.group_channels("room") == {
            mailbox.channel: {"number": number} for number, mailbox in enumerate(mailboxes, 1)
        }
        assert anyio.current_time() - began < 0.9  # nobody waited for an answer that never came
    for layer, mailbox in zip(processes, mailboxes, strict=True):
        layer.detach(mailbox)


class Failing(Ear):
    """Fails where it may not."""

    def receive(self, topic: str, payload: bytes, position: Position | None) -> None:
        super().receive(topic, payload, position)
        if payload == b"bad":
            raise ValueError("no")


async def test_a_receiver_that_fails_is_logged_and_the_next_message_comes(
    make_engine: MakeEngine, server: ValkeyServer, caplog: pytest.LogCaptureFixture
) -> None:
    ear = Failing()
    receiver: Receiver = ear
    assert receiver is ear
    engine = await make_engine(server.url, ear)
    await engine.subscribe(["room"])
    for payload in (b"bad", b"good"):
        await engine.publish("room", payload)
    await ear.until(lambda: b"good" in ear.payloads())
    [record] = [record for record in caplog.records if record.exc_info]
    assert record.name == "asgi_notify.layers"
