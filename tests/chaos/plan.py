"""What is done to clients, servers and the engine, and when: the same for the same seed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice
from random import Random
from typing import NamedTuple

from tests.chaos.cluster import CLUSTER_FAULTS
from tests.chaos.engine import FAULTS
from tests.chaos.proxy import Proxy

__all__ = ["Action", "Scenario", "actions"]

CUTS = 0.6  # per client and second
DELAY, SLOW, STOPPED = (0.1, 0.9), (1.5, 4.0), (0.2, 1.2)  # seconds
FAULTY = (0.2, 2.5)  # seconds that the engine stands still, is full, or is gone


@dataclass(frozen=True)
class Scenario:
    """One run.

    Args:
        seed: decides everything that is left to chance.
        seconds: how long there is trouble; what follows is done in a few more.
        history_size: messages that each group keeps.
        capacity: messages that may wait for each client.
        overflow: what happens to one more.
        expiry: seconds that they may wait.
        pong_timeout: seconds that a WebSocket may leave a ping without an answer.
        interval: seconds between two messages of a publisher.
        kills: how often a server's process is killed.
        terms: how often it is told to end, and followed by another.
        stops: how often it stands still for a while.
        cuts: what befalls connections.
        slow: seconds that a reader is slow, at least and at most, but no longer than `seconds`.
        flaw: what the server does wrong on purpose; see tests/apps/chaos.py.
        rest: seconds that everything may take to come to rest once the trouble is over.
        engine: the program of the server that carries the messages; none: they stay in memory.
        is_cluster: whether that is a cluster of six nodes.
        servers: processes with an application each; more than one need an engine.
        faults: what befalls the engine, each of them so often.
        repeats: how often.
        ways: what befalls the connections of each server to the engine, each as often.
    """

    seed: int
    seconds: float = 10.0
    history_size: int = 50
    capacity: int = 20
    overflow: str = "drop_oldest"
    expiry: float = 60.0
    pong_timeout: float = 1.2
    interval: float = 0.03
    kills: int = 1
    terms: int = 1
    stops: int = 1
    cuts: tuple[str, ...] = Proxy.KINDS
    slow: tuple[float, float] = SLOW
    flaw: str = ""
    rest: float = 40.0
    engine: str = ""
    is_cluster: bool = False
    servers: int = 1
    faults: tuple[str, ...] = ()
    repeats: int = 1
    ways: tuple[str, ...] = ()

    def on_engine(self, program: str, *, is_cluster: bool = False) -> "Scenario":
        """The same on two servers with an engine, or a cluster, which has troubles of its own."""
        return replace(
            self,
            engine=program,
            is_cluster=is_cluster,
            servers=2,
            faults=CLUSTER_FAULTS if is_cluster else FAULTS,
            repeats=max(1, round(self.seconds / (10 if is_cluster else 30))),
            ways=() if is_cluster else Proxy.KINDS,
        )

    @classmethod
    def drawn(cls, seed: int, seconds: float) -> "Scenario":
        """One in which what the server keeps and allows is left to chance, too."""
        random = Random(seed)
        trouble = max(1, round(seconds / 10))  # of each kind
        return cls(
            seed,
            seconds,
            history_size=random.choice((10, 50, 200)),
            capacity=random.choice((5, 20, 100)),
            overflow=random.choice(("drop_oldest", "drop_newest", "disconnect")),
            expiry=random.choice((0.5, 60.0)),
            interval=random.choice((0.015, 0.03, 0.1)),
            kills=trouble,
            terms=trouble,
            stops=trouble,
        )

    def random(self, name: str) -> Random:
        """A source of chance for one part of the run, whatever the others take of theirs."""
        return Random(f"{self.seed} {name}")


class Action(NamedTuple):
    """Something that happens.

    Args:
        at: seconds after the beginning.
        target: the name of a client, "server 0" or the like, "way 0" from it to the engine,
            or "engine".
        kind: one of `Proxy.KINDS`, of the engine's faults, or "kill", "term" or "stop".
        seconds: how long it takes.
    """

    at: float
    target: str
    kind: str
    seconds: float


def actions(scenario: Scenario, clients: Sequence[str]) -> list[Action]:
    """All that happens in a scenario, in order."""
    random = scenario.random("plan")
    plan = []
    count = round(CUTS * scenario.seconds) * len(clients) if scenario.cuts else 0
    kinds = list(islice(cycle(scenario.cuts), count))  # each as often as the others
    random.shuffle(kinds)
    for client, kind in zip(cycle(clients), kinds, strict=False):
        least, most = {"delay": DELAY, "slow": scenario.slow}.get(kind, (0.0, 0.0))
        duration = min(random.uniform(least, most), scenario.seconds)
        at = random.uniform(0, scenario.seconds - duration)
        plan.append(Action(at, client, kind, duration))
    ends = ["kill"] * scenario.kills + ["term"] * scenario.terms + ["stop"] * scenario.stops
    random.shuffle(ends)
    for number, kind in enumerate(ends, 1):
        at = scenario.seconds * (number + random.uniform(-0.3, 0.3)) / (len(ends) + 1)
        server = f"server {number % scenario.servers}"
        plan.append(Action(at, server, kind, random.uniform(*STOPPED) if kind == "stop" else 0))
    return sorted([*plan, *_of_the_engine(scenario)])


def _of_the_engine(scenario: Scenario) -> Iterator[Action]:
    """What befalls it, one after the other, and the ways to it, at any time."""
    random = scenario.random("engine")
    faults = list(scenario.faults * scenario.repeats)
    random.shuffle(faults)
    step = scenario.seconds / max(1, len(faults))
    for number, kind in enumerate(faults):
        at = step * (number + random.uniform(0, 0.5))
        yield Action(at, "engine", kind, min(random.uniform(*FAULTY), step))
    for way in range(scenario.servers):
        for kind in scenario.ways * scenario.repeats:
            seconds = {"delay": DELAY, "slow": FAULTY}.get(kind, (0.0, 0.0))
            at = random.uniform(0, scenario.seconds * 0.9)
            yield Action(at, f"way {way}", kind, random.uniform(*seconds))
