"""A message for one reader alone, which says when it has handled it."""

import logging
from collections.abc import Awaitable, Callable
from types import TracebackType

import anyio

from ..exceptions import LayerUnavailable
from ..types import Message

__all__ = ["Delivery"]

logger = logging.getLogger("asgi_notify.layers")


class Delivery:
    """A message of a fixed-name channel that nobody else is given while it is handled.

    ::

        async with await layer.take("thumbnails") as message:
            ...  # handle it

    At the end of the block it is settled: nobody gets it again. That is so too where the
    block raises, as a message that fails once would fail for ever. Where the block is
    cancelled, the message is given back at once, and where the process dies, it is given back
    after the layer's ``visibility_timeout``. A layer of one process has nobody to give it
    back to: there it is settled as soon as it is taken.

    Attributes:
        message: what was sent.
        attempt: 1, or how many readers have been given it, of which all before this one died.
    """

    def __init__(
        self,
        message: Message,
        attempt: int = 1,
        settle: Callable[[], Awaitable[None]] | None = None,
        release: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.message = message
        self.attempt = attempt
        self._settle = settle
        self._release = release

    async def __aenter__(self) -> Message:
        return self.message

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        is_over = error is None or isinstance(error, Exception)
        tell = self._settle if is_over else self._release
        if tell is None:
            return
        with anyio.CancelScope(shield=True):
            try:
                await tell()
            except LayerUnavailable as reason:
                logger.warning(
                    "%s was handled, and will be again: nobody could be told (%s)",
                    self.message["type"], reason,
                )  # fmt: skip
