"""The page where it is not at home: under a prefix, and beside a server that wants no WebSocket."""

from starlette.applications import Starlette
from starlette.routing import Mount

from asgi_notify import demo
from asgi_notify.app import application
from asgi_notify.routing import URLRouter

app = Starlette(
    routes=[
        Mount("/notify", application),
        Mount("/page-only", URLRouter(demo.urlpatterns)),
    ]
)
