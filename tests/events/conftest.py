"""Fixtures of the tests of event routing."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from asgi_notify import InMemoryChannelLayer, channel_layers


@pytest.fixture
def layer() -> Iterator[InMemoryChannelLayer]:
    """A layer of the test's own, which its connections find as the default one."""
    layer = InMemoryChannelLayer()
    old = channel_layers.set("default", layer)
    yield layer
    channel_layers.set("default", old)


@pytest.fixture
def package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[dict[str, str]], None]]:
    """Write modules that can be imported until the test ends."""
    known = set(sys.modules)
    monkeypatch.syspath_prepend(tmp_path)

    def write(sources: dict[str, str]) -> None:
        for name, source in sources.items():
            file = tmp_path / name
            file.parent.mkdir(exist_ok=True)
            file.write_text(source)

    yield write
    for name in set(sys.modules) - known:
        del sys.modules[name]
