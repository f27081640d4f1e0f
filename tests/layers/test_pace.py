"""Whether work gets on, as the looks of senders find it, and what that costs in patience."""

import time
from collections.abc import Callable

import anyio
import pytest

from asgi_notify.layers import Mailbox, pace
from asgi_notify.layers.entries import Entry, Losses
from asgi_notify.layers.pace import catch_up, pace_of_loop

pytestmark = pytest.mark.anyio


class Work:
    def __init__(self, *, has_begun: bool = True) -> None:
        self.looked_at = self.seen_at = 0
        self.has_begun = has_begun
        self.has_ended = False


def entry() -> Entry:
    return Entry(time.monotonic() + 60, {"type": "note"})


def lagging(work: Work) -> Mailbox:
    """A mailbox of one message, which has got two, and whose reader has work to do."""
    mailbox = Mailbox("c", 1, "drop_newest", Losses())
    mailbox.pause(work)
    mailbox.offer(entry())
    assert mailbox.offer(entry()) is None
    return mailbox


async def looks_until_it_is_let_go(mailbox: Mailbox) -> int:
    before = pace_of_loop().looks
    with anyio.fail_after(20):
        await catch_up([mailbox])
    return pace_of_loop().looks - before


async def meanwhile(mailbox: Mailbox, act: Callable[[], None], looks: int) -> None:
    """Wait for a mailbox, and do something all the time, for so many looks."""
    here = pace_of_loop()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(catch_up, [mailbox])
        with anyio.fail_after(20):
            while here.looks < looks:
                act()
                await anyio.sleep(0.0005)
        assert mailbox.is_lagging, "its sender waits still"
        mailbox.let_go()


@pytest.mark.parametrize("has_begun", [True, False])
async def test_work_that_does_not_get_on_is_waited_for_for_some_looks(has_begun: bool) -> None:
    mailbox = lagging(Work(has_begun=has_begun))
    looks = await looks_until_it_is_let_go(mailbox)
    assert looks >= 20
    assert not mailbox.is_lagging


async def test_many_are_waited_for_no_longer_than_one() -> None:
    mailboxes = [lagging(Work()) for _ in range(100)]
    with anyio.fail_after(20):
        await catch_up(mailboxes)
    assert not any(mailbox.is_lagging for mailbox in mailboxes)
    assert pace_of_loop().looks < 100


async def test_work_that_has_ended_is_waited_for_as_a_reader_that_was_woken() -> None:
    work = Work()
    work.has_ended = True
    await meanwhile(lagging(work), lambda: None, 60)


async def test_work_that_waits_is_not_slow_as_long_as_other_work_begins() -> None:
    def begin() -> None:
        pace_of_loop().begun += 1

    await meanwhile(lagging(Work(has_begun=False)), begin, 60)


async def test_work_that_other_work_overtakes_is_slow() -> None:
    mailbox = lagging(Work())
    here = pace_of_loop()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(catch_up, [mailbox])
        with anyio.fail_after(20):
            while mailbox.is_lagging:
                here.begun += 1
                await anyio.sleep(0.0005)


async def test_other_work_each_time_is_not_slow() -> None:
    mailbox = lagging(Work())

    def renew() -> None:
        mailbox.work = Work()

    await meanwhile(mailbox, renew, 60)


async def test_a_mailbox_has_its_patience_again_when_it_was_empty() -> None:
    mailbox = lagging(Work())
    await looks_until_it_is_let_go(mailbox)
    mailbox.pop()
    mailbox.pause(Work())
    assert mailbox.offer(entry()) is False
    mailbox.pop()
    assert mailbox.pop() is None
    mailbox.pause(Work())
    assert mailbox.offer(entry()) is True
    assert mailbox.offer(entry()) is None


async def test_each_piece_of_work_gives_a_little_patience_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pace, "LOOK", 3600.0)
    mailbox = lagging(Work())
    for _ in range(1000):  # one look in ten pieces of work costs as much as they give back
        mailbox.lose_patience(10)
        for _ in range(10):
            mailbox.pop()
            mailbox.pause(Work())
            mailbox.offer(entry())
    assert mailbox.is_lagging
