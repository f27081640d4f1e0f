"""The network of the chaos test does fail in the ways that it says."""

from collections.abc import AsyncIterator

import anyio
import pytest
from anyio.abc import SocketAttribute, SocketStream

from tests.chaos.proxy import PAUSE, SIP, Address, Proxy
from tests.servers import HOST

pytestmark = pytest.mark.anyio

SOON = 0.05  # seconds in which nothing comes that is held back


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def proxy() -> AsyncIterator[Proxy]:
    """Before a server that says everything twice."""
    async with (
        await anyio.create_tcp_listener(local_host=HOST) as listener,
        anyio.create_task_group() as tasks,
    ):
        proxy = Proxy(Address(listener.extra(SocketAttribute.local_port)))
        tasks.start_soon(listener.serve, twice)
        await tasks.start(proxy.serve)
        yield proxy
        tasks.cancel_scope.cancel()


async def twice(stream: SocketStream) -> None:
    async with stream:
        try:
            while True:
                await stream.send(2 * await stream.receive())
        except (anyio.BrokenResourceError, anyio.EndOfStream):
            return


async def connected(proxy: Proxy) -> SocketStream:
    stream = await anyio.connect_tcp(HOST, proxy.port)
    await stream.send(b"a")
    with anyio.fail_after(20):
        assert await stream.receive() == b"aa"
    return stream


async def comes(stream: SocketStream, seconds: float) -> bytes | None:
    with anyio.move_on_after(seconds):
        return await stream.receive()
    return None


async def test_a_reset_and_a_close_end_a_connection(proxy: Proxy) -> None:
    for kind, error in (("reset", anyio.BrokenResourceError), ("close", anyio.EndOfStream)):
        async with await connected(proxy) as stream:
            await proxy.suffer(kind)
            with anyio.fail_after(20), pytest.raises(error):
                await stream.receive()
    assert proxy.suffered == {"reset": 1, "close": 1}


@pytest.mark.parametrize("kind", ["half-open", "half-open up", "half-open down"])
async def test_a_connection_that_is_half_open_brings_nothing_and_stays(
    proxy: Proxy, kind: str
) -> None:
    async with await connected(proxy) as stream:
        await proxy.suffer(kind)
        await stream.send(b"b")
        assert await comes(stream, SOON) is None
        await proxy.suffer("delay")  # which heals nothing
        assert await comes(stream, SOON) is None
        assert proxy.suffered == {kind: 1, "delay": 1}


async def test_what_is_delayed_comes_later(proxy: Proxy) -> None:
    async with await connected(proxy) as stream, anyio.create_task_group() as tasks:
        tasks.start_soon(proxy.suffer, "delay", 3 * SOON)
        await anyio.wait_all_tasks_blocked()
        await stream.send(b"b")
        assert await comes(stream, SOON) is None
        with anyio.fail_after(20):
            assert await stream.receive() == b"bb"


async def test_a_slow_reader_takes_sips(proxy: Proxy) -> None:
    async with await connected(proxy) as stream, anyio.create_task_group() as tasks:
        tasks.start_soon(proxy.suffer, "slow", 3.0)
        await anyio.wait_all_tasks_blocked()
        await stream.send(b"b")
        with anyio.fail_after(20):
            assert await stream.receive() == b"bb"
        began = anyio.current_time()
        await stream.send(b"c" * SIP)
        with anyio.fail_after(20):
            received = b""
            while len(received) < 2 * SIP:
                received += await stream.receive()
        assert anyio.current_time() - began >= PAUSE
        tasks.cancel_scope.cancel()


async def test_where_no_server_is_connections_end_at_once(proxy: Proxy) -> None:
    proxy._server = Address(1)  # tcpmux: nobody listens
    async with await anyio.connect_tcp(HOST, proxy.port) as stream:
        with anyio.fail_after(20), pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
            await stream.receive()
