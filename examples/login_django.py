"""Notifications for who is logged in by Django, in one file.

Run it, log in as user 42, who exists, and listen with that cookie::

    uvicorn examples.login_django:application
    curl -i -X POST http://127.0.0.1:8000/login/42

In a project of your own, ``end_connections`` and the last lines belong into its ``asgi.py``.
"""

import django
from django.conf import settings
from django.contrib.auth import get_user_model, login, logout
from django.contrib.auth.signals import user_logged_out
from django.core.asgi import get_asgi_application
from django.core.management import call_command
from django.dispatch import receiver
from django.http import HttpRequest, HttpResponse
from django.urls import path as url

settings.configure(
    ALLOWED_HOSTS=["localhost", "127.0.0.1"],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": "file:login?mode=memory&cache=shared",
        }
    },
    INSTALLED_APPS=[
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.sessions",
    ],
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
    ],
    ROOT_URLCONF=__name__,
    SECRET_KEY="only for this example",
)
django.setup()
call_command("migrate", verbosity=0)
for pk in 7, 42:
    get_user_model().objects.create(pk=pk, username=f"user {pk}")


def log_in(request: HttpRequest, user: int) -> HttpResponse:
    """Yours asks for a password first, as Django's own does."""
    login(request, get_user_model().objects.get(pk=user))
    return HttpResponse(status=204)


def log_out(request: HttpRequest) -> HttpResponse:
    """End the session, and by the signal that this sends, the connections that it opened."""
    logout(request)
    return HttpResponse(status=204)


urlpatterns = [url("login/<int:user>", log_in), url("logout", log_out)]

from asgi_notify import (  # noqa: E402  # Django is set up above, which a project does elsewhere
    Authentication,
    NotificationConsumer,
    ProtocolTypeRouter,
    URLRouter,
    async_to_sync,
    get_channel_layer,
    path,
)
from asgi_notify.auth import own_group, revoke_token  # noqa: E402
from asgi_notify.auth.django import session_user, token_id_of  # noqa: E402


@receiver(user_logged_out)
def end_connections(request: HttpRequest, **kwargs: object) -> None:
    """Who logs out hears nothing more, in whatever process the connection is."""
    token_id = token_id_of(request.session.session_key)
    seconds = settings.SESSION_COOKIE_AGE
    async_to_sync(revoke_token)(get_channel_layer(), token_id, seconds=seconds)


rooms = NotificationConsumer.as_asgi(rule=own_group)
sockets = URLRouter([path("notifications/<int:room_name>/", rooms)])
application = ProtocolTypeRouter(
    {
        "http": get_asgi_application(),
        "websocket": Authentication(sockets, session_user, cookie=settings.SESSION_COOKIE_NAME),
    }
)
