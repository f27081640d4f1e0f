"""How a verifier is asked who shows a credential, whatever kind of function it is."""

import inspect
import logging
import time
import traceback
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeAlias

import anyio.to_thread

from .. import django_support
from ..exceptions import ConfigurationError, NotifyError, Unauthorized
from ..sync import handler_limiter
from .credentials import require_readable
from .identity import Identity
from .session import Verify

__all__ = ["Verifier", "verify_with"]

logger = logging.getLogger("asgi_notify.auth")

_Answer: TypeAlias = Identity | Awaitable[Identity | None] | None


class Verifier(Protocol):
    """Any function that says who shows a credential, be it async or not.

    It raises `Unauthorized`, or returns None, where the credential is worth nothing. One that
    is not async is run in a worker thread, and may wait there, unless it has an attribute
    ``never_waits`` that is true.
    """

    def __call__(self, credential: str, /) -> _Answer:
        """Who shows the credential."""
        ...


def verify_with(verifier: Verifier, clock: Callable[[], float] = time.time) -> Verify:
    """An async function that asks a verifier, and believes only a whole answer.

    What is no credential at all, such as 100 kB of text, the verifier is not asked about. An
    identity that has expired is refused, also where the verifier did not look. If the verifier
    fails unforeseen, nobody is let through; since the error's text may show the credential, the
    log has only its kind and the lines of code that it came through.

    Args:
        verifier: as above.
        clock: seconds since 1970.

    Raises:
        ConfigurationError: the verifier cannot be called.
    """
    if not callable(verifier):
        raise ConfigurationError(
            "a verifier is a function that takes a credential and returns an Identity, or "
            f"SignedTokens(...) or JWTVerifier(...); not an instance of {type(verifier).__name__}"
        )
    ask = _asking(verifier)

    async def verify(credential: str) -> Identity:
        require_readable(credential)
        failure: Exception | None = None
        identity: Identity | None = None
        try:
            identity = await ask(credential)
        except NotifyError:
            raise
        except Exception as error:
            failure = error
        if failure is not None:
            _log(failure)
            # Raised here rather than above, so that nothing leads back to the error's text.
            raise NotifyError("the verifier failed; the log says where")
        return _require_valid(identity, clock())

    return verify


def _asking(verifier: Verifier) -> Callable[[str], Awaitable[Identity | None]]:
    call = getattr(type(verifier), "__call__", None)  # noqa: B004  # it is looked at, not called
    is_async = inspect.iscoroutinefunction(verifier) or inspect.iscoroutinefunction(call)
    is_quick = is_async or getattr(verifier, "never_waits", False)

    def in_thread(credential: str) -> tuple[_Answer]:
        django_support.close_old_connections()
        try:
            return (verifier(credential),)  # in a tuple: trio lets no awaitable out of a thread
        finally:
            django_support.close_old_connections()

    async def ask(credential: str) -> Identity | None:
        if is_quick:
            answer = verifier(credential)
        else:
            limiter = handler_limiter()
            (answer,) = await anyio.to_thread.run_sync(in_thread, credential, limiter=limiter)
        return await answer if isinstance(answer, Awaitable) else answer

    return ask


def _require_valid(identity: object, now: float) -> Identity:
    if identity is None:
        raise Unauthorized("this credential is worth nothing here")
    if not isinstance(identity, Identity):
        raise ConfigurationError(
            "a verifier returns an Identity, such as Identity('42'), or None; "
            f"not an instance of {type(identity).__name__}"
        )
    if not isinstance(identity.id, str) or not identity.id:
        raise ConfigurationError("the id of an Identity is a str that is not empty; use str(...)")
    if identity.expires_at is not None and not now < identity.expires_at:  # nor is NaN later
        raise Unauthorized("this credential has expired; get a fresh one")
    return identity


def _log(error: BaseException) -> None:
    kinds: list[str] = []
    seen: BaseException | None = error
    while seen is not None and len(kinds) < 10:
        kinds.append(f"{type(seen).__module__}.{type(seen).__qualname__}")
        seen = seen.__cause__ or seen.__context__
    places = "".join(traceback.format_tb(error.__traceback__))
    logger.error(
        "the verifier failed with %s; the error's text is left out, since it may show the "
        "credential:\n%s",
        ", from ".join(kinds), places,
    )  # fmt: skip
