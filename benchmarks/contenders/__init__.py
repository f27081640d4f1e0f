"""Who is measured: one file each, whole, in the way that its library's documentation shows."""

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

__all__ = ["CONTENDERS", "Contender"]


@dataclass(frozen=True)
class Contender:
    """One library, and how its clients speak to it.

    Args:
        name: of its file, if ``file`` names no other.
        title: for people.
        needs: the package that it is.
        dialect: what its clients speak; see `benchmarks.wire`.
        path: where its clients connect.
        share: the part of a burst that it gets, where a whole one would take
            minutes; what is quoted is per delivery.
        file: whose application it is, if that is another contender's.
        ws: uvicorn's protocol for WebSockets.
        http: uvicorn's protocol for HTTP.
        has_engine: whether a Redis or Valkey carries its messages.
    """

    name: str
    title: str
    needs: str = "asgi_notify"
    dialect: str = "websocket"
    path: str = "/{group}"
    share: float = 1.0
    file: str = ""
    ws: str = "websockets-sansio"
    http: str = "httptools"
    has_engine: bool = False

    @property
    def is_installed(self) -> bool:
        """Whether its package can be imported."""
        return find_spec(self.needs) is not None

    @property
    def arguments(self) -> tuple[str, str, str]:
        """What its server is told."""
        return self.file or self.name, self.ws, self.http


def _ours(name: str, title: str, **options: Any) -> Contender:
    """One of this library's, on the server that it brings."""
    ws, http = "asgi_notify.uvicorn:WebSocketProtocol", "asgi_notify.uvicorn:HttpProtocol"
    return Contender(name, f"asgi_notify, {title}", ws=ws, http=http, **options)


CONTENDERS: dict[str, Contender] = {
    contender.name: contender
    for contender in (
        Contender("raw", "raw ASGI loop", needs="uvicorn"),
        _ours("raw_gathered", "raw ASGI loop on its server", file="raw"),
        _ours("ours_async", "async consumer"),
        Contender("ours_async_stock", "asgi_notify, async, stock uvicorn", file="ours_async"),
        _ours("ours_notification", "NotificationConsumer", path="/notifications/{group}/"),
        _ours("ours_sync", "sync consumer"),
        _ours("ours_sse", "server-sent events", dialect="sse"),
        _ours("ours_blocking", "sync, blocking 0.1 s"),
        Contender("websockets", "websockets, broadcast()", needs="websockets"),
        Contender("broadcaster", "broadcaster on Starlette", needs="broadcaster"),
        Contender("litestar", "Litestar channels", needs="litestar"),
        Contender(
            "socketio",
            "python-socketio",
            needs="socketio",
            dialect="socketio",
            path="/socket.io/?EIO=4&transport=websocket&group={group}",
            share=0.25,
        ),
        Contender("channels", "Django Channels", needs="channels", share=0.1),
        Contender("channels_sync", "Django Channels, sync", needs="channels", share=0.1),
        _ours("ours_valkey", "async consumer on valkey://", has_engine=True),
        Contender(
            "channels_redis",
            "channels_redis, core",
            needs="channels_redis",
            share=0.1,
            has_engine=True,
        ),
        Contender(
            "channels_pubsub",
            "channels_redis, pub/sub",
            needs="channels_redis",
            share=0.1,
            has_engine=True,
        ),
        Contender(
            "glide", "valkey-glide, bare publish and subscribe", needs="glide", has_engine=True
        ),
    )
}
