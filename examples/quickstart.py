from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

import asgi_notify as notify


async def ship(request: Request) -> JSONResponse:
    message = {"type": "send.notification", "data": "Your order has shipped"}
    layer = notify.get_channel_layer()
    sent = await layer.group_send(f"user_{request.path_params['user']}", message)
    return JSONResponse({"reached": sent.reached})


rooms = [
    notify.path("notifications/", notify.NotificationConsumer),  # the page names its groups
    notify.path("notifications/<int:room_name>/", notify.NotificationConsumer),
]
app = Starlette(
    routes=[
        Route("/ship/{user:int}", ship, methods=["POST"]),
        Mount("/static", StaticFiles(packages=[("asgi_notify", "js")])),
        Mount("/", notify.SameOriginValidator(notify.URLRouter(rooms))),
    ]
)
