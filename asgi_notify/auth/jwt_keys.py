"""Keys that verify JSON Web Tokens, each with the algorithms that it may be used for, and no other.

What an attacker wants is a public key used as a shared secret, or no signature at all (RFC 8725,
section 2.1). Here the key decides about the algorithm, and never the token.
"""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..exceptions import ConfigurationError, MissingExtra

try:
    import jwt as jwt  # passed on, so that one file alone says what is missing
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key
    from jwt.algorithms import HMACAlgorithm
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] not in ("jwt", "cryptography"):
        raise
    raise MissingExtra("verifying JSON Web Tokens", "auth") from error

__all__ = [
    "ALGORITHMS",
    "VerifyingKey",
    "checked_algorithms",
    "key_from",
    "keys_of_set",
    "matching",
]

MIN_RSA = 2048  # bits; RFC 7518 3.3
MAX_KEYS = 100  # in a set; an issuer has a handful

# The first algorithm of a kind of key is the one that is meant where none is named.
_BY_KIND = {
    "secret": ("HS256", "HS384", "HS512"),
    "RSA": ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    "secp256r1": ("ES256",),
    "secp384r1": ("ES384",),
    "secp521r1": ("ES512",),
    "Ed25519": ("EdDSA",),
}

ALGORITHMS = frozenset(name for names in _BY_KIND.values() for name in names)
"""Those that may be named. Source: RFC 7518, section 3.1; RFC 8037, section 3.1."""

_HAVE_PUBLIC = "give the public key, in PEM: openssl pkey -in private.pem -pubout"


@dataclass(frozen=True)
class VerifyingKey:
    """A key, the name that tokens call it by, and what it may be used for."""

    key: Any = field(repr=False)
    algorithms: frozenset[str]
    kid: str | None = None


def checked_algorithms(names: Iterable[str] | None) -> frozenset[str] | None:
    """The algorithms that were named; None where none were, so that each key decides.

    Raises:
        ConfigurationError: there is none, or one that is not known.
    """
    if names is None:
        return None
    wanted = frozenset([names] if isinstance(names, str) else names)
    unknown = wanted - ALGORITHMS
    if unknown or not wanted:
        raise ConfigurationError(
            f"algorithms are some of {', '.join(sorted(ALGORITHMS))}; not {sorted(unknown)}"
        )
    return wanted


def key_from(given: object, wanted: Collection[str] | None = None) -> VerifyingKey:
    """The key that somebody has configured: a secret, a public key in PEM, or a JWK as a mapping.

    Args:
        given: the key.
        wanted: the algorithms that were named; None for the common one of this kind of key.

    Raises:
        ConfigurationError: it is no such key, or not for these algorithms. Nothing of it is shown.
    """
    if isinstance(given, Mapping):
        return _key_of_jwk(given, wanted)
    data = given.encode() if isinstance(given, str) else given
    if not isinstance(data, bytes):
        raise ConfigurationError("a key is a secret, or a public key in PEM, as str or bytes")
    if b"-----BEGIN" in data:
        return _limited(_public_key(data), wanted)
    try:
        HMACAlgorithm(HMACAlgorithm.SHA256).prepare_key(data)
    except jwt.InvalidKeyError:
        raise ConfigurationError(f"this is no secret, but another key; {_HAVE_PUBLIC}") from None
    return _limited(data, wanted)


def keys_of_set(text: bytes, wanted: Collection[str] | None = None) -> tuple[VerifyingKey, ...]:
    """The keys of a JSON Web Key Set that can verify signatures; any others are passed over.

    Shared secrets are passed over, too: they do not belong where others can read them.

    Raises:
        ValueError: it is no such set, or has no key of use; it says why, and nothing else.

    Source: RFC 7517, section 5.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("it is no JSON") from None
    entries = content.get("keys") if isinstance(content, dict) else None
    if not isinstance(entries, list):
        raise ValueError("it is no JSON Web Key Set: it has no list 'keys'")
    found = []
    for entry in entries[:MAX_KEYS]:
        if isinstance(entry, dict) and entry.get("kty") != "oct" and _verifies(entry):
            try:
                found.append(_key_of_jwk(entry, wanted))
            except ConfigurationError:
                continue
    if not found:
        raise ValueError("it has no key that verifies signatures by an algorithm that is allowed")
    return tuple(found)


def matching(keys: Iterable[VerifyingKey], kid: str | None, alg: str) -> list[VerifyingKey]:
    """The keys that may have signed a token whose header says this."""
    return [
        key
        for key in keys
        if alg in key.algorithms and (kid is None or key.kid is None or kid == key.kid)
    ]


def _verifies(entry: Mapping[str, Any]) -> bool:
    """Source: RFC 7517, sections 4.2 and 4.3."""
    operations = entry.get("key_ops")
    is_for_it = not isinstance(operations, list) or "verify" in operations
    return entry.get("use", "sig") == "sig" and is_for_it


def _key_of_jwk(entry: Mapping[str, Any], wanted: Collection[str] | None) -> VerifyingKey:
    named, kid = entry.get("alg"), entry.get("kid")
    try:
        # Without what is private, of which a verifier needs nothing.
        public = {name: value for name, value in entry.items() if name not in _PRIVATE}
        key = jwt.PyJWK(public if entry.get("kty") != "oct" else dict(entry)).key
    except (jwt.PyJWTError, ValueError, TypeError, AttributeError, OverflowError):
        raise ConfigurationError("the JSON Web Key cannot be read, or is of another kind") from None
    limits = wanted
    if named is not None:  # RFC 7517 4.4: it is for this algorithm alone
        limits = [named] if wanted is None or named in wanted else []
    return _limited(key, limits, kid if isinstance(kid, str) else None)


_PRIVATE = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth"})  # RFC 7518 6.2.2, 6.3.2


def _public_key(pem: bytes) -> Any:
    if b"PRIVATE KEY" in pem:
        raise ConfigurationError(
            f"this is a private key, which a verifier must not have; {_HAVE_PUBLIC}"
        )
    try:
        return load_pem_public_key(pem)
    except Exception:  # of several kinds, and some show a part of the key
        raise ConfigurationError(f"this is no public key in PEM; {_HAVE_PUBLIC}") from None


def _limited(key: Any, wanted: Collection[str] | None, kid: str | None = None) -> VerifyingKey:
    possible = _BY_KIND[_kind(key)]
    algorithms = frozenset(possible[:1] if wanted is None else set(possible) & set(wanted))
    if not algorithms:
        raise ConfigurationError(
            f"the key is for {', '.join(possible)}, and none of these is among the algorithms "
            "that are allowed"
        )
    if isinstance(key, bytes):
        _require_long(key, algorithms)
    return VerifyingKey(key, algorithms, kid)


def _require_long(secret: bytes, algorithms: Collection[str]) -> None:
    # RFC 7518 3.2: a secret is as long as the hash, whose bits are in the algorithm's name.
    name, size = max((name, int(name[2:]) // 8) for name in algorithms)
    if len(secret) < size:
        raise ConfigurationError(
            f"a secret for {name} has at least {size} bytes; make one with: "
            f"python -c 'import secrets; print(secrets.token_urlsafe({size}))'"
        )


def _kind(key: Any) -> str:
    if isinstance(key, bytes):
        return "secret"
    if isinstance(key, RSAPublicKey):
        if key.key_size < MIN_RSA:
            raise ConfigurationError(f"an RSA key has at least {MIN_RSA} bits, not {key.key_size}")
        return "RSA"
    if isinstance(key, EllipticCurvePublicKey) and key.curve.name in _BY_KIND:
        return key.curve.name
    if isinstance(key, Ed25519PublicKey):
        return "Ed25519"
    raise ConfigurationError("the key is neither RSA, nor P-256, P-384 or P-521, nor Ed25519")
