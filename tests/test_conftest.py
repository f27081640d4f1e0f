"""What `tests.conftest` passes over, and what it does not."""

import asyncio
from typing import Any


def told(*steps: str) -> list[Any]:
    """What a loop tells of a callback that settles a future after these steps."""
    contexts: list[Any] = []

    async def run() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: contexts.append(context["exception"]))
        future: asyncio.Future[None] = loop.create_future()
        for step in steps:
            future.cancel() if step == "cancel" else future.set_result(None)
        loop.call_soon(future.set_result, None)
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    asyncio.run(run())
    return contexts


def test_an_answer_to_a_cancelled_call_is_passed_over() -> None:
    assert told("cancel") == []


def test_a_second_answer_is_a_failure() -> None:
    assert [type(error) for error in told("answer")] == [asyncio.InvalidStateError]
