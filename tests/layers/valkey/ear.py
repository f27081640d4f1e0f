"""A receiver that remembers what it was brought, and waits for more of it."""

from collections.abc import Callable
from typing import NamedTuple

import anyio

from asgi_notify.positions import Position

__all__ = ["Ear", "Heard", "until"]

PATIENCE = 20.0  # seconds


class Heard(NamedTuple):
    topic: str
    payload: bytes
    position: Position | None


class Ear:
    """Attributes:
    heard: what came, in order.
    states: "down" and "up", in order; with the part where there is one.
    reasons: of each "down".
    """

    def __init__(self) -> None:
        self.heard: list[Heard] = []
        self.states: list[str] = []
        self.reasons: list[str] = []
        self._changed = anyio.Event()

    def receive(self, topic: str, payload: bytes, position: Position | None) -> None:
        self.heard.append(Heard(topic, payload, position))
        self._change()

    def went_down(self, reason: str, part: str = "") -> None:
        self.states.append(f"down {part}".strip())
        self.reasons.append(reason)
        self._change()

    def came_up(self, part: str = "") -> None:
        self.states.append(f"up {part}".strip())
        self._change()

    def payloads(self, topic: str | None = None) -> list[bytes]:
        return [one.payload for one in self.heard if topic in (None, one.topic)]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something that it was brought makes a condition true."""
        with anyio.fail_after(PATIENCE):
            while not condition():
                await self._changed.wait()

    def _change(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()


async def until(condition: Callable[[], bool]) -> None:
    """Wait until a condition is true of which nothing tells."""
    with anyio.fail_after(PATIENCE):
        while not condition():  # noqa: ASYNC110
            await anyio.sleep(0.01)
