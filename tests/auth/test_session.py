"""A session takes a user's credentials, the first one and fresh ones."""

import pytest

from asgi_notify.auth import AuthSession, Identity, session_of
from asgi_notify.exceptions import Forbidden, Unauthorized

pytestmark = pytest.mark.anyio


async def verify(credential: str) -> Identity:
    name, _, number = credential.partition(" ")
    if not number:
        raise Unauthorized("this is no credential")
    return Identity(name, expires_at=float(number))


async def test_the_first_credential_says_who_it_is() -> None:
    session = AuthSession(verify)
    assert session.identity is None
    assert await session.authenticate("ann 10") == Identity("ann", expires_at=10.0)
    assert session.identity == Identity("ann", expires_at=10.0)


async def test_a_fresh_one_takes_its_place() -> None:
    session = AuthSession(verify, Identity("ann", expires_at=10.0))
    await session.authenticate("ann 20")
    assert session.identity == Identity("ann", expires_at=20.0)


@pytest.mark.parametrize(
    ("credential", "error"), [("bob 20", Forbidden), ("nonsense", Unauthorized)]
)
async def test_what_is_refused_changes_nothing(credential: str, error: type[Exception]) -> None:
    session = AuthSession(verify, Identity("ann", expires_at=10.0))
    with pytest.raises(error):
        await session.authenticate(credential)
    assert session.identity == Identity("ann", expires_at=10.0)


def test_it_stands_in_the_scope() -> None:
    ann = Identity("ann")
    session = AuthSession(verify, ann)
    scope = {"type": "websocket"}
    assert session_of(scope) is None
    inner = session.put_in(scope)
    assert session_of(inner) is session
    assert inner["user"] is ann
    assert scope == {"type": "websocket"}


async def test_who_follows_is_told_of_each_credential_that_was_taken() -> None:
    session = AuthSession(verify)
    told: list[float | None] = []
    session.follow(lambda: told.append(session.expires_at))
    assert session.expires_at is None
    await session.authenticate("ann 10")
    with pytest.raises(Unauthorized):
        await session.authenticate("nonsense")
    await session.authenticate("ann 20")
    assert told == [10.0, 20.0]


class Person:
    id, is_authenticated = "ann", True


def test_a_frameworks_user_stays_who_is_there() -> None:
    person = Person()
    scope = {"type": "http", "user": person}
    assert AuthSession(verify, Identity("ann")).put_in(scope)["user"] is person
    known = Identity("ann", expires_at=10.0)
    assert AuthSession(verify, known).put_in(scope)["user"] is known
