"""Signed tokens show who somebody is, and nobody without a key makes one."""

import base64
import hmac
import json
import re
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_notify.auth import Identity, SignedTokens
from asgi_notify.auth.credentials import MAX_CREDENTIAL
from asgi_notify.exceptions import ConfigurationError, Unauthorized

KEY, OTHER = "k" * 32, "o" * 32


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def spelled(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def test_a_token_says_whose_it_is() -> None:
    tokens = SignedTokens(KEY, max_age=60, clock=Clock())
    identity = tokens(tokens.sign(42, role="admin"))
    assert (identity.id, identity.claims) == ("42", {"role": "admin"})
    assert (identity.issued_at, identity.expires_at) == (1000.0, 1060.0)


def test_each_token_has_an_id_of_its_own() -> None:
    tokens = SignedTokens(KEY)
    ids = {tokens.verify(tokens.sign(42)).token_id for _ in range(3)}
    assert len(ids) == 3
    assert None not in ids


def test_a_token_may_stand_in_a_url_a_header_a_cookie_and_a_subprotocol() -> None:
    token = SignedTokens(KEY).sign("ann", name="\u00e4" * 50)
    assert re.fullmatch(r"[A-Za-z0-9_.-]+", token)


def test_it_is_worth_nothing_from_its_last_second_on() -> None:
    clock = Clock()
    tokens = SignedTokens(KEY, max_age=60, clock=clock)
    long, short = tokens.sign(1), tokens.sign(1, max_age=5)
    clock.now += 4.999
    assert tokens.verify(short).id == "1"
    clock.now += 0.001
    with pytest.raises(Unauthorized, match="expired"):
        tokens.verify(short)
    assert tokens.verify(long).id == "1"


def test_keys_change_one_after_the_other() -> None:
    old, both, new = SignedTokens(KEY), SignedTokens([OTHER, KEY]), SignedTokens([OTHER])
    assert both(old.sign(1)).id == "1"
    assert new(both.sign(1)).id == "1"
    for tokens, token in (old, both.sign(1)), (new, old.sign(1)):
        with pytest.raises(Unauthorized):
            tokens(token)


def test_a_token_for_one_purpose_is_none_for_another() -> None:
    tickets = SignedTokens(KEY, purpose="ticket")
    with pytest.raises(Unauthorized):
        SignedTokens(KEY).verify(tickets.sign(42))
    with pytest.raises(Unauthorized):
        tickets.verify(SignedTokens(KEY).sign(42))


def forged() -> dict[str, str]:
    token = SignedTokens(KEY).sign("mallory")
    payload, _, signature = token.partition(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    admin = spelled(json.dumps({**claims, "sub": "admin"}).encode())
    bare = spelled(hmac.digest(KEY.encode(), admin.encode(), sha256))
    return {
        "nothing": "",
        "a period": ".",
        "no payload": f".{signature}",
        "no signature": f"{payload}.",
        "one part": payload,
        "three parts": f"{token}.",
        "another's signature": f"{admin}.{signature}",
        "signed without the purpose": f"{admin}.{bare}",
        "a signature cut short": token[:-1],
        "a payload with padding": f"{payload}=.{signature}",
        "a signature with padding": f"{token}=",
        "the same bytes in other letters": f"{payload}.{twin(signature)}",
        "the wrong way round": f"{signature}.{payload}",
        "a signature beyond ASCII": f"{payload}.\u00e4",
        "a payload beyond ASCII": f"\u00e4.{signature}",
        "a space": f" {token}",
        "a line break": f"{token}\n",
        "another key": SignedTokens(OTHER).sign("admin"),
    }


def twin(text: str) -> str:
    """Another spelling that lenient base64 reads as the same bytes, since it drops some bits."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    data = base64.urlsafe_b64decode(f"{text}=")
    spellings = [text[:-1] + letter for letter in alphabet]
    return next(
        each for each in spellings if each != text and base64.urlsafe_b64decode(f"{each}=") == data
    )


FORGED = forged()


@pytest.mark.parametrize("way", FORGED)
def test_a_forged_token_is_refused(way: str) -> None:
    with pytest.raises(Unauthorized, match="not signed here"):
        SignedTokens(KEY).verify(FORGED[way])


@given(st.text())
def test_nothing_else_is_a_token(text: str) -> None:
    with pytest.raises(Unauthorized):
        SignedTokens(KEY).verify(text)


@given(
    st.text(min_size=1, max_size=50),
    st.dictionaries(
        st.sampled_from(["role", "groups", "name"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=20),
            lambda inner: st.lists(inner, max_size=3),
            max_leaves=5,
        ),
    ),
)
def test_what_was_signed_comes_back(user: str, claims: dict[str, Any]) -> None:
    tokens = SignedTokens(KEY)
    identity = tokens.verify(tokens.sign(user, **claims))
    assert identity == Identity(
        user, claims, identity.expires_at, identity.issued_at, identity.token_id
    )


@pytest.mark.parametrize("keys", ["", "short", [], ["k" * 31], [KEY, "short"], [b""], [None]])
def test_a_key_that_is_none_is_refused_and_not_shown(keys: list[str]) -> None:
    with pytest.raises(ConfigurationError, match="key") as refused:
        SignedTokens(keys)
    assert "short" not in str(refused.value)


def test_the_way_out_makes_a_key() -> None:
    with pytest.raises(ConfigurationError) as refused:
        SignedTokens("short")
    assert "secrets.token_urlsafe(32)" in str(refused.value)


@pytest.mark.parametrize("max_age", [0, -1, float("nan"), float("inf"), True, "60"])
def test_an_age_that_is_none_is_refused(max_age: float) -> None:
    with pytest.raises(ConfigurationError, match="max_age"):
        SignedTokens(KEY, max_age=max_age)
    with pytest.raises(ConfigurationError, match="max_age"):
        SignedTokens(KEY).sign(42, max_age=max_age)


@pytest.mark.parametrize("user", [None, ""])
def test_a_token_is_for_somebody(user: object) -> None:
    with pytest.raises(ConfigurationError, match="a user who has an id"):
        SignedTokens(KEY).sign(user)


@pytest.mark.parametrize(
    ("claims", "sentence"),
    [
        ({"sub": "admin"}, "'sub'"),
        ({"exp": 1e12}, "'exp'"),
        ({"when": object()}, "JSON"),
        ({"size": float("nan")}, "JSON"),
        ({"text": "x" * MAX_CREDENTIAL}, "fewer claims"),
    ],
)
def test_claims_that_no_token_can_carry(claims: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        SignedTokens(KEY).sign(42, **claims)


def test_no_key_is_in_the_repr() -> None:
    assert repr(SignedTokens([KEY, OTHER])) == "<SignedTokens for 'login', 2 keys>"
