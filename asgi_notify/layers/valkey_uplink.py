"""Keeps a process connected to its server: notices that it is deaf, and connects again.

::

                 connected, all subscribed
    CONNECTING ----------------------------> UP
        ^                                     |  the connection is another one,
        |  a pause, longer each time          |  or two probes in a row came to nothing
        `---------------- DOWN <--------------'

A probe is a message that the process publishes and hears itself. So a connection is
noticed that looks alive and brings nothing, of which no error ever tells. A probe also asks
whether the connection is still the same: the client library may have made a new one in
silence, and what was published in between is lost.
"""

import logging
import random
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from secrets import token_hex
from typing import Protocol, TypeVar

import anyio

from ..exceptions import LayerUnavailable
from .tasks import Background
from .valkey_address import ValkeyAddress
from .valkey_link import Link, LinkError
from .valkey_subscriptions import Subscriptions, Take

__all__ = ["Listener", "ValkeyUplink"]

logger = logging.getLogger("asgi_notify.layers")

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0  # seconds between two attempts; up to half is chance
MISSES = 2  # probes in a row; one may come to nothing on a machine that is busy

T = TypeVar("T")


class Listener(Protocol):
    """Who is notified of the state."""

    def went_down(self, reason: str) -> None:
        """The server cannot be reached; once for each time."""

    def came_up(self) -> None:
        """It can be reached again, and all subscriptions stand."""


class _Broken(Exception):
    """A link is not to be trusted any more."""


class ValkeyUplink:
    """Commands to a server, and subscriptions that outlive its connections.

    Args:
        address: where it is.
        probes: what the pub/sub channel of this process' probes begins with.
        timeout: the longest that a call waits, in seconds.
        probe_interval: seconds between two probes.

    Attributes:
        reconnects: how many times it was down and came up again.
    """

    def __init__(
        self, address: ValkeyAddress, probes: str, timeout: float, probe_interval: float
    ) -> None:
        self.address = address
        self.reconnects = 0
        self._timeout = timeout
        self._interval = probe_interval
        self._probe_channel = f"{probes}{token_hex(8)}"
        self._listener: Listener | None = None
        self._link: Link | None = None  # while it is up
        self._reason = "it was not opened"  # why it is not
        self._task: Background | None = None

    async def open(self, listener: Listener) -> None:
        """Connect, in the loop that runs.

        Raises:
            LayerUnavailable: it could not be reached in time.
        """
        self._up, self._suspected, self._heard = anyio.Event(), anyio.Event(), anyio.Event()
        self._reason = "no answer yet"
        self._subscriptions = Subscriptions()
        self._task = Background(self._run, f"asgi_notify's link to {self.address}")
        try:
            await self.subscribe({self._probe_channel: self._hear})
        except BaseException as error:
            reason = self._reason
            await self.aclose()
            self._reason = reason
            if isinstance(error, LayerUnavailable):
                raise LayerUnavailable(f"{error}; {_way_out(reason)}") from error
            raise
        self._listener = listener

    async def aclose(self) -> None:
        """Disconnect, for good."""
        self._listener = None
        self._reason = "it was closed"
        task, self._task = self._task, None
        if task is not None:
            self._up.set()
            await task.aclose()

    @property
    def is_up(self) -> bool:
        """Whether the server can be reached, as far as is known."""
        return self._link is not None

    async def call(self, operation: Callable[[Link], Awaitable[T]]) -> T:
        """Do something on the link, as soon as there is one.

        Raises:
            LayerUnavailable: there was none in time, or it broke before the answer, or the
                server refused. Nobody knows whether the operation was done.
        """
        if self._link is not None:  # the library keeps the time, and a scope costs as much again
            return await self._on(self._link, operation)
        with self._in_time():
            return await self._on(await self._linked(), operation)

    async def subscribe(self, takers: Mapping[str, Take]) -> None:
        """Bring what is published to these pub/sub channels to their takers from now on.

        Raises:
            LayerUnavailable: it could not be done in time, and was not.
        """
        with self._in_time():
            await self._linked()
            await self._subscriptions.add(takers)

    def unsubscribe(self, channels: Collection[str]) -> None:
        """Bring nothing more of these; the server is told in time."""
        if self._task is not None:
            self._subscriptions.discard(channels)

    async def _on(self, link: Link, operation: Callable[[Link], Awaitable[T]]) -> T:
        try:
            return await operation(link)
        except LinkError as error:
            self._suspected.set()
            raise self._unavailable(str(error)) from error

    async def _linked(self) -> Link:
        """The link, which is waited for while there is none."""
        while self._link is None:
            if self._task is None:
                raise self._unavailable(self._reason)
            await self._up.wait()
        return self._link

    @contextmanager
    def _in_time(self) -> Iterator[None]:
        try:
            with anyio.fail_after(self._timeout):
                yield
        except TimeoutError as error:
            raise self._unavailable(self._reason) from error

    def _unavailable(self, reason: str) -> LayerUnavailable:
        return LayerUnavailable(f"{self.address}: {_line(reason)}")

    async def _run(self) -> None:
        pause = FIRST_PAUSE
        while True:
            link = Link(self.address, self._timeout, self._subscriptions.deliver)
            try:
                with anyio.fail_after(self._timeout):
                    await link.open()
                await self._subscriptions.resume(link)
                self._come_up(link)
                pause = FIRST_PAUSE
                await self._serve(link)
            except (LinkError, TimeoutError, OSError, _Broken) as error:
                self._go_down(str(error))
            except Exception as error:  # to end here would be to be deaf for good
                logger.exception("the link to %s failed, and is made anew", self.address)
                self._go_down(str(error))
            finally:
                self._link = None
                with anyio.CancelScope(shield=True):
                    await link.aclose()
            await anyio.sleep(pause * random.uniform(0.5, 1))
            pause = min(2 * pause, LONGEST_PAUSE)

    def _come_up(self, link: Link) -> None:
        self._link, self._reason = link, "no answer in time"
        self._up.set()
        if self._listener is not None:
            self.reconnects += 1
            self._listener.came_up()

    def _go_down(self, reason: str) -> None:
        self._reason = reason or "no answer in time"
        if self._link is None:
            return  # an attempt to connect that failed
        self._link, self._up = None, anyio.Event()
        if self._listener is not None:
            self._listener.went_down(f"{self.address}: {_line(self._reason)}")

    async def _serve(self, link: Link) -> None:
        """Look after a link, until it breaks: then it raises `_Broken`."""
        reasons: list[str] = []

        async def until_it_fails(work: Callable[[Link], Awaitable[None]]) -> None:
            try:
                await work(link)
            except (LinkError, _Broken) as error:
                reasons.append(str(error))
                tasks.cancel_scope.cancel()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(until_it_fails, self._subscriptions.follow)
            tasks.start_soon(until_it_fails, self._probe)
        raise _Broken(reasons[0])

    async def _probe(self, link: Link) -> None:
        failed: list[str] = []
        while len(failed) < MISSES:
            # After a failed call, and after a probe that failed, the next one comes soon.
            await anyio.sleep(self._interval / 10)
            if not failed:
                with anyio.move_on_after(self._interval):
                    await self._suspected.wait()
            self._suspected = anyio.Event()
            self._heard = anyio.Event()
            try:
                with anyio.fail_after(self._interval):
                    await self._ask(link)
                failed.clear()
            except (LinkError, TimeoutError) as error:
                failed.append(str(error))
        raise _Broken(max(failed, key=len) or "no answer")

    async def _ask(self, link: Link) -> None:
        await link.publish(self._probe_channel, b"")  # first, as it says what is forbidden
        if await link.is_replaced():
            raise _Broken("the connection was lost")
        await self._heard.wait()

    def _hear(self, message: bytes) -> None:
        self._heard.set()


def _way_out(reason: str) -> str:
    """What to do about a server that could not be reached from the start."""
    if "WRONGPASS" in reason or "NOAUTH" in reason:
        return "the name or the password is wrong or missing; give them in the URL: valkey://user:password@host"
    if "topology" in reason:
        return "leave cluster=1 out, if this is one server"
    return (
        "see that a server runs there, with TLS if the URL begins with valkeys://, and has the "
        "database that the URL names"
    )


def _line(text: str) -> str:
    """An error of the library on one line."""
    return " ".join(text.split())
