"""What comes over a protocol that a consumer is not for is refused, rather than left to wait."""

from typing import Any

import pytest

from asgi_notify import (
    AsyncHttpConsumer,
    AsyncSseConsumer,
    AsyncWebsocketConsumer,
    HttpConsumer,
    NotificationConsumer,
    NotificationHttpConsumer,
    URLRouter,
    WebsocketConsumer,
    path,
)
from asgi_notify.testing import HttpCommunicator, WebsocketCommunicator

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("layer")]


@pytest.mark.parametrize("app", [AsyncWebsocketConsumer, WebsocketConsumer, NotificationConsumer])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_plain_request_to_a_websocket_is_a_404(app: Any, method: str) -> None:
    router = URLRouter([path("notifications/<int:room_name>/", app)])
    async with HttpCommunicator(router, method, "/notifications/42/", b"text") as client:
        response = await client.get_response()
    assert response["status"] == 404
    assert b"open it with ws:// or wss://" in response["body"]


@pytest.mark.parametrize(
    "app", [AsyncHttpConsumer, HttpConsumer, AsyncSseConsumer, NotificationHttpConsumer]
)
async def test_a_websocket_to_a_path_of_http_is_refused(app: Any) -> None:
    router = URLRouter([path("notifications/<int:room_name>/", app)])
    async with WebsocketCommunicator(router, "/notifications/42/", denial_response=True) as client:
        assert await client.connect() == (False, 404)
