"""The contract of keys: a message that is sent again with its key is published once."""

import anyio
import pytest

from asgi_notify.exceptions import InvalidMessage, InvalidName
from asgi_notify.layers import BaseChannelLayer, Sent
from tests.loops import other_loop

from .conftest import Attach, MakeLayer
from .tools import Clock, number, numbers, read, waiting

pytestmark = pytest.mark.anyio


async def test_a_message_sent_again_with_its_key_is_published_once(
    kept: BaseChannelLayer, attach: Attach
) -> None:
    mailbox = await attach(kept, "room")
    first = await kept.group_send("room", number(1), idempotency_key="order-7")
    again = await kept.group_send("room", number(2), idempotency_key="order-7")
    assert again == first == Sent(1, 0, first.position)
    assert first.position is not None
    assert numbers(waiting(mailbox)) == [1]
    assert numbers((await kept.history("room")).messages) == [1]


async def test_a_key_works_without_history(layer: BaseChannelLayer, attach: Attach) -> None:
    mailbox = await attach(layer, "room")
    for n in range(3):
        sent = await layer.group_send("room", number(n), idempotency_key="k")
        assert sent == Sent(1, 0, None)
    assert numbers(waiting(mailbox)) == [0]


async def test_a_key_is_of_one_group(layer: BaseChannelLayer, attach: Attach) -> None:
    mailbox = await attach(layer, "one", "two")
    for group in ("one", "two", "one"):
        await layer.group_send(group, number(1), idempotency_key="k")
    await layer.group_send("one", number(2), idempotency_key="l")
    await layer.group_send("one", number(3))
    assert numbers(waiting(mailbox)) == [1, 1, 2, 3]


async def test_a_key_is_known_for_its_window(
    make_layer: MakeLayer, attach: Attach, clock: Clock
) -> None:
    layer = await make_layer(idempotency_window=10)
    mailbox = await attach(layer, "room")
    for n in range(4):
        await layer.group_send("room", number(n), idempotency_key="k")
        clock.move(5)
    assert numbers(waiting(mailbox)) == [0, 2]


async def test_a_refused_message_leaves_its_key_unused(
    layer: BaseChannelLayer, attach: Attach
) -> None:
    mailbox = await attach(layer, "room")
    with pytest.raises(InvalidMessage):
        await layer.group_send("room", {}, idempotency_key="k")
    assert (await layer.group_send("room", number(1), idempotency_key="k")).reached == 1
    assert numbers(waiting(mailbox)) == [1]


@pytest.mark.parametrize("key", ["", "k" * 201, "two words", "line\n", "café", 7])
async def test_what_is_no_key_is_refused(layer: BaseChannelLayer, key: str) -> None:
    with pytest.raises(InvalidName, match="is no idempotency key: use 1 to 200 visible ASCII"):
        await layer.group_send("room", number(1), idempotency_key=key)


async def test_flush_forgets_keys(layer: BaseChannelLayer, attach: Attach) -> None:
    await layer.group_send("room", number(1), idempotency_key="k")
    await layer.flush()
    mailbox = await attach(layer, "room")
    await layer.group_send("room", number(2), idempotency_key="k")
    assert numbers(waiting(mailbox)) == [2]


async def test_retries_at_once_while_a_full_mailbox_catches_up_publish_once(
    make_layer: MakeLayer, attach: Attach
) -> None:
    layer = await make_layer(capacity=1)
    mailbox = await attach(layer, "room")
    got: list[int] = []
    results: list[Sent] = []

    async def reader() -> None:
        while not got or got[-1] != 9:
            got.append((await read(mailbox))["n"])

    async def publish(n: int) -> None:
        results.append(await layer.group_send("room", number(n), idempotency_key=f"key-{n % 3}"))

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(reader)
            await anyio.wait_all_tasks_blocked()
            async with anyio.create_task_group() as publishers:
                for n in range(9):
                    publishers.start_soon(publish, n)
            await layer.group_send("room", number(9))
    assert sorted(n % 3 for n in got[:-1]) == [0, 1, 2]
    assert results == [Sent(1, 0)] * 9


@pytest.mark.parametrize("other", ["asyncio", "trio"])
async def test_a_retry_from_another_thread_gets_the_first_result(
    kept: BaseChannelLayer, attach: Attach, other: str
) -> None:
    mailbox = await attach(kept, "room")

    async def publish() -> Sent:
        return await kept.group_send("room", number(1), idempotency_key="k")

    async with other_loop(other) as call:
        first = await call(publish)
        assert await publish() == await call(publish) == first
    assert numbers(waiting(mailbox)) == [1]
