"""One WebSocket to a server: the ``websockets`` package's rules over anyio's streams.

The package's rules come without I/O of their own, so that this works on asyncio
and on trio.
"""

import ssl
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Self

import anyio
from anyio.abc import ByteStream

from ..exceptions import ConfigurationError, MissingExtra, NotifyError
from ..protocol import PROTOCOL
from .errors import ServerUnavailable, WrongServer, refusal, sentence_of

if TYPE_CHECKING:
    from websockets.client import ClientProtocol

__all__ = ["Target", "Wire"]

MAX_SIZE = 16 * 1024 * 1024  # bytes of one frame; servers take notifications of 64 KiB

_BROKEN = (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError, OSError)


@dataclass(frozen=True)
class Target:
    """Where a client connects to, and what it shows there.

    Raises:
        ConfigurationError: the address cannot be understood.
        MissingExtra: the ``websockets`` package is not installed.
    """

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    origin: str | None = None
    ssl_context: ssl.SSLContext | None = None

    def __post_init__(self) -> None:
        self.handshake()

    def showing(self, token: str) -> "Target":
        """The same with a token, in a header: what stands in a URL lands in logs."""
        others = {k: v for k, v in self.headers.items() if k.lower() != "authorization"}
        return replace(self, headers={**others, "Authorization": f"Bearer {token}"})

    def handshake(self) -> "ClientProtocol":
        """The rules of a new connection, with its request ready to be sent."""
        try:
            from websockets.client import ClientProtocol
            from websockets.exceptions import InvalidURI
            from websockets.typing import Origin, Subprotocol
            from websockets.uri import parse_uri
        except ImportError as error:
            raise MissingExtra("asgi_notify.client", "client") from error
        try:
            uri = parse_uri(self.url)
        except (InvalidURI, ValueError) as error:
            raise ConfigurationError(f"{self.url!r} cannot be understood: {error}") from error
        rules = ClientProtocol(
            uri,
            origin=None if self.origin is None else Origin(self.origin),
            subprotocols=[Subprotocol(PROTOCOL)],
            max_size=MAX_SIZE,
        )
        rules.debug = False  # it would log all headers and frames, and tokens with them
        request = rules.connect()
        for name, value in self.headers.items():
            if not f"{name}{value}".isprintable():
                raise ConfigurationError(f"the header {name!r} has a character it may not have")
            with suppress(KeyError):
                del request.headers[name]  # one of the usual ones, which this replaces
            request.headers[name] = value
        rules.send_request(request)
        return rules


class Wire:
    """An open WebSocket. It is read by one task; any number may send.

    Attributes:
        close_code: how it ended, in the server's word; 1006 if it said none.
        close_reason: why, likewise.
        failure: an error of the server's that another attempt would only repeat.
        heard: the loop's time when bytes came last.
    """

    def __init__(self, target: Target, rules: "ClientProtocol", stream: ByteStream) -> None:
        self.close_code = 1006
        self.close_reason = "the connection was lost"
        self.failure: NotifyError | None = None
        self.heard = anyio.current_time()
        self._url = target.url
        self._rules = rules
        self._stream = stream
        self._is_over = False
        self._sending = anyio.Lock()
        self._parts: list[bytes] = []
        self._texts: deque[bytes] = deque()

    @classmethod
    async def open(cls, target: Target) -> Self:
        """Connect and shake hands.

        Raises:
            ServerUnavailable: there is no server, or not now.
            NotifyError: it refuses, for good.
        """
        rules = target.handshake()
        wire = cls(target, rules, await _connect(target, rules))
        try:
            await wire._shake_hands()
        except BaseException:
            await wire.abort()
            raise
        return wire

    async def receive(self) -> bytes | None:
        """The next text, or None when the connection has ended and all were read."""
        while not self._texts:
            if self._is_over:
                return None
            self._is_over = not await self._read()
        return self._texts.popleft()

    def ending(self) -> NotifyError:
        """The connection's end, as an error: final, or `ServerUnavailable`."""
        if self.failure is not None:
            return self.failure
        if 4400 <= self.close_code < 4500:  # the server's own codes follow those of HTTP
            return refusal(self._url, self.close_code - 4000, self.close_reason)
        ended = f"{self.close_code}: {self.close_reason or 'no reason given'}"
        return ServerUnavailable(f"the connection to {self._url} ended ({ended})")

    async def send(self, text: str) -> None:
        """Send a text; where the connection is lost, the next read raises it."""
        from websockets.exceptions import InvalidState

        with suppress(InvalidState):  # it is being closed, which the reader is about to find
            self._rules.send_text(text.encode())
        await self._flush()

    async def close(self, code: int, reason: str = "") -> None:
        """Tell the server that nothing more is wanted."""
        from websockets.exceptions import InvalidState

        with suppress(InvalidState):  # the server was first
            self._rules.send_close(code, reason)
        await self._flush()

    async def abort(self, reason: str = "") -> None:
        """Drop the connection, without a word to the server; whoever reads finds its end."""
        self.close_reason = reason or self.close_reason
        await anyio.aclose_forcefully(self._stream)

    async def _shake_hands(self) -> None:
        from websockets.exceptions import InvalidMessage, InvalidStatus

        await self._flush(strict=True)
        while self._rules.handshake_exc is None and self._rules.state.name == "CONNECTING":
            if not await self._read():
                break
        match self._rules.handshake_exc:
            case None if self._rules.state.name != "CONNECTING":
                pass
            case InvalidStatus(response=answer):
                sentence = sentence_of(bytes(answer.body or b""), answer.reason_phrase)
                raise refusal(self._url, answer.status_code, sentence)
            case None | InvalidMessage(__cause__=EOFError()):
                raise ServerUnavailable(f"the server at {self._url} ended the connection at once")
            case error:
                raise WrongServer(
                    f"what answers at {self._url} is no WebSocket server: {error}"
                ) from error
        if self._rules.subprotocol != PROTOCOL:
            await self.close(1000)
            raise WrongServer(f"the server at {self._url} does not speak {PROTOCOL}")

    async def _read(self) -> bool:
        """Take in what has come; returns False where nothing more does."""
        try:
            data = await self._stream.receive()
        except _BROKEN:
            self._rules.receive_eof()
            self._note_frames()
            return False
        self.heard = anyio.current_time()
        self._rules.receive_data(data)
        is_closed = self._note_frames()
        await self._flush()
        return not is_closed

    def _note_frames(self) -> bool:
        """Put the texts together; returns whether the server has closed, or has to be left."""
        from websockets.exceptions import PayloadTooBig
        from websockets.frames import Frame

        for event in self._rules.events_received():
            if isinstance(event, Frame) and event.opcode.name in ("TEXT", "BINARY", "CONT"):
                self._parts.append(bytes(event.data))
                if event.fin:
                    self._texts.append(b"".join(self._parts))
                    self._parts.clear()
        said, broken = self._rules.close_rcvd, self._rules.parser_exc
        if said is not None:
            self.close_code, self.close_reason = said.code, said.reason
        if isinstance(broken, PayloadTooBig):
            self.failure = WrongServer(f"{self._url} sent a frame of over {MAX_SIZE} bytes")
        return said is not None or broken is not None

    async def _flush(self, *, strict: bool = False) -> None:
        """Send what the rules have written."""
        async with self._sending:
            try:
                for data in self._rules.data_to_send():
                    if data:  # else the end of the stream, which closing it says as well
                        await self._stream.send(data)
            except _BROKEN as error:
                if strict:
                    raise ServerUnavailable(f"{self._url}: {error}") from error
                await self.abort()


async def _connect(target: Target, rules: "ClientProtocol") -> ByteStream:
    uri = rules.uri
    context = target.ssl_context or ssl.create_default_context() if uri.secure else None
    try:
        if context is None:
            return await anyio.connect_tcp(uri.host, uri.port)
        return await anyio.connect_tcp(
            uri.host, uri.port, ssl_context=context, tls=True, tls_standard_compatible=False
        )
    except ssl.SSLCertVerificationError as error:
        raise WrongServer(
            f"the certificate of {target.url} is not trusted ({error.verify_message}); for one "
            "of your own, pass ssl_context=ssl.create_default_context(cafile=...)"
        ) from error
    except (*_BROKEN, ssl.SSLError) as error:
        raise ServerUnavailable(f"no server at {target.url} ({_reason(error)})") from error


def _reason(error: BaseException) -> str:
    """What went wrong, of an error that may wrap one for each address that was tried."""
    while isinstance(error.__cause__, Exception):
        error = error.__cause__
    if isinstance(error, BaseExceptionGroup):
        return _reason(error.exceptions[0])
    return str(error) or type(error).__name__
