"""Sending while a real server is frozen, gone or restarted: at once refused, or in the end sent."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import anyio
import pytest

from asgi_notify.exceptions import LayerUnavailable
from asgi_notify.layers import Sent, layer_from_url
from asgi_notify.layers.valkey_layer import ValkeyChannelLayer
from tests.layers.tools import number, numbers, read
from tests.valkey_servers import ValkeyServer

from .ear import PATIENCE, until

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

Start = Callable[[str], Awaitable[ValkeyChannelLayer]]


@pytest.fixture
async def start(anyio_backend: str, own_server: ValkeyServer) -> AsyncIterator[Start]:
    async with AsyncExitStack() as stack:

        async def start(options: str) -> ValkeyChannelLayer:
            layer = layer_from_url(
                f"{own_server.url}?history=room*&timeout=2&probe_interval=0.2&{options}"
            )
            assert isinstance(layer, ValkeyChannelLayer)
            return await stack.enter_async_context(layer)

        yield start


def is_up(layer: ValkeyChannelLayer) -> bool:
    return layer.state is not None and layer.state.is_up


async def test_without_patience_a_send_to_a_server_known_to_be_away_fails_at_once(
    start: Start, own_server: ValkeyServer
) -> None:
    layer = await start("publish_timeout=0")
    own_server.stop()
    await until(lambda: not is_up(layer))
    for _ in range(1000):  # were one to wait, it would be for two seconds
        with anyio.fail_after(PATIENCE), pytest.raises(LayerUnavailable, match="engine is away"):
            await layer.group_send("room", number(1))
    own_server.go_on()
    await until(lambda: is_up(layer))
    await layer.group_send("room", number(1))


async def test_a_send_to_a_server_that_has_just_frozen_ends_in_time(
    start: Start, own_server: ValkeyServer
) -> None:
    layer = await start("publish_timeout=0.1")
    own_server.stop()
    assert is_up(layer)
    with pytest.raises(LayerUnavailable, match="nobody knows whether room was reached"):
        await layer.group_send("room", number(1))
    own_server.go_on()
    await until(lambda: is_up(layer))
    assert (await layer.group_send("room", number(1))).position is not None


@pytest.mark.parametrize("fault", ["frozen", "restarted"])
async def test_with_patience_and_a_key_everything_is_sent_once(
    start: Start, own_server: ValkeyServer, fault: str
) -> None:
    layer, other = await start("publish_timeout=30"), await start("publish_timeout=30")
    mailbox = await other.attach()
    await other.group_add("room.live", mailbox.channel)
    answers: list[Sent] = []

    async def publish(number_: int) -> None:
        answers.append(
            await layer.group_send("room", number(number_), idempotency_key=str(number_))
        )

    async with anyio.create_task_group() as tasks:
        own_server.stop()
        tasks.start_soon(publish, 1)  # on its way before anybody knows
        await until(lambda: not is_up(layer))
        tasks.start_soon(publish, 2)
        await anyio.wait_all_tasks_blocked()
        if fault == "restarted":
            own_server.kill()
            own_server.start()
        else:
            own_server.go_on()
    assert len(answers) == 2
    history = (await layer.history("room")).messages
    assert sorted(numbers(history)) == [1, 2]
    # One without a key, begun while the server was known to be away, waits as well.
    own_server.stop()
    await until(lambda: not (is_up(layer) or is_up(other)))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(layer.group_send, "room.live", number(3))
        await anyio.wait_all_tasks_blocked()
        own_server.go_on()
    await layer.group_send("room.live", number(4))
    with anyio.fail_after(PATIENCE):
        assert numbers([await read(mailbox), await read(mailbox)]) == [3, 4]
    other.detach(mailbox)
