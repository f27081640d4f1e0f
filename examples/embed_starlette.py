"""Notifications inside a Starlette application.

Run it, listen as user 42, and tell user 42 something::

    uvicorn examples.embed_starlette:app
    python -m websockets ws://127.0.0.1:8000/notifications/42/
    curl -X POST http://127.0.0.1:8000/users/42/shipped
    curl -X POST http://127.0.0.1:8000/users/42/paid
"""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route

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
notifications = SameOriginValidator(URLRouter([path("<int:room_name>/", NotificationConsumer())]))


async def shipped(request: Request) -> Response:
    """An asynchronous view awaits the channel layer."""
    group = f"user_{request.path_params['user']}"
    message = {"type": "send.notification", "data": "Your order is on its way."}
    await get_channel_layer().group_send(group, message)
    return Response(status_code=202)


def paid(request: Request) -> Response:
    """A synchronous view, which Starlette runs in a thread, calls it through `async_to_sync`."""
    group = f"user_{request.path_params['user']}"
    message = {"type": "send.notification", "data": "Your payment has arrived."}
    async_to_sync(get_channel_layer().group_send)(group, message)
    return Response(status_code=202)


app = Starlette(
    routes=[
        Mount("/notifications", notifications),
        Route("/users/{user:int}/shipped", shipped, methods=["POST"]),
        Route("/users/{user:int}/paid", paid, methods=["POST"]),
    ],
    # Opens the channel layer with the server, and closes the sockets in order with it.
    lifespan=lambda app: channel_layers.running(),
)
