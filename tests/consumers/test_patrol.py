"""How sends that do not end are found: what counts as one, and what is left behind."""

import threading

import anyio
import pytest

from asgi_notify.consumers.patrol import LOOKS, Patrol, patrol_of
from tests.consumers.streams import until

pytestmark = pytest.mark.anyio

LIMIT = 0.08  # seconds


class Connection:
    def __init__(self) -> None:
        self.sends_begun = 0
        self.sends_ended = 0
        self.given_up: list[float] = []

    def give_up(self, seconds: float) -> None:
        self.given_up.append(seconds)


def waiting(limit: float) -> list[threading.Timer]:
    """The threads that count the seconds until a look, as on trio."""
    timers = [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]
    return [timer for timer in timers if timer.interval == limit / LOOKS]


def look(patrol: Patrol, times: int = 1) -> None:
    for _ in range(times):
        patrol._look()


async def test_a_send_that_was_under_way_for_the_whole_limit_is_given_up_once() -> None:
    patrol, stuck = Patrol(60), Connection()
    patrol.watch(stuck)
    stuck.sends_begun = 1
    look(patrol, LOOKS)
    assert stuck.given_up == []
    look(patrol)
    assert stuck.given_up == [60]
    look(patrol, 3 * LOOKS)
    assert stuck.given_up == [60]
    patrol.leave(stuck)


async def test_one_send_that_ends_begins_the_count_anew() -> None:
    patrol, slow = Patrol(60), Connection()
    patrol.watch(slow)
    slow.sends_begun = 2
    look(patrol, LOOKS)
    slow.sends_ended = 1
    look(patrol, LOOKS)
    slow.sends_begun = slow.sends_ended = 2
    look(patrol, 2 * LOOKS)
    slow.sends_begun = 3
    look(patrol, LOOKS)
    assert slow.given_up == []
    look(patrol)
    assert slow.given_up == [60]
    patrol.leave(slow)


async def test_it_looks_by_itself_and_ends_with_the_last_connection() -> None:
    patrol, stuck, idle = patrol_of(LIMIT), Connection(), Connection()
    assert patrol_of(LIMIT) is patrol
    assert patrol_of(2 * LIMIT) is not patrol
    for _ in range(2):  # it begins again with the next connection
        stuck.given_up.clear()
        patrol.watch(stuck)
        patrol.watch(idle)
        stuck.sends_begun = stuck.sends_ended + 1
        began = anyio.current_time()
        await until(lambda: stuck.given_up == [LIMIT])
        assert anyio.current_time() - began >= 0.9 * LIMIT
        assert idle.given_up == []
        patrol.leave(stuck)
        patrol.leave(idle)
    await until(lambda: waiting(LIMIT) == [])
    assert patrol._seen == {}


async def test_a_look_that_comes_too_late_finds_nothing_and_sets_nothing() -> None:
    patrol = Patrol(60)
    gone = Connection()
    patrol.watch(gone)
    patrol.leave(gone)
    look(patrol)
    await until(lambda: waiting(60) == [])
