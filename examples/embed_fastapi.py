"""Notifications inside a FastAPI application.

Run it, listen as user 42, and tell user 42 something::

    uvicorn examples.embed_fastapi:app
    python -m websockets ws://127.0.0.1:8000/notifications/42/
    curl -X POST http://127.0.0.1:8000/users/42/shipped
    curl -X POST http://127.0.0.1:8000/users/42/paid
"""

from fastapi import FastAPI

from asgi_notify import (
    NotificationConsumer,
    SameOriginValidator,
    URLRouter,
    async_to_sync,
    channel_layers,
    get_channel_layer,
    path,
)

# The lifespan opens the channel layer with the server, and closes the sockets in order with it.
app = FastAPI(lifespan=lambda app: channel_layers.running())

notifications = URLRouter([path("<int:room_name>/", NotificationConsumer())])
# Lets only this site's own pages in. Who may watch which room is for your login to say.
app.mount("/notifications", SameOriginValidator(notifications))


@app.post("/users/{user}/shipped", status_code=202)
async def shipped(user: int) -> None:
    """An asynchronous view awaits the channel layer."""
    message = {"type": "send.notification", "data": "Your order is on its way."}
    await get_channel_layer().group_send(f"user_{user}", message)


@app.post("/users/{user}/paid", status_code=202)
def paid(user: int) -> None:
    """A synchronous view, which FastAPI runs in a thread, calls it through `async_to_sync`."""
    message = {"type": "send.notification", "data": "Your payment has arrived."}
    async_to_sync(get_channel_layer().group_send)(f"user_{user}", message)
