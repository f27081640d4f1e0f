from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from asgi_notify import NotificationConsumer, URLRouter, get_channel_layer, path


async def ship(request: Request) -> JSONResponse:
    message = {"type": "send.notification", "data": "Your order has shipped"}
    sent = await get_channel_layer().group_send(f"user_{request.path_params['user']}", message)
    return JSONResponse({"reached": sent.reached})


sockets = URLRouter([path("notifications/<int:room_name>/", NotificationConsumer)])
app = Starlette(routes=[Route("/ship/{user:int}", ship, methods=["POST"]), Mount("/", sockets)])
