"""One life of the connections to a server."""

from typing import Any

import anyio
import pytest

from asgi_notify.layers.valkey_address import read_url
from asgi_notify.layers.valkey_link import Link
from tests.valkey_servers import ValkeyServer

pytestmark = pytest.mark.anyio


async def test_asking_while_subscribing_never_looks_like_a_lost_connection(
    server: ValkeyServer, prefix: str
) -> None:
    # valkey-glide 2.6 may take the confirmation of a subscription for a command's answer.
    link = Link(read_url(server.url).addresses[0], 5.0, lambda channel, message: None)
    await link.open()
    topics = [f"{prefix}:{number}" for number in range(3000)]
    answers: list[bool] = []
    try:
        async with anyio.create_task_group() as tasks:

            async def ask() -> None:
                while True:
                    answers.append(await link.is_replaced())

            tasks.start_soon(ask)
            for _ in range(4):
                await link.subscribe(topics)
                await link.unsubscribe(topics)
            tasks.cancel_scope.cancel()
        assert answers
        assert not any(answers)
    finally:
        await link.aclose()


async def test_an_answer_that_is_none_is_asked_for_again(
    own_server: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = Link(read_url(own_server.url).addresses[0], 5.0, lambda channel, message: None)
    await link.open()
    try:
        ask, wrong = link._subscriber.custom_command, [1, None, b"OK"]  # type: ignore[union-attr]

        async def answer(command: list[str]) -> Any:
            return wrong.pop() if wrong else await ask(command)

        monkeypatch.setattr(link._subscriber, "custom_command", answer)
        assert not await link.is_replaced()
        assert wrong == []
        wrong.extend([1] * 5)  # one that is never to be had is another connection, to be safe
        assert await link.is_replaced()
    finally:
        await link.aclose()


async def test_a_killed_connection_is_another_one(own_server: ValkeyServer) -> None:
    link = Link(read_url(own_server.url).addresses[0], 5.0, lambda channel, message: None)
    await link.open()
    try:
        await link.subscribe(["a"])
        assert not await link.is_replaced()
        with own_server.admin as admin:
            admin.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        assert await link.is_replaced()
    finally:
        await link.aclose()
