"""Clients that come back by themselves, each in its own way, and write down what they get."""

import json
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, NamedTuple
from unittest.mock import patch

import anyio
import httpx

from asgi_notify.client import Backoff, Gap, Status, connect, conversation
from asgi_notify.client import Client as Connection
from tests.chaos.journal import Got, Journal, Told
from tests.chaos.proxy import Proxy
from tests.servers import HOST

__all__ = ["PROTOCOL", "Client", "Poll", "Socket", "Stream"]

PROTOCOL = "asgi-notify.v1"
PAUSE = 0.05  # seconds before a client comes back
SILENCE = 1.5  # seconds after which a stream is taken for dead; the application says more often
POLL = 0.7  # seconds that a poll waits
PATIENCE = 1.5  # seconds after which an answer that is due is taken for lost


class Client(ABC):
    """One client of some groups, behind a network of its own.

    Args:
        name: of the client.
        proxy: its way to the server.
        starts: the groups, and the position in each that it begins from.

    Attributes:
        journal: what came, and what it was told.
        counts: of messages that were replayed, connections, and so on.
        last: by group, the last message that came.
        on_news: called when one has come.
    """

    def __init__(self, name: str, proxy: Proxy, starts: Mapping[str, str]) -> None:
        self.name = name
        self.proxy = proxy
        self.starts = starts
        self.counts: Counter[str] = Counter()
        self.journal: Journal = [Got(group, start) for group, start in starts.items()]
        self.last = dict(starts)
        self._visited: set[str] = set()
        self.on_news: Callable[[], None] | None = None

    @abstractmethod
    async def run(self) -> None:
        """Follow all groups until cancelled."""

    def take(self, group: str, id: str, data: Mapping[str, Any]) -> None:
        """Write down a notification."""
        self.journal.append(Got(group, id, data["publisher"], data["number"]))
        self.last[group] = id
        self.counts["messages"] += 1
        if self.on_news is not None:
            self.on_news()

    def tell(self, group: str, reason: str, lost: int | None = None) -> None:
        """Write down that messages are missing, or may be."""
        self.journal.append(Told(group, reason, lost))
        self.counts[f"told {reason}"] += 1

    def _count_visit(self, group: str = "") -> None:
        """Count a connection, and those among them that would not be, had none ended."""
        self.counts["visits"] += 1
        self.counts["returns"] += group in self._visited
        self._visited.add(group)

    def take_frame(self, frame: Mapping[str, Any]) -> None:
        """Write down a frame of the protocol."""
        match frame["type"]:
            case "notification":
                self.take(frame["group"], frame["id"], frame["data"])
            case "gap":
                self.tell(frame["group"], frame["reason"], frame["lost"])
            case "subscribed":
                self.counts["replayed"] += frame["replayed"]
                if frame.get("recovered") is False:
                    self.tell(frame["group"], "unrecovered")
            case "going_away":
                self.counts["told of the end"] += 1
            case "welcome":
                assert frame["version"] == 1
            case kind:
                raise AssertionError(f"{self.name} got a {kind}: {frame}")


class Socket(Client):
    """The package's own client, over one WebSocket."""

    async def run(self) -> None:
        url = f"ws://{HOST}:{self.proxy.port}/notifications/"
        backoff = Backoff(base=PAUSE, max=10 * PAUSE)
        with patch.object(conversation, "OPEN_TIMEOUT", PATIENCE):
            await self._connect(url, backoff)

    async def _connect(self, url: str, backoff: Backoff) -> None:
        async with (
            connect(url, backoff=backoff, retry_first=True, on_status=self._note) as connection,
            anyio.create_task_group() as tasks,
        ):
            for group in self.starts:
                tasks.start_soon(self._follow, connection, group)

    async def _follow(self, connection: Connection, group: str) -> None:
        start = self.starts[group]
        async for came in connection.subscribe(group, since=start, on_gap=self._lose):
            assert came.id is not None
            self.take(group, came.id, came.data)

    def _lose(self, gap: Gap) -> None:
        self.tell(gap.group, gap.reason, gap.lost)

    def _note(self, status: Status) -> None:
        self.counts[status.state] += 1
        if status.state == "open":
            self._count_visit()


class _HttpClient(Client):
    """One that has a request of its own for each group."""

    def __init__(
        self, name: str, proxy: Proxy, starts: Mapping[str, str], *, is_plain: bool = False
    ) -> None:
        super().__init__(name, proxy, starts)
        self.is_plain = is_plain
        self.positions = dict(starts)  # to come back to

    async def run(self) -> None:
        async with (
            httpx.AsyncClient(verify=False, trust_env=False) as client,
            anyio.create_task_group() as tasks,
        ):
            for group in self.starts:
                tasks.start_soon(self._follow, client, group)

    async def _follow(self, client: httpx.AsyncClient, group: str) -> None:
        while True:
            try:
                self.counts["requests"] += 1
                await self._ask(client, group)
            except httpx.TransportError:
                self.counts["broken"] += 1
            await anyio.sleep(PAUSE)

    def _url(self, group: str) -> str:
        room = group.removeprefix("user_")
        return f"http://{HOST}:{self.proxy.port}/notifications/{room}/"

    def _params(self, **params: object) -> dict[str, str]:
        protocol = {} if self.is_plain else {"protocol": PROTOCOL}
        return protocol | {name: str(value) for name, value in params.items()}

    @abstractmethod
    async def _ask(self, client: httpx.AsyncClient, group: str) -> None:
        """Make one request, and take what it brings."""


class Poll(_HttpClient):
    """Asks for what is after its position, again and again."""

    async def _ask(self, client: httpx.AsyncClient, group: str) -> None:
        params = self._params(since=self.positions[group], timeout=POLL)
        answer = await client.get(self._url(group), params=params, timeout=POLL + PATIENCE)
        if answer.status_code == 503:
            return
        assert answer.status_code == 200, answer.text
        content = answer.json()
        if content.get("recovered") is False:
            self.tell(group, "unrecovered")
        if self.is_plain:
            self._take_texts(group, content)
        for frame in content.get("frames", ()):
            self.take_frame(frame)
        self.positions[group] = content["position"]

    def _take_texts(self, group: str, content: Mapping[str, Any]) -> None:
        """Write down notifications without ids: they end at the position of the answer."""
        texts = content["notifications"]
        epoch, _, top = content["position"].rpartition("-")
        for offset, text in enumerate(texts, int(top) - len(texts) + 1):
            self.take(group, f"{epoch}-{offset}", json.loads(text))


class Stream(_HttpClient):
    """Reads server-sent events, and comes back with the id of the last one."""

    async def _ask(self, client: httpx.AsyncClient, group: str) -> None:
        headers = {"accept": "text/event-stream"}
        since: dict[str, object] = {}
        if self.positions[group] == self.starts[group]:
            since["since"] = self.positions[group]
        else:
            headers["last-event-id"] = self.positions[group]
        async with client.stream(
            "GET",
            self._url(group),
            headers=headers,
            params=self._params(**since),
            timeout=httpx.Timeout(PATIENCE, read=SILENCE),
        ) as answer:
            if answer.status_code == 503:
                return
            assert answer.status_code == 200, await answer.aread()
            self._count_visit(group)
            async for event in _events(answer.aiter_lines()):
                self._take_event(group, event)

    def _take_event(self, group: str, event: "_Event") -> None:
        # HTML 9.2.6: an event's id counts as soon as the event is whole.
        if event.id:
            self.positions[group] = event.id
        if not event.data:
            return
        content = json.loads(event.data)
        if not self.is_plain:
            self.take_frame(content)
        elif event.name == "gap":
            self.tell(group, content["reason"], content["lost"])
        else:
            self.take(group, event.id, content)


class _Event(NamedTuple):
    name: str
    id: str
    data: str


async def _events(lines: AsyncIterator[str]) -> AsyncIterator[_Event]:
    """The events of a stream that are whole; the data of each is one line, as JSON has none."""
    fields: dict[str, str] = {}
    async for line in lines:
        if line:
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
            continue
        yield _Event(fields.get("event", ""), fields.get("id", ""), fields.get("data", ""))
        fields.clear()
