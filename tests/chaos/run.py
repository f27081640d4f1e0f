"""One run: servers, clients, publishers and trouble, and what they have written down."""

import signal
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import anyio
import httpx

from tests.chaos.clients import Client, Poll, Socket, Stream
from tests.chaos.journal import Story, faults, holes
from tests.chaos.plan import Action, Scenario, actions
from tests.chaos.proxy import Proxy
from tests.chaos.publisher import Publisher
from tests.chaos.server import Lives

__all__ = ["Run", "run"]

ROOMS = (1, 2, 3)
PUBLISHERS = ("ann", "ben", "cyd")
REST = 40.0  # seconds in which everything comes to rest once the trouble is over
ROUND = 2.5  # seconds until one more message is sent to those that still miss the last

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
    lives = Lives(scenario)
    try:
        with anyio.fail_after(scenario.seconds + REST + 60):
            await lives.begin()
            stage = await _Stage.set(scenario, lives, kinds or KINDS)
            await stage.play()
    finally:
        await lives.end(signal.SIGKILL)
    done = Run(scenario, stage.story())
    done.counts = stage.counts()
    done.faults = faults(done.story)
    for output in lives.outputs:
        if "Traceback" in output:
            done.faults.append(f"the server failed:\n{output}")
    return done


class _Stage:
    def __init__(
        self, scenario: Scenario, lives: Lives, clients: list[Client], publishers: list[Publisher]
    ) -> None:
        self._scenario = scenario
        self._lives = lives
        self._clients = {client.name: client for client in clients}
        self._publishers = publishers
        self._tops: dict[str, str] = {}
        self._is_calm = anyio.Event()
        self._news = anyio.Event()
        for client in clients:
            client.on_news = lambda: self._news.set()

    @classmethod
    async def set(cls, scenario: Scenario, lives: Lives, kinds: Sequence[Make]) -> "_Stage":
        """Make everybody; each client begins at the beginning of one group or several."""
        beginnings = await _beginnings(lives.address.port)
        random = scenario.random("cast")
        clients = []
        for number, make in enumerate(kinds):
            groups = random.sample(sorted(beginnings), 1 + number % len(ROOMS))
            starts = {group: beginnings[group] for group in groups}
            clients.append(make(f"client {number}", Proxy(lives.address), starts))
        publishers = [
            Publisher(name, ROOMS, lives.address, scenario.random(name)) for name in PUBLISHERS
        ]
        return cls(scenario, lives, clients, publishers)

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
            with anyio.move_on_after(REST):
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
        if action.target == "server":
            await self._lives.suffer(action.kind, action.seconds)
        else:
            await self._clients[action.target].proxy.suffer(action.kind, action.seconds)

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
            "server": self._lives.suffered,
            "publishers": Counter(),
        }
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
