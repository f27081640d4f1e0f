"""The client library has one pipe in a process; engines live in any loop nevertheless."""

import threading
from collections.abc import Callable
from contextlib import suppress

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest

from asgi_notify.exceptions import LayerUnavailable
from asgi_notify.layers.valkey import ValkeyEngine
from asgi_notify.layers.valkey_address import read_url
from tests.valkey_servers import ValkeyServer

from .ear import PATIENCE, Ear

BACKENDS = ("asyncio", "trio")


class ThreadEar(Ear):
    """Also remembers in which threads it was called."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: set[int] = set()

    def _change(self) -> None:
        self.threads.add(threading.get_ident())
        super()._change()


def new_engine(url: str, prefix: str) -> ValkeyEngine:
    return ValkeyEngine(read_url(url).addresses[0], prefix=prefix, timeout=2.0, probe_interval=0.2)


async def use(url: str, prefix: str, meanwhile: Callable[[], object] | None = None) -> None:
    """Open an engine and hear something; and again after something else has happened."""
    ear, engine = ThreadEar(), new_engine(url, prefix)
    await engine.open(ear)
    await engine.subscribe(["room"])
    for number in range(20):
        await engine.publish("room", b"%d" % number)
    await ear.until(lambda: len(ear.heard) == 20)
    if meanwhile is not None:
        await anyio.to_thread.run_sync(meanwhile)
        with anyio.fail_after(PATIENCE):
            while b"end" not in ear.payloads():
                with suppress(LayerUnavailable):
                    await engine.publish("room", b"end")
                await anyio.sleep(0.05)
    assert ear.payloads()[:20] == [b"%d" % number for number in range(20)]
    assert ear.threads == {threading.get_ident()}
    await engine.close()


@pytest.mark.parametrize("second", BACKENDS)
@pytest.mark.parametrize("first", BACKENDS)
def test_one_loop_after_the_other(
    own_server: ValkeyServer, prefix: str, first: str, second: str
) -> None:
    for backend in (first, second, first):
        anyio.run(use, own_server.url, prefix, backend=backend)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("other", "mine"),
    # Two loops of trio at the same time are beyond the client library; see valkey_link.
    [("asyncio", "asyncio"), ("asyncio", "trio"), ("trio", "asyncio")],
)
def test_the_loop_that_came_first_ends_while_another_goes_on(
    own_server: ValkeyServer, prefix: str, other: str, mine: str
) -> None:
    opened, end, ended = threading.Event(), threading.Event(), threading.Event()

    async def hold() -> None:
        engine = new_engine(own_server.url, prefix)
        await engine.open(Ear())
        opened.set()
        await anyio.to_thread.run_sync(end.wait)
        await engine.close()

    def first_loop() -> None:
        anyio.run(hold, backend=other)
        ended.set()

    def let_it_end() -> None:
        # It owns the pipe: from here on nothing comes, which is noticed and mended.
        end.set()
        assert ended.wait(PATIENCE)

    thread = threading.Thread(target=first_loop)
    thread.start()
    try:
        assert opened.wait(PATIENCE)
        anyio.run(use, own_server.url, prefix, let_it_end, backend=mine)
    finally:
        end.set()
        thread.join(PATIENCE)
