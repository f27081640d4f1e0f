"""How the server's garbage collector is kept from looking at what never becomes garbage.

Python's collector looks for cycles among objects of three ages, and at the oldest ones when
their number has grown by a quarter. Each open connection is some 50 objects that live as long
as it does. So where thousands of clients connect, the collector walks again and again over all
modules and all connections, and nothing else runs meanwhile: docs/performance.md has figures.
"""

import gc

from ..types import ASGIApp, Event, Receive, Scope, Send

__all__ = ["YOUNG", "CollectsLess"]

YOUNG = 10_000  # objects, net of those that ended, between two looks; Python's own is 700 or 2,000


class CollectsLess:
    """An application that tunes the garbage collector once it has started.

    What lives by then, such as modules and classes, is set aside for good, and the
    collector looks for young garbage less often. Nothing is changed where the application
    has turned the collector off, and no threshold is lowered.

    Args:
        inner: the application.
    """

    def __init__(self, inner: ASGIApp) -> None:
        self.inner = inner
        self._has_started = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection, or the life of the server."""
        if scope["type"] != "lifespan":
            self._start()  # of an application that knows no lifespan
            await self.inner(scope, receive, send)
            return

        async def send_and_start(event: Event) -> None:
            if event["type"] == "lifespan.startup.complete":
                self._start()
            await send(event)

        await self.inner(scope, receive, send_and_start)

    def _start(self) -> None:
        if self._has_started:
            return
        self._has_started = True
        # PyPy's collector is another one, and cannot be told.
        if not hasattr(gc, "freeze") or not gc.isenabled():
            return
        gc.collect()  # or garbage would be set aside, too
        gc.freeze()
        young, *others = gc.get_threshold()
        if 0 < young < YOUNG:
            gc.set_threshold(YOUNG, *others)
