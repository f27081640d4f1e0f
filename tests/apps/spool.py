"""A layer of files, which two processes can share, and an application whose worker reads it.

A message is a file ``CHANNEL.NUMBER`` in the directory SPOOL; who receives it removes it.
Only what `tests/cli/test_worker.py` needs is there.

Run it as ``python -m tests.apps.spool worker tests.apps.spool:application --layer spool://``.
"""

import json
import os
from collections.abc import Collection
from pathlib import Path
from typing import NoReturn, Self

import anyio

from asgi_notify import BaseChannelLayer, ChannelNameRouter, Overflow
from asgi_notify.cli import main
from asgi_notify.layers.mailbox import Mailbox
from asgi_notify.layers.registry import ENGINES
from asgi_notify.types import Message, Receive, Scope, Send

SPOOL = Path(os.environ.get("SPOOL", "."))
POLL = 0.02  # seconds


def take(channel: str) -> Message | None:
    """The oldest message of a channel, which is gone then."""
    for file in sorted(SPOOL.glob(f"{channel}.*")):
        message: Message = json.loads(file.read_bytes())
        file.unlink()
        return message
    return None


def may_go_on() -> bool:
    """Whether jobs that wait may end."""
    return Path(SPOOL, "go").exists()


class SpoolLayer(BaseChannelLayer):
    """Files that wait in a directory."""

    async def open(self) -> None:
        print("opened", flush=True)

    async def close(self) -> None:
        print("closed", flush=True)

    @classmethod
    def from_url(cls, url: str) -> Self:
        return cls()

    async def _receive(self, channel: str) -> Message:
        while True:
            if (message := take(channel)) is not None:
                return message
            await anyio.sleep(POLL)

    def detach(self, mailbox: Mailbox) -> None:
        self._is_not_there()

    async def flush(self) -> None:
        self._is_not_there()

    def _is_not_there(self) -> NoReturn:
        raise NotImplementedError("this layer only receives")

    async def _attach(self, prefix: str, overflow: Overflow, tell_gaps: bool) -> NoReturn:
        self._is_not_there()

    async def _new_channel(self, prefix: str) -> NoReturn:
        self._is_not_there()

    async def _send(self, channel: str, message: Message) -> NoReturn:
        self._is_not_there()

    async def _group_add(
        self, group: str, channel: str, since: object, present: object
    ) -> NoReturn:
        self._is_not_there()

    async def _group_discard(self, group: str, channel: str) -> NoReturn:
        self._is_not_there()

    async def _group_send(self, group: str, message: Message, key: str | None) -> NoReturn:
        self._is_not_there()

    async def _history(self, group: str, since: object, limit: int | None) -> NoReturn:
        self._is_not_there()

    async def _group_channels(self, group: str) -> NoReturn:
        self._is_not_there()

    async def _presence(self, group: str) -> NoReturn:
        self._is_not_there()

    async def _presence_count(self, group: str) -> NoReturn:
        self._is_not_there()

    async def _presence_follow(self, group: str, channel: str) -> NoReturn:
        self._is_not_there()

    async def _presence_unfollow(self, group: str, channel: str) -> NoReturn:
        self._is_not_there()

    async def _mark(self, name: str, seconds: float, at: float, leave_room: bool) -> NoReturn:
        self._is_not_there()

    async def _is_marked(self, names: Collection[str], since: float) -> NoReturn:
        self._is_not_there()


async def jobs(scope: Scope, receive: Receive, send: Send) -> None:
    """Say when a job begins, then do what its type tells."""
    message = await receive()
    print("began", message["type"], flush=True)
    if message["type"] == "fail":
        raise ValueError("no such job")
    if message["type"] == "wait":
        while not may_go_on():  # noqa: ASYNC110  # it is another process that says so
            await anyio.sleep(POLL)
    print("ended", message["type"], flush=True)


application = ChannelNameRouter({"jobs": jobs})

if __name__ == "__main__":
    ENGINES["spool"] = "tests.apps.spool:SpoolLayer"
    main()
