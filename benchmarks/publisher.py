"""The publisher inside a server: what it sends, to whom, and how it takes turns with the loop."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from .payload import stamped

__all__ = ["Job", "Publisher"]

Publish = Callable[[str, str], Awaitable[object]]


@dataclass(frozen=True)
class Job:
    """What to publish.

    Args:
        messages: how many each group gets.
        groups: how many there are, named "1", "2", ...; where there are several,
            each round of them is in an order of its own.
        size: characters of a message.
        train: how many are published in a row before the loop gets its turn.
        rate: messages per second; as fast as they go where None.
    """

    messages: int
    groups: int = 1
    size: int = 128
    train: int = 1
    rate: float | None = None


class Publisher:
    """Publishes as a request handler inside the server would, and takes the time.

    Attributes:
        began: when the last job began, on CLOCK_MONOTONIC, in nanoseconds.
        published: how many messages it has sent so far.
    """

    def __init__(self, publish: Publish) -> None:
        self._publish = publish
        self._cpu = 0
        self._task: asyncio.Task[None] | None = None
        self.began = 0
        self.published = 0

    @property
    def cpu(self) -> int:
        """What the whole process has worked since the last job began, in nanoseconds."""
        return time.process_time_ns() - self._cpu

    def start(self, job: Job) -> None:
        """Begin with a job, and give up the one before if it has not ended."""
        if self._task is not None:
            self._task.cancel()
        order = _order(job)
        self.published = 0
        self._task = asyncio.create_task(self._run(job, order))

    def check(self) -> None:
        """Raise what the job has failed with, if it has."""
        if self._task is not None and self._task.done() and not self._task.cancelled():
            self._task.result()

    async def _run(self, job: Job, order: list[str]) -> None:
        self.began = time.monotonic_ns()
        self._cpu = time.process_time_ns()
        beginning = time.monotonic()
        for number, group in enumerate(order):
            if job.rate is not None:
                due = beginning + number / job.rate
                await asyncio.sleep(max(0.0, due - time.monotonic()))
            await self._publish(group, stamped(job.size))
            self.published += 1
            if job.rate is None and self.published % job.train == 0:
                await asyncio.sleep(0)


def _order(job: Job) -> list[str]:
    groups = [str(number + 1) for number in range(job.groups)]
    shuffle = random.Random(0).shuffle  # the same for each contender
    order: list[str] = []
    for _ in range(job.messages):
        shuffle(groups)
        order += groups
    return order
