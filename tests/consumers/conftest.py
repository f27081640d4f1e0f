"""Fixtures of the tests of consumers."""

from collections.abc import Iterator

import pytest

from asgi_notify import InMemoryChannelLayer, channel_layers


@pytest.fixture
def layer() -> Iterator[InMemoryChannelLayer]:
    """A layer of the test's own, which its consumers find as the default one."""
    layer = InMemoryChannelLayer()
    old = channel_layers.set("default", layer)
    yield layer
    channel_layers.set("default", old)
