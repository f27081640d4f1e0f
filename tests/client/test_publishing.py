"""A client publishes over its socket: once, however often the connection breaks meanwhile."""

from typing import Any

import anyio
import pytest

from asgi_notify import (
    ClientError,
    Forbidden,
    InvalidMessage,
    InvalidName,
    MisuseError,
    TooLarge,
    Unauthorized,
)
from asgi_notify.client import Backoff, ServerUnavailable, connect
from asgi_notify.client import client as client_module
from asgi_notify.client import conversation as conversation_module
from asgi_notify.client.publications import UNDER_WAY
from tests.client.fake import Frame, Peer, fake_server
from tests.client.proxy import open_proxy
from tests.servers import Server

pytestmark = pytest.mark.anyio

SOON = Backoff(base=0.01, max=0.05)


async def answer(peer: Peer, frame: Frame, position: str | None = "aaaaaaaa-1") -> None:
    await peer.send(type="published", group=frame["group"], position=position, ref=frame["ref"])


async def refuse(peer: Peer, frame: Frame, code: str) -> None:
    await peer.send(
        type="error", code=code, message="because", ref=frame["ref"], group=frame["group"]
    )


async def test_it_says_where_the_notification_stands() -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        frame = await peer.expect("publish")
        assert (frame["group"], frame["data"]) == ("chat", {"text": "größer"})
        await answer(peer, frame)
        other = await peer.expect("publish")
        assert (other["data"], other["key"]) == (None, "mine")
        assert other["ref"] != frame["ref"]
        assert 1 <= len(frame["key"]) <= 64
        await answer(peer, other, None)
        await peer.ends()

    async with fake_server(script) as server, connect(server.url) as client:
        assert await client.publish("chat", {"text": "größer"}) == "aaaaaaaa-1"
        assert await client.publish("chat", None, key="mine") is None


async def test_cut_before_the_answer_it_is_sent_again_with_its_key() -> None:
    seen: list[Frame] = []

    async def script(peer: Peer) -> None:
        await peer.welcome()
        await peer.subscribe()  # first, so that it hears what was published
        seen.append(await peer.expect("publish"))
        if peer.number == 3:
            await answer(peer, seen[-1])
            await peer.ends()

    async with (
        fake_server(script) as server,
        connect(server.url, backoff=SOON) as client,
        client.subscribe("user_42", on_gap=lambda gap: None),
    ):
        assert await client.publish("chat", "once") == "aaaaaaaa-1"
    assert len(seen) == 3
    assert seen[0] == seen[1] == seen[2]


async def test_what_has_its_answer_is_not_sent_again() -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        await answer(peer, await peer.expect("publish"), f"aaaaaaaa-{peer.number}")

    async with fake_server(script) as server, connect(server.url, backoff=SOON) as client:
        for number in 1, 2, 3:
            assert await client.publish("chat", number) == f"aaaaaaaa-{number}"


async def test_it_waits_for_a_server() -> None:
    async def script(peer: Peer) -> None:
        if peer.number < 3:
            return
        await peer.welcome()
        await answer(peer, await peer.expect("publish"))
        await peer.ends()

    async with (
        fake_server(script) as server,
        connect(server.url, backoff=SOON, retry_first=True) as client,
    ):
        assert await client.publish("chat", "early") == "aaaaaaaa-1"


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("forbidden", Forbidden),
        ("unauthorized", Unauthorized),
        ("bad_request", ClientError),
        ("unknown_type", ClientError),  # of a server that is older
        ("failed", ServerUnavailable),
    ],
)
async def test_a_refusal_is_raised_and_the_connection_goes_on(
    code: str, kind: type[Exception]
) -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        await refuse(peer, await peer.expect("publish"), code)
        await answer(peer, await peer.expect("publish"))
        await peer.ends()

    async with fake_server(script) as server, connect(server.url) as client:
        with pytest.raises(kind, match="not published to 'chat': because") as caught:
            await client.publish("chat", "no")
        assert type(caught.value) is kind
        assert await client.publish("chat", "yes") == "aaaaaaaa-1"
        assert len(server.peers) == 1


async def test_cancelled_it_is_forgotten() -> None:
    arrived = anyio.Event()

    async def script(peer: Peer) -> None:
        await peer.welcome()
        if peer.number == 2:
            returned.set()
        frame = await peer.expect("publish")
        if peer.number == 1:
            arrived.set()
            await answer_late(peer, frame)
            return
        assert frame["data"] == "second"  # and not the first once more
        await answer(peer, frame)
        await peer.ends()

    async def answer_late(peer: Peer, frame: Frame) -> None:
        await cancelled.wait()
        await refuse(peer, frame, "failed")  # which nobody waits for, and ends nothing
        await answer(peer, await peer.expect("publish"))

    cancelled, returned = anyio.Event(), anyio.Event()
    async with fake_server(script) as server, connect(server.url, backoff=SOON) as client:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.publish, "chat", "first")
            await arrived.wait()
            tasks.cancel_scope.cancel()
        cancelled.set()
        assert await client.publish("chat", "first again") == "aaaaaaaa-1"
        await returned.wait()
        assert await client.publish("chat", "second") == "aaaaaaaa-1"


async def test_so_many_are_under_way_and_no_more() -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        frames = [await peer.expect("publish") for _ in range(UNDER_WAY)]
        with anyio.move_on_after(0.1):
            raise AssertionError(f"one too many: {await peer.read()}")
        for frame in frames:
            await answer(peer, frame)
        await answer(peer, await peer.expect("publish"))
        await peer.ends()

    async with (
        fake_server(script) as server,
        connect(server.url) as client,
        anyio.create_task_group() as tasks,
    ):
        for number in range(UNDER_WAY + 1):
            tasks.start_soon(client.publish, "chat", number)


async def test_one_that_is_too_large_ends_alone() -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        frames = [await peer.expect("publish")]
        if peer.number == 1:
            frames.append(await peer.expect("publish"))
            await peer.close(1009, "at most 16384 bytes")
            return
        assert frames[0]["data"] == "small"
        await answer(peer, frames[0])
        await peer.ends()

    async def large() -> None:
        with pytest.raises(TooLarge, match="more than the server takes"):
            await client.publish("chat", "x" * 20_000)

    async def small() -> None:
        assert await client.publish("chat", "small") == "aaaaaaaa-1"

    async with (
        fake_server(script) as server,
        connect(server.url, backoff=SOON) as client,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(large)
        tasks.start_soon(small)


async def test_who_waits_is_told_of_the_end() -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        await peer.expect("publish")
        await peer.close(4403, "not you")

    async with fake_server(script) as server, connect(server.url) as client:
        for _ in range(2):  # also who comes later
            with pytest.raises(Forbidden, match="not you"):
                await client.publish("chat", "hello")


async def test_closing_ends_the_wait() -> None:
    arrived = anyio.Event()

    async def script(peer: Peer) -> None:
        await peer.welcome()
        await peer.expect("publish")
        arrived.set()
        await peer.ends()

    async def publish() -> None:
        with pytest.raises(MisuseError, match="it may have been published"):
            await client.publish("chat", "hello")

    async with (
        fake_server(script) as server,
        anyio.create_task_group() as tasks,
        connect(server.url) as client,
    ):
        tasks.start_soon(publish)
        await arrived.wait()
    with pytest.raises(MisuseError, match="publish inside the block"):
        await client.publish("chat", "late")


async def test_a_server_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        await peer.ends()

    monkeypatch.setattr(client_module, "PUBLISH_TIMEOUT", 0.05)
    async with fake_server(script) as server, connect(server.url) as client:
        with pytest.raises(ServerUnavailable, match="it may have been published"):
            await client.publish("chat", "hello")


async def test_what_cannot_be_sent_is_refused_at_once() -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        await peer.ends()

    deep: Any = []
    for _ in range(101):
        deep = [deep]
    async with fake_server(script) as server, connect(server.url) as client:
        for data in object(), float("nan"), deep:
            with pytest.raises(InvalidMessage):
                await client.publish("chat", data)
        with pytest.raises(InvalidName):
            await client.publish("no group", "hello")


async def test_who_reads_may_publish_though_more_has_come_than_the_queue_holds() -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        await peer.subscribe("aaaaaaaa-0")
        for offset in range(1, 21):
            await peer.notify(f"aaaaaaaa-{offset}")
        for _ in range(20):
            await answer(peer, await peer.expect("publish"))
        await peer.ends()

    async with (
        fake_server(script) as server,
        connect(server.url, capacity=2) as client,
        client.subscribe("user_42") as notifications,
    ):
        for offset in range(1, 21):
            assert (await anext(notifications)).id == f"aaaaaaaa-{offset}"
            await client.publish("chat", offset)


async def test_a_notification_says_whose_client_has_published_it() -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        await peer.subscribe()
        for more in {"user": "auth0|7"}, {}, {"user": None}, {"user": 7}:
            await peer.send(type="notification", group="chat", id=None, data="hello", **more)
        await peer.ends()

    async with (
        fake_server(script) as server,
        connect(server.url) as client,
        client.subscribe("chat") as notifications,
    ):
        users = [(await anext(notifications)).user for _ in range(4)]
    assert users == ["auth0|7", None, None, None]


async def test_what_comes_before_an_answer_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversation_module, "AHEAD", 5)
    monkeypatch.setattr(client_module, "PUBLISH_TIMEOUT", 0.2)

    async def script(peer: Peer) -> None:
        await peer.welcome()
        await peer.subscribe("aaaaaaaa-0")
        frame = await peer.expect("publish")
        for offset in range(1, 21):
            await peer.notify(f"aaaaaaaa-{offset}")
        await answer(peer, frame)
        await peer.ends()

    async with (
        fake_server(script) as server,
        connect(server.url, capacity=2) as client,
        client.subscribe("user_42") as notifications,
    ):
        with pytest.raises(ServerUnavailable):
            await client.publish("chat", "hello")
        for offset in range(1, 21):
            assert (await anext(notifications)).id == f"aaaaaaaa-{offset}"


@pytest.mark.slow
async def test_a_real_server_publishes_once_through_cuts(anyio_backend: str) -> None:
    with Server("uvicorn-websockets-sansio", "examples.chat:app") as server:
        with anyio.fail_after(30):
            await talk_through_cuts(server)


async def talk_through_cuts(server: Server) -> None:
    async with (
        open_proxy(server.port) as proxy,
        connect(f"{server.ws}/notifications/") as reader,
        connect(proxy.url, backoff=SOON) as writer,
        reader.subscribe("chat") as notifications,
        anyio.create_task_group() as tasks,
    ):

        async def cut() -> None:
            while True:
                await anyio.sleep(0.03)
                await proxy.cut()

        tasks.start_soon(cut)
        positions = [await writer.publish("chat", number) for number in range(50)]
        tasks.cancel_scope.cancel()
        read = [await anext(notifications) for _ in range(50)]
        assert [each.data for each in read] == list(range(50))
        assert [each.id for each in read] == positions
        assert {each.user for each in read} == {None}
        with pytest.raises(Forbidden):
            await writer.publish("user_1", "hello")
        with pytest.raises(TooLarge):
            await writer.publish("chat", "x" * 16 * 1024)
        assert await writer.publish("chat", "x") is not None
