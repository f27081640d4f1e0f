"""What every test has: both event loops, a limit of time, and children that can be interrupted."""

import asyncio
import gc
import inspect
import signal
from collections.abc import Awaitable, Callable, Generator, Iterator
from functools import cache, wraps
from types import ModuleType
from typing import Any

import anyio
import pytest

from asgi_notify.testing.background import Background
from tests.examples import load_profile

PATIENCE = 20  # seconds until what is on its way counts as lost
LONG = 240  # seconds for a test of servers or browsers; what is quick has pyproject.toml's limit


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Run each asynchronous test on both event loops."""
    return str(request.param)


@pytest.fixture(scope="session", autouse=True)
def late_answers_are_no_failure() -> Iterator[None]:
    """Let valkey-glide answer a call that was cancelled, where its pipe is another loop's.

    It looks whether the call still waits, and then has the call's loop bring the answer: a
    cancellation in between ends in an `InvalidStateError` in that loop's log (glide 2.6), and
    in nothing else.
    """
    told = asyncio.BaseEventLoop.call_exception_handler

    def tell(loop: asyncio.BaseEventLoop, context: dict[str, Any]) -> None:
        if not _is_late_answer(context):
            told(loop, context)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncio.BaseEventLoop, "call_exception_handler", tell)
        yield


@pytest.fixture(scope="session", autouse=True)
def communicators_are_patient() -> Iterator[None]:
    """Let the second that communicators wait unless told otherwise be longer.

    What comes is not waited for any longer, and a busy machine takes more than a second at times.
    """
    until = Background.until

    @wraps(until)
    async def wait(self: Background, ready: Callable[[], bool], timeout: float | None) -> bool:
        return await until(self, ready, PATIENCE if timeout == 1 else timeout)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Background, "until", wait)
        yield


def _is_late_answer(context: dict[str, Any]) -> bool:
    callback = getattr(context.get("handle"), "_callback", None)
    future = getattr(callback, "__self__", None)
    is_late = isinstance(context.get("exception"), asyncio.InvalidStateError)
    return is_late and type(future) is asyncio.Future and future.cancelled()


def pytest_configure(config: pytest.Config) -> None:
    load_profile(has_seed=config.getoption("--hypothesis-seed", None) is not None)
    # Whoever starts the tests in the background of a script has them ignore SIGINT, and
    # every process that a test starts would inherit that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keep what the collection made, half a million objects, out of every garbage collection.

    Many tests collect garbage, to see what is left over; each would look through all of these.
    """
    gc.disable()  # nothing that a collection makes is garbage
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    has_coverage = config.pluginmanager.hasplugin("_cov")
    long = max(LONG, config.getoption("timeout") or 0)
    for item in items:
        is_long = item.get_closest_marker("slow") or item.get_closest_marker("browser")
        is_explored = isinstance(item, pytest.Function) and _explores(item.module)
        if (is_long or is_explored) and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(long))
        if is_long and has_coverage:
            # To follow each line doubles the work, and the quick tests reach the lines as well.
            item.add_marker(pytest.mark.no_cover)
        if not isinstance(item, pytest.Function) or _has_clock(item):
            continue
        if inspect.iscoroutinefunction(item.obj):
            item.obj = _limited(item.obj, _limit(config, item))


@cache
def _explores(module: ModuleType) -> bool:
    """Whether hypothesis makes up examples there: hundreds take a minute on a busy machine."""
    owners = (str(getattr(value, "__module__", "")) for value in vars(module).values())
    return any(owner.startswith("hypothesis.") for owner in owners)


def _has_clock(item: pytest.Function) -> bool:
    """Whether the seconds of this test are its own, so that no limit can be told in them."""
    callspec = getattr(item, "callspec", None)
    backend = callspec.params.get("anyio_backend") if callspec is not None else None
    return isinstance(backend, tuple) and "clock" in backend[1]


def _limit(config: pytest.Config, item: pytest.Item) -> float:
    marker = item.get_closest_marker("timeout")
    if marker is not None:
        return float(marker.args[0])
    return float(config.getoption("timeout") or config.getini("timeout") or LONG)


def _limited(test: Callable[..., Awaitable[None]], limit: float) -> Callable[..., Awaitable[None]]:
    """Cancel a test that waits too long, so that its traceback says for what.

    The alarm that ends all others finds the event loop asleep, and tells no more than that.
    """

    @wraps(test)
    async def run(*args: Any, **kwargs: Any) -> None:
        waited: BaseException | None = None
        with anyio.move_on_after(0.9 * limit) as scope:
            try:
                await test(*args, **kwargs)
            except anyio.get_cancelled_exc_class() as error:
                waited = error
                raise
        if scope.cancelled_caught:
            raise TimeoutError(f"this test was not over after {0.9 * limit:g} s") from waited

    return run
