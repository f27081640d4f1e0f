"""Signed tokens of our own: who somebody is, and until when, with nothing but a shared secret.

A token is two parts with a period between them, in characters that a URL, a header, a cookie
and a subprotocol may carry::

    base64url({"sub": "42", "iat": ..., "exp": ..., "jti": "...", ...}) . base64url(HMAC-SHA256)

Anybody can read what it says, and nobody without a key can make or change one.
"""

import hmac
import json
import secrets
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterable
from hashlib import sha256
from math import isfinite
from typing import Any

from ..exceptions import ConfigurationError, Unauthorized
from .credentials import MAX_CREDENTIAL
from .identity import Identity

__all__ = ["SignedTokens"]

MAX_AGE = 3600.0  # seconds; as long as a login is commonly believed without being asked again
MIN_KEY = 32  # bytes; RFC 2104 3: as many as the hash has, fewer would weaken it
LOGIN = "login"

_OWN_CLAIMS = frozenset({"sub", "iat", "exp", "jti"})  # RFC 7519 4.1


class SignedTokens:
    """Signs tokens for users, and verifies them.

    To change the key, put the new one in front of the old one, and take the old one out when
    the last token that it signed has expired.

    Args:
        keys: one secret, or several, of at least 32 bytes each. The first one signs, all verify.
        max_age: seconds that a token is worth something, unless `sign` is told otherwise.
        purpose: what the tokens are for. One that was made for another purpose is refused, so
            that what lets somebody confirm an address, say, is no login.
        clock: seconds since 1970.

    Raises:
        ConfigurationError: there is no key, or one that is too short; or no such age.
    """

    never_waits = True

    def __init__(
        self,
        keys: str | bytes | Iterable[str | bytes],
        *,
        max_age: float = MAX_AGE,
        purpose: str = LOGIN,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Check the keys."""
        given = [keys] if isinstance(keys, str | bytes) else list(keys)
        secrets_ = [key.encode() if isinstance(key, str) else key for key in given]
        _require_keys(secrets_)
        _require_age(max_age)
        # A key of its own for each purpose: so a signature for one is none for another.
        label = b"asgi-notify signed token: " + purpose.encode()
        self._keys = [hmac.digest(secret, label, sha256) for secret in secrets_]
        self.max_age = max_age
        self.purpose = purpose
        self._clock = clock

    def __repr__(self) -> str:
        """What it is for, and no key."""
        return f"<SignedTokens for {self.purpose!r}, {len(self._keys)} keys>"

    @property
    def keys(self) -> list[bytes]:
        """Keys of these tokens' own, from which those for another purpose can be made."""
        return list(self._keys)

    def sign(self, user_id: object, *, max_age: float | None = None, **claims: Any) -> str:
        """A token that shows who its bearer is.

        Args:
            user_id: whose it is, such as 42.
            max_age: seconds from now on that it is worth something; of all tokens where None.
            claims: what else it says, such as ``role="admin"``; values that JSON has. Everybody
                who has the token can read them.

        Raises:
            ConfigurationError: the user has no id, the claims cannot be written as JSON, or have
                the name of one that each token has, or are too many.
        """
        if max_age is not None:
            _require_age(max_age)
        name = str(user_id)
        if user_id is None or not name:
            raise ConfigurationError("a token is for a user who has an id, such as 42")
        if taken := _OWN_CLAIMS & claims.keys():
            raise ConfigurationError(f"each token has a claim {min(taken)!r} of its own")
        now = self._clock()
        expires_at = now + (self.max_age if max_age is None else max_age)
        own = {"sub": name, "iat": now, "exp": expires_at, "jti": secrets.token_urlsafe(12)}
        try:
            text = json.dumps({**own, **claims}, allow_nan=False, separators=(",", ":"))
        except (TypeError, ValueError, RecursionError) as error:
            raise ConfigurationError(f"the claims cannot be written as JSON: {error}") from error
        payload = _spelled(text.encode())
        token = f"{payload}.{_signature(self._keys[0], payload)}"
        if len(token) > MAX_CREDENTIAL:
            raise ConfigurationError(
                f"the token has {len(token)} characters, and {MAX_CREDENTIAL} are the most that "
                "are read: sign fewer claims, and look the others up by the user's id"
            )
        return token

    def verify(self, token: str) -> Identity:
        """Who a token is for.

        Raises:
            Unauthorized: it was not signed with one of the keys for this purpose, or has expired.
        """
        payload, _, signature = token.partition(".")
        if not self._is_signed(payload, signature):
            raise Unauthorized("the token was not signed here")
        claims = json.loads(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        identity = Identity(
            claims.pop("sub"),
            issued_at=claims.pop("iat"),
            expires_at=claims.pop("exp"),
            token_id=claims.pop("jti"),
            claims=claims,
        )
        if identity.expires_at is None or not self._clock() < identity.expires_at:
            raise Unauthorized("the token has expired; get a fresh one")
        return identity

    __call__ = verify

    def _is_signed(self, payload: str, signature: str) -> bool:
        # Nothing of the payload is read before. Compared as text, since base64 can spell the same
        # bytes in several ways, and only one of them is a token.
        try:
            shown = signature.encode("ascii")
            signed = [_signature(key, payload).encode() for key in self._keys]
        except UnicodeEncodeError:
            return False
        return any(hmac.compare_digest(each, shown) for each in signed)


def _signature(key: bytes, payload: str) -> str:
    return _spelled(hmac.digest(key, payload.encode("ascii"), sha256))


def _spelled(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _require_keys(keys: list[bytes]) -> None:
    if not keys:
        raise ConfigurationError("signed tokens need a key: one secret, or a list of them")
    for number, key in enumerate(keys, 1):
        if not isinstance(key, bytes | bytearray) or len(key) < MIN_KEY:
            # Nothing of the key is said: the sentence may stand in a log.
            raise ConfigurationError(
                f"key number {number} for signed tokens is no secret of at least {MIN_KEY} bytes; "
                "make one with: python -c 'import secrets; print(secrets.token_urlsafe(32))'"
            )


def _require_age(max_age: float) -> None:
    if isinstance(max_age, bool) or not isinstance(max_age, int | float):
        raise ConfigurationError("max_age is a number of seconds")
    if not (isfinite(max_age) and max_age > 0):
        raise ConfigurationError(f"max_age is a number of seconds above 0, not {max_age!r}")
