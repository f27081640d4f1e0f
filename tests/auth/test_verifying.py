"""A verifier of any kind is asked, and believed only where it gives a whole answer."""

import logging
import threading
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest

from asgi_notify.auth import Identity
from asgi_notify.auth.credentials import MAX_CREDENTIAL
from asgi_notify.auth.verifying import verify_with
from asgi_notify.exceptions import (
    ConfigurationError,
    LayerUnavailable,
    NotifyError,
    Unauthorized,
)

pytestmark = pytest.mark.anyio

ANN = Identity("ann")


def plain(credential: str) -> Identity:
    return ANN


async def asynchronous(credential: str) -> Identity:
    return ANN


def returning_an_awaitable(credential: str) -> Awaitable[Identity]:
    return asynchronous(credential)


class Instance:
    async def __call__(self, credential: str) -> Identity:
        return ANN


@pytest.mark.parametrize(
    "verifier",
    [plain, asynchronous, returning_an_awaitable, Instance(), partial(asynchronous)],
    ids=["plain", "async", "awaitable", "instance", "partial"],
)
async def test_any_function_is_a_verifier(verifier: Any) -> None:
    assert await verify_with(verifier)("x") is ANN


async def test_a_plain_function_may_wait_in_a_thread_of_its_own() -> None:
    threads = []

    def ask(credential: str) -> Identity:
        threads.append(threading.current_thread())
        return ANN

    await verify_with(ask)("x")
    assert threads != [threading.current_thread()]


async def test_one_that_never_waits_is_asked_at_once() -> None:
    class Quick:
        never_waits = True

        def __call__(self, credential: str) -> Identity:
            self.thread = threading.current_thread()
            return ANN

    quick = Quick()
    await verify_with(quick)("x")
    assert quick.thread is threading.current_thread()


UNREADABLE = {
    "empty": "",
    "a space": "a b",
    "beyond ASCII": "\u00e4",
    "a line break": "x\n",
    "a control character": "\x00",
    "too long": "x" * (MAX_CREDENTIAL + 1),
}


@pytest.mark.parametrize("kind", UNREADABLE)
async def test_what_can_be_no_credential_is_not_asked_about(kind: str) -> None:
    asked: list[str] = []

    def ask(credential: str) -> Identity:
        asked.append(credential)
        return ANN

    with pytest.raises(Unauthorized):
        await verify_with(ask)(UNREADABLE[kind])
    assert asked == []


async def test_the_longest_credential_is_asked_about() -> None:
    assert await verify_with(plain)("x" * MAX_CREDENTIAL) is ANN


async def test_none_refuses() -> None:
    with pytest.raises(Unauthorized, match="worth nothing"):
        await verify_with(lambda text: None)("x")


@pytest.mark.parametrize("answer", [True, "ann", 42, {"id": "ann"}, Identity(""), Identity(42)])  # type: ignore[arg-type]
async def test_another_answer_is_a_mistake_that_lets_nobody_in(answer: Any) -> None:
    with pytest.raises(ConfigurationError, match="Identity"):
        await verify_with(lambda text: answer)("x")


@pytest.mark.parametrize("expires_at", [99.0, 100.0, float("nan")])
async def test_who_has_expired_is_refused_where_the_verifier_did_not_look(
    expires_at: float,
) -> None:
    verify = verify_with(lambda text: Identity("ann", expires_at=expires_at), lambda: 100.0)
    with pytest.raises(Unauthorized, match="expired"):
        await verify("x")


async def test_who_expires_later_is_believed() -> None:
    verify = verify_with(lambda text: Identity("ann", expires_at=100.1), lambda: 100.0)
    assert (await verify("x")).id == "ann"


@pytest.mark.parametrize("error", [Unauthorized("no"), LayerUnavailable("away")])
async def test_an_error_of_ours_is_passed_on(error: Exception) -> None:
    def fail(credential: str) -> Identity:
        raise error

    with pytest.raises(type(error)) as raised:
        await verify_with(fail)("x")
    assert raised.value is error


known: dict[str, Identity] = {}


def fails(credential: str) -> Identity:
    try:
        return known[credential]
    except KeyError as error:
        raise RuntimeError(f"cannot read {credential}") from error


async def fails_async(credential: str) -> Identity:
    return fails(credential)


@pytest.mark.parametrize("verifier", [fails, fails_async])
async def test_one_that_fails_lets_nobody_in_and_shows_no_credential(
    verifier: Callable[[str], Any], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG), pytest.raises(NotifyError) as raised:
        await verify_with(verifier)("the-secret")
    error = raised.value
    assert (type(error), error.http_status, error.close_code) == (NotifyError, 500, 1011)
    assert error.__cause__ is None
    assert error.__context__ is None
    assert "builtins.RuntimeError, from builtins.KeyError" in caplog.text
    assert "in fails" in caplog.text  # where it was
    assert "the-secret" not in caplog.text + repr(error)


async def test_what_is_no_function_is_refused() -> None:
    with pytest.raises(ConfigurationError) as refused:
        verify_with("the-secret")  # type: ignore[arg-type]
    assert "the-secret" not in str(refused.value)
