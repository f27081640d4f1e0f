"""Notifications for who is logged in by Quart's sessions.

Run it, log in as user 42, and listen with that cookie::

    uvicorn examples.login_quart:application
    curl -i -X POST http://127.0.0.1:8000/login/42
"""

from itsdangerous import BadSignature
from quart import Quart, session
from quart.sessions import SecureCookieSessionInterface

from asgi_notify import (
    Authentication,
    NotificationConsumer,
    ProtocolTypeRouter,
    URLRouter,
    path,
)
from asgi_notify.auth import Identity, own_group

app = Quart(__name__)
app.secret_key = "only for this example"


@app.post("/login/<int:user>")
async def log_in(user: int) -> tuple[str, int]:
    """Yours asks for a password first."""
    session["user"] = str(user)
    return "", 204


def session_user(cookie: str) -> Identity | None:
    """Who is logged in by a cookie of Quart's; None for nobody."""
    serializer = SecureCookieSessionInterface().get_signing_serializer(app)
    assert serializer is not None  # since the app has a secret key
    age = int(app.permanent_session_lifetime.total_seconds())
    try:
        content, since = serializer.loads(cookie, max_age=age, return_timestamp=True)
    except BadSignature:
        return None
    user = content.get("user")
    return None if user is None else Identity(user, expires_at=since.timestamp() + age)


rooms = NotificationConsumer.as_asgi(rule=own_group)
sockets = URLRouter([path("notifications/<int:room_name>/", rooms)])

# Quart mounts no ASGI applications, so a router in front of it takes the WebSockets.
application = ProtocolTypeRouter(
    {
        "http": app,
        "websocket": Authentication(
            sockets, session_user, cookie=app.config["SESSION_COOKIE_NAME"]
        ),
        "lifespan": app,
    }
)
