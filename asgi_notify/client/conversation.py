"""What is said on one connection, from the server's welcome until the connection ends."""

import logging
from collections import deque
from json import JSONEncoder
from typing import Self

import anyio

from ..exceptions import NotifyError
from .credentials import Credentials
from .errors import ServerUnavailable, WrongServer
from .items import Frame, Gap, Notification, printable, read_frame, seconds_of, text_of
from .publications import Publications
from .recovery import Delivery, Recovery
from .subscription import Reader
from .wire import Target, Wire

__all__ = ["Conversation"]

logger = logging.getLogger("asgi_notify.client")

OPEN_TIMEOUT = 10.0  # seconds until the server has said welcome
SHORTEST_BEAT = 0.01  # seconds, whatever the server says
AHEAD = 1000  # notifications; more than what a server has queued for one client
TOO_LARGE = 1009  # RFC 6455 7.4.1: the close code of one who got more than it takes

_spell = JSONEncoder(separators=(",", ":")).encode


class Conversation:
    """The frames that go over one connection. Begun by `begin`, had by `run`.

    Args:
        wire: that the server has said welcome on.
        welcome: that frame.
        recovery: what the client's subscribers are owed.
        publications: what the server owes the client an answer to.
        credentials: shows who the client is, and renews that; None where nobody asks.
    """

    def __init__(
        self,
        wire: Wire,
        welcome: Frame,
        recovery: Recovery,
        publications: Publications,
        credentials: Credentials | None = None,
    ) -> None:
        self.wire = wire
        self.retry_after: float | None = None
        """Seconds that the server asked for, before it closed."""
        self._recovery = recovery
        self._publications = publications
        self._ping_interval = seconds_of(welcome, "ping_interval")
        self._pong_timeout = seconds_of(welcome, "pong_timeout")
        self._outbox: deque[str] = deque()
        self._wake = anyio.Event()
        self._is_held = False  # by a subscriber whose queue is full
        self._credentials = credentials
        self._expires_in = seconds_of(welcome, "expires_in")
        self._renewed = anyio.Event()

    @classmethod
    async def begin(
        cls,
        target: Target,
        recovery: Recovery,
        publications: Publications,
        credentials: Credentials | None = None,
    ) -> Self:
        """Show a fresh token, if one is asked for, connect, and wait for the server's welcome.

        Raises:
            ServerUnavailable: there is no server, or not now.
            NotifyError: it refuses, for good.
        """
        wire = None
        try:
            with anyio.fail_after(OPEN_TIMEOUT):
                if credentials is not None:
                    target = target.showing(await credentials.get())
                wire = await Wire.open(target)
                welcome = await _welcome(wire, target.url)
                return cls(wire, welcome, recovery, publications, credentials)
        except BaseException as error:
            if wire is not None:
                await wire.abort()
            if isinstance(error, TimeoutError):
                raise ServerUnavailable(
                    f"the server at {target.url} did not answer within {OPEN_TIMEOUT:g} s"
                ) from None
            raise

    def post(self, frame: Frame) -> None:
        """Have a frame sent, after those that wait already."""
        self.post_text(_spell(frame))

    def post_text(self, text: str) -> None:
        """The same of one that is spelled already."""
        self._outbox.append(text)
        self._wake.set()

    async def run(self) -> None:
        """Ask for what is missing, and take in what comes, until the connection ends."""
        for frame in self._recovery.resume():
            self.post(frame)
        for text in self._publications.resume():  # behind, so that a subscriber hears them
            self.post_text(text)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._write)
            tasks.start_soon(self._watch)
            if self._credentials is not None:
                tasks.start_soon(self._renew, self._credentials)
            try:
                # Never cancelled where the connection breaks: what has come is handed over
                # first, so that each subscriber has all up to its position.
                while (came := await self.wire.receive()) is not None:
                    await self._take(came)
                if self.wire.close_code == TOO_LARGE:
                    self._publications.too_large()
            finally:
                tasks.cancel_scope.cancel()
                await self.wire.abort()

    async def close(self) -> None:
        """Say goodbye; `run` ends when the server has answered."""
        await self.wire.close(1000)

    async def _write(self) -> None:
        while True:
            while self._outbox:
                await self.wire.send(self._outbox.popleft())
            self._wake = anyio.Event()
            await self._wake.wait()

    async def _watch(self) -> None:
        """Drop the connection to a server that has fallen silent."""
        if not self._ping_interval or not self._pong_timeout:
            return
        longest = self._ping_interval + self._pong_timeout
        while True:
            await anyio.sleep(max(self._pong_timeout / 2, SHORTEST_BEAT))
            now = anyio.current_time()
            if self._is_held:
                # The server's pings wait unread behind what the subscriber does not take;
                # an answer to none in particular says that this client lives.
                self.wire.heard = now
                if not self._outbox:
                    self.post({"type": "pong"})
            elif now - self.wire.heard > longest:
                await self.wire.abort(f"the server said nothing for {longest:g} s")
                return

    async def _renew(self, credentials: Credentials) -> None:
        """Show a fresh token before the login expires, again and again."""
        attempt = 0
        while True:
            self._renewed = anyio.Event()
            if self._expires_in is None:
                await self._renewed.wait()
                continue
            pause = credentials.pause(self._expires_in, attempt)
            attempt += 1
            await anyio.sleep(pause)
            try:
                self.post({"type": "auth", "token": await credentials.get()})
            except NotifyError as error:
                logger.warning("the login was not renewed: %s", printable(str(error)))
                continue
            with anyio.move_on_after(OPEN_TIMEOUT):
                await self._renewed.wait()
                attempt = 0

    async def _take(self, text: bytes) -> None:
        frame = read_frame(text)
        match frame:
            case None:
                logger.warning("the server sent what cannot be read as a frame: %.100r", text)
                for delivery in self._recovery.lose_sight():
                    await self._deliver(delivery)
            case {"type": "ping"}:
                self.post({"type": "pong"})
            case {"type": "going_away"}:
                self.retry_after = seconds_of(frame, "retry_after")
            case {"type": "authenticated"}:
                self._expires_in = seconds_of(frame, "expires_in")
                self._renewed.set()
            case {"type": "published" | "error"} if self._publications.take(frame):
                pass
            case {"type": "error", "code": "failed"}:
                # Neither the subscriber's fault nor, it may be hoped, for long.
                await self.wire.abort(f"the server failed: {text_of(frame, 'message')}")
            case _:
                await self._hand_over(frame)

    async def _hand_over(self, frame: Frame) -> None:
        deliveries, answers = self._recovery.take(frame)
        for answer in answers:
            self.post(answer)
        for delivery in deliveries:
            await self._deliver(delivery)
        if frame["type"] == "subscribed":
            for follower in self._recovery.live(text_of(frame, "group")):
                if isinstance(follower, Reader):
                    follower.settle()
        elif frame["type"] == "error" and not deliveries:
            code, message = (printable(text_of(frame, key)) for key in ("code", "message"))
            logger.warning("the server answered %s: %s", code, message)

    async def _deliver(self, delivery: Delivery) -> None:
        reader, item = delivery
        assert isinstance(reader, Reader), "a client's followers are readers"
        if not isinstance(item, Notification | Gap):
            reader.end(item)
            return
        # While a publication waits for its answer, there is more room: the one who waits may be
        # the one who reads, and the answer stands behind what is read here.
        while not reader.has_room(AHEAD if self._publications.are_waiting else 0):
            self._is_held = True
            await reader.moved()
        self._is_held = False
        reader.put(item)


async def _welcome(wire: Wire, url: str) -> Frame:
    text = await wire.receive()
    if text is None:
        raise wire.ending()
    frame = read_frame(text)
    if frame is None or frame["type"] != "welcome":
        raise WrongServer(f"the server at {url} did not begin with a welcome")
    version = frame.get("version")
    if version != 1:
        spoken = repr(version)[:20] if isinstance(version, int | float | str) else "of no number"
        raise WrongServer(f"the server at {url} speaks version {spoken}, this client version 1")
    return frame
