"""Puts observers in front of an application: the one place to count, limit, log and inspect."""

from collections.abc import Iterable

from ..consumers.observing import Observer
from ..exceptions import ConfigurationError
from ..routing.base import as_app
from ..types import Receive, Scope, Send

__all__ = ["Observed"]


class Observed:
    """Has observers look at every connection that a consumer of the application handles.

    They stand in ``scope["observers"]``, where consumers find them; behind those
    of another `Observed` further out. What no consumer handles, such as a file or
    a framework's view, they do not see.

    Args:
        application: an ASGI app, a consumer class, or a router.
        observers: a list of `Observer` instances.

    Raises:
        ConfigurationError: there is no list, or something else in it.
    """

    def __init__(self, application: object, observers: Iterable[Observer]) -> None:
        """Check the observers and wrap the application."""
        self.inner = as_app(application, type(self).__name__)
        self.observers = tuple(observers) if isinstance(observers, Iterable) else (observers,)
        wrong = [each for each in self.observers if not isinstance(each, Observer)]
        if wrong or not isinstance(observers, Iterable):
            raise ConfigurationError(
                f"observers must be a list of instances of Observer subclasses, such as "
                f"[Metrics()], not {observers!r}"
            )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand over to the application, with the observers in the scope."""
        if scope["type"] != "lifespan":
            scope = {**scope, "observers": (*scope.get("observers", ()), *self.observers)}
        await self.inner(scope, receive, send)
