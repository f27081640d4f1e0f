"""What can go wrong, and what the other side is told of it.

::

    NotifyError                       close code   HTTP status
    +-- ConfigurationError            1011         500   how the app was put together
    |   +-- InvalidChannelLayerError  1011         500   a layer that cannot be made or found
    |   +-- RouteError                1011         500   a route that cannot be built
    |   +-- MissingExtra              1011         500   a package that is not installed
    +-- MisuseError                   1011         500   a call at the wrong time
    +-- InvalidName                   1011         500   of a channel or a group
    +-- InvalidMessage                1011         500   sent through a layer
    +-- ChannelFull                   1013         503   a mailbox at its capacity
    +-- LayerClosed                   1012         503   the layer is shut down, or was flushed
    +-- LayerUnavailable              1013         503   what the layer runs on is away
    +-- VerifierUnavailable           1013         503   who somebody is cannot be found out now
    +-- Overloaded                    1013         503   the server has all that it takes
    +-- ClientError                   4400         400   what a client did
        +-- Unauthorized              4401         401
        +-- Forbidden                 4403         403
        +-- NoRouteFound              4404         404
        +-- MethodNotAllowed          4405         405
        +-- ClientTimeout             4408         408
        +-- TooLarge                  1009         413
        +-- UnsupportedData           1003         415
        +-- TooManyRequests           4429         429

``StopConsumer``, ``AcceptConnection`` and ``DenyConnection`` are no errors: a
handler raises them to say how the connection goes on.
"""

from collections.abc import Iterable
from math import ceil

__all__ = [
    "CLOSE_CODES",
    "AcceptConnection",
    "ChannelFull",
    "ClientError",
    "ClientTimeout",
    "ConfigurationError",
    "DenyConnection",
    "Forbidden",
    "InvalidChannelLayerError",
    "InvalidMessage",
    "InvalidName",
    "LayerClosed",
    "LayerUnavailable",
    "MethodNotAllowed",
    "MissingExtra",
    "MisuseError",
    "NoRouteFound",
    "NotifyError",
    "Overloaded",
    "RouteError",
    "StopConsumer",
    "TooLarge",
    "TooManyRequests",
    "Unauthorized",
    "UnsupportedData",
    "VerifierUnavailable",
]

CLOSE_CODES = {
    1000: "the work of the connection is done",
    1001: "the server is shutting down, or the browser left the page",
    1003: "a binary frame where text belongs",
    1005: "the other side closed without saying a code; never sent",
    1006: "the connection was lost without a close frame; never sent",
    1009: "a message over the size limit",
    1011: "a handler failed; the server's log has the traceback",
    1012: "the server restarts; come back in a moment",
    1013: "the client reads too slowly, or the server cannot serve it now; come back, catch up",
    4400: "the request makes no sense",
    4401: "a key or a login is missing or wrong",
    4403: "not allowed, such as a page from another origin",
    4404: "nothing is served at this path",
    4405: "this method is not served at this path",
    4408: "the client did not answer a ping in time, or read nothing for too long",
    4429: "the client did too much in too short a time; come back in a moment",
}
"""Every WebSocket close code this package sends or reports, with its meaning.

Source: RFC 6455, section 7.4.1, for 1000 to 1015; 4000 to 4999 are private use.
"""


class NotifyError(Exception):
    """The root of this package's errors.

    ``close_code`` and ``http_status`` are what the other side of a connection
    is told when the error ends it, and `headers` goes with the status.

    Args:
        args: the sentence that says what is wrong and the way out.
        headers: further headers of the HTTP response, such as
            ``[(b"retry-after", b"5")]``; after those that the class always has.
    """

    close_code = 1011
    http_status = 500
    headers: tuple[tuple[bytes, bytes], ...] = ()
    """Pairs of a lower-case name and a value, of a response or a denial with this error."""
    public: str | None = None
    """What the other side is told in place of a sentence that is the server's own matter."""

    def __init__(self, *args: object, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        super().__init__(*args)
        self.headers = (*self.headers, *headers)


class ConfigurationError(NotifyError, ValueError):
    """The application was put together in a way that cannot work."""


class InvalidChannelLayerError(ConfigurationError):
    """A channel layer cannot be made, or there is none by that name."""


class RouteError(ConfigurationError):
    """A route cannot be built: its pattern, its converter or its target is wrong."""


class MissingExtra(ConfigurationError, ImportError):
    """A package is needed that one of this package's extras brings."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs the {extra} extra: pip install 'asgi-notify[{extra}]'")


class MisuseError(NotifyError, RuntimeError):
    """A call that is right at another time or in another place."""


class InvalidName(NotifyError, TypeError):
    """The name of a channel or a group is too long or has a character it may not have."""


class InvalidMessage(NotifyError, ValueError):
    """A message cannot be sent: it has no usable ``"type"`` or cannot be encoded."""


class ChannelFull(NotifyError):
    """The channel's mailbox is at its capacity, so the message was not taken."""

    close_code = 1013
    http_status = 503


class LayerClosed(NotifyError):
    """The channel layer was closed or flushed, and this consumer's channel with it."""

    close_code = 1012
    http_status = 503


class LayerUnavailable(NotifyError):
    """What carries messages between processes cannot be reached; try again in a moment."""

    close_code = 1013
    http_status = 503
    public = "what carries the messages cannot be reached; try again in a moment"  # no address


class VerifierUnavailable(NotifyError):
    """What a credential is verified with cannot be reached; try again in a moment."""

    close_code = 1013
    http_status = 503
    public = "who you are cannot be found out now; try again in a moment"  # no address


class Overloaded(NotifyError):
    """The server has as much to do as it takes, from whomever it may be.

    Args:
        sentence: what there is too much of.
        retry_after: seconds after which one may ask again.
    """

    close_code = 1013
    http_status = 503

    def __init__(self, sentence: str, retry_after: float = 1.0) -> None:
        super().__init__(sentence, headers=_retry_after(retry_after))


class ClientError(NotifyError):
    """The client asked for something that it cannot have."""

    close_code = 4400
    http_status = 400


class Unauthorized(ClientError):
    """A key or a login is missing or wrong."""

    close_code = 4401
    http_status = 401
    headers = ((b"www-authenticate", b"Bearer"),)  # RFC 9110 11.6.1: a 401 has at least one


class Forbidden(ClientError):
    """The client may not do this."""

    close_code = 4403
    http_status = 403


class NoRouteFound(ClientError):
    """Nothing is served at this path, channel or scope type."""

    close_code = 4404
    http_status = 404


class MethodNotAllowed(ClientError):
    """The path is served, but not with this HTTP method."""

    close_code = 4405
    http_status = 405

    def __init__(self, allow: str) -> None:
        # RFC 9110 15.5.6: a 405 has one.
        super().__init__(f"this path answers {allow} only", headers=[(b"allow", allow.encode())])
        self.allow = allow


class ClientTimeout(ClientError):
    """The client has not been heard of, or has read nothing, for too long."""

    close_code = 4408
    http_status = 408


class TooLarge(ClientError):
    """A body or a frame is over its limit."""

    close_code = 1009
    http_status = 413


class UnsupportedData(ClientError):
    """A frame or a body is of a kind that is not read here."""

    close_code = 1003
    http_status = 415


class TooManyRequests(ClientError):
    """The client does too much, or too fast.

    Args:
        sentence: of what.
        retry_after: seconds after which it may ask again.
    """

    close_code = 4429
    http_status = 429

    def __init__(self, sentence: str, retry_after: float = 1.0) -> None:
        super().__init__(sentence, headers=_retry_after(retry_after))


def _retry_after(seconds: float) -> list[tuple[bytes, bytes]]:
    # RFC 9110 10.2.3: whole seconds.
    return [(b"retry-after", str(max(1, ceil(seconds))).encode())]


class StopConsumer(Exception):
    """Raised by a handler: this consumer has nothing more to do."""


class AcceptConnection(Exception):
    """Raised by ``connect``: accept the WebSocket."""


class DenyConnection(Exception):
    """Raised by ``connect``: refuse the WebSocket (HTTP 403)."""

    close_code = 4403
    http_status = 403
