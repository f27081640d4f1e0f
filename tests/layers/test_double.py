"""The layer that the contract is tested on, where it could answer a test wrongly."""

import anyio
import pytest

from asgi_notify.layers import Sent

from .double import DoubleLayer
from .tools import number

pytestmark = pytest.mark.anyio


class LateLayer(DoubleLayer):
    """Learns late what became of its first message, as when the machine is busy."""

    settled = 0

    async def settle(self) -> None:
        self.settled += 1
        if self.settled == 1:
            await anyio.sleep(1.2)
        await super().settle()


async def test_a_retry_waits_for_the_answer_of_the_first_however_late_that_is() -> None:
    results: list[Sent] = []

    async def publish(n: int) -> None:
        results.append(await layer.group_send("room", number(n), idempotency_key="k"))

    async with LateLayer() as layer:
        mailbox = await layer.attach()
        await layer.group_add("room", mailbox.channel)
        async with anyio.create_task_group() as tasks:
            for n in range(3):
                tasks.start_soon(publish, n)
        layer.detach(mailbox)
    assert results == [Sent(1, 0)] * 3
