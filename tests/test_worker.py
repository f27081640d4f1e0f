"""The worker: which channels it reads, how many messages at once, and how it ends."""

import logging
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from asgi_notify import (
    AsyncConsumer,
    ChannelFull,
    ChannelNameRouter,
    ConfigurationError,
    Forbidden,
    InMemoryChannelLayer,
    InvalidName,
    Message,
    MisuseError,
    OriginValidator,
    ProtocolTypeRouter,
    Receive,
    Scope,
    Send,
    SyncConsumer,
    URLRouter,
    Worker,
    async_to_sync,
    channel_layers,
)
from asgi_notify.consumers import connection

pytestmark = pytest.mark.anyio

JOB = {"type": "job.run", "number": 1}


@pytest.fixture
def layer() -> InMemoryChannelLayer:
    return InMemoryChannelLayer()


@asynccontextmanager
async def working(worker: Worker) -> AsyncIterator[Worker]:
    """The worker runs inside the block, and has ended by itself after it."""
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(worker.run)
            yield worker
            worker.stop()


async def nothing(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that routes nothing by itself."""


class Gate:
    """An application whose messages each wait until the test lets them go on."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.ended: list[int] = []
        self.open = anyio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Note the message's number at the beginning and the end."""
        number = (await receive())["number"]
        self.begun.append(number)
        await self.open.wait()
        self.ended.append(number)

    async def until(self, what: Callable[[], bool]) -> None:
        """Wait, in turns of the loop, until something is so."""
        with anyio.fail_after(20):
            while not what():
                await checkpoint()


async def send_jobs(layer: InMemoryChannelLayer, *numbers: int, channel: str = "jobs") -> None:
    for number in numbers:
        await layer.send(channel, {"type": "job.run", "number": number})


# What an application is given.


async def test_an_application_gets_the_message_then_the_end(layer: InMemoryChannelLayer) -> None:
    seen: list[Any] = []
    done = anyio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.extend([scope, await receive(), await receive(), await receive()])
        done.set()

    async with working(Worker(app, ["jobs"], layer=layer)):
        await layer.send("jobs", JOB)
        await done.wait()
    scope, *events = seen
    assert scope == {
        "type": "channel",
        "asgi": {"version": "3.0"},
        "channel": "jobs",
        "channel_layer": layer,
    }
    end = {"type": "channel.disconnect"}
    assert events == [JOB, end, end]


async def test_a_consumer_handles_the_message_then_the_end_once(
    layer: InMemoryChannelLayer,
) -> None:
    seen: list[str] = []
    done = anyio.Event()

    class ThumbnailConsumer(AsyncConsumer):
        leave_grace = 0.0  # the end of the messages is nobody's leaving

        async def thumbnails_generate(self, message: Message) -> None:
            assert self.channel_layer is layer
            for _ in range(10):
                await checkpoint()
            seen.append(f"{message['picture']} from {self.scope['channel']}")

        async def channel_disconnect(self, message: Message) -> None:
            seen.append(message["type"])
            done.set()

    app = ProtocolTypeRouter({"channel": ChannelNameRouter({"thumbnails": ThumbnailConsumer})})
    async with working(Worker(app, layer=layer)):
        await layer.send("thumbnails", {"type": "thumbnails.generate", "picture": "cat"})
        await done.wait()
    assert seen == ["cat from thumbnails", "channel.disconnect"]
    assert layer.hub.attached == frozenset()


async def test_a_synchronous_consumer_works_in_a_thread_and_can_tell_others(
    layer: InMemoryChannelLayer,
) -> None:
    class Mail(SyncConsumer):
        def mail_send(self, message: Message) -> None:
            async_to_sync(self.channel_layer.send)("sent", {"type": "sent", "to": message["to"]})

    async with working(Worker(Mail, ["mail"], layer=layer)):
        await layer.send("mail", {"type": "mail.send", "to": "ann"})
        assert await layer.receive("sent") == {"type": "sent", "to": "ann"}


async def test_it_reads_the_default_layer_where_it_is_given_none(
    layer: InMemoryChannelLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel_layers, "_layers", {"default": layer})
    gate = Gate()
    gate.open.set()
    async with working(Worker(gate, ["jobs"])):
        await send_jobs(layer, 1)
        await gate.until(lambda: gate.ended == [1])


# How many at once.


async def test_what_has_no_slot_stays_in_the_layer_whose_capacity_holds() -> None:
    layer = InMemoryChannelLayer(capacity=2)
    gate = Gate()
    async with working(Worker(gate, ["jobs"], layer=layer, concurrency=2)):
        for number in 1, 2, 3, 4:
            await send_jobs(layer, number)
            await anyio.wait_all_tasks_blocked()
        assert gate.begun == [1, 2]
        with pytest.raises(ChannelFull):
            await send_jobs(layer, 5)
        gate.open.set()
        await gate.until(lambda: sorted(gate.ended) == [1, 2, 3, 4])


async def test_messages_of_one_slot_are_handled_in_their_order(layer: InMemoryChannelLayer) -> None:
    gate = Gate()
    gate.open.set()
    await send_jobs(layer, *range(50))
    async with working(Worker(gate, ["jobs"], layer=layer, concurrency=1)):
        await gate.until(lambda: len(gate.ended) == 50)
    assert gate.ended == list(range(50))


async def test_a_channel_that_takes_long_does_not_hold_up_another(
    layer: InMemoryChannelLayer,
) -> None:
    slow, fast = Gate(), Gate()
    fast.open.set()
    app = ChannelNameRouter({"slow": slow, "fast": fast})
    async with working(Worker(app, layer=layer, concurrency=1)):
        await send_jobs(layer, 1, 2, channel="slow")
        await send_jobs(layer, 3, 4, channel="fast")
        await fast.until(lambda: fast.ended == [3, 4])
        assert slow.begun == [1]
        slow.open.set()


async def test_two_workers_share_a_channel_and_no_message_is_handled_twice(
    layer: InMemoryChannelLayer,
) -> None:
    gates = Gate(), Gate()
    async with (
        working(Worker(gates[0], ["jobs"], layer=layer, concurrency=2)),
        working(Worker(gates[1], ["jobs"], layer=layer, concurrency=2)),
    ):
        await anyio.wait_all_tasks_blocked()
        await send_jobs(layer, 1, 2, 3, 4)
        await gates[0].until(lambda: len(gates[0].begun) == len(gates[1].begun) == 2)
        for gate in gates:
            gate.open.set()
    assert sorted(gates[0].ended + gates[1].ended) == [1, 2, 3, 4]


# What fails.


async def test_a_failure_is_logged_once_with_its_traceback_and_the_next_message_is_handled(
    layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    done = anyio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if (await receive())["number"] == 2:
            done.set()
            return
        raise KeyError("no such job")

    async with working(Worker(app, ["jobs"], layer=layer, concurrency=1)):
        await send_jobs(layer, 1, 2)
        await done.wait()
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert record.getMessage() == "channel jobs: job.run failed"
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], KeyError)


@pytest.mark.parametrize("error", [KeyError("no such job"), Forbidden("not you")])
async def test_a_consumers_failure_is_logged_once_and_the_next_message_is_handled(
    layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    ends: list[str] = []

    class Fails(AsyncConsumer):
        async def job_run(self, message: Message) -> None:
            if message["number"] == 1:
                raise error

        async def channel_disconnect(self, message: Message) -> None:
            ends.append(message["type"])

    async with working(Worker(Fails, ["jobs"], layer=layer, concurrency=1)):
        await send_jobs(layer, 1, 2)
        await Gate().until(lambda: len(ends) == 2)
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert record.getMessage().startswith("channel 'jobs' (channel specific.")
    assert record.getMessage().endswith("job.run failed")
    assert record.exc_info is not None
    assert record.exc_info[1] is error


async def test_sending_is_an_error_that_says_what_to_use(
    layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    errors: list[MisuseError] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send({"type": "websocket.send", "text": "hello"})
        except MisuseError as error:
            errors.append(error)

    async with working(Worker(app, ["jobs"], layer=layer)):
        await send_jobs(layer, 1)
        await Gate().until(lambda: bool(errors))
    assert "websocket.send cannot be sent" in str(errors[0])
    assert "use channel_layer.send or channel_layer.group_send" in str(errors[0])


async def test_a_consumer_that_sends_fails_at_once_with_that_error(
    layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No server is waited for, which might yet say that a client has left.
    monkeypatch.setattr(connection, "NOTICE_TIMEOUT", math.inf)

    class Sends(AsyncConsumer):
        async def job_run(self, message: Message) -> None:
            await self.send({"type": "reply"})

        async def channel_disconnect(self, message: Message) -> None:
            done.set()

    done = anyio.Event()
    async with working(Worker(Sends, ["jobs"], layer=layer)):
        await send_jobs(layer, 1)
        await done.wait()
    assert "reply cannot be sent" in caplog.text


async def test_what_the_layer_raises_ends_the_worker_when_what_runs_has_ended() -> None:
    class Broken(InMemoryChannelLayer):
        async def receive(self, channel: str) -> Message:
            asked.append(channel)
            if asked.count("jobs") == 2:
                raise ConnectionError("the layer's server is gone")
            return await super().receive(channel)

    asked: list[str] = []
    gate, layer = Gate(), Broken()
    await send_jobs(layer, 1)
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:

            async def run() -> None:
                with pytest.raises(ConnectionError, match="is gone"):
                    await Worker(gate, ["jobs", "others"], layer=layer).run()

            tasks.start_soon(run)
            await gate.until(lambda: asked.count("jobs") == 2)
            assert gate.ended == []
            gate.open.set()
    assert gate.ended == [1]


# How it ends.


async def test_stop_lets_what_runs_end_and_takes_nothing_more(layer: InMemoryChannelLayer) -> None:
    gate = Gate()
    async with working(Worker(gate, ["jobs"], layer=layer, concurrency=2)) as worker:
        await send_jobs(layer, 1)
        await gate.until(lambda: gate.begun == [1])
        worker.stop()
        worker.stop()  # twice is once
        await anyio.wait_all_tasks_blocked()
        await send_jobs(layer, 2)
        await anyio.wait_all_tasks_blocked()
        assert gate.begun == [1]
        gate.open.set()
    assert gate.ended == [1]
    with anyio.fail_after(20):
        assert (await layer.receive("jobs"))["number"] == 2


async def test_what_does_not_end_in_time_is_cut_off_and_logged(
    layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    ends: list[str] = []

    class Endless(AsyncConsumer):
        async def job_run(self, message: Message) -> None:
            started.set()
            await anyio.sleep_forever()

        async def channel_disconnect(self, message: Message) -> None:
            ends.append(message["type"])

    started = anyio.Event()
    async with working(Worker(Endless, ["jobs"], layer=layer, shutdown_timeout=0)):
        await send_jobs(layer, 1)
        await started.wait()
    assert ends == ["channel.disconnect"]
    assert "channel jobs: job.run was cut off" in caplog.messages
    assert layer.hub.attached == frozenset()


async def test_a_cancellation_ends_it_at_once_and_what_was_cut_off_is_logged(
    layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    gate = Gate()
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(Worker(gate, ["jobs"], layer=layer).run)
            await send_jobs(layer, 1)
            await gate.until(lambda: gate.begun == [1])
            tasks.cancel_scope.cancel()
    assert gate.ended == []
    assert "channel jobs: job.run was cut off" in caplog.messages
    await send_jobs(layer, 2)
    with anyio.fail_after(20):
        assert (await layer.receive("jobs"))["number"] == 2


async def test_a_worker_that_was_stopped_takes_nothing(layer: InMemoryChannelLayer) -> None:
    gate = Gate()
    gate.open.set()
    await send_jobs(layer, 1)
    worker = Worker(gate, ["jobs"], layer=layer)
    worker.stop()
    with anyio.fail_after(20):
        await worker.run()
        assert (await layer.receive("jobs"))["number"] == 1
    assert gate.begun == []


# Which channels.


class Names:
    """What routes by names of its own, such as an EventRouter."""

    def channel_names(self) -> set[str]:
        """The names."""
        return {"mail", "thumbnails"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Do nothing."""


MAPPED = ChannelNameRouter({"thumbnails": nothing, "mail": nothing})
URLS = URLRouter([])


@pytest.mark.parametrize(
    "app",
    [
        MAPPED,
        Names(),
        ProtocolTypeRouter({"http": URLS, "channel": MAPPED}),
        ProtocolTypeRouter({"http": URLS, "channel": Names()}),
        ProtocolTypeRouter({"channel": OriginValidator(MAPPED, ["a.example"])}),
        OriginValidator(ProtocolTypeRouter({"channel": Names()}), ["a.example"]),
        ProtocolTypeRouter({"http": URLS}, unmatched=MAPPED),
    ],
)
def test_without_names_it_reads_what_the_application_routes(app: Any) -> None:
    assert Worker(app).channels == ("mail", "thumbnails")


@pytest.mark.parametrize("channels", [["mail"], ["thumbnails", "mail", "thumbnails"]])
def test_names_choose_from_what_the_application_routes(channels: list[str]) -> None:
    assert Worker(MAPPED, channels).channels == tuple(dict.fromkeys(channels))


@pytest.mark.parametrize(
    "app",
    [
        nothing,
        ChannelNameRouter({"mail": nothing}, unmatched=nothing),
        ProtocolTypeRouter({"channel": nothing}),
        ProtocolTypeRouter({"http": URLS}, unmatched=nothing),
    ],
)
def test_an_application_that_takes_any_channel_is_read_for_those_that_are_named(app: Any) -> None:
    assert Worker(app, ["thumbnails"]).channels == ("thumbnails",)


@pytest.mark.parametrize("app", [nothing, URLS, ChannelNameRouter({}), AsyncConsumer])
@pytest.mark.parametrize("channels", [None, []])
def test_no_channel_at_all_is_an_error_that_says_how_to_name_one(app: Any, channels: Any) -> None:
    with pytest.raises(ConfigurationError, match="as in Worker\\(app, \\['thumbnails'\\]\\)"):
        Worker(app, channels)


@pytest.mark.parametrize(
    ("app", "routed"),
    [
        (MAPPED, "it routes mail, thumbnails"),
        (Names(), "it routes mail, thumbnails"),
        (ProtocolTypeRouter({"channel": MAPPED}), "it routes mail, thumbnails"),
        (ProtocolTypeRouter({"http": URLS}), "it routes none"),
    ],
)
def test_a_channel_that_the_application_does_not_route_is_an_error_at_the_start(
    app: Any, routed: str
) -> None:
    with pytest.raises(ConfigurationError, match="does not route the channel a, b;") as error:
        Worker(app, ["b", "a"])
    assert routed in str(error.value)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"channels": "mail"}, r"write \['mail'\]"),
        ({"concurrency": 0}, "concurrency is at least 1, not 0"),
        ({"shutdown_timeout": -1}, "shutdown_timeout is in seconds, not -1"),
        ({"shutdown_timeout": float("nan")}, "shutdown_timeout is in seconds, not nan"),
        ({"app": "mail"}, "a worker leads to 'mail', which is no ASGI app"),
    ],
)
def test_what_makes_no_sense_is_an_error_when_it_is_made(
    options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        Worker(**{"app": MAPPED, **options})


def test_a_channel_with_a_name_that_cannot_be_is_an_error() -> None:
    with pytest.raises(InvalidName, match="'a b' cannot name a channel"):
        Worker(nothing, ["a b"])
