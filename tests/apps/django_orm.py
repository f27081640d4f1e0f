"""Synchronous consumers that use Django's ORM; prints what became of their connections.

::

    python -m tests.apps.django_orm asyncio /tmp/some.db '{"CONN_MAX_AGE": null}' parallel
"""

import json
import sys
import threading
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import django
from django.conf import settings

from asgi_notify import WebsocketConsumer, handler_limiter
from asgi_notify.testing import WebsocketCommunicator

CLIENTS = 6
PATIENCE = 20  # seconds

backend, FILE, options, scenario = sys.argv[1:]
settings.configure(
    DATABASES={"default": {"ENGINE": "tests.apps.dropping", "NAME": FILE, **json.loads(options)}}
)
django.setup()

from django.db import connection, models  # noqa: E402


class Order(models.Model):  # type: ignore[misc]  # Django ships no types
    """What the handlers count."""

    class Meta:
        """Django asks for it."""

        app_label = "trial"


class Counts(WebsocketConsumer):
    """Answers with the number of orders; all clients at once, each in a thread of its own."""

    meeting = threading.Barrier(CLIENTS if scenario == "parallel" else 1)

    def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        if text_data == "hang up":  # as a server does, or a proxy, with an idle connection
            connection.ensure_connection()
            connection.connection.close()
            return
        self.meeting.wait(PATIENCE)
        count = Order.objects.count()
        self.meeting.wait(PATIENCE)
        self.send(str(count))


def open_files() -> int:
    """How many connections to the database this process holds."""
    file = Path(FILE).resolve()
    return sum(path.resolve() == file for path in Path("/proc/self/fd").iterdir())


def make_table() -> None:
    with connection.schema_editor() as editor:
        editor.create_model(Order)
    connection.close()


async def ask(client: WebsocketCommunicator, text: str) -> str:
    await client.send_to(text)
    event = await client.receive_output(PATIENCE)
    return str(event.get("text", event.get("code")))


async def parallel() -> dict[str, Any]:
    """All clients at once: how many connections are open while, and after, they are served."""
    answers: list[str] = []
    clients = [WebsocketCommunicator(Counts, "/") for _ in range(CLIENTS)]

    async def count(client: WebsocketCommunicator) -> None:
        answers.append(await ask(client, "count"))

    for client in clients:
        await client.connect()
    async with anyio.create_task_group() as tasks:
        for client in clients:
            tasks.start_soon(count, client)
    # What is sent within a handler comes a moment before its end.
    for client in clients:
        await client.disconnect(timeout=PATIENCE)
    return {"answers": answers, "open": open_files()}


async def hang_up() -> dict[str, Any]:
    """One thread for all, whose connection is cut in between."""
    handler_limiter().total_tokens = 1
    answers: list[str] = []
    for texts in ["count", "hang up", "count"], ["count"]:
        client = WebsocketCommunicator(Counts, "/")
        await client.connect()
        for text in texts:
            if text == "hang up":
                await client.send_to(text)
            else:
                answers.append(await ask(client, text))
        await client.disconnect(timeout=PATIENCE)
    return {"answers": answers}


async def main() -> None:
    await anyio.to_thread.run_sync(make_table)
    print(json.dumps(await {"parallel": parallel, "hang up": hang_up}[scenario]()))


if __name__ == "__main__":
    anyio.run(main, backend=backend)
