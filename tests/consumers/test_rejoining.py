"""A consumer that leaves a group and joins it again, while what it was sent before still waits."""

from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from asgi_notify import (
    AsyncJsonWebsocketConsumer,
    History,
    InMemoryChannelLayer,
    NotificationConsumer,
    URLRouter,
    channel_layers,
    path,
)
from asgi_notify.layers import BaseChannelLayer
from asgi_notify.positions import Position
from asgi_notify.testing import WebsocketCommunicator
from tests.frames import Client
from tests.layers.double import DoubleLayer

pytestmark = pytest.mark.anyio

HISTORY = {"user_1": History(size=4)}


@pytest.fixture(params=["steps", "no steps"], autouse=True)
def stepping(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASGI_NOTIFY_STEPPING", "1" if request.param == "steps" else "0")


@pytest.fixture(params=[InMemoryChannelLayer, DoubleLayer])
async def layer(
    request: pytest.FixtureRequest, anyio_backend: str
) -> AsyncIterator[BaseChannelLayer]:
    async with request.param(history=HISTORY) as layer:
        old = channel_layers.set("default", layer)
        yield layer
        channel_layers.set("default", old)


async def publish(layer: BaseChannelLayer, *numbers: int) -> Position:
    """Send notifications, and return where the last one stands."""
    sent = [
        await layer.group_send("user_1", {"type": "send.notification", "data": n}) for n in numbers
    ]
    assert sent[-1].position is not None
    return sent[-1].position


@pytest.mark.parametrize("is_told_first", [False, True])
async def test_a_client_that_subscribes_again_gets_all_behind_the_position_that_it_names(
    layer: BaseChannelLayer, is_told_first: bool
) -> None:
    gates = {group: anyio.Event() for group in ("user_8", "user_9")}

    class Gated(NotificationConsumer):
        async def authorize(self, group: str) -> None:
            if group in gates:
                await gates[group].wait()

    with anyio.fail_after(20):
        async with Client(URLRouter([path("notifications/", Gated)])) as client:
            await client.welcome()
            start = Position.parse((await client.subscribe("user_1"))["position"])
            fifth = start._replace(offset=5)
            await client.say(type="subscribe", group="user_9")
            await client.say(type="unsubscribe", group="user_1")
            await client.say(type="subscribe", group="user_8")
            if is_told_first:
                await client.say(type="subscribe", group="user_1")
            await client.say(type="subscribe", group="user_1", since=str(fifth))
            await anyio.wait_all_tasks_blocked()
            assert await publish(layer, *range(1, 6)) == fifth  # which wait behind the requests
            gates["user_9"].set()
            await client.expect("subscribed")
            await client.expect("unsubscribed")
            sixth = await publish(layer, 6)
            gates["user_8"].set()
            await client.expect("subscribed")
            if is_told_first:
                assert (await client.expect("subscribed"))["position"] == str(sixth)
            again = await client.expect("subscribed")
            assert (again["position"], again["recovered"]) == (str(fifth), True)
            await publish(layer, 7)
            assert await client.data(2) == [6, 7]


async def test_a_consumer_that_manages_its_groups_itself_resumes_behind_an_earlier_membership(
    layer: BaseChannelLayer,
) -> None:
    class Own(AsyncJsonWebsocketConsumer):
        async def receive_json(self, content: Any, **kwargs: Any) -> None:
            # In one handler, so that all that is sent meanwhile waits until it is over.
            await self.channel_layer.group_add("user_1", self.channel_name)
            fifth = await publish(layer, *range(1, 6))
            await self.channel_layer.group_discard("user_1", self.channel_name)
            sixth = await publish(layer, 6)
            joined = await self.channel_layer.group_add("user_1", self.channel_name)
            assert joined.position == sixth
            joined = await self.channel_layer.group_add("user_1", self.channel_name, since=fifth)
            assert joined.position is not None
            await self.send_json([joined.position.offset, joined.recovered, joined.replayed])

        async def send_notification(self, event: Any) -> None:
            await self.send_json(event["data"])

    with anyio.fail_after(20):
        async with WebsocketCommunicator(Own, "/") as client:
            assert (await client.connect())[0]
            await client.send_json_to("go")
            assert await client.receive_json_from() == [5, True, 1]
            await publish(layer, 7)
            assert [await client.receive_json_from() for _ in range(2)] == [6, 7]
