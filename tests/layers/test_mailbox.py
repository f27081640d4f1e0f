"""One channel's queue by itself: its order, its bounds, its readers, its end."""

import re
from collections.abc import Callable
from math import inf

import anyio
import pytest

from asgi_notify.exceptions import ChannelFull, ConfigurationError, LayerClosed
from asgi_notify.layers.entries import Entry, Losses
from asgi_notify.layers.mailbox import READ_AHEAD, Mailbox
from asgi_notify.layers.overflow import Overflow, require_overflow
from asgi_notify.types import Message

from .tools import Clock, read

pytestmark = pytest.mark.anyio


def make(capacity: int = 3, overflow: Overflow = "drop_newest") -> tuple[Mailbox, Losses]:
    drops = Losses()
    return Mailbox("box", capacity, overflow, drops, Clock()), drops


def entry(n: int) -> Entry:
    return Entry(2000.0, {"type": "number", "n": n})


async def test_messages_and_events_share_one_order() -> None:
    mailbox, _ = make()
    mailbox.offer(entry(1))
    await mailbox.put_event({"type": "client", "n": 2})
    mailbox.offer(entry(3))
    assert [(await read(mailbox))["n"] for _ in range(3)] == [1, 2, 3]
    assert mailbox.pop() is None


async def test_events_of_the_client_take_no_room_of_messages() -> None:
    mailbox, drops = make(capacity=2)
    for n in range(3):
        await mailbox.put_event({"type": "client", "n": n})
    assert [mailbox.offer(entry(n)) for n in range(3)] == [True, True, False]
    assert mailbox.unread == 2
    assert drops == {"full": 1}


async def test_a_flooding_client_waits_until_its_events_are_handled() -> None:
    mailbox, _ = make()
    put: list[int] = []

    async def client() -> None:
        for n in range(3 * READ_AHEAD):
            await mailbox.put_event({"type": "client", "n": n})
            put.append(n)

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client)
            await anyio.wait_all_tasks_blocked()
            assert len(put) == READ_AHEAD
            assert (await read(mailbox))["n"] == 0
            await anyio.wait_all_tasks_blocked()
            assert len(put) == READ_AHEAD + 1
            for n in range(1, 3 * READ_AHEAD):
                assert (await read(mailbox))["n"] == n


async def test_a_client_whose_put_was_cancelled_has_put_nothing() -> None:
    mailbox, _ = make()
    for n in range(READ_AHEAD):
        await mailbox.put_event({"type": "client", "n": n})
    with anyio.CancelScope() as scope:
        scope.cancel()
        await mailbox.put_event({"type": "client", "n": -1})
    assert scope.cancelled_caught
    assert [(await read(mailbox))["n"] for _ in range(READ_AHEAD)] == list(range(READ_AHEAD))
    assert mailbox.pop() is None
    for n in range(READ_AHEAD):
        with anyio.fail_after(20):
            await mailbox.put_event({"type": "client", "n": n})


async def test_a_full_mailbox_asks_to_wait_for_a_reader_that_was_woken() -> None:
    mailbox, drops = make(capacity=1)
    got: list[int] = []

    async def reader() -> None:
        while len(got) < 3:
            got.append((await read(mailbox))["n"])

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(reader)
        await anyio.wait_all_tasks_blocked()
        assert mailbox.is_read
        assert mailbox.offer(entry(1)) is True
        assert not mailbox.is_lagging
        assert mailbox.offer(entry(2)) is None
        assert mailbox.is_lagging
        await anyio.wait_all_tasks_blocked()
        assert not mailbox.is_lagging
        assert mailbox.offer(entry(3)) is True
    assert got == [1, 2, 3]
    assert not mailbox.is_read
    assert not drops


class Told:
    """A reader that is told, and does nothing."""

    def set(self) -> None:
        pass


ENDS: dict[str, Callable[[Mailbox], object]] = {
    "is read": Mailbox.pop,
    "is closed": lambda mailbox: mailbox.close(LayerClosed("over")),
    "loses its consumer": Mailbox.leave,
    "loses its reader": lambda mailbox: mailbox.watch(None),
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("senders", [1, 3])
async def test_who_waits_for_a_reader_waits_no_longer_than_it_is_there(
    end: str, senders: int
) -> None:
    mailbox, _ = make(capacity=1)
    mailbox.watch(Told())
    for n in range(2):
        mailbox.offer(entry(n))
    assert mailbox.is_lagging
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            for _ in range(senders):
                tasks.start_soon(mailbox.catch_up)
            await anyio.wait_all_tasks_blocked()
            ENDS[end](mailbox)
    assert not mailbox.is_lagging
    await mailbox.catch_up()


async def test_who_waits_for_a_reader_can_be_cancelled_and_others_wait_on() -> None:
    mailbox, _ = make(capacity=1)
    mailbox.watch(Told())
    for n in range(2):
        mailbox.offer(entry(n))
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(mailbox.catch_up)
            with anyio.move_on_after(0.01) as scope:
                await mailbox.catch_up()
            assert scope.cancelled_caught
            mailbox.pop()


async def test_a_reader_that_pauses_is_waited_for() -> None:
    mailbox, drops = make(capacity=1)
    mailbox.pause()
    assert [mailbox.offer(entry(n)) for n in range(2)] == [True, None]
    assert mailbox.is_lagging
    assert mailbox.pop() is not None
    assert mailbox.offer(entry(2)) is False
    assert drops == {"full": 1}


async def test_a_reader_that_is_busy_is_not_waited_for() -> None:
    mailbox, drops = make(capacity=1)
    assert mailbox.offer(entry(1)) is True
    assert mailbox.offer(entry(2)) is False
    assert drops == {"full": 1}


async def test_a_closed_mailbox_wakes_its_reader_with_the_error() -> None:
    mailbox, _ = make()
    error = LayerClosed("over")

    async def reader() -> None:
        with pytest.raises(LayerClosed) as caught:
            await read(mailbox)
        assert caught.value is error

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(reader)
            await anyio.wait_all_tasks_blocked()
            mailbox.close(error)
    assert mailbox.error is error
    await mailbox.wait()


async def test_a_mailbox_is_closed_once() -> None:
    mailbox, drops = make()
    told: list[int] = []
    mailbox.on_close = lambda: told.append(1)
    mailbox.offer(entry(1))
    mailbox.close(ChannelFull("first"))
    mailbox.close(LayerClosed("second"))
    assert isinstance(mailbox.error, ChannelFull)
    assert told == [1]
    assert mailbox.offer(entry(2)) is False
    assert drops == {"closed": 2}


async def test_a_client_may_send_on_to_a_closed_mailbox() -> None:
    mailbox, _ = make()
    await mailbox.put_event({"type": "client"})
    mailbox.close(LayerClosed("over"))
    assert mailbox.unread == 0
    await mailbox.put_event({"type": "client"})
    assert mailbox.unread == 0


async def test_what_the_client_sent_is_no_loss_when_its_consumer_leaves() -> None:
    mailbox, drops = make()
    await mailbox.put_event({"type": "client"})
    mailbox.offer(entry(1))
    await mailbox.put_event({"type": "client"})
    mailbox.leave()
    assert drops == {"left": 1}


async def test_forgetting_leaves_what_the_client_sent() -> None:
    mailbox, drops = make()
    mailbox.offer(entry(1))
    await mailbox.put_event({"type": "client", "n": 2})
    mailbox.forget()
    assert (await read(mailbox))["n"] == 2
    assert mailbox.pop() is None
    assert not drops


async def test_only_what_the_client_sent_never_expires() -> None:
    mailbox, drops = make()
    mailbox.offer(Entry(999.0, {"type": "number", "n": 1}))
    await mailbox.put_event({"type": "client", "n": 2})
    mailbox.offer(entry(3))
    mailbox.expire()
    mailbox.expire()
    assert [(await read(mailbox))["n"] for _ in range(2)] == [2, 3]
    assert drops == {"expired": 1}


def test_an_entry_knows_whose_it_is() -> None:
    assert Entry(inf, {"type": "client"}).is_from_client
    assert not entry(1).is_from_client


@pytest.mark.parametrize("policy", ["disconnect", "drop_oldest", "drop_newest"])
def test_the_policies_are_these(policy: str) -> None:
    assert require_overflow(policy) == policy


def test_another_policy_is_refused_with_the_list_of_them() -> None:
    expected = "overflow is one of disconnect, drop_oldest, drop_newest, not 'block'"
    with pytest.raises(ConfigurationError, match=re.escape(expected)):
        require_overflow("block")


# The way past it.


class Passage:
    """Takes what it is told to, and remembers what it was asked for."""

    def __init__(self) -> None:
        self.is_open = True
        self.asked: list[int] = []

    def take(self, message: Message) -> bool:
        self.asked.append(message["n"])
        return self.is_open


class Asleep:
    def __init__(self) -> None:
        self.woken = 0

    def set(self) -> None:
        self.woken += 1


def test_a_way_past_is_asked_only_while_the_reader_sleeps() -> None:
    mailbox, _ = make()
    passage, reader = Passage(), Asleep()
    mailbox.direct = passage
    mailbox.offer(entry(1))  # nobody reads
    assert passage.asked == []
    assert mailbox.pop() == entry(1)
    mailbox.offer(entry(2))  # what was popped is being handled
    assert passage.asked == []
    assert mailbox.pop() == entry(2)
    assert mailbox.pop() is None
    mailbox.watch(reader)
    assert mailbox.offer(entry(3)) is True
    assert mailbox.offer(entry(4)) is True
    assert (passage.asked, reader.woken, mailbox.pop()) == ([3, 4], 0, None)


def test_what_the_way_past_refuses_waits_and_keeps_what_is_behind_it() -> None:
    mailbox, _ = make()
    passage, reader = Passage(), Asleep()
    mailbox.direct, passage.is_open = passage, False
    mailbox.watch(reader)
    assert mailbox.offer(entry(1)) is True
    passage.is_open = True
    assert mailbox.offer(entry(2)) is True
    assert (passage.asked, reader.woken) == ([1], 1)
    assert (mailbox.pop(), mailbox.pop(), mailbox.pop()) == (entry(1), entry(2), None)
