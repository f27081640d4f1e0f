"""Consumers as tutorials for Django Channels print them, with this package's imports."""

import json
import logging
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect

from asgi_notify import (
    InMemoryChannelLayer,
    ProtocolTypeRouter,
    SyncConsumer,
    URLRouter,
    WebsocketConsumer,
    async_to_sync,
    get_channel_layer,
    path,
    re_path,
)
from asgi_notify.testing import HttpCommunicator, WebsocketCommunicator
from examples import channels_document
from tests.consumers.harness import assert_nothing_left, connected
from tests.servers import Server

pytestmark = pytest.mark.anyio

# As printed, apart from its import lines. Slip mended: ``logger`` is used, but never made.
CONSUMERS = '''
class NotificationConsumer(SyncConsumer):

    def websocket_connect(self, event):
        self.room_name = self.scope['url_route']['kwargs']['room_name']
        self.room_group_name = 'user_%s' % self.room_name
        async_to_sync(self.channel_layer.group_add)(
            self.room_group_name,
            self.channel_name
        )
        self.send({
            "type": "websocket.accept",
        })

    def send_notification(self, event):
        """ Called when someone has messaged our chat. """
        logger.info(f'data recvieve >> {event["data"]}')
        self.send({
            'type': 'websocket.send',
            "text": event["data"],
        })

    def websocket_receive(self, event):
        # add missing implementation
        pass

    def websocket_disconnect(self, event):
        print("socket disconnected")
        async_to_sync(self.channel_layer.group_discard)(
            self.room_group_name,
            self.channel_name
        )
        print(event)
'''


def as_printed() -> Any:
    names: dict[str, Any] = {
        "SyncConsumer": SyncConsumer,
        "async_to_sync": async_to_sync,
        "get_channel_layer": get_channel_layer,
        "json": json,
        "logging": logging,
        "logger": logging.getLogger("players.consumers"),
    }
    exec(CONSUMERS, names)
    return names["NotificationConsumer"]


@pytest.fixture(params=["document", "example"])
def notifications(request: pytest.FixtureRequest) -> Any:
    """The document's consumer, as it is printed and as the example has it."""
    if request.param == "document":
        return URLRouter([path("notifications/<int:room_name>/", as_printed()())])
    return channels_document.application


async def test_the_documents_consumer_runs_from_connect_to_disconnect(
    notifications: Any,
    layer: InMemoryChannelLayer,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    async with connected(notifications, "/notifications/42/") as client:
        await client.send_to("nobody reads this")
        sent = await layer.group_send("user_42", {"type": "send.notification", "data": "hello"})
        assert sent.reached == 1
        assert await client.receive_from() == "hello"
        assert "data recvieve >> hello" in caplog.text
        await client.disconnect(1001)
    said, event = capsys.readouterr().out.splitlines()
    assert said == "socket disconnected"
    assert event == "{'type': 'websocket.disconnect', 'code': 1001}"
    assert_nothing_left(layer, "user_42")


async def test_two_users_of_the_one_instance_do_not_mix(
    notifications: Any, layer: InMemoryChannelLayer
) -> None:
    async with (
        connected(notifications, "/notifications/1/") as one,
        connected(notifications, "/notifications/2/") as two,
    ):
        for room in 2, 1:
            message = {"type": "send.notification", "data": f"for {room}"}
            await layer.group_send(f"user_{room}", message)
        assert await one.receive_from() == "for 1"
        assert await two.receive_from() == "for 2"
        assert await one.receive_nothing(0.01)


# The overview's two fragments, with a consumer of the kind that it speaks of.


class MyConsumer(WebsocketConsumer):
    """Says back what it hears."""

    def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        self.send(text_data)


def get_asgi_application() -> Any:
    async def django(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"Django"})

    return django


async def test_the_overviews_application_serves_the_consumer(layer: InMemoryChannelLayer) -> None:
    # Slip mended: get_asgi_application is used, but never imported.
    # fmt: off
    application = ProtocolTypeRouter({
        'http': get_asgi_application(),
        'websocket': URLRouter(
            path('ws/my-path/', MyConsumer.as_asgi()),
        )
    })
    # fmt: on
    async with connected(application, "/ws/my-path/") as client:
        await client.send_to("hello")
        assert await client.receive_from() == "hello"
    async with WebsocketCommunicator(application, "/ws/other/") as client:
        assert await client.connect() == (False, 4404)
    response = await HttpCommunicator(application, "GET", "/any/").get_response()
    assert response["body"] == b"Django"


async def test_the_overviews_routing_serves_the_consumer(layer: InMemoryChannelLayer) -> None:
    consumers = SimpleNamespace(MyConsumer=MyConsumer)
    # fmt: off
    websocket_urlpatterns = [
        re_path(r'ws/my-path/$', consumers.MyConsumer.as_asgi()),
    ]
    # fmt: on
    async with connected(URLRouter(websocket_urlpatterns), "/ws/my-path/") as client:
        await client.send_to("hello")
        assert await client.receive_from() == "hello"


# The example, as its docstring says to run it.


@pytest.fixture
def server() -> Iterator[Server]:
    with Server("uvicorn-websockets-sansio", "examples.channels_document:application") as server:
        yield server


@pytest.mark.slow
def test_the_example_notifies_a_room_over_http(server: Server) -> None:
    with connect(f"{server.ws}/notifications/42/") as socket:
        url = f"{server.http}/notifications/42/"
        answer = httpx.post(url, content=b'{"data": "Your order has shipped"}')
        assert (answer.status_code, answer.json()["reached"]) == (202, 1)
        assert socket.recv(10) == "Your order has shipped"
    exit = server.stop()
    assert "socket disconnected" in exit.output
    assert "Traceback" not in exit.output
