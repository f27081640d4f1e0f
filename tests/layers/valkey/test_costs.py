"""What a layer costs its server: bytes on the wire for each message, and memory that ends."""

from collections.abc import Callable

import anyio
import pytest
from redis import Redis

from asgi_notify.layers import History
from asgi_notify.layers.valkey_layer import ValkeyChannelLayer
from asgi_notify.types import Message
from tests.layers.tools import read
from tests.valkey_servers import ValkeyServer

from .ear import PATIENCE
from .tap import tapped

pytestmark = pytest.mark.anyio

NEWS: Message = {"type": "send.notification", "data": "x" * 100}
KEEP = History(size=100, ttl=60)
MESSAGES = 50


@pytest.mark.parametrize("members", [1, 500])
@pytest.mark.parametrize(("group", "most"), [("user_4242", 400), ("lobby_4242", 200)])
async def test_a_message_to_a_group_is_few_bytes_on_the_wire_whatever_the_groups_size(
    own_server: ValkeyServer, group: str, most: int, members: int
) -> None:
    options = "probe_interval=1.6"  # the bytes of probes would count, too
    async with (
        tapped(own_server.port) as sending,
        tapped(own_server.port) as following,
        ValkeyChannelLayer(f"{sending.url}?{options}", history={"user_*": KEEP}) as sender,
        ValkeyChannelLayer(f"{following.url}?{options}", history={"user_*": KEEP}) as follower,
    ):
        mailboxes = [await follower.attach(overflow="drop_oldest") for _ in range(members)]
        for mailbox in mailboxes:
            await follower.group_add(group, mailbox.channel)
        await sender.group_send(group, NEWS)  # brings the script
        await read(mailboxes[0])
        before = sending.bytes, following.bytes
        with anyio.fail_after(PATIENCE):
            for _ in range(MESSAGES):
                await sender.group_send(group, NEWS)
                await read(mailboxes[0])
        assert 100 < (sending.bytes - before[0]) / MESSAGES <= most
        # To each process that has members, once, however many those are.
        assert 100 < (following.bytes - before[1]) / MESSAGES <= 250
        for mailbox in mailboxes:
            follower.detach(mailbox)


def used(admin: Redis) -> int:
    """Bytes of all keys, with what the server needs to find them."""
    return sum(admin.memory_usage(key, samples=0) or 0 for key in admin.scan_iter(count=1000))


async def fill_histories(layer: ValkeyChannelLayer, groups: int) -> None:
    for n in range(groups):
        for _ in range(120):  # more than are kept
            await layer.group_send(f"user_{n}", NEWS)


async def join_quiet_groups(layer: ValkeyChannelLayer, groups: int) -> None:
    for n in range(groups):
        mailbox = await layer.attach()
        await layer.group_add(f"user_{n}", mailbox.channel)
        layer.detach(mailbox)


async def be_present(layer: ValkeyChannelLayer, members: int) -> None:
    for n in range(members):
        mailbox = await layer.attach()
        await layer.group_add("room", mailbox.channel, member=f"user_{n}", info={"name": "Ada"})


async def let_jobs_wait(layer: ValkeyChannelLayer, jobs: int) -> None:
    for _ in range(jobs):
        await layer.send("work", NEWS)


async def publish_with_keys(layer: ValkeyChannelLayer, messages: int) -> None:
    for n in range(messages):
        await layer.group_send("lobby", NEWS, idempotency_key=f"order-{n}")


@pytest.mark.parametrize(
    ("fill", "count", "most"),
    [
        # Bytes for each, with its share of what all have in common.
        pytest.param(fill_histories, 5, 26_000, id="history"),
        pytest.param(join_quiet_groups, 50, 120, id="idle"),
        pytest.param(be_present, 200, 500, id="presence"),
        pytest.param(let_jobs_wait, 50, 500, id="work"),
        pytest.param(publish_with_keys, 50, 300, id="keys"),
    ],
)
async def test_what_the_server_keeps_is_small_and_ends(
    own_server: ValkeyServer,
    fill: Callable[[ValkeyChannelLayer, int], object],
    count: int,
    most: int,
) -> None:
    layer = ValkeyChannelLayer(
        own_server.url, history={"user_*": KEEP}, channel_capacity={"work": 1000}
    )
    async with layer:
        await fill(layer, count)  # type: ignore[misc]
        with own_server.admin as admin:
            each = used(admin) / count
            assert each <= most
            for key in admin.scan_iter(count=1000):
                # A root, of which there are 1,024 at most, is what tells that nothing was lost.
                assert admin.pttl(key) > 0 or b":r:" in key
        for mailbox in layer.hub.attached:
            layer.detach(mailbox)
