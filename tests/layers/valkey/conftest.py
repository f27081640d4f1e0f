"""Engines on real servers, each test under a prefix of its own."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from itertools import count
from typing import Any

import pytest

from asgi_notify.layers.valkey import ValkeyEngine
from asgi_notify.layers.valkey_address import read_url
from tests.valkey_servers import NEWEST, SERVERS, ValkeyServer, program

from .ear import Ear

MakeEngine = Callable[..., Awaitable[ValkeyEngine]]
MakeServer = Callable[..., ValkeyServer]

_prefixes = count()


@pytest.fixture(scope="session", params=SERVERS)
def server(request: pytest.FixtureRequest) -> Iterator[ValkeyServer]:
    """A server for all tests that do it no harm."""
    with ValkeyServer(program(request.param)) as running:
        yield running


@pytest.fixture
def any_program() -> str:
    """The newest server program of this machine, where one is as good as another."""
    return program(NEWEST)


@pytest.fixture
def own_server(any_program: str) -> Iterator[ValkeyServer]:
    """A server that the test may kill."""
    with ValkeyServer(any_program) as running:
        yield running


@pytest.fixture
def prefix() -> str:
    return f"test{next(_prefixes)}"


@pytest.fixture
async def make_engine(anyio_backend: str, prefix: str) -> AsyncIterator[MakeEngine]:
    """Makes opened engines, and closes them at the end."""
    async with AsyncExitStack() as stack:

        async def make(url: str, ear: Ear | None = None, **options: Any) -> ValkeyEngine:
            options.setdefault("prefix", prefix)
            engine = ValkeyEngine(read_url(url).addresses[0], **options)
            await engine.open(Ear() if ear is None else ear)
            stack.push_async_callback(engine.close)
            return engine

        yield make


@pytest.fixture
def ear() -> Ear:
    return Ear()


@pytest.fixture
async def engine(make_engine: MakeEngine, server: ValkeyServer, ear: Ear) -> ValkeyEngine:
    """An engine with default options, whose receiver is ``ear``."""
    return await make_engine(server.url, ear)
