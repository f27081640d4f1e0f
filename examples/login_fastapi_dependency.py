"""Notifications for the user whom a dependency of FastAPI finds.

Run it, log in as user 42, and listen with that cookie::

    uvicorn examples.login_fastapi_dependency:app
    curl -i -X POST http://127.0.0.1:8000/login/42
"""

from typing import Annotated

from fastapi import Cookie, Depends, FastAPI, Response, WebSocket, WebSocketException

from asgi_notify import (
    ClientError,
    NotificationConsumer,
    SameOriginValidator,
    URLRouter,
    channel_layers,
    path,
)
from asgi_notify.auth import Identity, SignedTokens, own_group

tokens = SignedTokens("only for this example, and longer than 32 bytes")
app = FastAPI(lifespan=lambda app: channel_layers.running())

rooms = NotificationConsumer.as_asgi(rule=own_group)
# A browser adds the cookie for pages of any site: so this lets only this site's own pages in.
notifications = SameOriginValidator(URLRouter([path("notifications/<int:room_name>/", rooms)]))


@app.post("/login/{user}", status_code=204)
def log_in(user: int, response: Response) -> None:
    """Yours asks for a password first."""
    response.set_cookie("login", tokens.sign(user), httponly=True, samesite="lax")


def current_user(login: Annotated[str, Cookie()] = "") -> Identity:
    """Whatever finds your users: here, a signed token in a cookie."""
    try:
        return tokens.verify(login)
    except ClientError as error:
        raise WebSocketException(error.close_code, str(error)) from error


@app.websocket("/notifications/{room}/")
async def notify(socket: WebSocket, user: Annotated[Identity, Depends(current_user)]) -> None:
    """Hand the connection over, with the user in its scope."""
    await notifications({**socket.scope, "user": user}, socket.receive, socket.send)
