"""How sends that do not end are found: what counts as one, and what is left behind."""

import threading

import anyio
import pytest

from asgi_notify.consumers.watchdog import LOOKS, SendWatchdog, watchdog_of
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


def look(watchdog: SendWatchdog, times: int = 1) -> None:
    for _ in range(times):
        watchdog._look()


async def test_a_send_that_was_under_way_for_the_whole_limit_is_given_up_once() -> None:
    watchdog, stuck = SendWatchdog(60), Connection()
    watchdog.watch(stuck)
    stuck.sends_begun = 1
    look(watchdog, LOOKS)
    assert stuck.given_up == []
    look(watchdog)
    assert stuck.given_up == [60]
    look(watchdog, 3 * LOOKS)
    assert stuck.given_up == [60]
    watchdog.leave(stuck)


async def test_one_send_that_ends_begins_the_count_anew() -> None:
    watchdog, slow = SendWatchdog(60), Connection()
    watchdog.watch(slow)
    slow.sends_begun = 2
    look(watchdog, LOOKS)
    slow.sends_ended = 1
    look(watchdog, LOOKS)
    slow.sends_begun = slow.sends_ended = 2
    look(watchdog, 2 * LOOKS)
    slow.sends_begun = 3
    look(watchdog, LOOKS)
    assert slow.given_up == []
    look(watchdog)
    assert slow.given_up == [60]
    watchdog.leave(slow)


async def test_it_looks_by_itself_and_ends_with_the_last_connection() -> None:
    watchdog, stuck, idle = watchdog_of(LIMIT), Connection(), Connection()
    assert watchdog_of(LIMIT) is watchdog
    assert watchdog_of(2 * LIMIT) is not watchdog
    for _ in range(2):  # it begins again with the next connection
        stuck.given_up.clear()
        watchdog.watch(stuck)
        watchdog.watch(idle)
        stuck.sends_begun = stuck.sends_ended + 1
        began = anyio.current_time()
        await until(lambda: stuck.given_up == [LIMIT])
        assert anyio.current_time() - began >= 0.9 * LIMIT
        assert idle.given_up == []
        watchdog.leave(stuck)
        watchdog.leave(idle)
    await until(lambda: waiting(LIMIT) == [])
    assert watchdog._seen == {}


async def test_a_look_that_comes_too_late_finds_nothing_and_sets_nothing() -> None:
    watchdog = SendWatchdog(60)
    gone = Connection()
    watchdog.watch(gone)
    watchdog.leave(gone)
    look(watchdog)
    await until(lambda: waiting(60) == [])
