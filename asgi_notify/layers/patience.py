"""How long a sender waits for an engine that is away, and when it may try again."""

import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

import anyio

from ..exceptions import ConfigurationError, LayerUnavailable
from .link import Link

__all__ = ["insist", "require_patience"]

PAUSE = 0.05  # seconds before something is sent again, as the engine may not be known to be away

T = TypeVar("T")


def require_patience(value: float) -> float:
    """Return ``publish_timeout``, or raise `ConfigurationError` if it is below 0."""
    if isinstance(value, int | float) and value >= 0:
        return value
    raise ConfigurationError(f"publish_timeout is a number of seconds from 0 on, not {value!r}")


async def insist(
    linked: Callable[[], Awaitable[Link]],
    name: str,
    send: Callable[[Link], Awaitable[T]],
    patience: float,
    timeout: float,
    may_repeat: bool,
) -> T:
    """Send something through an engine, and wait for it while it is away.

    What was not sent yet is sent when the engine is back. What was sent without an answer
    may have arrived or not: only with an idempotency key can it be sent again and yet come
    once, so without one the sender is told.

    Args:
        linked: the link to the engine, opened where it is not.
        name: the group, channel or topic that it goes to.
        send: sends it.
        patience: seconds to wait for an engine that is away; 0: not at all.
        timeout: seconds after which the engine itself gives up a call.
        may_repeat: whether it may be sent twice, as what has a key may.

    Raises:
        LayerUnavailable: the engine is away for longer.
    """
    # Not the event loop's clock, which costs a send as much again as its other steps here.
    deadline = time.monotonic() + patience
    while True:
        may_try_again = True
        try:
            link = await linked()
            await link.reach(name, deadline)
            may_try_again = may_repeat
            if not 0 < patience < timeout:  # the engine's own timeout is enough, and costs nothing
                return await send(link)
            return await _in_time(name, partial(send, link), deadline)
        except LayerUnavailable:
            if not may_try_again or time.monotonic() >= deadline:
                raise
        await anyio.sleep(PAUSE)


async def _in_time(name: str, send: Callable[[], Awaitable[T]], deadline: float) -> T:
    try:
        with anyio.fail_after(deadline - time.monotonic()):
            return await send()
    except TimeoutError as error:
        raise LayerUnavailable(
            f"the engine has not answered in time (publish_timeout), and nobody knows whether "
            f"{name} was reached: send it again with the same idempotency_key"
        ) from error
