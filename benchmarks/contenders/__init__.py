"""Who is measured: one file each, whole, in the way that its library's documentation shows."""

from dataclasses import dataclass
from importlib.util import find_spec

__all__ = ["CONTENDERS", "Contender"]


@dataclass(frozen=True)
class Contender:
    """One library, and how its clients speak to it.

    Args:
        name: of its file.
        title: for people.
        needs: the package that it is.
        dialect: what its clients speak; see `benchmarks.wire`.
        path: where its clients connect.
        share: the part of a burst that it gets, where a whole one would take
            minutes; what is quoted is per delivery.
    """

    name: str
    title: str
    needs: str = "asgi_notify"
    dialect: str = "websocket"
    path: str = "/{group}"
    share: float = 1.0

    @property
    def is_installed(self) -> bool:
        """Whether its package can be imported."""
        return find_spec(self.needs) is not None


CONTENDERS: dict[str, Contender] = {
    contender.name: contender
    for contender in (
        Contender("raw", "raw ASGI loop", needs="uvicorn"),
        Contender("ours_async", "asgi_notify, async consumer"),
        Contender(
            "ours_notification",
            "asgi_notify, NotificationConsumer",
            path="/notifications/{group}/",
        ),
        Contender("ours_sync", "asgi_notify, sync consumer", share=0.1),
        Contender("ours_sse", "asgi_notify, server-sent events", dialect="sse"),
        Contender("ours_blocking", "asgi_notify, sync, blocking 0.1 s"),
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
    )
}
