"""With encryption keys, the server and the wire see no content, and a key is changed in traffic."""

import logging
import traceback
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import anyio
import pytest
from cryptography.fernet import Fernet
from redis import Redis

from asgi_notify.exceptions import ConfigurationError, InvalidChannelLayerError, NotifyError
from asgi_notify.layers import History, Mailbox, layer_from_url
from asgi_notify.layers.packing import TO_MEMBERS, Packing
from asgi_notify.layers.valkey_layer import ValkeyChannelLayer
from asgi_notify.positions import Position
from tests.layers.tools import number, read, told, waiting
from tests.valkey_servers import ValkeyServer

from .ear import PATIENCE
from .tap import tapped

pytestmark = pytest.mark.anyio

OLD, NEW = (Fernet.generate_key().decode() for _ in range(2))
HISTORY = {"room*": History(size=1000, ttl=60)}
SECRET = "a-very-secret-text"


def stored(admin: Redis) -> Iterator[bytes]:
    """All names and values on a server, as bytes."""
    readers: dict[object, Any] = {
        b"string": admin.get,
        b"hash": admin.hgetall,
        b"list": lambda key: admin.lrange(key, 0, -1),
        b"zset": lambda key: admin.zrange(key, 0, -1),
        b"stream": admin.xrange,
    }
    for key in admin.scan_iter(count=1000):
        yield key + repr(readers[admin.type(key)](key)).encode()


@pytest.mark.parametrize("keys", [(), (OLD,)], ids=["in clear", "encrypted"])
async def test_neither_the_server_nor_the_wire_sees_what_is_sent(
    own_server: ValkeyServer, keys: tuple[str, ...]
) -> None:
    async with AsyncExitStack() as stack:
        tap = await stack.enter_async_context(tapped(own_server.port))
        one, two = [
            await stack.enter_async_context(
                ValkeyChannelLayer(tap.url, history=HISTORY, encryption_keys=keys)
            )
            for _ in range(2)
        ]
        mailbox = await one.attach()
        await one.group_add("room", mailbox.channel, member="ada", info={"name": SECRET})
        await one.presence_follow("room", mailbox.channel)
        message = {"type": "x", "data": SECRET, SECRET: 1}
        await two.group_send("room", message)
        await two.group_send("room", message, idempotency_key="once")
        await two.group_send("room.transient", {**message, "transient": True})
        await two.send(mailbox.channel, message)
        await two.send("work", message)
        await two.send("work", message)
        assert await one.receive("work") == message
        with anyio.fail_after(PATIENCE):
            assert [await read(mailbox) for _ in range(3)] == [message] * 3
        assert await two.presence("room") == {mailbox.channel: {"name": SECRET}}
        assert list((await two.history("room")).messages) == [message] * 2
        with own_server.admin as admin:
            everything = b"\n".join(stored(admin))
        for name in (b":room", b":work", b"ada"):  # or nothing was looked at
            assert name in everything
            assert name in tap.sent
        seen = {SECRET.encode() in data for data in (everything, tap.sent, tap.received)}
        assert seen == {not keys}
        one.detach(mailbox)


class Process:
    """A process whose client comes back after each restart, and says where it stands."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.got: list[object] = []
        self.since: Position | None = None
        self.layer: ValkeyChannelLayer
        self.mailbox: Mailbox

    async def start(self, *keys: str) -> None:
        self.layer = ValkeyChannelLayer(self.url, history=HISTORY, encryption_keys=keys)
        await self.layer.open()
        self.mailbox = await self.layer.attach(tell_gaps=True)
        joined = await self.layer.group_add("room", self.mailbox.channel, since=self.since)
        assert joined.recovered is (None if self.since is None else True)

    async def stop(self) -> None:
        self.take()
        self.layer.detach(self.mailbox)
        await self.layer.close()

    def take(self) -> None:
        for message in waiting(self.mailbox):
            self.got.extend(told([message]))
            self.since = getattr(message, "position", None)


async def test_a_key_is_changed_while_messages_go_on(own_server: ValkeyServer) -> None:
    processes = [Process(own_server.url), Process(own_server.url)]
    for process in processes:
        await process.start(OLD)
    sent, is_over = 0, False

    async def publish() -> None:
        nonlocal sent
        while not is_over:
            for process in processes:
                try:
                    await process.layer.group_send(
                        "room", number(sent + 1), idempotency_key=f"{sent + 1}"
                    )
                except NotifyError:
                    continue  # it restarts; the other one sends it
                sent += 1
                process.take()

    with anyio.fail_after(2 * PATIENCE):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(publish)
            for keys in [(OLD, NEW), (NEW, OLD), (NEW,)]:
                for process in processes:
                    until = sent + 20
                    while sent < until:
                        await anyio.lowlevel.checkpoint()
                    await process.stop()
                    await process.start(*keys)
            is_over = True
        for process in processes:
            while process.got[-1:] != [sent]:
                process.take()
                await anyio.lowlevel.checkpoint()
    for process in processes:
        assert process.got == list(range(1, sent + 1))
        assert process.layer.statistics()["undecodable"] == 0
        await process.stop()


def test_keys_come_from_a_file_or_a_variable_that_the_url_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "keys"
    file.write_text(f"# the new one first\n{NEW}\n\n  {OLD}  # until Friday\n")
    monkeypatch.setenv("NOTIFY_KEYS", f"{OLD}, {NEW}")
    for where in (f"file:{file}", "env:NOTIFY_KEYS"):
        layer = layer_from_url(f"valkey://h/0?encryption_keys={where}")
        assert isinstance(layer, ValkeyChannelLayer)
        first, second = (NEW, OLD) if where.startswith("file") else (OLD, NEW)
        sealed = layer._packing.pack(TO_MEMBERS, number(1), "room")
        assert Packing(1000, [first]).unpack(sealed, "room", TO_MEMBERS) is not None
        assert Packing(1000, [second]).unpack(sealed, "room", TO_MEMBERS) is None
        sealed = Packing(1000, [second]).pack(TO_MEMBERS, number(1), "room")
        assert layer._packing.unpack(sealed, "room", TO_MEMBERS) is not None


@pytest.mark.parametrize(
    ("where", "sentence"),
    [
        (OLD, "names where the keys are: env:NAME or file:PATH"),
        (f"{OLD},{NEW}", "names where the keys are"),
        ("", "names where the keys are"),
        (f"env:{OLD}", "names where the keys are: env:NAME or file:PATH"),
        ("env:NOTIFY_NO_KEYS", "NOTIFY_NO_KEYS holds no key"),
        ("env:NOTIFY_BAD_KEYS", "number 2 of encryption_keys is no key: make one with"),
        ("file:/no/such/file", "/no/such/file cannot be read: No such file"),
    ],
    ids=[
        "a key",
        "two keys",
        "nothing",
        "a key as the name",
        "no variable",
        "a bad key",
        "no file",
    ],
)
def test_keys_that_cannot_be_used_are_refused_and_not_shown(
    where: str, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_BAD_KEYS", f"{OLD} {NEW[:-3]}")
    with pytest.raises(InvalidChannelLayerError, match=sentence) as caught:
        layer_from_url(f"valkey://h/0?encryption_keys={where}")
    told = "".join(traceback.format_exception(caught.value))
    assert OLD not in told
    assert NEW[:-3] not in told


async def test_a_key_is_in_no_repr_error_or_line_of_the_log(
    own_server: ValkeyServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(ConfigurationError, match="number 1 of encryption_keys") as caught:
        ValkeyChannelLayer(own_server.url, encryption_keys=[OLD[:-4]])
    shown = "".join(traceback.format_exception(caught.value))
    async with AsyncExitStack() as stack:
        old, new = [
            await stack.enter_async_context(
                ValkeyChannelLayer(own_server.url, history=HISTORY, encryption_keys=[key])
            )
            for key in (OLD, NEW)
        ]
        mailbox = await old.attach(tell_gaps=True)
        await old.group_add("room", mailbox.channel)
        await new.group_send("room", number(1))
        await new.send("work", number(1))
        await old.send("work", number(2))
        assert await old.receive("work") == number(2)
        with anyio.fail_after(PATIENCE):
            assert told([await read(mailbox)]) == [("room", "unreadable", 1)]
        assert old.statistics()["undecryptable"] == 2
        assert caplog.text.count("cannot be decrypted with the keys of this process") == 1
        shown += caplog.text + repr(old) + repr(vars(old)) + repr(vars(old._packing))
        shown += repr(old.statistics())
        old.detach(mailbox)
    assert OLD[:-4] not in shown
    assert NEW not in shown
