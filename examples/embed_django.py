"""Notifications beside a Django project, in one file.

Run it, listen as user 42, and tell user 42 something::

    uvicorn examples.embed_django:application
    python -m websockets ws://127.0.0.1:8000/notifications/42/
    curl -X POST http://127.0.0.1:8000/users/42/shipped
    curl -X POST http://127.0.0.1:8000/users/42/paid

In a project of your own, the last lines belong into its ``asgi.py``.
"""

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path as url

from asgi_notify import (
    NotificationConsumer,
    ProtocolTypeRouter,
    SameOriginValidator,
    URLRouter,
    async_to_sync,
    get_channel_layer,
    path,
)

settings.configure(
    ALLOWED_HOSTS=["localhost", "127.0.0.1"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="only for this example",
)


async def shipped(request: HttpRequest, user: int) -> HttpResponse:
    """An asynchronous view awaits the channel layer."""
    message = {"type": "send.notification", "data": "Your order is on its way."}
    await get_channel_layer().group_send(f"user_{user}", message)
    return HttpResponse(status=202)


def paid(request: HttpRequest, user: int) -> HttpResponse:
    """A synchronous view, which Django runs in a thread, calls it through `async_to_sync`."""
    message = {"type": "send.notification", "data": "Your payment has arrived."}
    async_to_sync(get_channel_layer().group_send)(f"user_{user}", message)
    return HttpResponse(status=202)


urlpatterns = [
    url("users/<int:user>/shipped", shipped),
    url("users/<int:user>/paid", paid),
]

sockets = URLRouter([path("notifications/<int:room_name>/", NotificationConsumer())])

application = ProtocolTypeRouter(
    {
        "http": get_asgi_application(),
        # Lets only this site's own pages in. Who may watch which room is for your login to say.
        "websocket": SameOriginValidator(sockets),
    }
)
