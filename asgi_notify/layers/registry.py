"""From a URL or an alias to a layer: which one consumers and publishers get."""

import importlib
import os
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from ..exceptions import InvalidChannelLayerError
from ..settings import Settings
from .base import BaseChannelLayer
from .url_parts import split_url

__all__ = [
    "DEFAULT_CHANNEL_LAYER",
    "ChannelLayerManager",
    "channel_layers",
    "get_channel_layer",
    "layer_from_url",
]

DEFAULT_CHANNEL_LAYER = "default"

# Engines are named, not imported: each brings a client library of its own.
ENGINES = {
    "memory": "asgi_notify.layers.memory:InMemoryChannelLayer",
    **dict.fromkeys(
        ("valkey", "valkeys", "redis", "rediss"),
        "asgi_notify.layers.valkey_layer:ValkeyChannelLayer",
    ),
}


def layer_from_url(url: str) -> BaseChannelLayer:
    """Make the layer that a URL describes.

    ``memory://`` is the layer of a single process. Options follow as a query,
    with the names and units of the layer's own arguments:
    ``memory://?capacity=500&expiry=30&overflow=drop_oldest&debug=1``. Groups
    with a history are named by globs: ``history=user_*&history=order_*``, each
    of ``history_size`` messages for ``history_ttl`` seconds.

    ``valkey://host:6379/0`` and ``redis://...`` are the layer of several processes, with the
    same options and some more; see `ValkeyChannelLayer`. Its URL may hold a password, which
    no error shows.

    Raises:
        InvalidChannelLayerError: the scheme or an option is not known, or an
            option's value makes no sense.
    """
    parts = split_url(url)
    if parts.scheme == "embedded":
        raise InvalidChannelLayerError(
            "embedded:// is a server that `asgi-notify serve` starts, and ends with itself; "
            "under another server start a Valkey or Redis, and name it: valkey://127.0.0.1:6379"
        )
    if parts.scheme not in ENGINES:
        known = ", ".join(f"{scheme}://" for scheme in sorted(ENGINES))
        # The rest of a URL may hold a password, which is not for a log.
        name = f"{parts.scheme}://" if parts.scheme else url
        is_safe = parts.scheme or re.fullmatch(r"[\w-]*", url)
        shown = repr(name) if is_safe else "a URL that does not begin with a scheme"
        raise InvalidChannelLayerError(f"no channel layer for {shown}; known are {known}")
    return _load(ENGINES[parts.scheme])(url)


def _load(name: str) -> Callable[[str], BaseChannelLayer]:
    module, _, attribute = name.partition(":")
    kind: type[BaseChannelLayer] = getattr(importlib.import_module(module), attribute)
    return kind.from_url


class ChannelLayerManager:
    """The channel layers of this process, by alias.

    The layer ``"default"`` is made when it is first asked for, from
    ``ASGI_NOTIFY_LAYER`` or else in memory; others are set.
    """

    def __init__(self) -> None:
        self._layers: dict[str, BaseChannelLayer] = {}

    def __contains__(self, alias: str) -> bool:
        return alias == DEFAULT_CHANNEL_LAYER or alias in self._layers

    def __getitem__(self, alias: str) -> BaseChannelLayer:
        """The layer of that alias.

        Raises:
            InvalidChannelLayerError: none was set.
        """
        if alias == DEFAULT_CHANNEL_LAYER and alias not in self._layers:
            made = layer_from_url(Settings.from_environ(os.environ).layer)
            return self._layers.setdefault(alias, made)  # another thread may have been first
        if alias not in self._layers:
            raise InvalidChannelLayerError(
                f"no channel layer {alias!r}; there are {', '.join(sorted(self._layers)) or 'none'}"
                f": add it with channel_layers.set({alias!r}, 'memory://')"
            )
        return self._layers[alias]

    def found(self, alias: str) -> BaseChannelLayer | None:
        """The layer that the alias has by now; None where none was set or asked for."""
        return self._layers.get(alias)

    def set(self, alias: str, layer: BaseChannelLayer | str | None) -> BaseChannelLayer | None:
        """Set the layer of an alias, and return the one that it replaces.

        Args:
            alias: ``"default"`` is what consumers take that were given no other.
            layer: a layer, or the URL of one; None forgets the alias.

        Raises:
            InvalidChannelLayerError: the URL describes no layer.
        """
        if isinstance(layer, str):
            layer = layer_from_url(layer)
        old = self._layers.pop(alias, None)
        if layer is not None:
            self._layers[alias] = layer
        return old

    async def close(self) -> None:
        """Close all layers, so that their consumers end; see `BaseChannelLayer.close`."""
        async with AsyncExitStack() as stack:
            for layer in self._layers.values():
                stack.push_async_callback(layer.close)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Open the default layer and all that were set; close them at the end."""
        self[DEFAULT_CHANNEL_LAYER]
        async with AsyncExitStack() as stack:
            for layer in tuple(self._layers.values()):
                await stack.enter_async_context(layer)
            yield


channel_layers = ChannelLayerManager()
"""The channel layers of this process."""


def get_channel_layer(alias: str = DEFAULT_CHANNEL_LAYER) -> BaseChannelLayer:
    """The layer of that alias; the default one is made when it is first asked for.

    Raises:
        InvalidChannelLayerError: no layer of that alias was set, or
            ``ASGI_NOTIFY_LAYER`` describes none.
    """
    return channel_layers.found(alias) or channel_layers[alias]
