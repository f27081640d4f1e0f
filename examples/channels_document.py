"""A synchronous consumer as tutorials for Django Channels write it, moved over by its imports.

Run it, listen in room 42, and notify the room::

    uvicorn examples.channels_document:application
    python -m websockets ws://127.0.0.1:8000/notifications/42/
    curl -d '{"data": "Your order has shipped"}' http://127.0.0.1:8000/notifications/42/

Without a key, `PublishConsumer` serves this machine alone.
"""

import logging

from asgi_notify import (
    Event,
    ProtocolTypeRouter,
    PublishConsumer,
    SameOriginValidator,
    SyncConsumer,
    URLRouter,
    async_to_sync,
    path,
)

logger = logging.getLogger(__name__)


class NotificationConsumer(SyncConsumer):
    """Handles bare events in plain functions, each in a thread."""

    def websocket_connect(self, event: Event) -> None:
        """Join the group of the room, and accept."""
        self.room_name = self.scope["url_route"]["kwargs"]["room_name"]
        self.room_group_name = "user_%s" % self.room_name  # noqa: UP031 - as printed there
        async_to_sync(self.channel_layer.group_add)(
            self.room_group_name,
            self.channel_name,
        )
        self.send(
            {
                "type": "websocket.accept",
            }
        )

    def send_notification(self, event: Event) -> None:
        """Called when someone has messaged our chat."""
        logger.info(f"data recvieve >> {event['data']}")
        self.send(
            {
                "type": "websocket.send",
                "text": event["data"],
            }
        )

    def websocket_receive(self, event: Event) -> None:
        """Leave what the client says unread; `asgi_notify.NotificationConsumer` answers it."""

    def websocket_disconnect(self, event: Event) -> None:
        """Leave the group."""
        print("socket disconnected")
        async_to_sync(self.channel_layer.group_discard)(
            self.room_group_name,
            self.channel_name,
        )
        print(event)


# The document's routing.py, with an instance: each connection gets a consumer of its own.
websocket_urlpatterns = [
    path("notifications/<int:room_name>/", NotificationConsumer()),
]

router = ProtocolTypeRouter(
    {
        "websocket": URLRouter(websocket_urlpatterns),
        "http": URLRouter([path("notifications/<int:room_name>/", PublishConsumer())]),
    }
)

# Pages from elsewhere, open in a browser on this machine, may neither listen nor publish.
application = SameOriginValidator(router)
