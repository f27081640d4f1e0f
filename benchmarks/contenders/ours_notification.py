"""asgi_notify: the consumer of notifications as it comes, with nothing overridden."""

from asgi_notify import (
    NotificationConsumer,
    ProtocolTypeRouter,
    URLRouter,
    get_channel_layer,
    path,
)

rooms = [path("notifications/<int:room_name>/", NotificationConsumer)]
app = ProtocolTypeRouter({"websocket": URLRouter(rooms)})


async def publish(group: str, text: str) -> None:
    """Send a notification to the user of that number."""
    message = {"type": "send.notification", "data": text}
    await get_channel_layer().group_send(f"user_{group}", message)


async def add_others(count: int) -> None:
    """Make channels without clients, each in a group of its own."""
    layer = get_channel_layer()
    for number in range(count):
        await layer.group_add(f"other-{number}", await layer.new_channel())
