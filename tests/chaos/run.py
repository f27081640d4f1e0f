"""One run: servers, an engine, clients, publishers and trouble, and what they wrote down."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import anyio
import httpx
from anyio.abc import TaskGroup

from tests.chaos.clients import Client, Poll, Socket, Stream
from tests.chaos.cluster import Cluster
from tests.chaos.engine import Engine
from tests.chaos.journal import Story, faults, holes
from tests.chaos.plan import Action, Scenario, actions
from tests.chaos.proxy import Balanced, Proxy
from tests.chaos.publisher import Publisher
from tests.chaos.server import Lives

__all__ = ["Run", "run", "run_until"]

ROOMS = (1, 2, 3)
PUBLISHERS = ("ann", "ben", "cyd")
LONGER = 2  # times a run is played again for twice as long
ROUND = 2.5  # seconds until one more message is sent to those that still miss the last

AnyEngine = Engine | Cluster

Make = Callable[[str, Proxy, dict[str, str]], Client]
"""A kind of client."""


@dataclass
class Run:
    """What has come of a run.

    Attributes:
        scenario: what was played.
        story: what was written down.
        faults: the promises that were broken.
        counts: of everything that happened, by kind.
    """

    scenario: Scenario
    story: Story
    faults: list[str] = field(default_factory=list)
    counts: dict[str, Counter[str]] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [f"seed {self.scenario.seed}, {self.scenario.seconds:g} s:"]
        for name, counts in self.counts.items():
            listed = ", ".join(f"{kind} {counts[kind]}" for kind in sorted(counts))
            lines.append(f"  {name}: {listed or 'none'}")
        return "\n".join(lines + [f"  FAULT {fault}" for fault in self.faults])


async def run(scenario: Scenario, kinds: Sequence[Make] | None = None) -> Run:
    """Play a scenario, wait until everything has come to rest, and check what was written down.

    Args:
        scenario: what to play.
        kinds: of the clients, one each; if not given, of every kind there is.
    """
    engine = _engine_of(scenario)
    lives = [Lives(scenario) for _ in range(scenario.servers)]
    try:
        with anyio.fail_after(scenario.seconds + scenario.rest + 60):
            async with anyio.create_task_group() as tasks:
                await _begin(lives, engine, tasks)
                stage = await _Stage.set(scenario, lives, engine, kinds or KINDS)
                await stage.play()
                tasks.cancel_scope.cancel()
    finally:
        for each in lives:
            await each.end()
        if engine is not None:
            await engine.end()
    done = Run(scenario, stage.story())
    done.counts = stage.counts()
    done.faults = faults(done.story)
    for output in (output for each in lives for output in each.outputs):
        if "Traceback" in output:
            done.faults.append(f"the server failed:\n{output}")
    return done


async def run_until(
    enough: Callable[[Run], object], scenario: Scenario, kinds: Sequence[Make] | None = None
) -> Run:
    """Play a scenario, for twice as long each time, until it has brought enough to pass.

    How much happens within a second is up to the machine and what else it is doing.

    Args:
        enough: says of a run without a fault whether it will do.
        scenario: what to play first.
        kinds: as in `run`.
    """
    done = await run(scenario, kinds)
    for _ in range(LONGER):
        print(done)
        if done.faults or enough(done):
            break
        scenario = replace(scenario, seconds=2 * scenario.seconds)
        done = await run(scenario, kinds)
    return done


def _engine_of(scenario: Scenario) -> AnyEngine | None:
    if not scenario.engine:
        return None
    if scenario.is_cluster:
        return Cluster(scenario.engine, tuple(f"user_{room}" for room in ROOMS))
    return Engine(scenario.engine, scenario.servers)


async def _begin(lives: Sequence[Lives], engine: AnyEngine | None, tasks: TaskGroup) -> None:
    """Start everything, and wait until all servers answer."""
    if engine is not None:
        await engine.begin()
        for way in engine.ways:
            await tasks.start(way.serve)
        for number, each in enumerate(lives):
            each.engine_url = engine.url(number)
    async with anyio.create_task_group() as beginning:
        for each in lives:
            beginning.start_soon(each.begin)


class _Stage:
    def __init__(
        self,
        scenario: Scenario,
        lives: Sequence[Lives],
        engine: AnyEngine | None,
        clients: list[Client],
        publishers: list[Publisher],
    ) -> None:
        self._scenario = scenario
        self._lives = lives
        self._engine = engine
        self._clients = {client.name: client for client in clients}
        self._publishers = publishers
        self._tops: dict[str, str] = {}
        self._is_calm = anyio.Event()
        self._news = anyio.Event()
        for client in clients:
            client.on_news = lambda: self._news.set()

    @classmethod
    async def set(
        cls,
        scenario: Scenario,
        lives: Sequence[Lives],
        engine: AnyEngine | None,
        kinds: Sequence[Make],
    ) -> "_Stage":
        """Make everybody; each client begins at the beginning of one group or several."""
        addresses = [each.address for each in lives]
        beginnings = await _beginnings(addresses[0].port)
        server = Balanced(addresses, scenario.random("balance"))
        random = scenario.random("cast")
        clients = []
        for number, make in enumerate(kinds):
            groups = random.sample(sorted(beginnings), 1 + number % len(ROOMS))
            starts = {group: beginnings[group] for group in groups}
            clients.append(make(f"client {number}", Proxy(server), starts))
        publishers = [Publisher(name, ROOMS, server, scenario.random(name)) for name in PUBLISHERS]
        return cls(scenario, lives, engine, clients, publishers)

    async def play(self) -> None:
        async with anyio.create_task_group() as tasks:
            for client in self._clients.values():
                await tasks.start(client.proxy.serve)
                tasks.start_soon(client.run)
            async with anyio.create_task_group() as publishing:
                for publisher in self._publishers:
                    publishing.start_soon(publisher.run, self._scenario.interval, self._is_calm)
                await self._trouble()
                self._is_calm.set()
            with anyio.move_on_after(self._scenario.rest):
                await self._come_to_rest()
            tasks.cancel_scope.cancel()

    async def _trouble(self) -> None:
        began = anyio.current_time()
        async with anyio.create_task_group() as tasks:
            for action in actions(self._scenario, list(self._clients)):
                await anyio.sleep_until(began + action.at)
                tasks.start_soon(self._act, action)
            await anyio.sleep_until(began + self._scenario.seconds)

    async def _act(self, action: Action) -> None:
        what, _, number = action.target.partition(" ")
        victim: Lives | AnyEngine | Proxy
        if what == "client":
            victim = self._clients[action.target].proxy
            await victim.until_used()  # a cut of no connection tests nothing
        elif what == "server":
            victim = self._lives[int(number)]
        else:
            assert self._engine is not None
            victim = self._engine.ways[int(number)] if what == "way" else self._engine
        await victim.suffer(action.kind, action.seconds)

    async def _come_to_rest(self) -> None:
        """Publish to each group until everybody has its last message."""
        while not self._is_at_rest():
            for room in ROOMS:
                for publisher in self._publishers:
                    await publisher.publish(room, is_careful=True)
                self._tops[f"user_{room}"] = self._publishers[-1].published[-1].id
            with anyio.move_on_after(ROUND):
                while not self._is_at_rest():
                    self._news = anyio.Event()
                    await self._news.wait()

    def _is_at_rest(self) -> bool:
        return all(
            self._tops.get(group) == id
            for client in self._clients.values()
            for group, id in client.last.items()
        )

    def story(self) -> Story:
        journals = {client.name: client.journal for client in self._clients.values()}
        published = [message for each in self._publishers for message in each.published]
        return Story(journals, published, self._tops)

    def counts(self) -> dict[str, Counter[str]]:
        found: dict[str, Counter[str]] = {
            "cuts": Counter(),
            "server": sum((each.suffered for each in self._lives), Counter[str]()),
            "publishers": Counter(),
        }
        if self._engine is not None:
            found["engine"] = self._engine.suffered
            found["ways"] = sum((way.suffered for way in self._engine.ways), Counter[str]())
        for publisher in self._publishers:
            found["publishers"] += publisher.counts
            found["publishers"]["answers"] += len(publisher.published)
        for client in self._clients.values():
            found["cuts"] += client.proxy.suffered
            kind = type(client).__name__
            found[kind] = found.get(kind, Counter()) + client.counts
            found[kind]["missed"] += holes(client.journal)
        return found


async def _beginnings(port: int) -> dict[str, str]:
    """Where each group stands before anything was sent."""
    found = {}
    async with httpx.AsyncClient(trust_env=False, verify=False) as client:
        for room in ROOMS:
            url = f"http://127.0.0.1:{port}/notifications/{room}/"
            answer = await client.get(url, params={"timeout": 0})
            found[f"user_{room}"] = answer.json()["position"]
    return found


def _plain(kind: type[Poll | Stream]) -> Make:
    return lambda name, proxy, starts: kind(name, proxy, starts, is_plain=True)


KINDS: tuple[Make, ...] = (Socket, Stream, Poll, Socket, _plain(Stream), _plain(Poll))
"""Every kind of client."""
