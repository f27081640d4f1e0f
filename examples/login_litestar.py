"""Notifications for who is logged in by Litestar's tokens.

Run it, log in as user 42, and listen with that cookie::

    uvicorn examples.login_litestar:app
    curl -i -X POST http://127.0.0.1:8000/login/42
"""

from dataclasses import dataclass
from typing import Any

from litestar import Litestar, Response, asgi, post
from litestar.connection import ASGIConnection
from litestar.security.jwt import JWTCookieAuth, Token

from asgi_notify import (
    Authentication,
    NotificationConsumer,
    URLRouter,
    channel_layers,
    path,
)
from asgi_notify.auth import own_group


@dataclass
class User:
    """A user of yours; the group ``user_<id>`` is theirs."""

    id: str


async def find_user(token: Token, connection: ASGIConnection[Any, Any, Any, Any]) -> User | None:
    """Yours asks a database."""
    return User(token.sub)


login = JWTCookieAuth[User](
    retrieve_user_handler=find_user,
    token_secret="only for this example, and longer than 32 bytes",
    exclude=["/login", "/schema"],
)


@post("/login/{user:int}")
async def log_in(user: int) -> Response[Any]:
    """Yours asks for a password first."""
    return login.login(str(user))


rooms = NotificationConsumer.as_asgi(rule=own_group)
# Takes the user whom Litestar's middleware has found, for this site's own pages.
router = Authentication(URLRouter([path("<int:room_name>/", rooms)]))
notifications = asgi("/notifications", is_mount=True, copy_scope=True)(router)

app = Litestar(
    route_handlers=[notifications, log_in],
    on_app_init=[login.on_app_init],
    lifespan=[lambda app: channel_layers.running()],
)
