"""How many functions of the package stand between a message and the socket, and between a
client's frame and its answer: each is one more place to read, and one more call to pay for.

Counted with the memory layer, once imports and caches are warm: of the consumer alone, and of
the default application, whose limits stand on the way of what a client sends.
"""

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

import asgi_notify
from asgi_notify import NotificationConsumer, URLRouter, layer_from_url
from asgi_notify import path as route
from asgi_notify.app import make_application
from asgi_notify.layers.base import BaseChannelLayer
from asgi_notify.protocol import PROTOCOL
from asgi_notify.settings import Settings
from asgi_notify.types import ASGIApp, Event
from tests.consumers.harness import CONNECT, Wire, left, text

PACKAGE = str(Path(asgi_notify.__file__).parent)


class Way:
    """Which functions of the package are entered within a block, and in which files they are."""

    def __init__(self) -> None:
        self.functions: set[str] = set()
        self.files: set[str] = set()

    def __enter__(self) -> "Way":
        self._old = sys.getprofile()
        sys.setprofile(self._see)
        return self

    def __exit__(self, *error: object) -> None:
        sys.setprofile(self._old)

    def _see(self, frame: Any, event: str, argument: Any) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(PACKAGE):
            self.functions.add(f"{code.co_filename}:{code.co_firstlineno}")
            self.files.add(code.co_filename)

    def require_at_most(self, functions: int, files: int) -> None:
        """Fail if there are more, and name them."""
        names = "\n".join(sorted(name.removeprefix(PACKAGE) for name in self.functions))
        assert len(self.functions) <= functions, names
        assert len(self.files) <= files, names


Make = Callable[[BaseChannelLayer], ASGIApp]


def consumer(layer: BaseChannelLayer) -> ASGIApp:
    """The consumer alone, behind its router."""
    app = NotificationConsumer.as_asgi(channel_layer=layer)
    return URLRouter([route("notifications/<int:room_name>/", app), route("notifications/", app)])


def application(layer: BaseChannelLayer) -> ASGIApp:
    """The default application, with its limits and checks."""
    return make_application(Settings(), layer=layer)


class Client:
    """A client of the protocol, connected to an application."""

    def __init__(self, layer: BaseChannelLayer, path: str, make: Make) -> None:
        self.app = make(layer)
        self.wire = Wire(CONNECT, path=path)
        self.wire.scope.update(subprotocols=[PROTOCOL], query_string=b"", headers=[])
        self.wire.on_send = self._note
        self._sent = asyncio.Event()

    async def _note(self, event: Event) -> None:
        # Called before the wire has put the event into `sent`, in the same step of the loop.
        self._sent.set()

    def ask(self, **frame: object) -> None:
        self.wire.tell(text(json.dumps(frame)))

    async def answer(self, step: Callable[[], object]) -> dict[str, Any]:
        """Do something, and wait until the socket has what comes of it."""
        self._sent.clear()
        self.wire.sent.clear()
        result = step()
        if asyncio.iscoroutine(result):
            await result
        await self._sent.wait()
        frame: dict[str, Any] = json.loads(self.wire.sent[0]["text"])
        return frame

    async def way(self, step: Callable[[], object], kind: str) -> Way:
        """The way of the second message or frame of a kind."""
        await self.answer(step)
        await anyio.wait_all_tasks_blocked()
        with Way() as way:
            frame = await self.answer(step)
        assert frame["type"] == kind
        return way


def run(path: str, test: Callable[[BaseChannelLayer, Client], Any], make: Make) -> None:
    async def main() -> None:
        layer = layer_from_url(Settings().layer)
        client = Client(layer, path, make)
        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(client.wire.run, client.app)
                await anyio.wait_all_tasks_blocked()
                await test(layer, client)
                client.wire.tell(left())

    asyncio.run(main())


@pytest.fixture(autouse=True)
def by_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ASGI_NOTIFY_STEPPING", raising=False)


@pytest.mark.parametrize("make", [consumer, application])
def test_a_notification_passes_few_functions_on_its_way_to_the_socket(make: Make) -> None:
    async def test(layer: BaseChannelLayer, client: Client) -> None:
        message = {"type": "send.notification", "data": {"n": 1}}
        way = await client.way(lambda: layer.group_send("user_42", message), "notification")
        way.require_at_most(35, 18)  # 6 fewer where the group has no history

    run("/notifications/42/", test, make)


@pytest.mark.parametrize(("make", "functions", "files"), [(consumer, 26, 9), (application, 32, 12)])
def test_a_frame_of_the_client_passes_few_functions_on_its_way_to_the_answer(
    make: Make, functions: int, files: int
) -> None:
    async def test(layer: BaseChannelLayer, client: Client) -> None:
        way = await client.way(lambda: client.ask(type="ping"), "pong")
        way.require_at_most(functions, files)

    run("/notifications/42/", test, make)


@pytest.mark.parametrize(
    ("make", "functions", "files"), [(consumer, 73, 26), (application, 80, 28)]
)
def test_a_subscription_that_resumes_passes_few_functions_on_its_way_to_the_answer(
    make: Make, functions: int, files: int
) -> None:
    async def resume(client: Client, since: str) -> Way:
        await client.answer(lambda: client.ask(type="unsubscribe", group="user_42"))
        await anyio.wait_all_tasks_blocked()
        with Way() as way:
            answer = await client.answer(
                lambda: client.ask(type="subscribe", group="user_42", since=since)
            )
        assert answer["recovered"]
        await anyio.wait_all_tasks_blocked()
        return way

    async def test(layer: BaseChannelLayer, client: Client) -> None:
        ask = {"type": "subscribe", "group": "user_42"}
        since = (await client.answer(lambda: client.ask(**ask)))["position"]
        await resume(client, since)
        way = await resume(client, since)
        way.require_at_most(functions, files)  # 29 in 13 of which are given the position

    run("/notifications/", test, make)
