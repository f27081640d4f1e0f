"""How a test opens a WebSocket to an application and talks through it."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..asgi import DENIAL
from ..types import ASGIApp, Event, Headers
from .application import ApplicationCommunicator
from .scope import connection_scope

__all__ = ["Denial", "WebsocketCommunicator"]


@dataclass(frozen=True)
class Denial:
    """The HTTP response that a WebSocket was refused with."""

    status: int
    headers: Headers
    body: bytes


class WebsocketCommunicator(ApplicationCommunicator):
    """Opens one WebSocket, sends frames and receives them.

    Once the application has closed the socket, it receives
    ``websocket.disconnect`` with the same code, as from a server.

    Attributes:
        response_headers: those of the accept, else None.
        denial: the `Denial` that refused the socket, else None.

    Args:
        application: an ASGI callable, or a consumer class.
        path: with the query, percent-encoded where a browser would do so.
        headers: pairs of bytes; none are added, neither Host nor Origin.
        subprotocols: that the client offers, the one it likes best first.
        spec_version: of the ASGI WebSocket specification, for the scope.
        denial_response: whether the application may refuse the socket with a
            whole HTTP response. Source: ASGI, "Extensions", section "WebSocket
            Denial Response".

    Raises:
        TypeError: an argument has another type than these.
    """

    def __init__(
        self,
        application: ASGIApp | type[Any],
        path: str,
        headers: Iterable[tuple[bytes, bytes]] | None = None,
        subprotocols: Iterable[str] | None = None,
        spec_version: str | None = None,
        *,
        denial_response: bool = False,
    ) -> None:
        """Make the scope; the socket is not opened yet."""
        if isinstance(subprotocols, str):
            raise TypeError(f"subprotocols must be a list: [{subprotocols!r}]")
        scope = connection_scope("websocket", path, headers, scheme="ws", spec_version=spec_version)
        scope["subprotocols"] = list(subprotocols or ())
        if spec_version:
            scope["spec_version"] = spec_version  # where Channels' communicator has it
        if denial_response:
            scope["extensions"] = {DENIAL: {}}
        super().__init__(application, scope)
        self.response_headers: Headers | None = None
        self.denial: Denial | None = None
        self._has_connected = False
        self._has_disconnected = False
        self._denial_start: Event | None = None
        self._denial_body = b""

    async def connect(self, timeout: float | None = 1) -> tuple[bool, Any]:
        """Open the socket.

        Asked again after a time-out, it goes on waiting for the answer.

        Args:
            timeout: in seconds, for each event of the answer.

        Returns:
            ``(True, subprotocol)`` when accepted, with None for no subprotocol;
            ``(False, close_code)`` when refused; ``(False, status)`` when
            refused with a `denial`.

        Raises:
            TimeoutError: no answer came in time, or none will.
            AssertionError: the application sent what is no answer.
            BaseException: the one that the application has ended with.
        """
        if not self._has_connected:
            await self.send_input({"type": "websocket.connect"})
            self._has_connected = True
        while self.denial is None:
            event = await self.receive_output(timeout)
            kind = event["type"]
            if kind == "websocket.accept" and self._denial_start is None:
                self.response_headers = list(event.get("headers") or ())
                return True, event.get("subprotocol")
            if kind == "websocket.close" and self._denial_start is None:
                return False, event.get("code", 1000)
            self._add_to_denial(event)
        return False, self.denial.status

    async def send_to(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Send one frame, of text or of bytes; it may be empty.

        Raises:
            AssertionError: both or none of them are given.
            TypeError: the text is no str, or the bytes are no bytes.
            BaseException: the one that the application has ended with.
        """
        if (text_data is None) == (bytes_data is None):
            raise AssertionError("give either text_data or bytes_data, and not both")
        if text_data is None:
            if not isinstance(bytes_data, bytes):
                raise TypeError(
                    f"bytes_data must be bytes, not {type(bytes_data).__name__}; "
                    "a str goes into text_data"
                )
            await self.send_input({"type": "websocket.receive", "bytes": bytes_data})
            return
        if not isinstance(text_data, str):
            raise TypeError(
                f"text_data must be a str, not {type(text_data).__name__}; bytes go into "
                "bytes_data, anything else through send_json_to"
            )
        await self.send_input({"type": "websocket.receive", "text": text_data})

    async def send_json_to(self, data: Any) -> None:
        """Send one text frame that holds the data as JSON."""
        await self.send_to(text_data=json.dumps(data))

    async def receive_from(self, timeout: float | None = 1) -> str | bytes:
        """The next frame that the application sends.

        Args:
            timeout: in seconds; None waits for ever.

        Raises:
            TimeoutError: no frame came in time, or none will.
            AssertionError: something else came, such as the close.
            BaseException: the one that the application has ended with.
        """
        event = await self.receive_output(timeout)
        if event["type"] != "websocket.send":
            details = {key: value for key, value in event.items() if key != "type"}
            raise AssertionError(
                f"expected a frame, but the application sent {event['type']} {details}"
            )
        text, data = event.get("text"), event.get("bytes")
        if isinstance(text, str) and data is None:
            return text
        if isinstance(data, bytes) and text is None:
            return data
        raise AssertionError(f"a frame holds either a str as text or bytes as bytes, not {event!r}")

    async def receive_json_from(self, timeout: float | None = 1) -> Any:
        """The data in the next frame, which must be text that holds JSON.

        Raises:
            AssertionError: the frame is binary, or its text is no JSON.
        """
        payload = await self.receive_from(timeout)
        if not isinstance(payload, str):
            raise AssertionError(f"expected a text frame that holds JSON, but it is {payload!r}")
        try:
            return json.loads(payload)
        except ValueError as error:
            raise AssertionError(f"expected JSON, but the frame is {payload!r}") from error

    async def disconnect(self, code: int = 1000, timeout: float | None = 1) -> None:
        """Close the socket from the client's side and wait until the application has ended.

        Args:
            code: the close code that the application is told.
            timeout: in seconds.

        Raises:
            TimeoutError: the application was still running, and is left so.
            BaseException: the one that the application has ended with.
        """
        if not self._has_disconnected:
            await self.send_input({"type": "websocket.disconnect", "code": code})
            self._has_disconnected = True
        await self.wait(timeout)

    def _add_to_denial(self, event: Event) -> None:
        kind = event["type"]
        if DENIAL not in (self.scope.get("extensions") or {}) or not kind.startswith(DENIAL):
            hint = "; denial_response=True allows it" if kind.startswith(DENIAL) else ""
            raise AssertionError(
                f"expected websocket.accept or websocket.close, but the application sent {kind}"
                f"{hint}"
            )
        if self._denial_start is None:
            self._denial_start = event
            return
        self._denial_body += event.get("body", b"")
        if not event.get("more_body", False):
            headers = list(self._denial_start.get("headers") or ())
            self.denial = Denial(self._denial_start["status"], headers, self._denial_body)

    @staticmethod
    def _answer(event: Event) -> Event | None:
        if event["type"] == "websocket.close":
            return {"type": "websocket.disconnect", "code": event.get("code", 1000)}
        if event["type"] == f"{DENIAL}.body" and not event.get("more_body", False):
            return {"type": "websocket.disconnect", "code": 1006}
        return None

    def _farewell(self) -> Event | None:
        if self._has_disconnected:
            return None
        return {"type": "websocket.disconnect", "code": 1005}
