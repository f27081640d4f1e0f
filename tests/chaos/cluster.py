"""A cluster that carries the messages between processes: its slots move, and its nodes die."""

import time
from collections import Counter
from contextlib import ExitStack
from itertools import count

import anyio
from anyio.to_thread import run_sync

from asgi_notify.layers.keys import Keys, slot_of
from tests.chaos.proxy import Proxy
from tests.servers import HOST
from tests.valkey_servers import ValkeyServer, running_cluster

__all__ = ["CLUSTER_FAULTS", "Cluster"]

CLUSTER_FAULTS = ("slot moved", "node killed")
"""A group's slot moves to another node, or the node that holds one dies and its replica follows."""

NODES = 3
PATIENCE = 20.0  # seconds until a replica has followed
POLL = 0.05  # seconds between two looks


class Cluster:
    """Three primaries, each with a replica.

    Args:
        program: to run.
        groups: whose slots move, and whose nodes die.

    Attributes:
        ways: none that could fail on their own, since the nodes tell their own addresses.
        suffered: what has befallen it, by kind.
    """

    def __init__(self, program: str, groups: tuple[str, ...]) -> None:
        self.ways: list[Proxy] = []
        self.suffered: Counter[str] = Counter()
        self._program = program
        self._slots = [slot_of(Keys().topic(group)) for group in groups]
        self._numbers = count()
        self._stack = ExitStack()
        self._nodes: list[ValkeyServer] = []

    async def begin(self) -> None:
        """Start it, and wait until it is whole."""
        cluster = running_cluster(self._program, NODES, replicas=NODES)
        self._nodes = await run_sync(self._stack.enter_context, cluster)

    def url(self, number: int) -> str:
        """Where any server finds it."""
        return f"valkey://{','.join(f'{HOST}:{node.port}' for node in self._nodes)}?cluster=1"

    async def end(self) -> None:
        """End it for good."""
        with anyio.CancelScope(shield=True):
            await run_sync(self._stack.close)

    async def suffer(self, kind: str, seconds: float) -> None:
        """Let one of `CLUSTER_FAULTS` happen."""
        self.suffered[kind] += 1
        slot = self._slots[next(self._numbers) % len(self._slots)]
        await run_sync(self._move if kind == "slot moved" else self._fail_over, slot)

    def _move(self, slot: int) -> None:
        """Bring a slot to another primary, as ``redis-cli --cluster reshard`` does."""
        owner = self._owner(slot)
        goal = next(one for one in self._nodes if self._is_primary(one) and one is not owner)
        source, target = owner.name_in_cluster, goal.name_in_cluster
        with owner.admin as old, goal.admin as new:
            new.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", source)
            old.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", target)
            while keys := old.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 100):
                old.execute_command("MIGRATE", HOST, goal.port, "", 0, 5000, "KEYS", *keys)
            for admin in (new, old):
                admin.execute_command("CLUSTER", "SETSLOT", slot, "NODE", target)

    def _fail_over(self, slot: int) -> None:
        """Kill the primary of a slot, wait for its replica, and bring it back as one of that."""
        dead = self._owner(slot)
        dead.kill()
        until = time.monotonic() + PATIENCE
        while self._owner(slot, dead) is dead:
            assert time.monotonic() < until, "no replica was promoted"
            time.sleep(POLL)
        dead.start()
        while self._is_primary(dead) or not self._is_synchronized(dead):
            assert time.monotonic() < until, "it did not follow its successor"
            time.sleep(POLL)

    def _owner(self, slot: int, dead: ValkeyServer | None = None) -> ValkeyServer:
        """The primary that holds a slot, as the others say."""
        asked = next(node for node in self._nodes if node is not dead)
        with asked.admin as admin:
            for first, last, (_, port, *_), *_ in admin.cluster("SLOTS"):
                if first <= slot <= last:
                    return next(node for node in self._nodes if node.port == port)
        raise AssertionError(f"nobody holds slot {slot}")

    def _is_primary(self, node: ValkeyServer) -> bool:
        with node.admin as admin:
            return bool(admin.info("replication")["role"] == "master")

    def _is_synchronized(self, node: ValkeyServer) -> bool:
        with node.admin as admin:
            return bool(admin.info("replication").get("master_link_status") == "up")
