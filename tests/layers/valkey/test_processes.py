"""Two layers on one real server stand for two processes that ask each other."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import anyio
import pytest

from asgi_notify import async_to_sync
from asgi_notify.layers import History, Mailbox
from asgi_notify.layers.engine import Receiver
from asgi_notify.layers.valkey_layer import ValkeyChannelLayer
from asgi_notify.positions import Position
from tests.servers import HOST
from tests.valkey_servers import ValkeyServer

from ..tools import number, numbers, read, waiting
from .conftest import MakeEngine
from .ear import PATIENCE, Ear, until

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


async def test_a_member_that_never_reads_costs_no_other_a_message(
    processes: list[ValkeyChannelLayer], server: ValkeyServer
) -> None:
    here, there = processes
    idle, busy, direct = [await there.attach() for _ in range(3)]
    for mailbox in (idle, busy):
        await there.group_add("room", mailbox.channel)
    got: list[int] = []
    for n in range(300):  # three times what a mailbox holds
        await here.group_send("room", number(n))
        with anyio.fail_after(PATIENCE):
            got += numbers([await read(busy)])
    assert got == list(range(300))
    await here.send(direct.channel, number(1))
    with anyio.fail_after(PATIENCE):
        assert (await read(direct))["n"] == 1
    for mailbox in (idle, busy, direct):
        there.detach(mailbox)


async def test_every_direct_send_arrives_with_several_servers(own_server: ValkeyServer) -> None:
    with ValkeyServer(own_server.program) as second, ValkeyServer(own_server.program) as third:
        hosts = ",".join(f"{HOST}:{one.port}" for one in (own_server, second, third))
        url = f"valkey://{hosts}/0"
        async with ValkeyChannelLayer(url) as here, ValkeyChannelLayer(url) as there:
            mailboxes = [await there.attach() for _ in range(40)]
            for n, mailbox in enumerate(mailboxes):
                await here.send(mailbox.channel, number(n))
            with anyio.fail_after(PATIENCE):
                assert [(await read(one))["n"] for one in mailboxes] == list(range(40))
            for mailbox in mailboxes:
                there.detach(mailbox)


async def test_a_member_that_lives_never_leaves_however_long_nothing_comes(
    own_server: ValkeyServer,
) -> None:
    options: dict[str, Any] = {"presence_lease": 0.6, "presence_grace": 0.1, "release_delay": 0.1}
    async with (
        ValkeyChannelLayer(own_server.url, **options) as here,
        ValkeyChannelLayer(own_server.url, **options) as there,
    ):
        mailbox = await there.attach()
        await there.group_add("room", mailbox.channel, member="ada")
        await anyio.sleep(2.0)  # three leases
        assert list(await here.presence("room")) == [mailbox.channel]
        await here.group_send("room", number(1))
        with anyio.fail_after(PATIENCE):
            assert (await read(mailbox))["n"] == 1
        there.detach(mailbox)


async def test_a_process_that_the_server_let_go_of_because_it_was_slow_misses_nothing(
    own_server: ValkeyServer,
) -> None:
    with own_server.admin as admin:
        admin.config_set("client-output-buffer-limit", "pubsub 100000 0 0")
    url = f"{own_server.url}?probe_interval=0.2&timeout=5"
    keep = {"room": History(size=1000, ttl=60)}
    async with ValkeyChannelLayer(url, capacity=1000, check_interval=0.5, history=keep) as layer:
        mailbox = await layer.attach()
        await layer.group_add("room", mailbox.channel)
        with own_server.admin as admin:
            # In one step, so that all of it is to be written to the subscriber at once.
            position = (await layer.group_send("room", number(0))).position
            assert position is not None
            channel = next(one for one in admin.pubsub_channels("*room*"))
            admin.eval(
                "for i = 1, 50 do redis.call('PUBLISH', KEYS[1], string.rep('x', 10000)) end",
                1, channel,
            )  # fmt: skip
        await until(lambda: layer.statistics()["reconnects"] >= 1)
        for n in range(1, 20):
            await layer.group_send("room", number(n))
        got: list[int] = []
        with anyio.fail_after(PATIENCE):
            while len(got) < 20:
                got += numbers([await read(mailbox)])
        assert got == list(range(20))
        assert waiting(mailbox) == []
        layer.detach(mailbox)


def test_a_script_sends_often_over_the_same_connections(server: ValkeyServer, prefix: str) -> None:
    layer = ValkeyChannelLayer(f"{server.url}?prefix={prefix}")
    send = async_to_sync(layer.group_send)
    send("room", number(0))
    with server.admin as admin:
        before = admin.info("stats")["total_connections_received"]
        for n in range(200):
            send("room", number(n))
        assert admin.info("stats")["total_connections_received"] - before <= 2
    async_to_sync(layer.close)()
