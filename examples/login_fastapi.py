import time

import jwt
from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles

import asgi_notify as notify
from asgi_notify.auth import own_group
from asgi_notify.auth.jwt import JWTVerifier

SECRET = "only for this example, and longer than 32 bytes"
PAGE = """<body><script type="module">
import { connect } from "/static/asgi-notify.js";
const client = connect("/notifications/", { transports: ["websocket"] });
client.subscribe("user_%s", (notification) => document.body.append(notification.data));
</script>"""

app = FastAPI(lifespan=lambda app: notify.channel_layers.running())
app.add_middleware(notify.Authentication, JWTVerifier(SECRET), cookie="login", required=False)
app.mount("/static", StaticFiles(packages=[("asgi_notify", "js")]))
rooms = notify.NotificationConsumer.as_asgi(rule=own_group)
app.mount("/notifications", notify.URLRouter([notify.path("", rooms)]))


@app.post("/login/{user}", status_code=204)
def login(user: int, response: Response) -> None:  # yours asks for a password first
    token = jwt.encode({"sub": str(user), "exp": time.time() + 3600}, SECRET)
    response.set_cookie("login", token, httponly=True, samesite="lax")


@app.get("/", response_class=HTMLResponse)
def page(request: Request) -> str:
    return PAGE % request.user.id if request.user else "Log in first."


@app.post("/ship/{user}")
async def ship(user: int) -> None:
    message = {"type": "send.notification", "data": "Your order has shipped"}
    await notify.get_channel_layer().group_send(f"user_{user}", message)
