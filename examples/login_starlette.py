"""Notifications for who is logged in by Starlette's sessions.

Run it, log in as user 42, and listen with that cookie::

    uvicorn examples.login_starlette:app
    curl -i -X POST http://127.0.0.1:8000/login/42
"""

from starlette.applications import Starlette
from starlette.authentication import AuthCredentials, AuthenticationBackend, SimpleUser
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.routing import Mount, Route

from asgi_notify import (
    Authentication,
    NotificationConsumer,
    URLRouter,
    channel_layers,
    get_channel_layer,
    path,
)
from asgi_notify.auth import own_group
from asgi_notify.users import disconnect_user


class User(SimpleUser):
    """A user as Starlette has it, who says by what it is known."""

    @property
    def identity(self) -> str:
        """The id; the group ``user_<id>`` is this user's."""
        return self.username


class SessionBackend(AuthenticationBackend):
    """Finds the user in the session."""

    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, User] | None:
        """Who is logged in; None for nobody."""
        user = conn.session.get("user")
        return None if user is None else (AuthCredentials(["authenticated"]), User(user))


async def log_in(request: Request) -> Response:
    """Yours asks for a password first."""
    request.session["user"] = str(request.path_params["user"])
    return Response(status_code=204)


async def log_out(request: Request) -> Response:
    """End the session, and the connections of its user."""
    request.session.clear()
    await disconnect_user(get_channel_layer(), request.user.identity)
    return Response(status_code=204)


rooms = NotificationConsumer.as_asgi(rule=own_group)
notifications = URLRouter([path("<int:room_name>/", rooms)])

app = Starlette(
    routes=[
        Route("/login/{user:int}", log_in, methods=["POST"]),
        Route("/logout", log_out, methods=["POST"]),
        # Takes the user whom the middleware below has found, for this site's own pages.
        Mount("/notifications", Authentication(notifications)),
    ],
    middleware=[
        Middleware(SessionMiddleware, secret_key="only for this example"),
        Middleware(AuthenticationMiddleware, backend=SessionBackend()),
    ],
    lifespan=lambda app: channel_layers.running(),
)
