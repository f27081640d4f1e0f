"""The notifications of a room, from a server that asks often whether its clients are there."""

from asgi_notify import NotificationConsumer, ProtocolTypeRouter, URLRouter, path


class Pinged(NotificationConsumer):
    """Pings at once, and waits long enough for a busy machine."""

    ping_interval = 0.02
    pong_timeout = 0.3


app = ProtocolTypeRouter({"websocket": URLRouter([path("notifications/<int:room_name>/", Pinged)])})
