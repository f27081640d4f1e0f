"""What the publisher inside a server sends, and when the loop gets its turn."""

import asyncio
from collections import Counter

import pytest

from benchmarks.publisher import Job, Publisher


def log_of(job: Job) -> list[str]:
    """The groups that were sent to, with a dash for each turn of the loop in between."""
    log: list[str] = []

    async def publish(group: str, text: str) -> None:
        assert len(text) == job.size
        log.append(group)

    async def watch() -> None:
        publisher = Publisher(publish)
        publisher.start(job)
        total = job.messages * job.groups
        while publisher.published < total:
            log.append("-")
            await asyncio.sleep(0)

    asyncio.run(watch())
    return log[log.index("1") if job.groups == 1 else 0 :]


def test_the_loop_gets_a_turn_after_each_message() -> None:
    assert "".join(log_of(Job(3))) == "1-1-1"


def test_a_train_is_sent_in_one_turn() -> None:
    assert "".join(log_of(Job(6, train=3))) == "111-111"


def test_each_group_gets_each_message_in_an_order_of_its_own() -> None:
    sent = [group for group in log_of(Job(2, groups=50)) if group != "-"]
    assert Counter(sent) == {str(number): 2 for number in range(1, 51)}
    assert sent[:50] != sent[50:]


def test_what_fails_is_not_lost() -> None:
    async def fail() -> None:
        reached = asyncio.Event()

        async def publish(group: str, text: str) -> None:
            reached.set()
            raise LookupError(group)

        publisher = Publisher(publish)
        publisher.start(Job(1))
        publisher.check()  # it has not begun
        await reached.wait()
        publisher.check()

    with pytest.raises(LookupError, match="1"):
        asyncio.run(fail())


def test_a_rate_spaces_messages() -> None:
    async def pace() -> float:
        loop = asyncio.get_running_loop()
        times: list[float] = []
        done = asyncio.Event()

        async def publish(group: str, text: str) -> None:
            times.append(loop.time())
            if len(times) == 5:
                done.set()

        began = loop.time()
        Publisher(publish).start(Job(5, rate=100.0))
        await done.wait()
        return times[-1] - began

    assert asyncio.run(pace()) >= 0.039  # the fifth is due after 40 ms
