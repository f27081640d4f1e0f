"""Tasks that belong to an object, and several calls at a time."""

import threading

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from asgi_notify.layers.tasks import AT_A_TIME, Background, at_a_time, calls_here

pytestmark = pytest.mark.anyio


async def test_a_task_runs_until_it_is_closed_and_that_waits_for_its_end() -> None:
    steps: list[str] = []
    begun = anyio.Event()

    async def run() -> None:
        steps.append("begun")
        begun.set()
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.01)
            steps.append("ended")

    task = Background(run, "test")
    with anyio.fail_after(20):
        await begun.wait()
        await task.aclose()
        assert steps == ["begun", "ended"]
        await task.aclose()


async def test_a_task_that_is_closed_at_once_never_begins() -> None:
    async def run() -> None:
        await anyio.lowlevel.checkpoint()
        raise AssertionError("it was cancelled before")

    with anyio.fail_after(20):
        await Background(run, "test").aclose()


async def test_an_error_is_logged_and_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        raise ValueError("broken")

    task = Background(run, "the test's task")
    with anyio.fail_after(20):
        await anyio.wait_all_tasks_blocked()
        await task.aclose()
    (record,) = caplog.records
    assert "the test's task" in record.getMessage()
    assert record.exc_info is not None


async def test_calls_are_made_a_few_at_a_time() -> None:
    running, most, done = 0, 0, []

    async def call(number: int) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await anyio.sleep(0.001)
        running -= 1
        done.append(number)

    await at_a_time(call, range(100))
    assert sorted(done) == list(range(100))
    assert most == AT_A_TIME
    await at_a_time(call, [])


async def test_the_first_error_ends_the_other_calls() -> None:
    async def call(number: int) -> None:
        if number == 3:
            raise ValueError("broken")
        await anyio.sleep_forever()

    with anyio.fail_after(20), pytest.raises(ValueError, match="broken"):
        await at_a_time(call, range(100))


async def test_calls_from_other_threads_are_made_here_and_in_order() -> None:
    made: list[tuple[int, int]] = []
    end = anyio.Event()
    call = calls_here()

    def work() -> None:
        for number in range(100):
            call(lambda number: made.append((number, threading.get_ident())), number)
        call(end.set)

    await anyio.to_thread.run_sync(work)
    with anyio.fail_after(20):
        await end.wait()
    assert made == [(number, threading.get_ident()) for number in range(100)]
