"""A set of keys that somebody else keeps: read from a file or a URL, and read again in time.

It is read in a thread of its own, so that no event loop waits for it, and once for all who need
it at that moment. When it is read:

- when nobody has read it yet, and when a token names a key that it does not have: then who
  shows that token waits for it;
- when it was read some minutes ago: meanwhile the old keys count;
- when nobody has asked for them for twice that long: then who comes waits for it.

However many tokens with whatever names come in, there are `FLOOR` seconds between two times. If
it cannot be read, the old keys go on to count.
"""

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from threading import Lock, Thread
from typing import Any, TypeAlias
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

import anyio

from ..exceptions import ConfigurationError, VerifierUnavailable
from ..hosts import is_loopback
from ..sync import LoopRef
from .jwt_keys import VerifyingKey

__all__ = ["KeySet", "source_of"]

logger = logging.getLogger("asgi_notify.auth")

FLOOR = 10.0  # seconds; a new key is known that much later at most, whatever attackers send
MAX_AGE = 600.0  # seconds; a key that its owner has withdrawn counts twice that longer at most
TIME_LIMIT = 5.0  # seconds to connect, and again for each part of the answer and for the whole
MAX_SIZE = 256 * 1024  # bytes; a key has half a thousand

Read: TypeAlias = Callable[[], bytes]
"""Reads the text of the set; waits, and raises OSError or ValueError."""


class KeySet:
    """The keys of a set, as they were when it was last read.

    Args:
        name: of the set, for the log.
        read: reads its text.
        parse: what keys a text has; raises ValueError.
        clock: seconds on any clock that goes on evenly.
    """

    def __init__(
        self,
        name: str,
        read: Read,
        parse: Callable[[bytes], Sequence[VerifyingKey]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.keys: Sequence[VerifyingKey] = ()
        self._name = name
        self._read = read
        self._parse = parse
        self._clock = clock
        self._lock = Lock()  # for the next three, which several event loops may use
        self._reading: Future[None] | None = None
        self._may_read_at = float("-inf")
        self._old_at = float("-inf")
        self._has_failed = False

    async def find(
        self, fitting: Callable[[Sequence[VerifyingKey]], list[VerifyingKey]]
    ) -> list[VerifyingKey]:
        """The keys that fit a token; empty where none does.

        Raises:
            VerifierUnavailable: none fits, and the set could not be read, so that one may exist.
        """
        found = fitting(self.keys)
        age = self._clock() - self._old_at  # below 0 while the set is fresh
        if found and (age < MAX_AGE or self._has_failed):
            if age >= 0:
                self._start()
            return found
        # After a silence a key may have been withdrawn long ago, which nobody has noticed. Where
        # it cannot be read, one round of waiting has shown that, and the old keys count.
        reading = self._start()
        if reading is not None:
            await _wait_for(reading)
            found = fitting(self.keys)
        if not found and self._has_failed:
            raise VerifierUnavailable(f"the keys of {self._name} could not be read")
        return found

    def load(self) -> None:
        """Read it now, in the caller's own thread.

        Raises:
            OSError: it cannot be read.
            ValueError: it has no keys.
        """
        self.keys = self._parse(self._read())
        self._old_at = self._clock() + MAX_AGE

    def _start(self) -> Future[None] | None:
        """Have it read, unless that is under way; None where it is too early for that."""
        with self._lock:
            if self._reading is not None:
                return self._reading
            now = self._clock()
            if now < self._may_read_at:
                return None
            self._may_read_at = now + FLOOR
            reading: Future[None] = Future()
            self._reading = reading
        Thread(target=self._run, args=(reading,), name="asgi-notify keys", daemon=True).start()
        return reading

    def _run(self, reading: Future[None]) -> None:
        try:
            self.load()
            self._has_failed = False
        except (OSError, ValueError, HTTPException) as error:
            self._has_failed = True
            kept = "the old ones go on to count" if self.keys else "there are none yet"
            logger.warning("the keys of %s could not be read (%s); %s", self._name, error, kept)
        finally:
            with self._lock:
                self._reading = None
            reading.set_result(None)


async def _wait_for(future: Future[None]) -> None:
    """Wait in any event loop for what a thread does."""
    is_done, loop = anyio.Event(), LoopRef()

    async def tell() -> None:
        is_done.set()

    def wake(_: object) -> None:
        with suppress(RuntimeError):  # the loop has ended, and nobody waits any more
            loop.start(tell)

    future.add_done_callback(wake)
    await is_done.wait()


def source_of(place: str | Path) -> tuple[str, Read]:
    """The name of a file or a URL for the log, and how it is read.

    Raises:
        ConfigurationError: the URL is not https, and leads to another machine.
    """
    text = str(place)
    if isinstance(place, Path) or "://" not in text:
        return text, Path(text).read_bytes
    parts = urlsplit(text)
    if parts.scheme != "https" and not (
        parts.scheme == "http" and parts.hostname and is_loopback(parts.hostname)
    ):
        raise ConfigurationError(
            f"keys come by https, not by {parts.scheme}://, which anybody on the way can change; "
            "a file is named by its path"
        )
    if not parts.hostname:
        raise ConfigurationError("the URL of the keys has no host")
    return f"{parts.scheme}://{parts.hostname}{parts.path}", lambda: _fetch(text)


class _NoRedirect(HTTPRedirectHandler):
    """Follows nobody: another place than the one that was configured is not asked for keys."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None  # so that it counts as the error that its status says


def _fetch(url: str) -> bytes:
    headers = {"accept": "application/json", "user-agent": "asgi-notify"}
    deadline = time.monotonic() + TIME_LIMIT
    text = b""
    opener = build_opener(_NoRedirect)
    with opener.open(Request(url, headers=headers), timeout=TIME_LIMIT) as response:
        while part := response.read1(64 * 1024):
            text += part
            if len(text) > MAX_SIZE:
                raise ValueError(f"it has more than {MAX_SIZE} bytes")
            if time.monotonic() > deadline:
                raise TimeoutError(f"it took longer than {TIME_LIMIT:g} s")
    return text
