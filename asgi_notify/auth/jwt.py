"""JSON Web Tokens, as login services issue them: who shows one, by its signature and its claims.

Source: RFC 7519 for the claims, RFC 8725 for what attackers do.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from ..exceptions import ConfigurationError, Unauthorized
from .identity import Identity
from .jwks import KeySet, source_of
from .jwt_keys import VerifyingKey, checked_algorithms, jwt, key_from, keys_of_set, matching

__all__ = ["JWTVerifier"]

LEEWAY = 10.0  # seconds that the clocks of two machines may differ

Key: TypeAlias = str | bytes | Mapping[str, Any]

_SENTENCES: Mapping[type[Exception], str] = {
    jwt.ExpiredSignatureError: "the token has expired; get a fresh one",
    jwt.ImmatureSignatureError: "the token is not valid yet",
    jwt.InvalidAudienceError: "the token is for another audience",
    jwt.InvalidIssuerError: "the token is of another issuer",
    jwt.MissingRequiredClaimError: "the token lacks a claim that it must have",
}
_ANY_ERROR = (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError)


class JWTVerifier:
    """Says who shows a JSON Web Token.

    A token has to be signed with one of the keys, by an algorithm that this key is for, and to
    say who it is for and until when (``exp``). ``nbf`` and ``iat`` count where they are there.
    A token that names an audience is refused, unless that audience is named here.

    Args:
        key: a secret of at least 32 bytes (for HS256), a public key in PEM or a JWK as a mapping
            (for RS256, ES256 or EdDSA, as the key is), or a list of such keys.
        jwks: instead of keys, the path of a file or the https URL of a JSON Web Key Set. A URL
            is asked at the first token, and again as `asgi_notify.auth.jwks` says.
        algorithms: which may be used, where that is another than the common one of the key.
        audience: one of the audiences that a token has to name in ``aud``.
        issuer: one of the issuers that a token has to name in ``iss``.
        leeway: seconds that clocks may differ.
        user_claim: the claim that is the user's id.

    Raises:
        ConfigurationError: there is no key, or one of no use; no file; or no such algorithm.
    """

    def __init__(
        self,
        key: Key | Iterable[Key] | None = None,
        *,
        jwks: str | Path | None = None,
        algorithms: Iterable[str] | None = None,
        audience: str | Iterable[str] | None = None,
        issuer: str | Iterable[str] | None = None,
        leeway: float = LEEWAY,
        user_claim: str = "sub",
    ) -> None:
        """Check the keys, and read them where they are in a file."""
        wanted = checked_algorithms(algorithms)
        if (key is None) == (jwks is None):
            raise ConfigurationError("a JWTVerifier needs either a key or jwks=, a set of keys")
        self._keys: Sequence[VerifyingKey] = ()
        self._set: KeySet | None = None
        if jwks is not None:
            self._set = _key_set(jwks, wanted)
        elif isinstance(key, str | bytes | Mapping):
            self._keys = (key_from(key, wanted),)
        else:
            self._keys = tuple(key_from(each, wanted) for each in key or ())
            if not self._keys:
                raise ConfigurationError("a JWTVerifier needs at least one key")
        self._audience = _texts(audience)
        self._issuer = _texts(issuer)
        self._leeway = leeway
        self._user_claim = user_claim

    def __repr__(self) -> str:
        """Where its keys are, and none of them."""
        return f"<JWTVerifier with {'a key set' if self._set else f'{len(self._keys)} keys'}>"

    async def __call__(self, token: str) -> Identity:
        """Who a token is for.

        Raises:
            Unauthorized: it is worth nothing, and why.
            VerifierUnavailable: the key that it names may be one that could not be fetched.
        """
        kid, alg = _header(token)
        fitting = partial(matching, kid=kid, alg=alg)
        keys = fitting(self._keys) if self._set is None else await self._set.find(fitting)
        for key in keys:
            claims = self._claims(token, key, alg)
            if claims is not None:
                return self._identity(claims)
        raise Unauthorized("the token was signed with no key or algorithm that counts here")

    def _claims(self, token: str, key: VerifyingKey, alg: str) -> dict[str, Any] | None:
        """What a token says; None if it was not signed with this key."""
        options: Any = {
            "require": ["exp"],
            "verify_sub": False,  # some services use numbers
            "verify_jti": False,
        }
        try:
            claims: dict[str, Any] = jwt.decode(
                token, key.key, [alg], options, audience=self._audience, issuer=self._issuer,
                leeway=self._leeway,
            )  # fmt: skip
        except jwt.InvalidSignatureError:
            return None
        except _ANY_ERROR as error:
            raise Unauthorized(_sentence(error)) from None
        return claims

    def _identity(self, claims: dict[str, Any]) -> Identity:
        user = claims.get(self._user_claim)
        if isinstance(user, bool) or not isinstance(user, str | int) or user == "":
            raise Unauthorized(f"the token has no user in its claim {self._user_claim!r}")
        token_id, issued_at = claims.get("jti"), claims.get("iat")
        try:
            expires_at = float(claims["exp"]) + self._leeway
            issued_at = None if issued_at is None else float(issued_at)
        except (ValueError, OverflowError):  # a whole number can be larger than any float
            raise Unauthorized(_sentence(ValueError())) from None
        return Identity(
            str(user),
            claims,
            expires_at=expires_at,
            issued_at=issued_at,
            token_id=_text(token_id),
        )


def _text(claim: object) -> str | None:
    """A name as a claim says it: RFC 7519 4.1.7 asks for text, and some services number theirs."""
    if isinstance(claim, bool) or not isinstance(claim, str | int | float):
        return None
    return str(claim)


def _header(token: str) -> tuple[str | None, str]:
    """The name of the key and the algorithm, as a token says, and nobody has to believe it."""
    try:
        header = jwt.get_unverified_header(token)
    except _ANY_ERROR:
        raise Unauthorized("this is no JSON Web Token") from None
    alg, kid = header.get("alg"), header.get("kid")
    if not isinstance(alg, str):
        raise Unauthorized("the token names no algorithm")
    return kid, alg


def _sentence(error: Exception) -> str:
    return _SENTENCES.get(type(error), "this is no JSON Web Token that can be read")


def _texts(given: str | Iterable[str] | None) -> list[str] | None:
    return [given] if isinstance(given, str) else None if given is None else list(given)


def _key_set(jwks: str | Path, wanted: frozenset[str] | None) -> KeySet:
    name, read = source_of(jwks)
    keys = KeySet(name, read, partial(keys_of_set, wanted=wanted))
    if "://" not in name:
        try:
            keys.load()
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"the keys of {name} could not be read: {error}") from error
    return keys
