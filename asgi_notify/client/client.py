"""A client that stays connected: it comes back by itself, and misses nothing on the way."""

import logging
import ssl
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

import anyio
from anyio.abc import TaskGroup

from ..exceptions import ConfigurationError, MisuseError, Unauthorized
from ..names import require_group_name
from .address import websocket_url
from .backoff import Backoff
from .conversation import Conversation
from .credentials import Credentials, GetToken
from .errors import ServerUnavailable
from .items import Status, printable
from .publications import PUBLISH_TIMEOUT, Publications, unanswered
from .recovery import Recovery
from .subscription import OnGap, Reader, Subscription
from .wire import Target

__all__ = ["Client", "OnStatus", "connect"]

logger = logging.getLogger("asgi_notify.client")

CAPACITY = 100  # notifications; as many as a mailbox of the server's takes
CLOSE_TIMEOUT = 1.0  # seconds for the server to take leave
STEADY = 5.0  # seconds a connection has to last until the waits begin anew
LONGEST_HINT = 300.0  # seconds; a server that asks for more is visited earlier

OnStatus = Callable[[Status], object]
"""What is called with each change of the connection."""


def connect(
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    origin: str | None = None,
    ssl_context: ssl.SSLContext | None = None,
    backoff: Backoff | None = None,
    retry_first: bool = False,
    capacity: int = CAPACITY,
    on_status: OnStatus | None = None,
    token: GetToken | None = None,
) -> "Client":
    """A client of the notifications at an address; use it in ``async with``.

    Entering connects. From then on the client comes back by itself whenever the
    connection is lost, until the block is left. What it owes its subscribers it
    asks for again, each from where they stand.

    Args:
        url: such as ``wss://example.com/notifications/``, or a room's; ``https``
            is taken for ``wss``.
        headers: sent with each handshake, such as ``Authorization``.
        origin: sent as the ``Origin``, where the server asks for one.
        ssl_context: for ``wss``, if the system's certificates are not the right ones.
        backoff: how long to wait before each attempt to come back.
        retry_first: whether entering, too, tries until there is a server, and does
            not wait for it. Otherwise it raises if there is none.
        capacity: how many notifications wait for one subscriber, until the client
            reads nothing more from the server.
        on_status: called with each `Status`.
        token: a function, async or not, that returns a fresh token or ticket, or None where
            nobody is logged in any more. It is called for each connection, and before the login
            expires. What it raises counts as a connection that failed.

    Raises:
        ConfigurationError: the address or a header makes no sense.
        MissingExtra: the ``websockets`` package is not installed.
    """
    if capacity < 1:
        raise ConfigurationError(f"a capacity of {capacity} holds nothing; use 1 or more")
    target = Target(websocket_url(url), dict(headers or {}), origin, ssl_context)
    backoff = backoff or Backoff()
    credentials = None if token is None else Credentials(token, backoff)
    return Client(target, backoff, retry_first, capacity, on_status, credentials)


class Client:
    """One connection to a server, and the subscriptions on it. Made by `connect`."""

    def __init__(
        self,
        target: Target,
        backoff: Backoff,
        retry_first: bool,
        capacity: int,
        on_status: OnStatus | None,
        credentials: Credentials | None = None,
    ) -> None:
        self._credentials = credentials
        self._is_trusted = True  # the last token was taken, or none was shown yet
        self._target = target
        self._backoff = backoff
        self._retry_first = retry_first
        self._capacity = capacity
        self._on_status = on_status
        self._status = Status("closed", "it was never opened")
        self._tasks: TaskGroup | None = None
        self._is_closing = False
        self._ended = anyio.Event()
        self._recovery = Recovery()
        self._publications = Publications()
        self._conversation: Conversation | None = None
        self._error: Exception | None = None

    @property
    def status(self) -> Status:
        """How the connection is, and why."""
        return self._status

    @property
    def state(self) -> str:
        """``connecting``, ``open``, ``waiting`` or ``closed``."""
        return self._status.state

    def subscribe(
        self, group: str, since: str | None = None, *, on_gap: OnGap | None = None
    ) -> Subscription:
        """The notifications of a group, for ``async for``.

        They come in the group's order, each once. Where some are missing and
        cannot be had any more, that is told: to ``on_gap``, or else to the log.
        Subscribers of the same group share what the server sends.

        Args:
            group: such as ``user_42``.
            since: the id of the last notification that was had, of this run of the
                program or of an earlier one. None: from now on.
            on_gap: called with a `Gap`, in the subscriber's own task and in its
                place between two notifications; may be async.

        Raises:
            InvalidName: no group can be called that.
            MisuseError: the client is not open.
        """
        require_group_name(group)
        if self._tasks is None:
            raise MisuseError("subscribe inside the block: async with connect(...) as client")
        reader = Reader(group, since, self._capacity)
        if self._error is not None:
            reader.end(self._error)
        else:
            frame = self._recovery.follow(reader)
            if self._conversation is not None:  # else the next one asks for it
                self._conversation.post(frame)
        return Subscription(reader, self._leave, on_gap)

    async def publish(self, group: str, data: object, *, key: str | None = None) -> str | None:
        """Publish a notification to a group, once, where the server's rule lets this client.

        Returns when the server has answered. While the connection is lost it waits for the
        next one, and is sent again with the same key if it may have been sent before: however
        often that happens, it is published once. 16 at most are under way, and further ones wait
        for their turn. Cancelled, it may have been published or not.

        The one who reads notifications may publish, too: until the answer is there, the
        queues of subscribers hold up to 1,000 more than their capacity.

        Args:
            group: such as ``chat``.
            data: anything that JSON has.
            key: 1 to 64 visible ASCII characters, such as a UUID: what was published with the
                same key in the last minutes is not published again. None: a new one.

        Returns:
            The id of the notification, or None where no history is kept.

        Raises:
            Forbidden, Unauthorized, ClientError: the server refuses.
            TooLarge: it takes no frame of this size.
            ServerUnavailable: it fails, or has not answered within 60 seconds.
            InvalidMessage: the data cannot be sent.
            InvalidName: no group can be called that.
            MisuseError: the client is not open, or was closed meanwhile.
        """
        publication = self._publications.make(group, data, key)
        if self._tasks is None:
            raise MisuseError("publish inside the block: async with connect(...) as client")
        with anyio.move_on_after(PUBLISH_TIMEOUT):
            async with self._publications.turn:
                self._publications.add(publication)
                self._wake_readers()
                if self._conversation is not None:  # else the next one sends it
                    self._conversation.post_text(publication.text)
                try:
                    return await publication.wait()
                finally:
                    self._publications.remove(publication)
        raise unanswered()

    async def __aenter__(self) -> Self:
        """Connect.

        Raises:
            ServerUnavailable: there is no server; not where ``retry_first``.
            NotifyError: the server refuses.
            MisuseError: it was entered before.
        """
        if self._tasks is not None or self._is_closing:
            raise MisuseError("a client is entered once; call connect() for another")
        first = None if self._retry_first else await self._begin()
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        self._tasks.start_soon(self._run, first)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._tasks is not None, "it was entered"
        tasks, self._tasks = self._tasks, None
        self._is_closing = True
        for reader in self._recovery.followers:
            assert isinstance(reader, Reader)
            reader.close()
        self._publications.end()
        if self._conversation is not None:
            with anyio.move_on_after(CLOSE_TIMEOUT, shield=True):
                await self._conversation.close()
                await self._ended.wait()
        tasks.cancel_scope.cancel()
        if self._error is None:
            self._tell(Status("closed", "the client was closed"))
        # Without the block's own error, which is raised as it is and not as part of a group.
        await tasks.__aexit__(None, None, None)

    def _wake_readers(self) -> None:
        """What is held up by a full queue may go on, as long as an answer is waited for."""
        for reader in self._recovery.followers:
            assert isinstance(reader, Reader)
            reader.wake()

    def _leave(self, reader: Reader) -> None:
        reader.close()
        frame = self._recovery.leave(reader)
        if frame is not None and self._conversation is not None:
            self._conversation.post(frame)

    async def _run(self, conversation: Conversation | None) -> None:
        try:
            await self._stay(conversation)
        except Exception as error:
            self._fail(error)
        finally:
            self._conversation = None
            self._ended.set()

    async def _stay(self, conversation: Conversation | None) -> None:
        """Hold one conversation after the other; returns when the client is closed."""
        attempt = 0
        while True:
            hint = None
            try:
                conversation = conversation or await self._begin()
                began = anyio.current_time()
                await self._hold(conversation)
                if self._is_closing:
                    return
                attempt = 0 if anyio.current_time() - began >= STEADY else attempt
                hint = conversation.retry_after
                raise conversation.wire.ending()
            except ServerUnavailable as error:
                await self._pause(str(error), hint, attempt)
            except Unauthorized as error:
                if not self._may_ask_again():
                    raise
                await self._pause(str(error), hint, attempt)
            attempt += 1
            conversation = None

    async def _begin(self) -> Conversation:
        self._tell(Status("connecting"))
        conversation = await Conversation.begin(
            self._target, self._recovery, self._publications, self._credentials
        )
        self._is_trusted = True
        try:
            self._tell(Status("open"))
        except BaseException:
            await conversation.wire.abort()
            raise
        return conversation

    def _may_ask_again(self) -> bool:
        """Whether another token may be taken, where the last one was refused; once in a row."""
        may = self._is_trusted and self._credentials is not None and not self._credentials.is_over
        self._is_trusted = False
        return may

    async def _hold(self, conversation: Conversation) -> None:
        self._conversation = conversation
        try:
            await conversation.run()
        finally:
            self._conversation = None

    async def _pause(self, reason: str, hint: float | None, attempt: int) -> None:
        delay = self._backoff.delay(attempt) if hint is None else min(hint, LONGEST_HINT)
        logger.info("%s; again in %.1f s", printable(reason), delay)
        self._tell(Status("waiting", reason, delay))
        await anyio.sleep(delay)

    def _fail(self, error: Exception) -> None:
        """There is no way on: each subscriber is told, and each that comes later."""
        self._error = error
        self._publications.end(error)
        readers = self._recovery.followers
        if not readers:
            logger.error("the client has given up: %s", printable(str(error)))
        for reader in readers:
            assert isinstance(reader, Reader)
            reader.end(error)
        try:
            self._tell(Status("closed", str(error)))
        except Exception:  # the function that is told may be what failed
            logger.exception("on_status failed")

    def _tell(self, status: Status) -> None:
        self._status = status
        if self._on_status is not None:
            self._on_status(status)
