"""Who looks on: where each connection begins and ends, and where each of its events passes."""

import logging
from collections.abc import Callable, Iterable

from ..types import Event, Receive
from .connection import Connection

__all__ = ["Observer", "run_observed"]

logger = logging.getLogger("asgi_notify.connections")


class Observer:
    """Sees the connections of consumers begin and end, and each event that a client sends.

    Limits, metrics, logs and an inspector are subclasses; unless overridden, a
    method does nothing. Which connections it sees is up to `Observed`, which puts
    it in front of an application. One observer sees all of them, in their event
    loop, so that its methods are plain functions and return soon.

    `opened` comes first, then `received` with each event, then `closed`, once for
    each connection whose `opened` has returned. What `opened` and `received` raise
    ends the connection, as what a handler raises does: a `ClientError` is told to
    the client, anything else is a failure, which is logged.
    """

    __slots__ = ()  # of its own; subclasses have what they like

    def opened(self, connection: Connection) -> None:
        """Called when a connection has begun, before anything of it is received.

        Raises:
            Exception: to refuse it; of an error with ``headers``, these are sent.
        """

    def received(self, connection: Connection, event: Event) -> None:
        """Called with each event of the client's as it comes, before it waits to be handled.

        The last one tells that the client has left. Events that are not the client's,
        such as messages of the layer, do not pass here.

        Raises:
            Exception: to end the connection; the event is not handled. At the last one
                it ends already, and the log has what was raised.
        """

    def closed(self, connection: Connection) -> None:
        """Called when all of a connection has ended, the handler of its disconnect event too.

        What it raises is logged, and passed over.
        """


async def run_observed(
    connection: Connection,
    observers: Iterable[Observer],
    receive: Receive,
    wrap_receive: Callable[[Receive], Receive],
) -> None:
    """Live through a connection that observers look at.

    Args:
        connection: one that was not run yet.
        observers: what was put in front of the application, outermost first.
        receive: the server's, so that nothing which the consumer adds is seen.
        wrap_receive: the consumer's own hook.
    """
    looking_on: list[Observer] = []
    listening: list[Observer] = []

    async def receive_observed() -> Event:
        event = await receive()
        is_last = event["type"] == connection.end["type"]
        for observer in listening:
            try:
                observer.received(connection, event)
            except Exception as error:
                name = f"{type(observer).__qualname__}.received()"
                if not is_last:
                    connection.fail(error, name)
                    break
                # There is nobody to tell.
                logger.exception("%s: %s failed", connection, name, extra=connection.log_fields)
        return event

    try:
        for observer in observers:
            try:
                observer.opened(connection)
            except Exception as error:
                await connection.refuse(error, f"{type(observer).__qualname__}.opened()")
                return
            looking_on.append(observer)
            if type(observer).received is not Observer.received:
                listening.append(observer)
        # Who looks on at the beginning and the end alone costs an event nothing.
        await connection.run(wrap_receive(receive_observed if listening else receive))
    finally:
        for observer in reversed(looking_on):
            try:
                observer.closed(connection)
            except Exception:
                name = type(observer).__qualname__
                logger.exception(
                    "%s: %s.closed() failed", connection, name, extra=connection.log_fields
                )
