"""What a notification's data may hold beyond JSON, and how clients read it."""

import json
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from types import MappingProxyType
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_notify import (
    InMemoryChannelLayer,
    InvalidMessage,
    NotificationConsumer,
    NotificationHttpConsumer,
    URLRouter,
    channel_layers,
    path,
)
from asgi_notify.codec import spelled
from asgi_notify.layers.base import BaseChannelLayer
from asgi_notify.spelling import as_text
from asgi_notify.testing import HttpCommunicator
from tests.consumers.harness import connected
from tests.consumers.streams import streaming, until
from tests.frames import Client

pytestmark = pytest.mark.anyio


@dataclass
class Item:
    """A part of an order."""

    price: Decimal
    tags: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class CloseRequest:
    """What a notification may be about."""

    id: UUID
    at: datetime
    items: tuple[Item, ...] = ()


ID = UUID("12345678-1234-5678-1234-567812345678")
NOON = datetime(2026, 11, 20, 12, 0, 0, 5, tzinfo=UTC)

SPELLED: list[tuple[object, object]] = [
    (NOON, "2026-11-20T12:00:00.000005+00:00"),
    (datetime(2026, 11, 20, 12, 30), "2026-11-20T12:30:00"),
    (date(2026, 11, 20), "2026-11-20"),
    (time(23, 59), "23:59:00"),
    (timedelta(minutes=1, milliseconds=500), 60.5),
    (ID, str(ID)),
    (Decimal("1.10"), "1.10"),
    (b"\x00\xff", b64encode(b"\x00\xff").decode()),
    (MappingProxyType({"a": 1}), {"a": 1}),
    ({"at": [date(2026, 1, 2)]}, {"at": ["2026-01-02"]}),
    (
        CloseRequest(ID, NOON, (Item(Decimal("9.90"), ["new"]),)),
        {"id": str(ID), "at": NOON.isoformat(), "items": [{"price": "9.90", "tags": ["new"]}]},
    ),
]

Read = Callable[[], Awaitable[Any]]


@asynccontextmanager
async def websocket(app: Any) -> AsyncIterator[Read]:
    async with connected(app, "/ws/7/") as client:
        yield client.receive_json_from


@asynccontextmanager
async def protocol(app: Any) -> AsyncIterator[Read]:
    async with Client(app, "/ws/7/") as client:
        await client.welcome()
        await client.expect("subscribed")

        async def read() -> Any:
            return (await client.expect("notification"))["data"]

        yield read


@asynccontextmanager
async def stream(app: Any) -> AsyncIterator[Read]:
    async with streaming(app, (b"accept", b"text/event-stream"), path="/http/7/") as wire:

        async def read() -> Any:
            await until(lambda: bool(wire.events))
            return json.loads(wire.events[0].data)

        yield read


@asynccontextmanager
async def poll(app: Any) -> AsyncIterator[Read]:
    async with HttpCommunicator(app, "GET", "/http/7/") as client:
        await client.send_input({"type": "http.request"})
        client.sent_request = True

        async def read() -> Any:
            [text] = json.loads((await client.get_response(10))["body"])["notifications"]
            return json.loads(text)

        yield read


app = URLRouter(
    [
        path("ws/<int:room_name>/", NotificationConsumer),
        path("http/<int:room_name>/", NotificationHttpConsumer),
    ]
)


@pytest.mark.parametrize(("data", "expected"), SPELLED, ids=repr)
@pytest.mark.parametrize("transport", [websocket, protocol, stream, poll])
async def test_clients_read_what_json_lacks_in_the_usual_form(
    transport: Any, data: object, expected: object, layer: InMemoryChannelLayer
) -> None:
    async with transport(app) as read:
        await until(lambda: bool(list(layer.hub.members("user_7"))))
        await layer.group_send("user_7", {"type": "send.notification", "data": data})
        assert await read() == expected


@pytest.fixture
def strict() -> Any:
    layer = InMemoryChannelLayer(debug=True)
    old = channel_layers.set("default", layer)
    yield layer
    channel_layers.set("default", old)


@pytest.mark.parametrize("data", [data for data, _ in SPELLED], ids=repr)
async def test_what_clients_can_be_given_passes_the_check_of_the_sender(
    data: object, strict: BaseChannelLayer
) -> None:
    await strict.group_send("user_7", {"type": "send.notification", "data": data})


@pytest.mark.parametrize(
    "data",
    [object(), {1, 2}, [{"a": float("nan")}], CloseRequest, {ID: 1}],
    ids=["object", "set", "nan", "class", "key"],
)
async def test_what_no_client_can_be_given_fails_at_the_sender_under_debug(
    data: object, strict: BaseChannelLayer
) -> None:
    with pytest.raises(InvalidMessage):
        await strict.group_send("user_7", {"type": "send.notification", "data": data})


plain = st.one_of(
    st.none(), st.booleans(), st.integers(), st.text(), st.binary(), st.datetimes(), st.dates(),
    st.times(), st.timedeltas(), st.uuids(), st.decimals(), st.floats(),
    st.builds(Item, price=st.decimals()),
)  # fmt: skip
nested = st.recursive(
    plain, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=10
)


@given(data=nested)
def test_whatever_passes_the_check_of_the_sender_can_be_given_to_a_client(data: object) -> None:
    try:
        spelled({"type": "send.notification", "data": data})
    except InvalidMessage:
        with pytest.raises(InvalidMessage):
            as_text(data)
    else:
        json.loads(as_text([data]))
