"""``embedded://``: the layer of a server that brings its engine along, and ends it when it ends."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from urllib.parse import unquote

from ..exceptions import InvalidChannelLayerError, MissingExtra
from ..layers.registry import layer_from_url
from ..layers.url_parts import split_url
from .embedded import EmbeddedEngine
from .engine_program import find_program

__all__ = ["SCHEME", "embedded_layer", "ended_by_sigterm"]

SCHEME = "embedded"


@contextmanager
def embedded_layer(url: str) -> Iterator[str]:
    """Run an engine, and yield the URL of the layer on it.

    Args:
        url: ``embedded://``, or ``embedded:///folder`` for data that outlives the engine,
            with the options that ``valkey://`` has.

    Raises:
        InvalidChannelLayerError: the URL makes no sense.
        MissingExtra: the client library of the layer is not installed.
        ConfigurationError: there is no program for an engine, or it does not start.
    """
    parts = split_url(url)
    if parts.netloc:
        raise InvalidChannelLayerError(
            f"{url!r} names a host, but the engine runs on this machine; a folder for its data "
            f"begins with a slash: {SCHEME}:///{parts.netloc}{parts.path}"
        )
    options = f"?{parts.query}" if parts.query else ""
    try:
        layer_from_url(f"valkey://{options}")  # so that a wrong option is refused here
    except MissingExtra as error:
        raise MissingExtra("a server with an engine of its own", "embedded") from error
    folder = Path(unquote(parts.path)) if parts.path.strip("/") else None
    with EmbeddedEngine(find_program(), folder) as engine:
        yield f"valkey://{engine.location}{options}"


class _Terminated(SystemExit):
    """SIGTERM has come."""


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Unwind this process when SIGTERM comes, rather than end it; then let the signal end it.

    uvicorn with one worker ends, and then sends itself the signal that it got, which would end
    the process before what is to be ended with it.
    """

    def unwind(number: int, frame: FrameType | None) -> None:
        raise _Terminated(128 + number)

    before = signal.signal(signal.SIGTERM, unwind)
    try:
        yield
    except _Terminated:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
