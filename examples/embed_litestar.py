"""Notifications inside a Litestar application.

Run it, listen as user 42, and tell user 42 something::

    uvicorn examples.embed_litestar:app
    python -m websockets ws://127.0.0.1:8000/notifications/42/
    curl -X POST http://127.0.0.1:8000/users/42/shipped
    curl -X POST http://127.0.0.1:8000/users/42/paid
"""

from litestar import Litestar, asgi, post

from asgi_notify import (
    NotificationConsumer,
    SameOriginValidator,
    URLRouter,
    async_to_sync,
    channel_layers,
    get_channel_layer,
    path,
)

# Lets only this site's own pages in. Who may watch which room is for your login to say.
router = SameOriginValidator(URLRouter([path("<int:room_name>/", NotificationConsumer())]))
notifications = asgi("/notifications", is_mount=True, copy_scope=True)(router)


@post("/users/{user:int}/shipped", status_code=202)
async def shipped(user: int) -> None:
    """An asynchronous view awaits the channel layer."""
    message = {"type": "send.notification", "data": "Your order is on its way."}
    await get_channel_layer().group_send(f"user_{user}", message)


@post("/users/{user:int}/paid", status_code=202, sync_to_thread=True)
def paid(user: int) -> None:
    """A synchronous view, which Litestar runs in a thread, calls it through `async_to_sync`."""
    message = {"type": "send.notification", "data": "Your payment has arrived."}
    async_to_sync(get_channel_layer().group_send)(f"user_{user}", message)


app = Litestar(
    route_handlers=[notifications, shipped, paid],
    # Opens the channel layer with the server, and closes the sockets in order with it.
    lifespan=[lambda app: channel_layers.running()],
)
