"""One life of the connections to a server: commands on one, what is subscribed to on the other.

The client library reconnects by itself, and tells nobody. But what was published
meanwhile is lost, and the layer must know. So a link is not trusted again once it broke:
who uses it asks `Link.is_replaced`, and makes a new one.

Two facts of the library shape this file. All its clients in a process share one pipe, which
belongs to the event loop that made a client first: what comes on it is handled in that
loop's thread, so messages for another loop are handed over here. (Two loops of trio at the
same time would both read the pipe, and each lose what the other took: glide 2.6.) And
making a client blocks the thread until it is connected, unless it connects with its first
command.
"""

import logging
from collections.abc import Callable, Collection, Sequence
from functools import cache
from pathlib import Path
from threading import get_ident
from typing import Any, TypeAlias

import anyio
from glide import (
    AdvancedGlideClientConfiguration,
    AdvancedGlideClusterClientConfiguration,
    AllPrimaries,
    BackoffStrategy,
    ClusterScanCursor,
    GlideClient,
    GlideClientConfiguration,
    GlideClusterClient,
    GlideClusterClientConfiguration,
    GlideError,
    Logger,
    LogLevel,
    NodeAddress,
    PubSubMsg,
    RequestError,
    ServerCredentials,
    TlsAdvancedConfiguration,
)
from glide import Script as Stored

from .tasks import calls_here
from .valkey_address import ValkeyAddress
from .valkey_scripts import Script

__all__ = ["Link", "LinkError"]

logger = logging.getLogger("asgi_notify.layers")

# Topics in one SUBSCRIBE: the server serves nobody else for some 5 ms. With fewer, many joins
# take long, since each call costs the library time for all that is subscribed to (glide 2.6).
BATCH = 4096
ATTEMPTS = 5  # questions which connection this is, until one is answered
IN_FLIGHT = 100_000  # commands that may wait for their answer; their timeout bounds them too
RECONNECT = BackoffStrategy(num_of_retries=5, factor=50, exponent_base=2, jitter_percent=50)

RECONCILE = 1000  # milliseconds until a subscription follows a slot that moved; 3,000 else

LinkError = GlideError
"""What the library raises where the server does not answer, or refuses."""

Deliver: TypeAlias = Callable[[bytes, bytes], None]
"""Called with the pub/sub channel and the message, in the loop that opened the link."""


class Link:
    """Connections to one server or cluster, from `open` to `aclose`.

    All that waits here raises `LinkError` where the server does not answer in time.

    Args:
        address: where it is.
        timeout: seconds for each command.
        deliver: who gets what is subscribed to.
    """

    def __init__(self, address: ValkeyAddress, timeout: float, deliver: Deliver) -> None:
        self._address = address
        self._timeout = timeout
        self._deliver = deliver
        self._commands: GlideClient | GlideClusterClient | None = None
        self._subscriber: GlideClient | GlideClusterClient | None = None
        self._first: object = None
        self._is_sharded = False  # whether the server has pub/sub that stays on one node

    async def open(self) -> None:
        """Connect."""
        # One thing at a time on the subscriber: the library takes the confirmation of a
        # subscription for the answer to a command that is on its way at the same time.
        self._turn = anyio.Lock()
        Logger.init(LogLevel.OFF)  # it would write to stderr; the engine's own log says it all
        self._commands = await self._connected()
        self._subscriber = await self._connected(self._handed_over())
        version = await self._commands.custom_command(["INFO", "server"])
        self._is_sharded = self._address.is_cluster and _major(version) >= 7
        self._first = await self._connections()

    async def aclose(self) -> None:
        """Disconnect; what still waits for an answer fails."""
        for client in (self._commands, self._subscriber):
            if client is not None:
                await client.close()

    @property
    def verb(self) -> str:
        """The command that a script publishes with."""
        return "SPUBLISH" if self._is_sharded else "PUBLISH"

    async def run(self, script: Script, keys: Sequence[str], args: Sequence[str | bytes]) -> Any:
        """Run a script, and return its answer."""
        client = self._open(self._commands)
        return await client.invoke_script(_stored(script), list(keys), list(args))

    async def publish(self, channel: str, message: bytes) -> int:
        """Publish, and return how many connections got it."""
        client = self._open(self._commands)
        if isinstance(client, GlideClusterClient):
            return await client.publish(message, channel, self._is_sharded)
        return await client.publish(message, channel)

    async def subscribe(self, channels: Collection[str]) -> None:
        """Have these delivered from now on; it returns when the server has confirmed that."""
        client = self._open(self._subscriber)
        for some in _batches(channels):
            async with self._turn:
                if isinstance(client, GlideClusterClient) and self._is_sharded:
                    await client.ssubscribe(some, self._milliseconds)
                else:
                    await client.subscribe(some, self._milliseconds)

    async def unsubscribe(self, channels: Collection[str]) -> None:
        """Have these delivered no more."""
        client = self._open(self._subscriber)
        for some in _batches(channels):
            async with self._turn:
                if isinstance(client, GlideClusterClient) and self._is_sharded:
                    await client.sunsubscribe(some, self._milliseconds)
                else:
                    await client.unsubscribe(some, self._milliseconds)

    async def is_replaced(self) -> bool:
        """Whether what is subscribed to comes on other connections than at first.

        Something may have been missed then, and nobody knows what.
        """
        return bool(await self._connections() != self._first)

    async def forget(self, pattern: str) -> None:
        """Delete all keys of a pattern."""
        client = self._open(self._commands)
        if isinstance(client, GlideClusterClient):
            await _forget_in_cluster(client, pattern)
            return
        cursor = "0"
        while True:
            following, keys = await client.scan(cursor, pattern, 1000)
            if keys:
                await client.unlink(list(keys))
            assert isinstance(following, bytes)
            cursor = following.decode()
            if cursor == "0":
                return

    @property
    def _milliseconds(self) -> int:
        return max(1, int(self._timeout * 1000))

    async def _connections(self) -> object:
        """What distinguishes the connections from those that take their place."""
        client = self._open(self._subscriber)
        async with self._turn:
            if not isinstance(client, GlideClusterClient):
                for _ in range(ATTEMPTS):
                    info = await client.custom_command(["CLIENT", "INFO"])
                    # It may be the confirmation of a subscription, which the library takes for
                    # the answer at times.
                    if isinstance(info, bytes) and info.startswith(b"id="):
                        return _connection(info)
                return []  # another one than any: whoever asks looks what it has missed
            answers = await client.custom_command(["CLIENT", "INFO"], AllPrimaries())
        assert isinstance(answers, dict)
        return {node: _connection(answer) for node, answer in answers.items()}

    def _open(
        self, client: GlideClient | GlideClusterClient | None
    ) -> GlideClient | GlideClusterClient:
        if client is None:
            raise RequestError("the link is not open")
        return client

    def _handed_over(self) -> Callable[[PubSubMsg, object], None]:
        """A callback of the library that brings each message to this loop's thread."""
        deliver, thread, call = self._deliver, get_ident(), calls_here()

        def take(message: PubSubMsg, context: object) -> None:
            channel, text = message.channel, message.message
            assert isinstance(channel, bytes)
            assert isinstance(text, bytes)
            if get_ident() == thread:
                bring(channel, text)
            else:
                call(bring, channel, text)

        def bring(channel: bytes, text: bytes) -> None:
            try:
                deliver(channel, text)
            except Exception:  # the library would swallow it, and nobody would ever know
                topic = channel.decode(errors="replace")
                logger.exception("a message to %s was lost", topic, extra={"topic": topic})

        return take

    async def _connected(
        self, callback: Callable[[PubSubMsg, Any], None] | None = None
    ) -> GlideClient | GlideClusterClient:
        """A client that connects with its first command."""
        address, options = self._address, self._options()
        tls = _tls(address)
        connecting = min(self._milliseconds, 2000)
        if address.is_cluster:
            cluster = GlideClusterClientConfiguration
            return await GlideClusterClient.create(
                cluster(
                    **options,
                    pubsub_subscriptions=cluster.PubSubSubscriptions({}, callback, None),
                    advanced_config=AdvancedGlideClusterClientConfiguration(
                        connecting, tls, pubsub_reconciliation_interval=RECONCILE
                    ),
                )
            )
        single = GlideClientConfiguration
        return await GlideClient.create(
            single(
                **options,
                database_id=address.database,
                pubsub_subscriptions=single.PubSubSubscriptions({}, callback, None),
                advanced_config=AdvancedGlideClientConfiguration(connecting, tls),
            )
        )

    def _options(self) -> dict[str, Any]:
        address = self._address
        has_login = address.username is not None or address.password is not None
        return {
            "addresses": [NodeAddress(host, port) for host, port in address.nodes],
            "use_tls": address.is_tls,
            "credentials": ServerCredentials(address.password or "", address.username)
            if has_login
            else None,
            "request_timeout": self._milliseconds,
            "reconnect_strategy": RECONNECT,
            "inflight_requests_limit": IN_FLIGHT,
            "lazy_connect": True,
        }


async def _forget_in_cluster(client: GlideClusterClient, pattern: str) -> None:
    """On all primaries; the keys of a command may lie in one slot only."""
    cursor = ClusterScanCursor()  # type: ignore[no-untyped-call]  # the library's own
    while not cursor.is_finished():
        following, keys = await client.scan(cursor, pattern, 1000)
        assert isinstance(following, ClusterScanCursor)
        cursor = following
        if keys:
            await client.unlink(list(keys))  # the library splits it by slots


def _tls(address: ValkeyAddress) -> TlsAdvancedConfiguration | None:
    if address.tls_ca is None:
        return None
    return TlsAdvancedConfiguration(root_pem_cacerts=Path(address.tls_ca).read_bytes())


def _batches(channels: Collection[str]) -> list[set[str]]:
    """An empty one would mean all of them."""
    row = list(channels)
    return [set(row[start : start + BATCH]) for start in range(0, len(row), BATCH)]


@cache
def _stored(script: Script) -> Stored:
    return Stored(script.code)  # type: ignore[no-untyped-call]  # the library's own


def _connection(info: object) -> list[bytes]:
    """The number that the server gave a connection, and the port that it comes from.

    The number alone would not do: a server that starts again counts from the beginning.
    """
    assert isinstance(info, bytes)
    return [word for word in info.split() if word.startswith((b"id=", b"addr="))]


def _major(info: object) -> int:
    """The first number of the server's version; of any node's, where several answered."""
    text = next(iter(info.values())) if isinstance(info, dict) else info
    assert isinstance(text, bytes)
    for name in (b"valkey_version:", b"redis_version:"):
        _, found, rest = text.partition(name)
        if found:
            return int(rest.partition(b".")[0])
    return 0
