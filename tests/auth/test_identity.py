"""Whose connection it is, whoever has found out."""

import pytest

from asgi_notify.auth import Identity, identity_of


class Person:
    """As a framework has its users."""

    def __init__(self, **attributes: object) -> None:
        vars(self).update(attributes)


class Nameless:
    """As Starlette's users are, unless a subclass says more."""

    is_authenticated = True

    @property
    def identity(self) -> str:
        raise NotImplementedError


def test_an_identity_is_taken_as_it_is() -> None:
    ann = Identity("ann", {"role": "admin"}, expires_at=10.0)
    assert identity_of({"type": "websocket", "user": ann}) is ann


@pytest.mark.parametrize("attribute", ["id", "pk", "identity"])
def test_a_frameworks_user_has_an_id(attribute: str) -> None:
    user = Person(**{attribute: 42}, is_authenticated=True)
    assert identity_of({"type": "http", "user": user}) == Identity("42")


def test_zero_is_an_id() -> None:
    assert identity_of({"type": "http", "user": Person(id=0)}) == Identity("0")


@pytest.mark.parametrize(
    "scope",
    [
        {"type": "http"},
        {"type": "http", "user": None},
        {"type": "http", "user": Person(id=1, is_authenticated=False)},
        {"type": "http", "user": Person(is_authenticated=True)},
        {"type": "http", "user": Person(id="", pk=None)},
        {"type": "http", "user": Nameless()},
    ],
    ids=["none", "null", "anonymous", "without an id", "empty", "nameless"],
)
def test_nobody_is_there(scope: dict[str, object]) -> None:
    assert identity_of(scope) is None


def test_claims_are_in_no_repr() -> None:
    assert "secret" not in repr(Identity("ann", {"mail": "secret"}))
