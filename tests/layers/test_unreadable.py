"""What comes from other processes and cannot be read: it is told, and harms nobody else."""

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import anyio
import pytest
from cryptography.fernet import Fernet

from asgi_notify.layers import History
from asgi_notify.layers.engine import Lease
from asgi_notify.layers.packing import INFO, TO_MEMBERS, TO_PROCESS, Packing
from asgi_notify.layers.shared import EngineChannelLayer

from .double import DoubleEngine, DoubleLayer, Place
from .tools import Clock, number, numbers, publish, read, told, waiting

pytestmark = pytest.mark.anyio

KEEP = History(size=50, ttl=60)
HISTORY = {"room*": KEEP}
GARBAGE = [b"", b"\x01m{}", b"\x02m\xc1", b"\x02p\x80"]


@pytest.fixture
async def layer(anyio_backend: str, clock: Clock) -> AsyncIterator[EngineChannelLayer]:
    async with DoubleLayer(clock=clock, history=HISTORY) as layer:
        yield layer


def engine_of(layer: EngineChannelLayer) -> DoubleEngine:
    assert layer._link is not None
    engine = layer._link.engine
    assert isinstance(engine, DoubleEngine)
    return engine


@pytest.mark.parametrize("payload", GARBAGE, ids=repr)
@pytest.mark.parametrize("group", ["room", "lobby"])  # with a history, and without
async def test_what_cannot_be_read_is_told_in_its_place(
    layer: EngineChannelLayer, group: str, payload: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    mailbox = await layer.attach(tell_gaps=True)
    await layer.group_add(group, mailbox.channel)
    await layer.group_send(group, number(1))
    await engine_of(layer).publish(group, payload, keep=HISTORY.get(f"{group}*"))
    await engine_of(layer).publish(group, payload, keep=HISTORY.get(f"{group}*"))
    await layer.group_send(group, number(2))
    assert told(waiting(mailbox)) == [1, (group, "unreadable", 2), 2]
    assert layer.statistics()["undecodable"] == 2
    assert layer.hub.drops.by_group == {("unreadable", group): 2}
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    layer.detach(mailbox)


async def test_a_message_between_processes_that_makes_no_sense_harms_nobody(
    layer: EngineChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    assert layer._link is not None
    mailbox = await layer.attach()
    await layer.group_add("lobby", mailbox.channel)
    for kind in ("layer.channels", "layer.send", "layer.list", "layer.unknown"):
        payload = Packing(1000).pack(TO_PROCESS, {"type": kind}, "")
        await engine_of(layer).publish(layer._link.own_topic, payload)
    await layer.group_send("lobby", number(1))
    assert numbers(waiting(mailbox)) == [1]
    assert "could not be taken" in caplog.text
    layer.detach(mailbox)


async def test_a_position_that_no_history_has_holds_up_no_other_group(
    layer: EngineChannelLayer,
) -> None:
    mailbox = await layer.attach()
    await layer.group_add("room", mailbox.channel)
    [position] = await publish(layer, "room", 1)
    made_up = layer._packing.pack(TO_MEMBERS, number(99), "room")
    engine_of(layer).take("room", made_up, position._replace(offset=1000))
    with anyio.fail_after(4):  # a join waits for 5 seconds at most
        await layer.group_add("lobby", mailbox.channel)
        await layer.group_send("room", number(2))
        assert [await read(mailbox) for _ in range(2)] == [number(1), number(2)]
    layer.detach(mailbox)


async def test_a_replay_over_what_cannot_be_read_is_not_whole(layer: EngineChannelLayer) -> None:
    before, *_ = await publish(layer, "room", 1, 2)
    await engine_of(layer).publish("room", b"\x02m\xc1", keep=KEEP)
    after, *_ = await publish(layer, "room", 3, 4)
    mailbox = await layer.attach()
    assert not (await layer.group_add("room", mailbox.channel, since=before)).recovered
    assert waiting(mailbox) == []
    layer.detach(mailbox)
    mailbox = await layer.attach()
    assert (await layer.group_add("room", mailbox.channel, since=after)).recovered
    assert numbers(waiting(mailbox)) == [4]
    layer.detach(mailbox)
    assert not (await layer.history("room", since=before)).recovered
    assert (await layer.history("room", since=after)).recovered
    assert numbers((await layer.history("room")).messages) == [1, 2, 3, 4]


async def test_a_worker_passes_over_what_cannot_be_read(layer: EngineChannelLayer) -> None:
    for payload in (b"", b"\x02p\x81\xa4type\xa1x", b"\x02m\xc1"):
        await engine_of(layer).push("work", payload, 100, 60)
    await layer.send("work", number(1))
    with anyio.fail_after(20):
        assert await layer.receive("work") == number(1)
    assert layer.hub.drops == {"unreadable": 3}


async def test_who_is_present_with_an_info_that_cannot_be_read_is_listed(
    layer: EngineChannelLayer,
) -> None:
    follower = await layer.attach()
    await layer.presence_follow("room", follower.channel)
    await engine_of(layer).enter(Lease("room", "there", "ada", b"\x02i\xc1"), 60)
    assert await layer.presence("room") == {"there": None}
    await engine_of(layer).leave("room", "there", 0)
    with anyio.fail_after(20):
        event = await read(follower)
    assert event == {"type": "presence.leave", "group": "room", "member": "ada", "info": None}
    layer.detach(follower)


# With encryption.


OLD, NEW = (Fernet.generate_key().decode() for _ in range(2))


async def test_a_message_of_another_key_is_refused_counted_and_told(
    anyio_backend: str, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    place = Place(clock)
    async with AsyncExitStack() as stack:

        async def start(*keys: str) -> EngineChannelLayer:
            layer = DoubleLayer(place, clock=clock, history=HISTORY, encryption_keys=keys)
            return await stack.enter_async_context(layer)

        old, new, none = await start(OLD), await start(NEW), await start()
        both = await start(NEW, OLD)
        mailboxes = []
        for layer in (old, new, none, both):
            mailbox = await layer.attach(tell_gaps=True)
            await layer.group_add("room", mailbox.channel)
            mailboxes.append(mailbox)
        await old.group_send("room", number(1))
        await new.group_send("room", number(2))
        await none.group_send("room", number(3))
        await both.group_send("room", number(4))
        for layer in (old, new, none, both):
            assert isinstance(layer, DoubleLayer)
            await layer.settle()
        lost = "unreadable"
        assert [told(waiting(mailbox)) for mailbox in mailboxes] == [
            [1, ("room", lost, 3)],
            [("room", lost, 1), 2, ("room", lost, 1), 4],
            [("room", lost, 2), 3, ("room", lost, 1)],
            [1, 2, ("room", lost, 1), 4],
        ]
        assert [layer.statistics()["undecryptable"] for layer in (old, new, none, both)] == [
            3, 2, 3, 1,
        ]  # fmt: skip
        assert caplog.text.count("give all processes the same encryption_keys") == 4
        for layer, mailbox in zip((old, new, none, both), mailboxes, strict=True):
            layer.detach(mailbox)


async def test_what_is_encrypted_for_one_place_is_read_at_no_other(
    anyio_backend: str, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    # Somebody who may write to the server, has no key, and is a member of a group of his own.
    async with DoubleLayer(clock=clock, history=HISTORY, encryption_keys=[NEW]) as layer:
        mallory = await layer.attach(tell_gaps=True)
        await layer.group_add("mallory", mallory.channel)
        await layer.group_add("work", mallory.channel)
        engine, place = engine_of(layer), engine_of(layer).place
        await layer.send("work", number(1))
        await publish(layer, "room", 2)
        await engine.enter(
            Lease("room", "ada.1!2", "ada", layer._packing.pack(INFO, {"secret": 3}, "room")), 60
        )
        stolen = [payload for _, payload, _ in place.queues["work"]]
        stolen += [payload for _, _, payload in place.histories["room"].entries]
        lease = place.presence["room"]["ada.1!2"][1]
        for payload in stolen:
            await engine.publish("mallory", payload)
            await engine.publish("work", payload)
        await engine.enter(lease._replace(group="mallory"), 60)
        await layer.settle()
        assert told(waiting(mallory)) == [("mallory", "unreadable", 2), ("work", "unreadable", 2)]
        assert await layer.presence("mallory") == {"ada.1!2": None}
        assert await layer.presence("room") == {"ada.1!2": {"secret": 3}}
        with anyio.fail_after(20):
            assert await layer.receive("work") == number(1)
        assert caplog.text.count("encrypted for another group or channel") == 1
        layer.detach(mallory)
