"""The verifier that the settings of a process describe, and tokens to try it with."""

import time
from secrets import token_urlsafe

from ..exceptions import ConfigurationError
from ..layers.base import BaseChannelLayer
from ..settings import Settings
from .signed import MAX_AGE, SignedTokens
from .tickets import Tickets
from .verifying import Verifier

__all__ = ["signed_token", "tickets_of", "verifier_of"]

_KEYS = "ASGI_NOTIFY_TOKEN_KEYS, ASGI_NOTIFY_JWT_KEY or ASGI_NOTIFY_JWT_JWKS"


def verifier_of(settings: Settings) -> Verifier | None:
    """What the settings have credentials verified with; None where they name no key.

    Raises:
        ConfigurationError: they name several kinds of keys, one of no use, or what would be
            passed over without a key.
        MissingExtra: JSON Web Tokens need the ``auth`` extra.
    """
    given = [settings.token_keys, settings.jwt_key, settings.jwt_jwks]
    if sum(map(bool, given)) > 1:
        raise ConfigurationError(f"name one of {_KEYS}: tokens of one kind are verified")
    if settings.token_keys:
        _refuse_jwt_options(settings)
        return SignedTokens(settings.token_keys)
    if settings.jwt_key is None and settings.jwt_jwks is None:
        _refuse_jwt_options(settings)
        return None
    from .jwt import JWTVerifier

    return JWTVerifier(
        settings.jwt_key,
        jwks=settings.jwt_jwks,
        algorithms=settings.jwt_algorithms or None,
        audience=settings.jwt_audience or None,
        issuer=settings.jwt_issuer or None,
    )


def tickets_of(
    settings: Settings, verifier: Verifier, layer: BaseChannelLayer | None = None
) -> Tickets:
    """The tickets of an application with these settings and this verifier.

    Raises:
        ConfigurationError: one of the keys is of no use.
    """
    if settings.ticket_keys:
        return Tickets(settings.ticket_keys, layer)
    if isinstance(verifier, SignedTokens):
        return Tickets(verifier, layer)
    secret = settings.jwt_key
    is_shared = secret is not None and "-----BEGIN" not in secret
    return Tickets(secret if is_shared else None, layer)


def signed_token(settings: Settings, user_id: str, max_age: float = MAX_AGE) -> str:
    """A token of a user, signed with the key of the settings.

    Raises:
        ConfigurationError: they name no key that signs.
    """
    verifier_of(settings)  # which checks them
    if settings.token_keys:
        return SignedTokens(settings.token_keys).sign(user_id, max_age=max_age)
    if settings.jwt_key is None or "-----BEGIN" in settings.jwt_key:
        raise ConfigurationError(
            "there is no key here that signs tokens: set ASGI_NOTIFY_TOKEN_KEYS, or a shared "
            "secret in ASGI_NOTIFY_JWT_KEY; or have your login service issue one"
        )
    from .jwt_keys import jwt

    now = time.time()
    claims: dict[str, object] = {"sub": user_id, "iat": now, "exp": now + max_age}
    claims["jti"] = token_urlsafe(12)  # so that this one alone can be revoked
    if settings.jwt_audience:
        claims["aud"] = settings.jwt_audience[0]
    if settings.jwt_issuer:
        claims["iss"] = settings.jwt_issuer[0]
    algorithm = (settings.jwt_algorithms or ("HS256",))[0]
    return jwt.encode(claims, settings.jwt_key, algorithm)


def _refuse_jwt_options(settings: Settings) -> None:
    if settings.jwt_audience or settings.jwt_issuer or settings.jwt_algorithms:
        raise ConfigurationError(
            "ASGI_NOTIFY_JWT_AUDIENCE, _ISSUER and _ALGORITHMS are about JSON Web Tokens: name "
            "their key in ASGI_NOTIFY_JWT_KEY, or their keys in ASGI_NOTIFY_JWT_JWKS"
        )
