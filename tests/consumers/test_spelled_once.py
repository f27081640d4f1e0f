"""That what many clients get is spelled once, however it travels, and their own words each time."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from asgi_notify import (
    InMemoryChannelLayer,
    NotificationConsumer,
    NotificationHttpConsumer,
    Notifications,
    ProtocolTypeRouter,
    URLRouter,
    path,
)
from asgi_notify.protocol import PROTOCOL
from tests.consumers.harness import CONNECT, Wire, left
from tests.consumers.streams import LEFT, REQUEST, until

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("layer")]

CLIENTS = 50
TRANSPORTS = [
    (kind, words) for kind in ("websocket", "sse", "poll") for words in ("texts", "frames")
]


class Counted(dict[str, Any]):
    """Data that counts how often it was put into JSON."""

    times = 0

    def items(self) -> Any:  # what the standard encoder asks a subclass of dict for
        self.times += 1
        return super().items()


def application(*hooks: Any) -> ProtocolTypeRouter:
    """The notifications of a room over all transports, with these methods overridden for all."""
    route = "notifications/<int:room_name>/"
    socket, http = (
        type("Own", (*hooks, consumer), {})
        for consumer in (NotificationConsumer, NotificationHttpConsumer)
    )
    return ProtocolTypeRouter(
        {"websocket": URLRouter([path(route, socket)]), "http": URLRouter([path(route, http)])}
    )


def client(kind: str, words: str) -> Wire:
    is_socket = kind == "websocket"
    wire = Wire(
        CONNECT if is_socket else REQUEST,
        kind="websocket" if is_socket else "http",
        path="/notifications/7/",
    )
    has_frames = words == "frames"
    wire.scope["headers"] = [(b"accept", b"text/event-stream")] if kind == "sse" else []
    wire.scope["query_string"] = f"protocol={PROTOCOL}".encode() if has_frames else b""
    wire.scope["subprotocols"] = [PROTOCOL] if has_frames else []
    return wire


def heard(wire: Wire) -> str:
    """All that the client was sent, as one text."""
    bodies = (event.get("text") or event.get("body", b"").decode() for event in wire.sent)
    return "\n".join(bodies)


@asynccontextmanager
async def connected(app: Any, kind: str, words: str) -> AsyncIterator[list[Wire]]:
    wires = [client(kind, words) for _ in range(CLIENTS)]
    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            for wire in wires:
                tasks.start_soon(wire.run, app)
            await anyio.wait_all_tasks_blocked()
            yield wires
            for wire in wires:
                wire.tell(left() if kind == "websocket" else LEFT)


@pytest.mark.parametrize(("kind", "words"), TRANSPORTS)
async def test_data_is_spelled_once_for_all_clients(
    kind: str, words: str, layer: InMemoryChannelLayer
) -> None:
    data = Counted(text="shipped", numbers=[1, 2])
    async with connected(application(), kind, words) as wires:
        await layer.group_send("user_7", {"type": "send.notification", "data": data})
        await until(lambda: all("shipped" in heard(wire) for wire in wires))
    assert data.times == 1
    assert all(heard(wire).count("shipped") == 1 for wire in wires)


@pytest.mark.parametrize(("kind", "words"), TRANSPORTS[:4])  # a poll is answered at the first
async def test_two_messages_with_the_same_data_are_two(
    kind: str, words: str, layer: InMemoryChannelLayer
) -> None:
    data = Counted(text="shipped")
    async with connected(application(), kind, words) as wires:
        for _ in range(2):
            await layer.group_send("user_7", {"type": "send.notification", "data": data})
        await until(lambda: all(heard(wire).count("shipped") == 2 for wire in wires))
    assert data.times == 2


@pytest.mark.parametrize(("kind", "words"), TRANSPORTS)
async def test_an_own_render_is_asked_for_each_client(
    kind: str, words: str, layer: InMemoryChannelLayer
) -> None:
    class Numbered(Notifications):
        number = 0

        def render(self, data: object) -> str:
            Numbered.number += 1
            return f"for no. {Numbered.number};"

    async with connected(application(Numbered), kind, words) as wires:
        await layer.group_send("user_7", {"type": "send.notification", "data": {"a": 1}})
        await until(lambda: all("for no. " in heard(wire) for wire in wires))
    said = "".join(map(heard, wires))
    assert all(said.count(f"for no. {number};") == 1 for number in range(1, CLIENTS + 1))


async def test_what_one_channel_is_sent_is_not_mixed_up_with_what_the_group_is(
    layer: InMemoryChannelLayer,
) -> None:
    channels: list[str] = []

    class Known(Notifications):
        async def join(self) -> bool | None:
            channels.append(self.channel_name)
            return await super().join()

    async with connected(application(Known), "websocket", "texts") as wires:
        for number, channel in enumerate(channels):
            await layer.send(channel, {"type": "send.notification", "data": {"own": number}})
        await layer.group_send("user_7", {"type": "send.notification", "data": {"own": "all"}})
        await until(lambda: all('{"own": "all"}' in heard(wire) for wire in wires))
    own = sorted(int(heard(wire).split('{"own": ')[1].split("}")[0]) for wire in wires)
    assert own == list(range(CLIENTS))
