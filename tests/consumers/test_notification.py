"""The consumer that carries notifications: what reaches the client, and what a client may say."""

import json
import logging
from typing import Any

import pytest

from asgi_notify import (
    InMemoryChannelLayer,
    NoRouteFound,
    NotificationConsumer,
    URLRouter,
    path,
)
from asgi_notify.consumers.notification import room_group
from asgi_notify.testing import WebsocketCommunicator
from tests.consumers.harness import assert_nothing_left, connected

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("layer")]

app = URLRouter([path("notifications/<int:room_name>/", NotificationConsumer)])


def notification(data: object) -> dict[str, object]:
    return {"type": "send.notification", "data": data}


async def test_text_reaches_the_client_as_it_is_and_other_data_as_json(
    layer: InMemoryChannelLayer,
) -> None:
    async with connected(app, "/notifications/7/") as client:
        for data in "hello", "", '{"a": 1}', "é\n😀":
            await layer.group_send("user_7", notification(data))
            assert await client.receive_from() == data
        contents: list[object] = [{"a": [1, None]}, 1.5, None, [], True]
        for content in contents:
            await layer.group_send("user_7", notification(content))
            assert await client.receive_json_from() == content


async def test_only_the_room_of_the_path_is_heard(layer: InMemoryChannelLayer) -> None:
    async with connected(app, "/notifications/7/") as client:
        sent = [await layer.group_send(f"user_{room}", notification("hi")) for room in (7, 8, 77)]
        assert [one.reached for one in sent] == [1, 0, 0]
        assert await client.receive_from() == "hi"
        assert await client.receive_nothing(0.01)
    assert_nothing_left(layer, "user_7")


# One bad message must not cost the readers their connections.
@pytest.mark.parametrize(
    "message",
    [
        {"type": "send.notification"},
        notification(object()),
        notification({1, 2}),
        notification({("a", "b"): 1}),
        notification(float("nan")),
        notification("\ud800"),
        notification(json.loads("[" * 900 + "]" * 900)),
    ],
)
async def test_what_no_frame_can_carry_is_logged_and_passed_over(
    message: dict[str, object], layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    async with connected(app, "/notifications/7/") as client:
        await layer.group_send("user_7", message)
        await layer.group_send("user_7", notification("next"))
        first = await client.receive_from()
        if first != "next":  # this Python's JSON goes that deep
            assert str(first).startswith("[[[")
            return
    [record] = caplog.records
    assert record.levelno == logging.ERROR
    assert "/notifications/7/" in record.getMessage()
    assert "passed over" in record.getMessage()


async def test_ping_is_answered_with_pong() -> None:
    async with connected(app, "/notifications/7/") as client:
        await client.send_to("ping")
        assert await client.receive_from() == "pong"


@pytest.mark.parametrize(
    ("frame", "sentence"),
    [
        ({"text_data": "hello"}, "all it understands is 'ping'"),
        ({"text_data": ""}, "all it understands is 'ping'"),
        ({"text_data": '{"type": "send.notification", "data": "fake"}'}, "brings notifications"),
        ({"bytes_data": b"ping"}, "send text"),
    ],
)
async def test_anything_else_is_answered_with_an_error_and_published_to_nobody(
    frame: dict[str, Any], sentence: str
) -> None:
    async with (
        connected(app, "/notifications/7/") as client,
        connected(app, "/notifications/7/") as other,
    ):
        await client.send_to(**frame)
        answer = await client.receive_json_from()
        assert list(answer) == ["error"]
        assert sentence in answer["error"]
        await client.send_to("ping")  # and the connection goes on
        assert await client.receive_from() == "pong"
        assert await other.receive_nothing(0.01)


async def test_a_frame_over_16_kib_closes_with_1009() -> None:
    async with connected(app, "/notifications/7/") as client:
        await client.send_to("a" * 16 * 1024)
        assert "error" in await client.receive_json_from()
        await client.send_to("a" * (16 * 1024 + 1))
        assert (await client.receive_output())["code"] == 1009


async def test_what_a_client_may_say_is_one_method_to_override() -> None:
    class Talks(NotificationConsumer):
        async def client_message(self, text: str) -> None:
            message = {"type": "send.notification", "data": f"{self.room_name}: {text}"}
            await self.channel_layer.group_send(self.room_group_name, message)

    talks = URLRouter(path("<str:room_name>/", Talks))
    async with connected(talks, "/lobby/") as client, connected(talks, "/lobby/") as other:
        await client.send_to("hello")
        for reader in client, other:
            assert await reader.receive_from() == "lobby: hello"


@pytest.mark.parametrize("kind", ["client.message", "send.error"])
async def test_a_message_cannot_call_what_is_for_the_consumers_own_use(
    kind: str, layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    class Own(NotificationConsumer):
        pass  # a class of its own, since what it passes over is logged once

    own = URLRouter(path("<int:room_name>/", Own))
    async with connected(own, "/7/") as client:
        await layer.group_send("user_7", {"type": kind})
        await client.send_to("ping")
        assert await client.receive_from() == "pong"
    [record] = caplog.records
    assert "is for the consumer's own use" in record.getMessage()


async def test_a_room_number_of_any_length_is_a_room_or_a_404() -> None:
    longest = "9" * 95  # with "user_" before it, 100 characters
    async with connected(app, f"/notifications/{longest}/"):
        pass
    async with WebsocketCommunicator(
        app, f"/notifications/{longest}9/", denial_response=True
    ) as client:
        assert await client.connect() == (False, 404)
    async with WebsocketCommunicator(app, f"/notifications/{longest}9/") as client:
        assert await client.connect() == (False, 4404)


def test_the_group_of_a_room() -> None:
    assert room_group(42) == "user_42"
    with pytest.raises(NoRouteFound, match="there is no room"):
        room_group("no spaces")
