"""The layers that the contract is tested with."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from asgi_notify.layers import BaseChannelLayer, History, InMemoryChannelLayer, Mailbox, Overflow

from .double import DoubleLayer
from .tools import Clock

MakeLayer = Callable[..., Awaitable[BaseChannelLayer]]
Attach = Callable[..., Awaitable[Mailbox]]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=[InMemoryChannelLayer, DoubleLayer])
def engine(request: pytest.FixtureRequest) -> type[BaseChannelLayer]:
    """The class of a layer; each one keeps the same contract."""
    kind: type[BaseChannelLayer] = request.param
    return kind


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
