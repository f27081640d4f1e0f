"""Notifications beside a Quart application.

Run it, listen as user 42, and tell user 42 something::

    uvicorn examples.embed_quart:application
    python -m websockets ws://127.0.0.1:8000/notifications/42/
    curl -X POST http://127.0.0.1:8000/users/42/shipped
    curl -X POST http://127.0.0.1:8000/users/42/paid
"""

from quart import Quart

from asgi_notify import (
    NotificationConsumer,
    ProtocolTypeRouter,
    SameOriginValidator,
    URLRouter,
    async_to_sync,
    get_channel_layer,
    path,
)

app = Quart(__name__)


@app.post("/users/<int:user>/shipped")
async def shipped(user: int) -> tuple[str, int]:
    """An asynchronous view awaits the channel layer."""
    message = {"type": "send.notification", "data": "Your order is on its way."}
    await get_channel_layer().group_send(f"user_{user}", message)
    return "", 202


@app.post("/users/<int:user>/paid")
def paid(user: int) -> tuple[str, int]:
    """A synchronous view, which Quart runs in a thread, calls it through `async_to_sync`."""
    message = {"type": "send.notification", "data": "Your payment has arrived."}
    async_to_sync(get_channel_layer().group_send)(f"user_{user}", message)
    return "", 202


sockets = URLRouter([path("notifications/<int:room_name>/", NotificationConsumer())])

# Quart mounts no ASGI applications, so a router in front of it takes the WebSockets.
application = ProtocolTypeRouter(
    {
        "http": app,
        # Lets only this site's own pages in. Who may watch which room is for your login to say.
        "websocket": SameOriginValidator(sockets),
        "lifespan": app,
    }
)
