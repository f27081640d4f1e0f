"""Valkey and Redis as the engine: what all processes know is on a server, or on a cluster."""

import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from itertools import count
from secrets import token_hex
from typing import Any

from ..exceptions import ConfigurationError, InvalidChannelLayerError, MissingExtra
from ..positions import Position
from .engine import Engine, Gone, Held, Lease, Published, Read, Receiver
from .frame import read_frame, write_frame
from .history import History
from .keys import Keys, tag_of
from .options import positive
from .sharded import ShardedEngine
from .tasks import at_a_time
from .valkey_address import ValkeyAddress, read_url

try:
    from .valkey_link import Link
    from .valkey_marks import MARK, MARKED, moment
    from .valkey_presence import ValkeyPresence
    from .valkey_queues import ValkeyQueues
    from .valkey_scripts import PUBLISH, READ, TOPS, Script, milliseconds
    from .valkey_uplink import ValkeyUplink
except ModuleNotFoundError as error:
    if error.name not in {"glide", "glide_shared"}:
        raise
    raise MissingExtra("a layer on valkey:// or redis://", "valkey") from error

__all__ = ["ValkeyEngine", "engine_from_url"]

logger = logging.getLogger("asgi_notify.layers")

TOPICS = 256  # asked for in one script; the server serves nobody else meanwhile


class ValkeyEngine(Engine):
    """An engine on one Valkey or Redis server, or on one cluster; version 6.2 or later.

    Args:
        address: where the server is.
        prefix: what all keys and pub/sub channels begin with; applications that share a
            server need one each.
        timeout: the longest that a call waits, in seconds.
        probe_interval: seconds between two looks at whether the connection still brings
            anything. It is noticed within about three of them that it does not.
        clock: returns the time in seconds, for tests; None: the server's clock counts, which
            is one for all processes.

    Raises:
        InvalidChannelLayerError: one of these makes no sense.
    """

    def __init__(
        self,
        address: ValkeyAddress | None = None,
        *,
        prefix: str = "asgi_notify",
        timeout: float = 5.0,
        probe_interval: float = 1.0,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self.address = ValkeyAddress() if address is None else address
        positive("timeout", timeout)
        positive("probe_interval", probe_interval)
        if probe_interval * 3 > timeout:
            raise InvalidChannelLayerError(
                f"probe_interval={probe_interval} is too long for timeout={timeout}: "
                "use a third of it or less"
            )
        self._keys = Keys(prefix)
        self._clock = clock
        self._uplink = ValkeyUplink(
            self.address, self._keys.topic("!probe") + "-", timeout, probe_interval
        )
        self._presence = ValkeyPresence(self._keys, self._run)
        self._queues = ValkeyQueues(self._keys, self._uplink)
        self._received = self._unreadable = 0
        self._own, self._count = token_hex(6), count()

    async def open(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._queues.open()
        await self._uplink.open(receiver)

    async def close(self) -> None:
        await self._uplink.aclose()

    # Topics.

    async def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        keep: History | None = None,
        key: str | None = None,
        window: float = 0.0,
    ) -> Published:
        channel = self._keys.topic(topic)
        if keep is None and (key is None or window <= 0):
            frame = write_frame(payload)
            return Published(
                await self._uplink.call(lambda link: link.publish(channel, frame)), None
            )
        keys = self._keys.history(topic)
        if key is not None and window > 0:
            keys = (*keys, self._keys.publication(topic, key))
        size, ttl = (0, 0) if keep is None else (keep.size, milliseconds(keep.ttl))
        numbers = f"{size} {ttl} {0 if key is None else milliseconds(window)}"

        def run(link: Link) -> Any:
            said = f"{numbers} {link.verb} {self._now()}"
            return link.run(PUBLISH, keys, [payload, self._word(), said])

        receivers, epoch, offset = await self._uplink.call(run)
        return Published(receivers, _position(epoch, offset) if epoch else None)

    async def subscribe(self, topics: Collection[str]) -> None:
        await self._uplink.subscribe(
            {self._keys.topic(topic): partial(self._receive, topic) for topic in topics}
        )

    async def unsubscribe(self, topics: Collection[str]) -> None:
        self._uplink.unsubscribe([self._keys.topic(topic) for topic in topics])

    def _receive(self, topic: str, message: bytes) -> None:
        frame = read_frame(message)
        if frame is None:
            self._refuse(topic)
            return
        self._received += 1
        self._receiver.receive(topic, *frame)

    def _refuse(self, topic: str) -> None:
        self._unreadable += 1
        if self._unreadable == 1:
            logger.error(
                "what was published to %s is of another version of asgi-notify, or of another "
                "program under the prefix %s: it is passed over. More of it is only counted",
                topic, self._keys.prefix, extra={"topic": topic},
            )  # fmt: skip

    # Histories.

    async def read(
        self, topic: str, keep: History, after: Position | None = None, limit: int | None = None
    ) -> Read:
        keys = self._keys.history(topic)
        numbers = f"{milliseconds(keep.ttl)} {limit or 0} {self._now()}"
        epoch, offset = ("", 0) if after is None else after
        answer = await self._run(READ, keys, [self._word(), numbers, epoch, str(offset)])
        top, offset, is_whole, *entries = answer
        return Read(
            list(zip(entries[::2], entries[1::2], strict=True)),
            bool(is_whole),
            _position(top, offset),
        )

    async def tops(self, topics: Mapping[str, History]) -> dict[str, Position]:
        found: dict[str, Position] = {}

        async def ask(some: Sequence[str]) -> None:
            keys = [key(name) for name in some for key in (self._keys.topic, self._keys.root)]
            answer = await self._run(TOPS, keys, [self._word(), self._now()])
            found.update(zip(some, map(_position, answer[::2], answer[1::2]), strict=True))

        await at_a_time(ask, self._together(topics))
        return found

    def _together(self, topics: Iterable[str]) -> list[Sequence[str]]:
        """Topics that one script may be asked for: in a cluster, those of one slot."""
        homes: defaultdict[str, list[str]] = defaultdict(list)
        for topic in topics:
            homes[tag_of(topic) if self.address.is_cluster else ""].append(topic)
        return [
            some[start : start + TOPICS]
            for some in homes.values()
            for start in range(0, len(some), TOPICS)
        ]

    # Presence.

    async def enter(self, lease: Lease, seconds: float) -> bool:
        return await self._presence.enter(lease, seconds, self._now())

    async def renew(self, leases: Collection[Lease], seconds: float) -> list[Lease]:
        return await self._presence.renew(leases, seconds, self._now())

    async def leave(self, group: str, channel: str, grace: float) -> None:
        await self._presence.leave(group, channel, grace, self._now())

    async def gone(self, groups: Collection[str], grace: float) -> list[Gone]:
        return await self._presence.gone(groups, grace, self._now())

    async def present(self, group: str) -> list[Lease]:
        return await self._presence.present(group, self._now())

    async def count(self, group: str) -> int:
        return await self._presence.count(group)

    # Channels with a fixed name.

    async def push(self, channel: str, payload: bytes, capacity: int, expiry: float) -> bool:
        return await self._queues.push(channel, payload, capacity, expiry, self._now())

    async def pull(self, channel: str, hold: float) -> Held:
        return await self._queues.pull(channel, hold, self._now)

    async def extend(self, channel: str, token: object, hold: float) -> None:
        await self._queues.extend(channel, token, hold, self._now())

    async def settle(self, channel: str, token: object) -> None:
        await self._queues.settle(channel, token)

    async def release(self, channel: str, token: object) -> None:
        await self._queues.release(channel, token)

    # Marks.

    async def mark(self, name: str, seconds: float, at: float) -> bool:
        said = f"{milliseconds(seconds)} {self._now()}"
        return bool(await self._run(MARK, [self._keys.mark(name)], [said, moment(at)]))

    async def is_marked(self, names: Collection[str], since: float) -> bool:
        found: list[bool] = []

        async def ask(some: Sequence[str]) -> None:
            keys = [self._keys.mark(name) for name in some]
            found.append(bool(await self._run(MARKED, keys, [self._now(), moment(since)])))

        together = self._together(names)
        if len(together) == 1:  # always, but in a cluster: no task for it
            await ask(together[0])
        else:
            await at_a_time(ask, together)
        return any(found)

    # All of it.

    async def forget(self) -> None:
        # The roots first: a state that begins while the others go must not begin in an epoch
        # that there was already.
        for pattern in (self._keys.roots, *self._keys.patterns):
            await self._uplink.call(partial(_forget, pattern))

    def statistics(self) -> Mapping[str, float]:
        return {
            "reconnects": self._uplink.reconnects,
            "received": self._received,
            "unreadable": self._unreadable,
        }

    def _word(self) -> str:
        """A text that no other call has, of any process: new epochs come from it."""
        return f"{self._own}{next(self._count):x}"

    def _now(self) -> str:
        """The time in milliseconds; nothing where the server's counts."""
        return "" if self._clock is None else str(int(self._clock() * 1000))

    async def _run(self, script: Script, keys: Sequence[str], args: Sequence[str | bytes]) -> Any:
        return await self._uplink.call(lambda link: link.run(script, keys, args))


async def _forget(pattern: str, link: "Link") -> None:
    await link.forget(pattern)


def _position(epoch: bytes, offset: int) -> Position:
    return Position(epoch.decode(), offset)


def engine_from_url(
    url: str, others: Collection[str] = (), *, clock: Callable[[], float] | None = None
) -> Engine:
    """The engine that a URL describes, such as ``valkey://host:6379/0?prefix=shop``.

    Several hosts are several servers that know nothing of each other, and share the topics
    among them; with ``cluster=1`` they are nodes of one cluster.

    Args:
        url: what to read; see `read_url`.
        others: options that are not of the engine.
        clock: returns the time in seconds, for tests.

    Raises:
        InvalidChannelLayerError: it makes no sense.
    """
    place = read_url(url, others)
    options: dict[str, Any] = {}
    for name, text in place.options.items():
        try:
            options[name] = text if name == "prefix" else float(text)
        except ValueError as error:
            raise InvalidChannelLayerError(f"{text!r} is no value for {name}") from error
    try:
        engines = {
            str(address): ValkeyEngine(address, clock=clock, **options)
            for address in place.addresses
        }
    except InvalidChannelLayerError:
        raise
    except ConfigurationError as error:
        raise InvalidChannelLayerError(str(error)) from error
    return next(iter(engines.values())) if len(engines) == 1 else ShardedEngine(engines)
