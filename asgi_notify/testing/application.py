"""How a test talks to any ASGI application: event by event, with a time limit on each wait."""

from collections.abc import Mapping, MutableMapping
from types import TracebackType
from typing import Any, Self

import anyio

from ..types import ASGIApp, Event, Scope
from .background import Background

__all__ = ["ApplicationCommunicator"]

_PATIENCE = 1.0  # seconds that an application has to end by itself, then when cancelled


class ApplicationCommunicator:
    """Runs an application and stands where its server would.

    The application starts with the first call that needs it, so the ``scope``
    can be added to until then. It needs no ``async with``: when the test's
    event loop ends, or the communicator is dropped, the application is
    cancelled. With ``async with`` it has ended when the block is left, and an
    exception of its own that no call has raised yet is raised there.

    A wait that times out leaves the application running: it can be asked again.

    Args:
        application: an ASGI callable, or a consumer class.
        scope: given to the application as it is.

    Raises:
        TypeError: one of the two is something else.
    """

    def __init__(self, application: ASGIApp | type[Any], scope: Scope) -> None:
        """Make a communicator; the application does not run yet."""
        self._app: Background | None = None
        self._is_reported = False
        self.application = _as_asgi(application)
        if not isinstance(scope, MutableMapping):
            raise TypeError(
                f"the scope must be a dict, such as {{'type': 'http'}}, not {type(scope).__name__}"
            )
        self.scope = scope

    async def send_input(self, message: Event) -> None:
        """Tell the application something.

        Raises:
            TypeError: the message has no ``"type"``.
            BaseException: the one that the application has ended with.
        """
        if not isinstance(message, Mapping) or not isinstance(message.get("type"), str):
            raise TypeError(
                "an input is a dict with a 'type', such as {'type': 'websocket.connect'}, "
                f"not {message!r}"
            )
        app = self._start()
        self._raise_error(app)
        app.offer(message)

    async def receive_output(self, timeout: float | None = 1) -> Event:
        """The next event that the application sends.

        What it sent before it ended comes first, then the exception that it
        ended with. No event is lost when the wait is cancelled.

        Args:
            timeout: in seconds; None waits for ever.

        Raises:
            TimeoutError: nothing came in time, or the application has ended,
                which is said at once.
            BaseException: the one that the application has ended with.
        """
        app = self._start()
        await app.until(lambda: app.has_output or app.has_ended, timeout)
        if app.has_output:
            return app.take()
        self._raise_error(app)
        if app.has_ended:
            raise TimeoutError(f"no output will come: {app.describe()}")
        raise TimeoutError(
            f"no output came within {timeout:g} s: {app.describe()}. It can be asked again"
        )

    async def receive_nothing(self, timeout: float = 0.1, interval: float = 0.01) -> bool:
        """Whether the application sends nothing for that long; an output stays to be received.

        Args:
            timeout: in seconds.
            interval: in seconds; the least time to wait, unless ``timeout`` is 0.

        Raises:
            BaseException: the one that the application has ended with, when it
                has sent nothing.
        """
        app = self._start()
        patience = max(timeout, interval) if timeout > 0 else 0
        await app.until(lambda: app.has_output or app.has_ended, patience)
        if app.has_output:
            return False
        self._raise_error(app)
        return True

    async def wait(self, timeout: float | None = 1) -> None:
        """Wait until the application has ended.

        Args:
            timeout: in seconds; None waits for ever.

        Raises:
            TimeoutError: it still runs, and is left running.
            BaseException: the one that the application has ended with.
        """
        app = self._start()
        if not await app.until(lambda: app.has_ended, timeout):
            raise TimeoutError(
                f"the application did not end within {timeout:g} s: {app.describe()}. "
                "It is left running; stop() cancels it"
            )
        self._raise_error(app)

    def stop(self, exceptions: bool = True) -> None:
        """Cancel the application; ``wait()`` then tells when it has ended.

        Harmless before the start, and when called again.

        Args:
            exceptions: whether to raise what an application has ended with.
        """
        app = self._app
        if app is None:
            return
        if not app.has_ended:
            app.cancel()
        elif exceptions:
            self._raise_error(app)

    async def __aenter__(self) -> Self:
        """Start nothing yet; make sure of the end."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the application, and raise its exception if the test has not seen it.

        Raises:
            TimeoutError: the application ignores its cancellation.
        """
        app = self._app
        if app is None:
            return
        with anyio.CancelScope(shield=True):
            has_ended = await self._end(app)
        if error is not None:
            return
        if not has_ended:
            raise TimeoutError(f"the application ignores its cancellation: {app.describe()}")
        if not self._is_reported:
            self._raise_error(app)

    def __del__(self) -> None:
        """Cancel an application that nobody can talk to any more."""
        if (app := getattr(self, "_app", None)) is not None and not app.has_ended:
            app.cancel()

    @staticmethod
    def _answer(event: Event) -> Event | None:
        """What a server tells the application in return for an output."""
        return None

    def _farewell(self) -> Event | None:
        """What tells the application that the client has gone, unless it was told."""
        return None

    def _start(self) -> Background:
        if self._app is None:
            self._app = Background(self.application, self.scope, self._answer)
        return self._app

    def _raise_error(self, app: Background) -> None:
        if app.error is not None:
            self._is_reported = True
            raise app.error

    async def _end(self, app: Background) -> bool:
        if (farewell := self._farewell()) is not None:
            app.offer(farewell)
            if await app.until(lambda: app.has_ended, _PATIENCE):
                return True
        app.cancel()
        return await app.until(lambda: app.has_ended, _PATIENCE)


def _as_asgi(application: Any) -> ASGIApp:
    if isinstance(application, type) and hasattr(application, "as_asgi"):
        application = application.as_asgi()
    if not callable(application):
        raise TypeError(
            "the application must be called with (scope, receive, send), "
            f"which {application!r} cannot be"
        )
    app: ASGIApp = application
    return app
