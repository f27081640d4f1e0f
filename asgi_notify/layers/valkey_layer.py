"""The channel layer of several processes, on a Valkey or Redis server, a cluster, or several."""

from collections.abc import Callable
from functools import partial
from typing import Any, Self

from ..exceptions import ConfigurationError, InvalidChannelLayerError
from .shared import EngineChannelLayer
from .url_parts import split_url
from .urls import OPTIONS, Options, read_keys, read_options
from .valkey import engine_from_url
from .valkey_address import OPTIONS as ENGINE_OPTIONS

__all__ = ["ValkeyChannelLayer"]

_OPTIONS: Options = {
    **OPTIONS,
    "check_interval": float,
    "delivery_limit": int,
    "encryption_keys": read_keys,
    "max_message_size": int,
    "presence_lease": float,
    "publish_timeout": float,
    "release_delay": float,
    "timeout": float,
    "visibility_timeout": float,
}


class ValkeyChannelLayer(EngineChannelLayer):
    """A channel layer that all processes share that name the same server.

    ::

        channel_layers.set("default", ValkeyChannelLayer("valkey://127.0.0.1:6379/0"))

    The URL says where the server is: ``valkey://user:password@host:6379/0``, with TLS
    ``valkeys://`` and ``tls_ca=file.pem``; ``redis://`` and ``rediss://`` are the same. Several
    hosts, ``valkey://a,b:6380,c``, are servers that know nothing of each other, among which
    the groups are spread; with ``cluster=1`` they are nodes of one cluster. Its query may have
    ``prefix``, what all keys begin with (``asgi_notify``), ``probe_interval`` and ``timeout``.
    It never has an encryption key: ``encryption_keys=env:NAME`` or ``encryption_keys=file:PATH``
    says where they are.

    Args:
        url: where the server is.
        clock: returns the time in seconds, for tests; None: the server's clock counts.
        options: those of `EngineChannelLayer`.

    Raises:
        InvalidChannelLayerError: the URL or an option makes no sense.
        MissingExtra: the ``valkey`` extra is not installed.
    """

    def __init__(
        self,
        url: str = "valkey://127.0.0.1:6379/0",
        *,
        clock: Callable[[], float] | None = None,
        **options: Any,
    ) -> None:
        make_engine = partial(engine_from_url, url, frozenset({"history", *_OPTIONS}), clock=clock)
        make_engine()  # so that a wrong URL is refused here
        if clock is not None:
            options["clock"] = clock
        super().__init__(make_engine, **options)

    @classmethod
    def from_url(cls, url: str) -> Self:
        options = cls.options_of(url)
        try:
            return cls(url, **options)
        except InvalidChannelLayerError:
            raise
        except ConfigurationError as error:
            raise InvalidChannelLayerError(f"{split_url(url).scheme}://: {error}") from error

    @staticmethod
    def options_of(url: str) -> dict[str, Any]:
        """The arguments that the query of a URL gives, besides those of the server.

        Raises:
            InvalidChannelLayerError: an option is not known, or its value makes no sense.
        """
        parts = split_url(url)
        name = f"{parts.scheme}://"
        return read_options(name, parts.query, _OPTIONS, frozenset(ENGINE_OPTIONS))
