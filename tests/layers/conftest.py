"""The layers that the contract is tested with."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from itertools import count
from typing import Any

import pytest

from asgi_notify.layers import BaseChannelLayer, History, InMemoryChannelLayer, Mailbox, Overflow
from asgi_notify.layers.valkey_layer import ValkeyChannelLayer
from tests.valkey_servers import SERVERS, ValkeyServer, program

from .double import DoubleLayer, Settled
from .tools import Clock

MakeLayer = Callable[..., Awaitable[BaseChannelLayer]]
Attach = Callable[..., Awaitable[Mailbox]]


@pytest.fixture
def clock() -> Clock:
    return Clock()


class SettledValkeyLayer(Settled, ValkeyChannelLayer):
    """A layer on a real server, each under a prefix of its own."""

    url: str
    prefixes = count()

    def __init__(self, **options: Any) -> None:
        super().__init__(f"{self.url}?prefix=contract{next(self.prefixes)}", **options)


@pytest.fixture(scope="session")
def servers() -> Iterator[dict[str, ValkeyServer]]:
    """Real servers, by the name of their program, started when they are asked for."""
    running: dict[str, ValkeyServer] = {}
    yield running
    for server in running.values():
        server.__exit__(None, None, None)


def valkey_layer(servers: dict[str, ValkeyServer], name: str) -> type[BaseChannelLayer]:
    """The class of a layer on a server of that program."""
    if name not in servers:
        servers[name] = ValkeyServer(program(name)).__enter__()
    return type("ValkeyLayer", (SettledValkeyLayer,), {"url": servers[name].url})


@pytest.fixture(params=[InMemoryChannelLayer, DoubleLayer, *SERVERS])
def engine(
    request: pytest.FixtureRequest, servers: dict[str, ValkeyServer]
) -> type[BaseChannelLayer]:
    """The class of a layer; each one keeps the same contract."""
    kind: type[BaseChannelLayer] | str = request.param
    return valkey_layer(servers, kind) if isinstance(kind, str) else kind


@pytest.fixture
async def make_layer(
    anyio_backend: str, engine: type[BaseChannelLayer], clock: Clock
) -> AsyncIterator[MakeLayer]:
    """Makes opened layers, whose time is the test's, and closes them at the end."""
    async with AsyncExitStack() as stack:

        async def make(**options: Any) -> BaseChannelLayer:
            options.setdefault("clock", clock)
            return await stack.enter_async_context(engine(**options))

        yield make


@pytest.fixture
async def layer(make_layer: MakeLayer) -> BaseChannelLayer:
    """A layer with the defaults."""
    return await make_layer()


@pytest.fixture
async def kept(make_layer: MakeLayer) -> BaseChannelLayer:
    """A layer that keeps five messages of each room and user for ten seconds."""
    history = History(size=5, ttl=10)
    return await make_layer(history={"room*": history, "user_*": history})


@pytest.fixture
async def attach(make_layer: MakeLayer) -> AsyncIterator[Attach]:
    """Attaches mailboxes, as consumers do, and detaches them before the layer is closed."""
    attached: list[tuple[BaseChannelLayer, Mailbox]] = []

    async def attach(
        layer: BaseChannelLayer,
        *groups: str,
        overflow: Overflow | None = None,
        tell_gaps: bool = False,
    ) -> Mailbox:
        mailbox = await layer.attach(overflow=overflow, tell_gaps=tell_gaps)
        attached.append((layer, mailbox))
        for group in groups:
            await layer.group_add(group, mailbox.channel)
        return mailbox

    yield attach
    for layer, mailbox in attached:
        layer.detach(mailbox)
